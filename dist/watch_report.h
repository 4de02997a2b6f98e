#pragma once
// Who is to blame when a job stands still: a pure function of what the ranks said of themselves.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dm::dist {

/// What is known about one rank.
struct RankStatus {
  int64_t rank = 0;
  std::string host;
  int64_t pid = 0;
  double silent_seconds = 0;  // since its last heartbeat arrived
  double still_seconds = 0;   // since a heartbeat last told of progress
  int64_t step = 0;           // last one done
  double busy_seconds = 0;    // of that step, waiting for others left out
  int64_t exchanges = 0;      // begun so far
  bool inside = false;        // the last of them has not ended
  std::string exchange;       // its name
};

struct Verdict {
  std::vector<int64_t> culprits;  // ascending
  std::string message;            // names each with host, process, last step and last operation
};

/// nullopt while all is well. A rank that sent nothing for `timeout_seconds` is dead or stopped. When nobody
/// has got anywhere for as long, those are named that are in no exchange while others wait in one; where all
/// are in one, those in another than most; where none is, those that have begun fewer than others; where
/// all are equal, that is said.
std::optional<Verdict> judge(const std::vector<RankStatus>& ranks, double timeout_seconds);

/// Ranks whose last step kept them busy three times as long as the median rank, once all have done one.
std::vector<int64_t> stragglers(const std::vector<RankStatus>& ranks);

}  // namespace dm::dist
