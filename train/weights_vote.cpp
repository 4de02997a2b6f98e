#include "train/weights_vote.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/process.h"

namespace dm::train {
namespace {

/// Of `count` elements of a flat buffer or an owned array.
void add(Hasher& hasher, const at::Tensor& array, int64_t begin, int64_t count) {
  const at::Tensor host = array.narrow(0, begin, count).to(at::kCPU);
  hasher.update(host.const_data_ptr(), host.nbytes());
}

WeightsBallot ballot_of(const FlatParameters& parameters) {
  WeightsBallot ballot{.copies = {}, .owned = parameters.rank(), .master = 0};
  for (int64_t piece = 0; piece < parameters.group().size(); ++piece) {
    Hasher copy;
    for (const Bucket& bucket : parameters.buckets())
      add(copy, parameters.weights(), bucket.begin + piece * bucket.piece, bucket.piece);
    ballot.copies.push_back(copy.digest_64());
  }
  Hasher master;
  for (const Bucket& bucket : parameters.buckets())
    add(master, parameters.owned_weights(), bucket.owned, bucket.piece);
  ballot.master = master.digest_64();
  return ballot;
}

/// What most say, a master's word before a copy's where as many say either.
uint64_t elected(const std::vector<uint64_t>& copies, const std::vector<uint64_t>& masters) {
  std::map<uint64_t, std::pair<size_t, size_t>> votes;  // all of them, those of masters
  for (const uint64_t value : copies) ++votes[value].first;
  for (const uint64_t value : masters) ++votes[value].first, ++votes[value].second;
  return std::max_element(votes.begin(), votes.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

std::vector<Outvoted> outvoted(const std::vector<WeightsBallot>& ballots) {
  std::vector<Outvoted> found;
  const auto replicas = static_cast<int64_t>(ballots.size());
  const auto ballot = [&](int64_t replica) -> const WeightsBallot& {
    return ballots[static_cast<size_t>(replica)];
  };
  for (size_t piece = 0; piece < ballot(0).copies.size(); ++piece) {
    const auto number = static_cast<int64_t>(piece);
    std::vector<uint64_t> copies, masters;
    for (const WeightsBallot& each : ballots) {
      copies.push_back(each.copies[piece]);
      if (each.owned == number) masters.push_back(each.master);
    }
    const uint64_t right = elected(copies, masters);
    for (int64_t replica = 0; replica < replicas; ++replica)
      if (ballot(replica).copies[piece] != right) found.push_back({replica, number, false});
    for (int64_t replica = 0; replica < replicas; ++replica)
      if (ballot(replica).owned == number && ballot(replica).master != right)
        found.push_back({replica, number, true});
  }
  return found;
}

void require_equal_weights(const FlatParameters& parameters, Collectives& replicas, int64_t step) {
  const WeightsBallot mine = ballot_of(parameters);
  const std::string name = fmt::format("rank {} on {}", process_identity().rank, process_identity().host);
  std::vector<WeightsBallot> ballots;
  std::vector<std::string> names;
  for (const std::string& text :
       replicas.gather_text(Json{name, mine.owned, mine.master, mine.copies}.dump())) {
    const Json json = Json::parse(text);
    names.push_back(json[0]);
    ballots.push_back({json[3].get<std::vector<uint64_t>>(), json[1], json[2]});
  }
  std::set<std::string> culprits;
  for (const Outvoted& each : outvoted(ballots))
    culprits.insert(fmt::format("{} ({})", names[static_cast<size_t>(each.replica)],
                                each.master ? "the weights that it updates" : "its copy"));
  DM_REQUIRE(culprits.empty(), ExitCode::lost,
             "step {}: weights that must be equal on {} replicas differ on {}: a memory or a device there "
             "errs; the step "
             "was not taken. Run again without that host: the run goes on from its newest checkpoint",
             step, ballots.size(), fmt::join(culprits, ", "));
}

}  // namespace dm::train
