#include "dist/agreement.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/process.h"

namespace dm::dist {
namespace {

/// Names of ranks in a message are cut after so many.
constexpr size_t kNamed = 8;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Two values as a message shows them: the first line in which they differ.
std::string difference(const std::string& most, const std::string& other) {
  const std::vector<std::string> a = lines_of(most), b = lines_of(other);
  size_t i = 0;
  while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
  const auto line = [&](const std::vector<std::string>& text) {
    return i < text.size() ? text[i] : std::string("(nothing)");
  };
  return fmt::format("'{}' in place of '{}'", line(b), line(a));
}

struct Rank {
  std::string host;
  Json hashes;  // of the facts, in order
};

/// The ranks of each value of fact `index`, by the value's hash.
std::map<std::string, std::vector<size_t>> camps(const std::vector<Rank>& ranks, size_t index) {
  std::map<std::string, std::vector<size_t>> result;
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    result[ranks[rank].hashes.at(index).get<std::string>()].push_back(rank);
  return result;
}

/// The largest camp; of equal ones that of the lowest rank.
const std::vector<size_t>& majority(const std::map<std::string, std::vector<size_t>>& camps) {
  const auto larger = [](const auto& a, const auto& b) {
    return a.second.size() != b.second.size() ? a.second.size() < b.second.size()
                                              : a.second.front() > b.second.front();
  };
  return std::max_element(camps.begin(), camps.end(), larger)->second;
}

std::string names(const std::vector<Rank>& ranks, const std::vector<size_t>& which) {
  std::string text = which.size() == 1 ? "rank" : "ranks";
  for (size_t i = 0; i < std::min(which.size(), kNamed); ++i)
    text += fmt::format("{} {} ({})", i == 0 ? "" : ",", which[i], ranks[which[i]].host);
  if (which.size() > kNamed) text += fmt::format(" and {} more", which.size() - kNamed);
  return text;
}

}  // namespace

void require_agreement(Collectives& group, const std::vector<Fact>& facts) {
  Json hashes = Json::array();
  for (const Fact& fact : facts) {
    const std::string text = fact.name + "\n" + fact.value;
    hashes.push_back(hex(xxh3_128(text.data(), text.size())));
  }
  const std::string mine = Json{{"host", process_identity().host}, {"hashes", hashes}}.dump();
  std::vector<Rank> ranks;
  for (const std::string& text : group.gather_text(mine)) {
    const Json json = parse_json(text, "the facts of a rank");
    ranks.push_back({required<std::string>(json, "host", "the facts of a rank"), json.at("hashes")});
    DM_CHECK(ranks.back().hashes.size() == facts.size(), "rank {} compares {} facts, rank {} {}",
             group.rank(), facts.size(), ranks.size() - 1, ranks.back().hashes.size());
  }
  for (size_t index = 0; index < facts.size(); ++index) {
    const auto by_value = camps(ranks, index);
    if (by_value.size() == 1) continue;
    // Only now do the values travel: all ranks have seen that they differ.
    const std::vector<std::string> values = group.gather_text(facts[index].value);
    const std::vector<size_t>& most = majority(by_value);
    std::string culprits;
    for (const auto& [hash, which] : by_value)
      if (&which != &most)
        culprits += fmt::format("\n  {}: {}", names(ranks, which),
                                difference(values[most.front()], values[which.front()]));
    DM_FAIL(facts[index].code, "the ranks differ in their {}:{}\n{}", facts[index].name, culprits,
            facts[index].remedy);
  }
}

}  // namespace dm::dist
