#pragma once
// The checkpoints of one run directory: saving with an atomic commit, finding the newest that verifies,
// loading any layout onto any other, retention. docs/formats.md holds the format and the commit protocol.
//
//   runs/NAME/LOCK
//   runs/NAME/checkpoints/step_000001000/{manifest.json, shard-00000-of-00002.h5, ..., COMMIT}
//   runs/NAME/latest

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/state.h"
#include "core/collectives.h"
#include "core/error.h"
#include "core/fields.h"

namespace dm::checkpoints {

struct StoreConfig {
  int64_t keep_last = 3;
  int64_t keep_every = 0;             // steps; 0: only the last ones
  int64_t ranks_per_file = 0;         // 0: one file a host
  int64_t memory_snapshot_every = 0;  // steps
  std::string memory_dir = "/dev/shm";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("keep_last", self.keep_last, "checkpoints to keep", Range{1, 1e6}, Affects::output);
    v("keep_every", self.keep_every, "also keep every checkpoint whose step is a multiple of this; 0: none",
      Range{0, 1e15}, Affects::output);
    v("ranks_per_file", self.ranks_per_file,
      "ranks that write one checkpoint file together; 0: all of a host", Range{0, 1e6}, Affects::speed);
    v("memory_snapshot_every", self.memory_snapshot_every,
      "steps between two snapshots in the memory of the hosts, each with a copy on another host, from which "
      "a run goes "
      "on when a rank or one host was lost; 0: none",
      Range{0, 1e12}, Affects::output);
    v("memory_dir", self.memory_dir, "directory in the memory of every host that they lie in",
      Affects::output);
  }
};

/// What a committed directory says, before any payload is read.
struct Summary {
  int64_t step = 0;
  std::string directory;
  Json meta;  // the caller's document
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> global_shape;
  };
  std::vector<Tensor> tensors;  // sorted by name
};

/// Reads COMMIT and manifest of one committed directory; throws ExitCode::bad_data naming file, place and
/// remedy.
Summary read_summary(const std::string& directory);

/// Checks every byte of a committed directory; returns the problems, each with file, offset and remedy.
/// Empty: sound.
std::vector<std::string> verify(const std::string& directory);

/// Whether a failure to read a checkpoint speaks against it, so that another one is to be tried: it is
/// damaged, or the device below cannot read it back. That too many files are open, or access is refused, does
/// not.
bool condemns(const Error& error);

/// Fills the wanted pieces from a committed directory by intersecting boxes; every stored byte that is used
/// is checked against its hash. Throws ExitCode::bad_data when a tensor is missing, its shape or dtype
/// differs, or a hash does not fit.
void load(const std::string& directory, const std::vector<Piece>& wanted);

/// Committed checkpoint directories of a run, newest first; nothing is verified.
std::vector<std::string> list(const std::string& run_directory);

class Store {  // neither copied nor moved
 public:
  /// All ranks of `group` open together. Creates the run directory, takes LOCK (ExitCode::locked when another
  /// live job holds it, naming that job), tries that it can write (77/74 at once), removes stale temporary
  /// directories.
  Store(std::string run_directory, const StoreConfig& config, Collectives& group);
  ~Store();  // releases LOCK

  /// Saves the pieces that this rank owns; together the ranks' pieces cover each tensor exactly once. `meta`
  /// counts on rank 0. Returns on all ranks with the same verdict. A failed save (full disk, I/O error)
  /// leaves no trace and throws on every rank with the culprit's message; the caller decides whether training
  /// goes on.
  void save(int64_t step, const std::vector<Piece>& pieces, const Json& meta);

  /// The newest checkpoint that verifies, agreed by all ranks, each of which reads its share; newer ones that
  /// do not verify are set aside as corrupt-step_N.<k> and reported. nullopt when the run has none at all;
  /// ExitCode::bad_data when there are some and none verifies (they then stay where they are), ExitCode::io
  /// when the device had a part in it.
  std::optional<Summary> newest();

  const std::string& run_directory() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::checkpoints
