#include "train/plan/step_time.h"

#include <algorithm>

namespace dm::train {
namespace {

/// When each bucket is complete, from the beginning of a backward pass over `tokens`; in the order in which
/// they leave, the last first.
std::vector<double> completions(const FlatLayout& flat, const PassTime& pass, double tokens) {
  std::vector<double> times;
  for (auto bucket = flat.buckets.rbegin(); bucket != flat.buckets.rend(); ++bucket) {
    // The norm before a layer is differentiated with the layer before it.
    const auto first = static_cast<size_t>(std::max<int64_t>(0, bucket->depth - 1));
    double seconds = pass.head.backward;
    for (size_t layer = first; layer < pass.layers.size(); ++layer) seconds += pass.layers[layer].backward;
    times.push_back(tokens * seconds);
  }
  return times;
}

/// Sums of gradients: buckets leave one after the other, each when it is complete.
void add_reduction(StepTime& time, const Cluster& cluster, const FlatLayout& flat, const RankPlace& place,
                   const StepSize& size, const std::vector<double>& complete, double pass_end) {
  const GroupLinks shards(cluster, place.shard, place.tp),
      across(cluster, place.across(), place.tp * place.shard);
  double end = 0, busy = 0;
  for (size_t i = 0; i < complete.size(); ++i) {
    const int64_t bytes = flat.buckets[flat.buckets.size() - 1 - i].piece * size_bytes(size.weights);
    const double seconds =
        shards.seconds(Operation::reduce_scatter, bytes) + across.seconds(Operation::all_reduce, bytes);
    end = std::max(end, complete[i]) + seconds;
    busy += seconds;
  }
  time.reduce_exposed = busy > 0 ? std::max(0.0, end - pass_end) : 0;
  time.reduce_hidden = busy - std::min(busy, time.reduce_exposed);
  time.contention = cluster.contention * time.reduce_hidden;
}

}  // namespace

StepTime step_time(const model::ModelConfig& model, const RankParameters& parameters, const Cluster& cluster,
                   const RankPlace& place, const StepSize& size) {
  const PassTime pass =
      pass_time(model, cluster, parameters.share, 1.0 / static_cast<double>(place.tp), place.cp > 1);
  const FlatLayout flat =
      flat_layout(parameters.held, size_bytes(size.weights), place.shard, size.bucket_bytes);
  const int64_t rows = own_rows(place, size);
  const auto length = static_cast<double>(model::context_piece(size.length, place.cp, place.cp_rank).count());
  const AxisTraffic traffic = step_traffic(model, parameters, place, size);

  StepTime time;
  time.compute = static_cast<double>(rows) * length * pass.total() +
                 update_time(cluster, flat.owned_count, flat.flat_count);
  time.tensor = GroupLinks(cluster, place.tp, 1).seconds(traffic.tensor);
  time.context = GroupLinks(cluster, place.cp, place.tp).seconds(traffic.context);
  time.control = GroupLinks(cluster, place.world(), 1).seconds(traffic.control);

  const int64_t left = rows % size.micro_batch, last = left > 0 ? left : std::min(rows, size.micro_batch);
  std::vector<double> complete = completions(flat, pass, static_cast<double>(last) * length);
  const double pass_end = complete.empty() ? 0 : complete.back();
  // Tensor ranks add up shared gradients first, and for that wait for the end of the pass.
  if (parameters.shared > 0) std::fill(complete.begin(), complete.end(), pass_end);
  add_reduction(time, cluster, flat, place, size, complete, pass_end);
  const GroupLinks shards(cluster, place.shard, place.tp);
  for (const Bucket& bucket : flat.buckets)
    time.gather += shards.seconds(Operation::all_gather, bucket.piece * size_bytes(size.weights));
  return time;
}

}  // namespace dm::train
