#include "dist/watch_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

namespace dm::dist {
namespace {

constexpr double kStragglerFactor = 3;

std::string describe(const RankStatus& rank) {
  return fmt::format("rank {} (process {} on {}): last step {}, {} exchange {} ({})", rank.rank, rank.pid,
                     rank.host, rank.step, rank.inside ? "in" : "outside, after", rank.exchanges,
                     rank.exchange);
}

Verdict blame(const std::vector<RankStatus>& ranks, const std::string& what,
              const std::function<bool(const RankStatus&)>& guilty) {
  Verdict verdict{.culprits = {}, .message = what};
  for (const RankStatus& rank : ranks) {
    if (!guilty(rank)) continue;
    verdict.culprits.push_back(rank.rank);
    verdict.message += "\n  " + describe(rank);
  }
  return verdict;
}

}  // namespace

std::optional<Verdict> judge(const std::vector<RankStatus>& ranks, double timeout_seconds) {
  const auto silent = [&](const RankStatus& rank) { return rank.silent_seconds >= timeout_seconds; };
  if (std::any_of(ranks.begin(), ranks.end(), silent))
    return blame(ranks,
                 fmt::format("no sign of life for {:.0f} s (dead, stopped, or its host out of reach):",
                             timeout_seconds),
                 silent);

  const auto still = [&](const RankStatus& rank) { return rank.still_seconds >= timeout_seconds; };
  if (ranks.empty() || !std::all_of(ranks.begin(), ranks.end(), still)) return std::nullopt;
  const auto outside = [](const RankStatus& rank) { return !rank.inside; };
  const int64_t out = std::count_if(ranks.begin(), ranks.end(), outside);
  if (out > 0 && out < static_cast<int64_t>(ranks.size()))
    return blame(
        ranks, fmt::format("nothing moved for {:.0f} s: the others wait in an exchange for", timeout_seconds),
        outside);
  std::map<std::pair<int64_t, std::string>, int64_t> count;
  const auto exchange = [](const RankStatus& rank) { return std::pair(rank.exchanges, rank.exchange); };
  for (const RankStatus& rank : ranks) ++count[exchange(rank)];
  if (out == 0 && count.size() > 1) {
    const auto most = std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) {
                        return a.second < b.second;
                      })->first;
    return blame(ranks,
                 fmt::format("nothing moved for {:.0f} s: most ranks are in exchange {} ({}), but",
                             timeout_seconds, most.first, most.second),
                 [&](const RankStatus& rank) { return exchange(rank) != most; });
  }
  // Exchanges of GPUs are waited for on the device, not here: whoever has begun fewer keeps the others
  // waiting.
  const auto by_count = [](const RankStatus& a, const RankStatus& b) { return a.exchanges < b.exchanges; };
  const RankStatus& ahead = *std::max_element(ranks.begin(), ranks.end(), by_count);
  const auto behind = [&](const RankStatus& rank) { return rank.exchanges < ahead.exchanges; };
  if (std::any_of(ranks.begin(), ranks.end(), behind))
    return blame(ranks,
                 fmt::format("nothing moved for {:.0f} s: others have begun exchange {} ({}), but",
                             timeout_seconds, ahead.exchanges, ahead.exchange),
                 behind);
  const char* nobody = "no rank is in an exchange:";
  const char* everybody = "although all ranks are in the same exchange (the network, or a GPU):";
  return blame(ranks,
               fmt::format("nothing moved for {:.0f} s, {}", timeout_seconds, out == 0 ? everybody : nobody),
               [](const RankStatus&) { return true; });
}

std::vector<int64_t> stragglers(const std::vector<RankStatus>& ranks) {
  if (ranks.empty()) return {};
  std::vector<double> busy;
  for (const RankStatus& rank : ranks) {
    if (rank.step == 0) return {};
    busy.push_back(rank.busy_seconds);
  }
  std::nth_element(busy.begin(), busy.begin() + static_cast<int64_t>((busy.size() - 1) / 2), busy.end());
  const double median = busy[(busy.size() - 1) / 2];
  std::vector<int64_t> slow;
  for (const RankStatus& rank : ranks)
    if (rank.busy_seconds >= kStragglerFactor * median) slow.push_back(rank.rank);
  return median > 0 ? slow : std::vector<int64_t>{};
}

}  // namespace dm::dist
