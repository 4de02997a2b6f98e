#include "train/plan/step_traffic.h"

#include <algorithm>
#include <numeric>

#include "data/loader.h"
#include "model/exchanges.h"
#include "model/local_parameters.h"
#include "model/row_states.h"
#include "train/step_guard.h"

namespace dm::train {
namespace {

bool in_layer(const model::ParameterInfo& info) { return info.name.starts_with("backbone.layers."); }

/// The passes over this rank's tokens of `rows` rows.
void add_pass(AxisTraffic& traffic, const model::ModelConfig& model, const RankPlace& place,
              const StepSize& size, int64_t rows, int64_t passes) {
  if (rows == 0 || passes == 0) return;
  using Element = model::Exchange::Element;
  const model::Placement placement{
      .tp = place.tp, .tp_rank = place.tp_rank, .cp = place.cp, .cp_rank = place.cp_rank};
  const model::PassSize pass{rows, model::context_piece(size.length, place.cp, place.cp_rank).count()};
  std::vector<model::Exchange> exchanges = model::exchanges(model, placement, pass, /*backward=*/true);
  if (size.streams)
    for (model::Exchange& e : model::exchanges_of_rows(model, placement, rows)) exchanges.push_back(e);
  for (const model::Exchange& e : exchanges) {
    const DType dtype = e.element == Element::activation ? size.activations
                        : e.element == Element::weight   ? size.weights
                                                         : DType::i32;
    const bool tensor = e.axis == model::Exchange::Axis::tensor;
    (tensor ? traffic.tensor : traffic.context)
        .add(e.operation, e.count * size_bytes(dtype), tensor ? place.tp : place.cp, passes * e.calls);
  }
}

/// Scattered gradients of shared elements are added up before their bucket leaves, in every pass.
void add_shared_by_bucket(AxisTraffic& traffic, const RankParameters& parameters, const FlatLayout& flat,
                          int64_t tp, int64_t element, int64_t passes) {
  if (passes == 0) return;
  const auto& by_depth = parameters.shared_by_depth;
  for (const auto& [begin, end] : depths(flat.buckets)) {
    const auto size = static_cast<int64_t>(by_depth.size());
    const int64_t count = std::accumulate(by_depth.begin() + std::min(begin, size),
                                          by_depth.begin() + std::min(end, size), int64_t{0});
    traffic.tensor.add(Operation::all_reduce, count * element, tp, passes);
  }
}

}  // namespace

RankPlace RankPlace::of(const Groups& groups) {
  const model::Placement& p = groups.placement;
  return {.dp = groups.data_ranks,
          .cp = p.cp,
          .tp = p.tp,
          .dp_rank = groups.data_rank,
          .cp_rank = p.cp_rank,
          .tp_rank = p.tp_rank,
          .shard = groups.shards.size()};
}

int64_t own_rows(const RankPlace& place, const StepSize& size) {
  return data::first_row(size.rows, place.dp_rank + 1, place.dp) -
         data::first_row(size.rows, place.dp_rank, place.dp);
}

RankParameters::RankParameters(const model::ModelConfig& model, int64_t tp, int64_t tp_rank)
    : held(model::local_parameters(model, {.tp = tp, .tp_rank = tp_rank})),
      shared_by_depth(model::SharedGradients(model, {.tp = tp, .tp_rank = tp_rank}).count_by_depth()),
      shared(std::accumulate(shared_by_depth.begin(), shared_by_depth.end(), int64_t{0})) {
  int64_t here = 0, everywhere = 0;
  for (const model::LocalParameter& p : held)
    if (in_layer(p.info)) here += p.count();
  for (const model::ParameterInfo& info : model::parameter_infos(model))
    if (in_layer(info)) everywhere += info.count();
  share = static_cast<double>(here) / static_cast<double>(everywhere);
}

AxisTraffic step_traffic(const model::ModelConfig& model, const RankParameters& parameters,
                         const RankPlace& place, const StepSize& size) {
  AxisTraffic traffic;
  const int64_t rows = own_rows(place, size), element = size_bytes(size.weights);
  add_pass(traffic, model, place, size, size.micro_batch, rows / size.micro_batch);
  add_pass(traffic, model, place, size, rows % size.micro_batch, 1);
  const bool scattered = scatters(size.zero, place.shard);
  const FlatLayout flat = flat_layout(parameters.held, element, place.shard, size.bucket_bytes, scattered);
  const int64_t rounds = scattered ? most_passes(size.rows, place.dp, size.micro_batch) : 1;
  for (const Bucket& bucket : flat.buckets) {
    traffic.data.add(Operation::reduce_scatter, bucket.piece * element, place.shard, rounds);
    if (!scattered) traffic.data.add(Operation::all_reduce, bucket.piece * element, place.across());
    traffic.data.add(Operation::all_gather, bucket.piece * element, place.shard);
  }
  if (!scattered) {
    traffic.tensor.add(Operation::all_reduce, parameters.shared * element, place.tp);
  } else {
    traffic.data.add(Operation::all_reduce, flat.owned_count * element, place.across());
    add_shared_by_bucket(traffic, parameters, flat, place.tp, element, passes(rows, size.micro_batch));
  }
  traffic.control.add(Operation::all_reduce, kAgreedBytes, place.world());
  return traffic;
}

}  // namespace dm::train
