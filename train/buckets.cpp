#include "train/buckets.h"

#include <algorithm>
#include <limits>

namespace dm::train {
namespace {

constexpr int64_t kAlignment = 64;  // elements; 256 bytes of float32

int64_t aligned(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

void place_gradients(FlatLayout& layout, int64_t ranks, bool scattered) {
  if (!scattered) {
    for (Bucket& bucket : layout.buckets) bucket.gradient = bucket.begin;
    layout.gradient_count = layout.flat_count;
    return;
  }
  constexpr int64_t kPlaces = 3;
  const int64_t first = layout.buckets.front().piece * ranks,
                others = static_cast<int64_t>(layout.buckets.size()) - 1;
  int64_t widest = 0;
  for (int64_t i = 1; i <= others; ++i)
    widest = std::max(widest, layout.buckets[static_cast<size_t>(i)].piece * ranks);
  for (int64_t i = 1; i <= others; ++i)
    layout.buckets[static_cast<size_t>(i)].gradient = first + (i - 1) % kPlaces * widest;
  layout.gradient_count = first + std::min(kPlaces, others) * widest;
}

}  // namespace

int64_t FlatLayout::widest_piece() const {
  int64_t widest = 0;
  for (const Bucket& bucket : buckets) widest = std::max(widest, bucket.piece);
  return widest;
}

FlatLayout flat_layout(const std::vector<model::LocalParameter>& parameters, int64_t element_bytes,
                       int64_t ranks, int64_t bucket_bytes, bool scattered) {
  FlatLayout layout;
  std::vector<Bucket>& buckets = layout.buckets;
  int64_t end = 0;  // of the parameters so far
  const auto close = [&] {
    Bucket& bucket = buckets.back();
    bucket.piece = aligned((end - bucket.begin + ranks - 1) / ranks);
    end = bucket.begin + bucket.piece * ranks;
    layout.owned_count += bucket.piece;
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool new_layer = i > 0 && parameters[i].info.depth != parameters[i - 1].info.depth;
    const bool full = !buckets.empty() && (end - buckets.back().begin) * element_bytes >= bucket_bytes;
    if (buckets.empty() || (new_layer && full)) {
      if (!buckets.empty()) close();
      buckets.push_back({.begin = end, .owned = layout.owned_count, .depth = parameters[i].info.depth});
    }
    layout.offsets.push_back(end);
    end += aligned(parameters[i].count());
  }
  close();
  layout.flat_count = end;
  place_gradients(layout, ranks, scattered);
  return layout;
}

std::vector<std::pair<int64_t, int64_t>> depths(const std::vector<Bucket>& buckets) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (size_t i = 0; i < buckets.size(); ++i)
    all.emplace_back(buckets[i].depth,
                     i + 1 < buckets.size() ? buckets[i + 1].depth : std::numeric_limits<int64_t>::max());
  return all;
}

int64_t most_passes(int64_t rows, int64_t data_ranks, int64_t micro_batch) {
  return passes((rows + data_ranks - 1) / data_ranks, micro_batch);
}

}  // namespace dm::train
