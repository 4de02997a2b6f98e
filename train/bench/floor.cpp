#include "train/bench/floor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "kernels/device/card_rates.h"

namespace dm::train {

double BenchRates::microseconds(double flops, double bytes) const {
  return std::max(flops / tflops, bytes / terabytes) / 1e6;
}

BenchRates bench_rates(const StepBenchConfig& config, const std::string& device) {
  BenchRates rates{config.tflops, config.terabytes, config.peak_tflops, ""};
  const bool floats = config.device != "cuda" || config.compute == "f32";
  if (const kernels::CardRates* card = kernels::card_rates(device)) {
    if (rates.tflops == 0 && !floats) rates.tflops = card->product_tflops;
    if (rates.terabytes == 0) rates.terabytes = card->copy_terabytes;
    if (rates.peak_tflops == 0) rates.peak_tflops = floats ? card->peak_float_tflops : card->peak_bf16_tflops;
  }
  std::vector<std::string> unknown;
  if (rates.tflops == 0) unknown.emplace_back("--tflops");
  if (rates.terabytes == 0) unknown.emplace_back("--terabytes");
  if (rates.peak_tflops == 0) unknown.emplace_back("--peak-tflops");
  if (!unknown.empty())
    rates.missing = fmt::format("what {} reaches{} has not been measured for this program: give {}", device,
                                floats ? " in float32" : "", fmt::join(unknown, ", "));
  return rates;
}

double floor_tokens_per_second(const model::ModelConfig& model, const StepBenchConfig& config,
                               const BenchRates& rates) {
  const model::ModelCost cost = model::model_cost(model);
  const auto stage_us = [&](const model::StageCost& stage) {
    return rates.microseconds(stage.forward_flops, stage.forward_bytes) +
           rates.microseconds(stage.backward_flops, stage.backward_bytes);
  };
  double a_token = stage_us(cost.head);
  for (const model::LayerCost& layer : cost.layers)
    for (const model::StageCost& stage : layer.stages) a_token += stage_us(stage);
  const auto tokens = static_cast<double>(config.rows * config.length);
  return tokens / (tokens * a_token + rates.microseconds(0, cost.optimizer_bytes)) * 1e6;
}

}  // namespace dm::train
