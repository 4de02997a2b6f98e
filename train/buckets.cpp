#include "train/buckets.h"

namespace dm::train {
namespace {

constexpr int64_t kAlignment = 64;  // elements; 256 bytes of float32

int64_t aligned(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

FlatLayout flat_layout(const std::vector<model::LocalParameter>& parameters, int64_t element_bytes,
                       int64_t ranks, int64_t bucket_bytes) {
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
  return layout;
}

}  // namespace dm::train
