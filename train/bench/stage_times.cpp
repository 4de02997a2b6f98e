#include "train/bench/stage_times.h"

#include <algorithm>
#include <map>

#include "model/cost.h"

namespace dm::train {
namespace {

enum class Pass { forward, backward, both };

struct Rule {
  const char* kernel;  // part of its name
  const char* stage;   // what the table calls it
  const char* cost;    // stages of the cost model whose names begin so; "": none of a layer's
  Pass pass;
};

// The first that fits. Matrix products are counted together, since one kernel serves several of them.
constexpr Rule kRules[] = {
    {"conv_forward", "conv forward", "conv", Pass::forward},
    {"conv_backward", "conv backward", "conv", Pass::backward},
    {"ssd_forward", "ssd forward", "ssd", Pass::forward},
    {"decay", "ssd forward", "ssd", Pass::forward},
    {"ssd_", "ssd backward", "ssd", Pass::backward},
    {"gated_norm_forward", "gated norm forward", "gated_norm", Pass::forward},
    {"gated_norm_backward", "gated norm backward", "gated_norm", Pass::backward},
    {"residual_norm_forward", "residual and norms forward", "residual", Pass::forward},
    {"residual_norm_backward", "residual and norms backward", "residual", Pass::backward},
    {"SelectiveForward", "selective scan forward", "selective_scan", Pass::forward},
    {"SelectiveBackward", "selective scan backward", "selective_scan", Pass::backward},
    {"CrossEntropyRows", "cross-entropy rows", "", Pass::both},
    {"adamw", "AdamW", "", Pass::both},
    {"nvjet", "matrix products", "", Pass::both},
    {"cublas", "matrix products", "", Pass::both},
    {"cutlass", "matrix products", "", Pass::both},
    {"gemm", "matrix products", "", Pass::both}};

class Floors {
 public:
  Floors(const model::ModelConfig& model, const StepBenchConfig& config, const BenchRates& rates)
      : cost_(model::model_cost(model)),
        rates_(rates),
        tokens_(static_cast<double>(config.rows * config.length)) {}

  double microseconds(const Rule& rule) const {
    const std::string stage = rule.stage;
    if (stage == "AdamW") return time(0, cost_.optimizer_bytes);
    if (stage == "cross-entropy rows") return time(0, tokens_ * cost_.head.backward_bytes);
    double sum = 0;
    if (stage == "matrix products")
      sum += time(tokens_ * cost_.head.forward_flops, 0) + time(tokens_ * cost_.head.backward_flops, 0);
    for (const model::LayerCost& layer : cost_.layers)
      for (const model::StageCost& s : layer.stages) {
        const bool product =
            s.stage.find("proj") != std::string::npos || s.stage == "up" || s.stage == "down";
        const bool mine =
            *rule.cost != '\0' ? s.stage.starts_with(rule.cost) : product && stage == "matrix products";
        if (!mine) continue;
        if (rule.pass != Pass::backward) sum += time(tokens_ * s.forward_flops, tokens_ * s.forward_bytes);
        if (rule.pass != Pass::forward) sum += time(tokens_ * s.backward_flops, tokens_ * s.backward_bytes);
      }
    return sum;
  }

 private:
  double time(double flops, double bytes) const { return rates_.microseconds(flops, bytes); }
  model::ModelCost cost_;
  const BenchRates& rates_;
  double tokens_;
};

}  // namespace

std::vector<StageTime> stage_times(const std::vector<kernels::KernelTime>& kernels,
                                   const model::ModelConfig& model, const StepBenchConfig& config,
                                   const BenchRates& rates) {
  const Floors floors(model, config, rates);
  std::map<std::string, StageTime> stages;
  for (const kernels::KernelTime& kernel : kernels) {
    const Rule* const rule = std::find_if(std::begin(kRules), std::end(kRules), [&](const Rule& r) {
      return kernel.name.find(r.kernel) != std::string::npos;
    });
    const bool known = rule != std::end(kRules);
    const std::string name = known ? rule->stage : "everything else";
    StageTime& stage = stages[name];
    stage.stage = name;
    stage.calls += kernel.calls;
    stage.microseconds += kernel.microseconds;
    if (known && rates.known()) stage.floor_microseconds = floors.microseconds(*rule);
  }
  std::vector<StageTime> result;
  for (const auto& [name, stage] : stages) result.push_back(stage);
  std::sort(result.begin(), result.end(),
            [](const StageTime& a, const StageTime& b) { return a.microseconds > b.microseconds; });
  return result;
}

Json StageTime::json() const {
  Json json{{"stage", stage}, {"calls", calls}, {"us", microseconds}};
  if (floor_microseconds > 0)
    json["floor_us"] = floor_microseconds, json["percent_of_floor"] = 100 * floor_microseconds / microseconds;
  return json;
}

}  // namespace dm::train
