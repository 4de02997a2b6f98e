#include "model/cost.h"

#include "model/layers/registry.h"

namespace dm::model {
namespace {

constexpr double kAdamWBytes =
    30;  // a parameter and step: gradient, master, two moments read, three and the bf16 copy written

StageCost head_cost(const ModelConfig& config) {
  const double d = static_cast<double>(config.d_model), v = static_cast<double>(config.vocab_size);
  return {"head", 2 * d * v, 4 * d * v, 8 * v, 4 * v};
}

}  // namespace

StageCost& StageCost::operator+=(const StageCost& other) {
  forward_flops += other.forward_flops;
  backward_flops += other.backward_flops;
  forward_bytes += other.forward_bytes;
  backward_bytes += other.backward_bytes;
  return *this;
}

StageCost& StageCost::operator*=(double count) {
  forward_flops *= count;
  backward_flops *= count;
  forward_bytes *= count;
  backward_bytes *= count;
  return *this;
}

StageCost LayerCost::total() const {
  StageCost sum{"layer"};
  for (const StageCost& stage : stages) sum += stage;
  return sum;
}

StageCost ModelCost::total() const {
  StageCost sum{"model"};
  for (const LayerCost& layer : layers) sum += layer.total();
  return sum += head;
}

StageCost linear_cost(const std::string& stage, int64_t in, int64_t out) {
  const double i = static_cast<double>(in), o = static_cast<double>(out);
  return {stage, 2 * i * o, 4 * i * o, 2 * (i + o), 4 * (i + o)};
}

StageCost residual_cost(int64_t d_model) {
  const double d = static_cast<double>(d_model);
  return {"residual+norm", 0, 0, 12 * d, 18 * d};
}

ModelCost model_cost(const ModelConfig& config) {
  ModelCost cost;
  const std::string letters = layer_letters(config);
  for (size_t i = 0; i < letters.size(); ++i)
    cost.layers.push_back({static_cast<int64_t>(i), letters[i], 0, layer_kind(letters[i]).stages(config)});
  for (const ParameterInfo& info : parameter_infos(config)) {
    cost.parameters += info.count();
    int64_t* owner = &cost.embedding_parameters;
    // "backbone.layers.{i}.": the prefix names the layer.
    constexpr std::string_view kLayers = "backbone.layers.";
    if (info.name.starts_with(kLayers))
      owner = &cost.layers[std::stoul(info.name.substr(kLayers.size()))].parameters;
    *owner += info.count();
  }
  cost.head = head_cost(config);
  cost.optimizer_bytes = kAdamWBytes * static_cast<double>(cost.parameters);
  return cost;
}

}  // namespace dm::model
