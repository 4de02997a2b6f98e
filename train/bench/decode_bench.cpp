#include "train/bench/decode_bench.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "core/error.h"
#include "kernels/device/gpu.h"
#include "model/language_model.h"
#include "train/bench/floor.h"
#include "train/bench/quantile.h"
#include "train/device_name.h"
#include "train/stopwatch.h"

namespace dm::train {
namespace {

model::Parameters initial_parameters(const model::ModelConfig& config, at::Device device) {
  model::Parameters parameters;
  for (const model::ParameterInfo& info : model::parameter_infos(config)) {
    const at::Tensor values = at::empty(info.shape, at::kFloat);
    model::initialise(config, info, /*seed=*/1, 0, values);
    parameters.emplace(info.name, values.to(device));
  }
  return parameters;
}

/// What a step reads of the weights: matrices in the type of the activations, the rest in float32; of an
/// embedding that is not the head as well, a row a text.
int64_t weight_bytes(const model::ModelConfig& config, int64_t matrix_bytes, int64_t streams) {
  int64_t bytes = 0;
  for (const model::ParameterInfo& info : model::parameter_infos(config)) {
    const bool matrix = info.shape.size() == 2 && info.decay;
    const bool looked_up = info.name == "backbone.embeddings.weight";
    if (looked_up) bytes += streams * info.shape[1] * 4;
    if (!looked_up || config.tied) bytes += info.count() * (matrix ? matrix_bytes : 4);
  }
  return bytes;
}

}  // namespace

DecodeBenchResult bench_decode(const model::ModelConfig& model_config, const StepBenchConfig& config) {
  model::validate(model_config);
  const bool gpu = for_gpu(config), half = gpu && config.compute != "f32";
  if (gpu) kernels::use_gpu(0);
  const c10::InferenceMode no_gradients;
  DecodeBenchResult result;
  result.device = device_name(gpu);
  const BenchRates rates = bench_rates(config, result.device);
  result.missing = rates.missing;
  result.parameters = model::parameter_count(model_config);
  result.streams = config.rows;
  const model::LanguageModel model(model_config, initial_parameters(model_config, at::Device(config.device)),
                                   half ? at::kBFloat16 : at::kFloat);
  model::Decoder decoder(model, config.rows);
  if (gpu) kernels::reset_gpu_peak();
  at::Tensor ids = at::arange(config.rows, at::dtype(at::kLong).device(model.device()));
  const auto step = [&] { ids = decoder.step(ids).argmax(-1); };
  for (int i = 0; i < 5; ++i) step();
  std::vector<double> times;
  // Tokens are fed back on the device, so that the host need not wait for each.
  constexpr int kTogether = 10;
  for (int64_t i = 0; i < config.repetitions; ++i) {
    if (gpu) kernels::wait_for_gpu();
    const Stopwatch time;
    for (int j = 0; j < kTogether; ++j) step();
    if (gpu) kernels::wait_for_gpu();
    times.push_back(time.seconds() * 1e3 / kTogether);
  }
  std::sort(times.begin(), times.end());
  result.median_ms = quantile(times, 0.5), result.p10_ms = quantile(times, 0.1);
  result.p90_ms = quantile(times, 0.9);
  const auto streams = static_cast<double>(config.rows);
  result.tokens_per_second = streams / result.median_ms * 1e3;
  result.weight_bytes = weight_bytes(model_config, half ? 2 : 4, config.rows);
  result.state_bytes = decoder.state_bytes();
  if (rates.terabytes > 0) {
    result.floor_tokens_per_second =
        streams * rates.terabytes * 1e12 / static_cast<double>(result.weight_bytes + 2 * result.state_bytes);
    result.share_of_floor = result.tokens_per_second / result.floor_tokens_per_second;
  }
  result.graph_nodes = decoder.graph_nodes();
  if (gpu) result.peak_bytes = kernels::gpu_memory().peak_bytes;
  if (config.profile) result.kernels = kernels::profile_kernels(step);
  return result;
}

Json DecodeBenchResult::json() const {
  Json json{{"device", device},
            {"parameters", parameters},
            {"streams", streams},
            {"median_ms", median_ms},
            {"p10_ms", p10_ms},
            {"p90_ms", p90_ms},
            {"tokens_per_second", tokens_per_second},
            {"weight_bytes", weight_bytes},
            {"state_bytes", state_bytes},
            {"graph_nodes", graph_nodes},
            {"peak_gib", static_cast<double>(peak_bytes) / (1 << 30)}};
  if (floor_tokens_per_second > 0)
    json["floor_tokens_per_second"] = floor_tokens_per_second, json["share_of_floor"] = share_of_floor;
  else
    json["missing"] = missing;
  for (const kernels::KernelTime& kernel : kernels)
    json["kernels"].push_back({{"name", kernel.name}, {"calls", kernel.calls}, {"us", kernel.microseconds}});
  return json;
}

}  // namespace dm::train
