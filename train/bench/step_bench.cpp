#include "train/bench/step_bench.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/device/gpu.h"
#include "model/cost.h"
#include "train/bench/floor.h"
#include "train/bench/quantile.h"
#include "train/bench/stage_times.h"
#include "train/device_name.h"
#include "train/gpu_memory.h"
#include "train/plan/rank_memory.h"
#include "train/step_runner.h"
#include "train/stopwatch.h"

namespace dm::train {
namespace {

/// Random tokens in documents of random lengths, as packing leaves them.
data::Batch random_batch(const model::ModelConfig& model, const StepBenchConfig& config, uint64_t number) {
  data::Batch batch;
  batch.rows = config.rows, batch.length = config.length;
  const CounterRng rng(number, "step bench");
  uint64_t draw = 0;
  for (int64_t row = 0; row < config.rows; ++row) {
    int32_t document = 0;
    for (int64_t t = 0; t <= config.length; ++t) {
      batch.tokens.push_back(
          static_cast<int32_t>(rng.uniform(draw++) * static_cast<double>(model.vocab_size)));
      if (t == config.length) break;
      if (t > 0 && rng.uniform(draw++) * static_cast<double>(config.document_tokens) < 1) ++document;
      batch.seq_idx.push_back(document);
      batch.loss_mask.push_back(1);
    }
  }
  return batch;
}

StepSize size_of(const StepBenchConfig& config, const Groups& groups) {
  const bool bf16 = config.device == "cuda" && config.compute != "f32";
  return {.rows = config.rows * groups.data_ranks,
          .length = config.length,
          .micro_batch = config.micro_rows > 0 ? std::min(config.micro_rows, config.rows) : config.rows,
          .activations = bf16 ? DType::bf16 : DType::f32};
}

StepBenchResult measured(const model::ModelConfig& model_config, const StepBenchConfig& config,
                         const Groups& groups) {
  const bool gpu = for_gpu(config);
  StepBenchResult result;
  result.device = device_name(gpu);
  const BenchRates rates = bench_rates(config, result.device);
  result.missing = rates.missing;
  result.parameters = model::parameter_count(model_config);
  if (gpu) result.recompute = model_config.recompute;

  const StepSize size = size_of(config, groups);
  result.memory =
      rank_memory(model_config, RankParameters(model_config, groups.placement.tp, groups.placement.tp_rank),
                  RankPlace::of(groups), size);
  result.ranks = groups.all.size();
  result.dp = groups.data_ranks, result.cp = groups.placement.cp, result.tp = groups.placement.tp;
  StepRunner runner(model_config, {},
                    {.activations = size.activations == DType::bf16 ? at::kBFloat16 : at::kFloat,
                     .device = at::Device(config.device),
                     .micro_batch = size.micro_batch,
                     .record = config.graph},
                    groups);
  runner.parameters().initialise(model_config, 1);
  runner.weights_changed();

  std::vector<double> times, exposed, gathers;
  // A rank's own: tensor and context ranks share theirs.
  const double tokens = static_cast<double>(config.rows * config.length) /
                        static_cast<double>(groups.placement.tp * groups.placement.cp);
  const auto batch_of = [&](uint64_t number) {
    return random_batch(
        model_config, config,
        number * static_cast<uint64_t>(groups.data_ranks + 1) + static_cast<uint64_t>(groups.data_rank));
  };
  // From where the step before ended: what that one sent is still on its way then, and costs time in this
  // one.
  Stopwatch time;
  const auto step = [&](const data::Batch& batch) {
    runner.accumulate(batch);
    exposed.push_back(runner.exchange().exposed_ms());
    gathers.push_back(runner.parameters().gather().exposed_ms());
    const StepFacts facts = runner.agree();
    runner.update(1e-4, facts);
    if (gpu) kernels::wait_for_gpu();
    result.loss = facts.loss();
    return time.restart() * 1e3;
  };
  if (gpu) kernels::reset_gpu_peak();
  std::vector<data::Batch> batches;
  for (uint64_t i = 0; i < 3 + static_cast<uint64_t>(config.repetitions); ++i) batches.push_back(batch_of(i));
  groups.all.barrier();
  time.restart();
  result.first_step_s = groups.all.all_max(step(batches[0])) / 1e3;
  for (size_t i = 1; i < 3; ++i) step(batches[i]);
  exposed.clear(), gathers.clear();
  for (size_t i = 3; i < batches.size(); ++i) times.push_back(step(batches[i]));
  for (double& ms : times) ms = groups.all.all_max(ms);
  for (std::vector<double>* list : {&times, &exposed, &gathers}) std::sort(list->begin(), list->end());
  result.reduce_exposed_ms = quantile(exposed, 0.5), result.gather_exposed_ms = quantile(gathers, 0.5);

  result.median_ms = quantile(times, 0.5), result.p10_ms = quantile(times, 0.1);
  result.p90_ms = quantile(times, 0.9);
  result.tokens_per_second = tokens / result.median_ms * 1e3;
  if (rates.known()) {
    result.floor_tokens_per_second = floor_tokens_per_second(model_config, config, rates);
    result.share_of_floor = result.tokens_per_second / result.floor_tokens_per_second;
  }
  if (rates.peak_tflops > 0) {
    const model::StageCost cost = model::model_cost(model_config).total();
    const double peak = rates.peak_tflops * 1e12;
    result.mfu_6n = 6.0 * static_cast<double>(result.parameters) * result.tokens_per_second / peak;
    result.mfu = (cost.forward_flops + cost.backward_flops) * result.tokens_per_second / peak;
  }
  const kernels::GpuMemory memory = gpu ? kernels::gpu_memory() : kernels::GpuMemory();
  result.peak_bytes = memory.peak_bytes, result.reserved_bytes = memory.reserved_bytes;
  result.graph_nodes = runner.passes().graph_nodes();
  if (config.profile) {
    result.kernels = kernels::profile_kernels([&] { step(batches[0]); });
    for (const StageTime& stage : stage_times(result.kernels, model_config, config, rates))
      result.stages.push_back(stage.json());
  }
  return result;
}

}  // namespace

bool for_gpu(const StepBenchConfig& config) {
  const bool gpu = config.device == "cuda";
  DM_REQUIRE(gpu || config.compute != "bf16", ExitCode::usage,
             "--compute bf16: on the CPU activations are f32");
  DM_REQUIRE(gpu || !config.profile, ExitCode::usage,
             "--profile: the kernels it lists are a GPU's; give --device cuda");
  return gpu;
}

StepBenchResult bench_step(const model::ModelConfig& model_config, const StepBenchConfig& config,
                           const Groups& groups) {
  model::validate(model_config);
  if (config.device != "cuda") return measured(model_config, config, groups);
  model::ModelConfig chosen = model_config;
  const GpuMemoryPlan plan{chosen, RankPlace::of(groups), size_of(config, groups), "micro-rows"};
  chosen.recompute = chosen_recompute(plan, groups.all);
  StepBenchResult result;
  with_memory_advice(plan, [&] { result = measured(chosen, config, groups); });
  return result;
}

Json StepBenchResult::json() const {
  Json json{{"device", device},
            {"parameters", parameters},
            {"median_ms", median_ms},
            {"p10_ms", p10_ms},
            {"p90_ms", p90_ms},
            {"tokens_per_second", tokens_per_second},
            {"first_step_s", first_step_s},
            {"peak_gib", static_cast<double>(peak_bytes) / (1 << 30)},
            {"predicted_gib", memory.total() / (1 << 30)},
            {"reserved_gib", static_cast<double>(reserved_bytes) / (1 << 30)},
            {"graph_nodes", graph_nodes},
            {"ranks", ranks},
            {"dp", dp},
            {"cp", cp},
            {"tp", tp},
            {"reduce_exposed_ms", reduce_exposed_ms},
            {"gather_exposed_ms", gather_exposed_ms},
            {"loss", loss}};
  if (floor_tokens_per_second > 0)
    json["floor_tokens_per_second"] = floor_tokens_per_second, json["share_of_floor"] = share_of_floor;
  if (!recompute.empty()) json["recompute"] = recompute;
  if (mfu > 0) json["mfu_6n"] = mfu_6n, json["mfu"] = mfu;
  if (!missing.empty()) json["missing"] = missing;
  for (const model::MemoryPart& part : memory.parts)
    json["predicted_memory_gib"][part.name] = part.bytes / (1 << 30);
  if (!stages.empty()) json["stages"] = stages;
  for (const kernels::KernelTime& kernel : kernels)
    json["kernels"].push_back({{"name", kernel.name}, {"calls", kernel.calls}, {"us", kernel.microseconds}});
  return json;
}

}  // namespace dm::train
