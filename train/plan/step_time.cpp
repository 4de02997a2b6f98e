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

/// Sums of gradients beside a pass, `times` over: buckets leave one after the other, each when it is
/// complete. `across` are the ranks that a bucket's piece is summed over as well.
void add_reduction(StepTime& time, const Cluster& cluster, const FlatLayout& flat, const RankPlace& place,
                   const StepSize& size, const std::vector<double>& complete, const GroupLinks* across,
                   int64_t times = 1) {
  const GroupLinks shards(cluster, place.shard, place.tp);
  const double pass_end = complete.empty() ? 0 : complete.back();
  double end = 0, busy = 0;
  for (size_t i = 0; i < complete.size(); ++i) {
    const int64_t bytes = flat.buckets[flat.buckets.size() - 1 - i].piece * size_bytes(size.weights);
    const double seconds = shards.seconds(Operation::reduce_scatter, bytes) +
                           (across ? across->seconds(Operation::all_reduce, bytes) : 0);
    end = std::max(end, complete[i]) + seconds;
    busy += seconds;
  }
  const auto often = static_cast<double>(times);
  const double exposed = busy > 0 ? std::max(0.0, end - pass_end) : 0,
               hidden = busy - std::min(busy, exposed);
  time.reduce_exposed += often * exposed;
  time.reduce_hidden += often * hidden;
  time.contention += often * cluster.contention * hidden;
}

/// Weights on their way beside a forward pass over `tokens`, which waits for each bucket where it reads the
/// first of its layers.
void add_gathers(StepTime& time, const Cluster& cluster, const FlatLayout& flat, const PassTime& pass,
                 const StepSize& size, const GroupLinks& shards, double tokens) {
  double there = 0, now = 0, waited = 0;
  size_t layer = 0;  // those before it have been passed
  for (const Bucket& bucket : flat.buckets) {
    there += shards.seconds(Operation::all_gather, bucket.piece * size_bytes(size.weights));
    for (; layer < std::min(static_cast<size_t>(bucket.depth), pass.layers.size()); ++layer)
      now += tokens * pass.layers[layer].forward;
    const double wait = std::max(0.0, there - now);
    waited += wait, now += wait;
  }
  time.gather_exposed += waited;
  time.gather_hidden += there - waited;
  time.contention += cluster.contention * (there - waited);
}

}  // namespace

StepTime step_time(const model::ModelConfig& model, const RankParameters& parameters, const Cluster& cluster,
                   const RankPlace& place, const StepSize& size) {
  const PassTime pass =
      pass_time(model, cluster, parameters.share, 1.0 / static_cast<double>(place.tp), place.cp > 1);
  const bool scattered = scatters(size.zero, place.shard);
  const FlatLayout flat =
      flat_layout(parameters.held, size_bytes(size.weights), place.shard, size.bucket_bytes, scattered);
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
  const GroupLinks shards(cluster, place.shard, place.tp),
      across(cluster, place.across(), place.tp * place.shard);
  const auto of_pass = [&](int64_t at_once) {
    return completions(flat, pass, static_cast<double>(at_once) * length);
  };
  if (scattered) {
    add_reduction(time, cluster, flat, place, size, of_pass(size.micro_batch), nullptr,
                  rows / size.micro_batch);
    if (left > 0) add_reduction(time, cluster, flat, place, size, of_pass(left), nullptr);
    time.reduce_exposed += across.seconds(Operation::all_reduce, flat.owned_count * size_bytes(size.weights));
  } else {
    std::vector<double> complete = of_pass(last);
    // Tensor ranks add up shared gradients first, and for that wait for the end of the pass.
    if (parameters.shared > 0) std::fill(complete.begin(), complete.end(), complete.back());
    add_reduction(time, cluster, flat, place, size, complete, &across);
  }
  add_gathers(time, cluster, flat, pass, size, shards,
              static_cast<double>(std::min(rows, size.micro_batch)) * length);
  return time;
}

}  // namespace dm::train
