#pragma once
// Writing one checkpoint: the commit protocol of docs/formats.md, step by step.

#include <functional>
#include <string>
#include <vector>

#include "checkpoints/state.h"
#include "core/collectives.h"
#include "core/json.h"

namespace dm::checkpoints {

/// Which ranks write into which file: those of one host, or ranks_per_file of them, share one.
struct RankFiles {
  std::vector<int64_t> file_of_rank;  // ascending numbers from 0 by each file's first rank
  int64_t files = 0;

  static RankFiles make(const std::vector<std::string>& host_of_rank,
                        int64_t ranks_per_file);  // 0: all of a host
  bool leads(int64_t rank) const;  // whether this is the first rank of its file, who creates it
  /// The first rank of each file.
  std::vector<int64_t> leaders() const;
};

/// Where a checkpoint goes: into one directory that all ranks see, or into one of each host, which then gets
/// the file of its own ranks, that of the host before it, and COMMIT and manifest; files are those of hosts.
enum class DirectoryOf { all_ranks, each_host };

/// All ranks together. On return DIRECTORY/step_N is committed and durable, on every rank; after an
/// exception, which every rank gets, there is nothing of it. `meta` is the same on all that write it: rank 0,
/// or the first rank of each host; there `before_commit` runs just before the rename and may throw.
void write_checkpoint(const std::string& directory, int64_t step, const std::vector<Piece>& pieces,
                      const Json& meta, const RankFiles& files, Collectives& group,
                      const std::function<void()>& before_commit, DirectoryOf of = DirectoryOf::all_ranks);

/// Renames a complete temporary directory to its committed name and makes that durable. A directory that
/// already has the name is exchanged with it atomically and then deleted. Throws with nothing committed under
/// that name, or what was there before.
void publish(const std::string& temporary, const std::string& committed);

}  // namespace dm::checkpoints
