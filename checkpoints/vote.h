#pragma once
// How ranks come to one verdict: each does its work, then all learn what became of it.

#include <functional>
#include <string>
#include <vector>

#include "core/collectives.h"

namespace dm::checkpoints {

/// Runs `work` on this rank and returns what every rank's work returned, on every rank. If any threw, the
/// error of the lowest such rank is thrown on all, with its exit code and, on the others, its rank and host.
/// `work` must not use the group.
std::vector<std::string> vote(Collectives& group, const std::function<std::string()>& work);

/// The same for work of one rank (0), whose text all receive.
std::string vote_of_rank_0(Collectives& group, const std::function<std::string()>& work);

}  // namespace dm::checkpoints
