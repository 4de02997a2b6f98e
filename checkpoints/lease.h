#pragma once
// Who holds a run directory: the text in its LOCK file, and when such a holder counts as dead.

#include <cstdint>
#include <optional>
#include <string>

namespace dm::checkpoints {

struct Lease {
  std::string host;
  std::string boot_id;  // of the holder's kernel: a process id means something only within one boot
  int64_t pid = 0;
  int64_t start_time =
      0;  // of the process, in the kernel's ticks: tells a process from a later one with its id
  std::string slurm_job;  // "" outside SLURM
  int64_t slurm_restarts = 0;
  std::string nonce;    // of this holding of the lock
  int64_t counter = 0;  // grows as long as the holder lives

  /// This process.
  static Lease mine();
  /// As in the file: one line of JSON, padded to a fixed length, so that it is overwritten in place.
  std::string text() const;
  /// nullopt for anything that text() cannot have made.
  static std::optional<Lease> parse(const std::string& text);
  /// "process 123 on node7 (SLURM job 55)"
  std::string holder() const;
};

/// What the operating system's lock on the file says.
enum class OsLock {
  acquired,     // we have it
  busy,         // another open file has it
  unsupported,  // the file system has none
};

enum class Verdict {
  take,    // the holder is provably dead
  refuse,  // it is alive
  watch,   // it cannot be known: see whether the counter moves
};

/// `holder_runs`: whether the holder's process exists, as far as this host can say (false for another
/// host's).
Verdict judge(const Lease& holder, const Lease& me, OsLock os_lock, bool holder_runs);

/// Whether a process with the lease's id and start time exists on this host.
bool process_runs(const Lease& lease);

}  // namespace dm::checkpoints
