#include "model/placement.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

std::vector<int64_t> divisors(int64_t number) {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= number / d; ++d)
    if (number % d == 0) all.push_back(d);
  for (size_t i = all.size(); i-- > 0;)
    if (number / all[i] != all[i]) all.push_back(number / all[i]);
  return all;
}

/// The largest legal tp: every layer's parts divide by its divisors and by no others.
int64_t common_parts(const ModelConfig& config) {
  int64_t common = 0;
  for (const char letter : layer_letters(config))
    common = std::gcd(common, layer_kind(letter).tensor_parts(config).count);
  return common;
}

}  // namespace

std::vector<int64_t> legal_tensor_sizes(const ModelConfig& config) { return divisors(common_parts(config)); }

void check_placement(const ModelConfig& config, int64_t tp, int64_t cp, int64_t length) {
  DM_REQUIRE(tp >= 1 && cp >= 1, ExitCode::usage, "tp {} and cp {}: both must be at least 1", tp, cp);
  for (const char letter : layer_letters(config)) {
    const LayerKind& kind = layer_kind(letter);
    const TensorParts parts = kind.tensor_parts(config);
    DM_REQUIRE(parts.count % tp == 0, ExitCode::usage,
               "tp {}: the {} {} of layer {} ({}) do not divide into so many parts; legal for this model: {}",
               tp, parts.count, parts.what, letter, kind.name(), fmt::join(legal_tensor_sizes(config), ", "));
  }
  DM_REQUIRE(length == 0 || cp <= length, ExitCode::usage,
             "cp {}: a row of {} tokens has no piece for each; legal: 1 to {}", cp, length, length);
}

TokenRange context_piece(int64_t length, int64_t cp, int64_t rank) {
  DM_CHECK(cp >= 1 && cp <= length && rank >= 0 && rank < cp, "piece {} of {} of {} tokens", rank, cp,
           length);
  const int64_t share = length / cp, longer = length % cp;
  const int64_t begin = rank * share + std::min(rank, longer);
  return {begin, begin + share + (rank < longer ? 1 : 0)};
}

}  // namespace dm::model
