#pragma once
// Snapshots of a run in the memory of its hosts: checkpoints (store.h) of which each host holds, in a
// directory of its own under /dev/shm, the file of its ranks and that of the host before it. Any one host may
// be lost and nothing is; what a host lacks is fetched from one that has it.
//
//   RUN/memory                                      the nonce of the snapshots that go on with this run
//   /dev/shm/diffmamba-<nonce>.<host>/run           the run's folder
//   /dev/shm/diffmamba-<nonce>.<host>/step_000001000/{manifest.json, shard-..., COMMIT}

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/store.h"
#include "core/process.h"

namespace dm::checkpoints {

class MemoryStore {  // neither copied nor moved
 public:
  /// All ranks of `group` open together, under the run's lock. Removes what saves that were killed have left
  /// in `memory_directory`, and directories that their runs no longer name. Ranks that name the same `host`
  /// share its memory.
  MemoryStore(std::string run_directory, std::string memory_directory, Collectives& group,
              std::string host = process_identity().host);
  ~MemoryStore();

  /// Refuses (ExitCode::usage), with what is needed and what there is, when a host has no room for two
  /// snapshots of its own ranks and of the host before, of which this rank's part has so many bytes. Returns
  /// the bytes needed on the host that needs most.
  int64_t require_room(int64_t bytes_of_rank);

  /// The newest snapshot whose files are all somewhere, the same on all ranks; nullopt when there is none.
  /// Nothing of its payload has been looked at.
  std::optional<Summary> newest();
  /// Fetches the files that this host's ranks want something of and does not have, then loads as load() does.
  /// Throws the same on all ranks; ExitCode::bad_data where a hash does not fit.
  void load(const Summary& snapshot, const std::vector<Piece>& wanted);

  /// The run goes on from elsewhere: what there is does not belong to it any more and is removed.
  void begin_anew();
  /// As Store::save, whose guarantees for a failed save hold on each host by itself. Those before it are then
  /// removed.
  void save(int64_t step, const std::vector<Piece>& pieces, const Json& meta);
  /// At the end of a run, whose state is in its folder.
  void remove();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes on the host that needs most where hosts, in their order, own so many: two snapshots of its own ranks
/// and of the host before it.
int64_t snapshot_room(const std::vector<int64_t>& bytes_of_hosts);

/// The run goes on without snapshots: those that there are do not belong to it any more.
void forget_snapshots(const std::string& run_directory);

}  // namespace dm::checkpoints
