#include "train/plan/compute_time.h"

#include <algorithm>
#include <string_view>

#include "model/cost.h"
#include "model/recompute.h"

namespace dm::train {
namespace {

/// Of an update, an element: gradient, weight and two moments read, three of them written; and the copy in
/// the type of the activations made of the weight.
constexpr double kOwnedBytes = 28, kHeldBytes = 2;

double share_of_floor(const Cluster& cluster, std::string_view stage) {
  if (stage.starts_with("residual")) return cluster.share_residual;
  if (stage == "conv") return cluster.share_conv;
  if (stage == "ssd") return cluster.share_ssd;
  if (stage == "gated_norm") return cluster.share_gated_norm;
  if (stage == "selective_scan") return cluster.share_selective_scan;
  return cluster.share_products;
}

/// What a walk over the states alone takes of a scan's forward pass: Mamba-2's reads half and writes nothing,
/// Mamba-1's computes every exponential.
double share_of_walk(std::string_view stage) {
  if (stage == "ssd") return 0.5;
  if (stage == "selective_scan") return 0.9;
  return 0;
}

/// The cluster's shares of the floor are those of a step that makes what it makes again by --recompute conv;
/// `kept`: nothing is, and such a stage takes as much less as one pass of the three.
PassTime::Layer stage_time(const Cluster& cluster, const model::StageCost& stage, bool kept = false) {
  const double forward =
                   std::max(stage.forward_flops / cluster.tflops, stage.forward_bytes / cluster.terabytes),
               backward =
                   std::max(stage.backward_flops / cluster.tflops, stage.backward_bytes / cluster.terabytes);
  double slower = (1 + cluster.other) / share_of_floor(cluster, stage.stage) * 1e-12;
  if (kept && stage.made_again) slower *= (forward + backward) / (2 * forward + backward);
  return {slower * forward, slower * backward};
}

/// Whether the backward pass makes a stage of a layer once more, beyond what its share of the floor knows of.
bool made_again(const model::ModelConfig& model, std::string_view stage, bool whole_layer) {
  if (whole_layer) return !stage.starts_with("residual") && stage != "out_proj";
  return stage == "ssd" && scans_again(model);
}

}  // namespace

double PassTime::total() const {
  double sum = head.forward + head.backward;
  for (const Layer& layer : layers) sum += layer.forward + layer.backward;
  return sum;
}

PassTime pass_time(const model::ModelConfig& model, const Cluster& cluster, double share, double stream,
                   bool cut) {
  const model::ModelCost cost = model::model_cost(model);
  const int64_t again = model::recomputed_layers(model, static_cast<int64_t>(cost.layers.size()));
  PassTime time;
  for (const model::LayerCost& layer : cost.layers) {
    PassTime::Layer sum{0, 0};
    for (const model::StageCost& stage : layer.stages) {
      const PassTime::Layer t = stage_time(cluster, stage, keeps_everything(model));
      const double part = stage.stage.starts_with("residual") ? stream : share;
      const double walk = cut ? share_of_walk(stage.stage) * t.forward : 0;
      sum.forward += part * (t.forward + walk);
      sum.backward += part * (t.backward + walk);
      if (made_again(model, stage.stage, layer.layer < again)) sum.backward += part * t.forward;
    }
    time.layers.push_back(sum);
  }
  const PassTime::Layer head = stage_time(cluster, cost.head);
  time.head = {stream * head.forward, stream * head.backward};
  return time;
}

double update_time(const Cluster& cluster, int64_t owned, int64_t held) {
  const double bytes = kOwnedBytes * static_cast<double>(owned) + kHeldBytes * static_cast<double>(held);
  return bytes / (cluster.terabytes * 1e12 * cluster.share_optimizer);
}

double step_time_alone(const model::ModelConfig& model, const Cluster& cluster, const StepSize& size) {
  const int64_t parameters = model::parameter_count(model);
  return static_cast<double>(size.rows * size.length) * pass_time(model, cluster).total() +
         update_time(cluster, parameters, parameters);
}

}  // namespace dm::train
