#include "model/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"

namespace dm::model {
namespace {

/// The tokens to draw from: in order of likelihood when top-k or top-p cut the list, by id otherwise.
std::vector<int64_t> candidates(const double* logits, int64_t vocab, const SamplingConfig& config) {
  std::vector<int64_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  if (config.top_k == 0 && config.top_p >= 1) return ids;
  const auto kept = ids.begin() + (config.top_k > 0 ? std::min(config.top_k, vocab) : vocab);
  std::partial_sort(ids.begin(), kept, ids.end(), [&](int64_t a, int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  ids.erase(kept, ids.end());
  return ids;
}

int64_t sample_row(const double* logits, int64_t vocab, const SamplingConfig& config, const DrawAt& place) {
  for (int64_t v = 0; v < vocab; ++v)
    DM_CHECK(std::isfinite(logits[v]), "logit {} of row {} at position {} is {}", v, place.row,
             place.position, logits[v]);
  const double* const largest = std::max_element(logits, logits + vocab);
  if (config.temperature == 0) return largest - logits;

  const std::vector<int64_t> ids = candidates(logits, vocab, config);
  std::vector<double> below;  // cumulative weight, the largest logit counted as 1
  double total = 0;
  for (const int64_t id : ids)
    below.push_back(total += std::exp((logits[id] - *largest) / config.temperature));

  size_t count = ids.size();
  if (config.top_p < 1) {
    const auto enough = std::lower_bound(below.begin(), below.end(), config.top_p * total);
    count = std::min(count, static_cast<size_t>(enough - below.begin()) + 1);
  }
  const CounterRng rng(static_cast<uint64_t>(config.seed), fmt::format("sample/{}", place.row));
  const double point = rng.uniform(static_cast<uint64_t>(place.position)) * below[count - 1];
  const auto drawn = std::upper_bound(below.begin(), below.begin() + static_cast<int64_t>(count), point);
  return ids[std::min(count - 1, static_cast<size_t>(drawn - below.begin()))];
}

}  // namespace

at::Tensor sample(const at::Tensor& logits, const SamplingConfig& config, const std::vector<DrawAt>& places) {
  DM_CHECK(logits.dim() == 2 && logits.size(0) == static_cast<int64_t>(places.size()) && logits.size(1) >= 1,
           "{} places for logits of {} rows", places.size(), logits.size(0));
  const at::Tensor rows = logits.detach().to(at::kCPU, at::kDouble).contiguous();
  const at::Tensor ids = at::empty({rows.size(0)}, at::kLong);
  for (size_t b = 0; b < places.size(); ++b)
    ids.data_ptr<int64_t>()[b] = sample_row(rows.data_ptr<double>() + static_cast<int64_t>(b) * rows.size(1),
                                            rows.size(1), config, places[b]);
  return ids;
}

}  // namespace dm::model
