#include "train/run_config.h"

#include <algorithm>

#include "core/error.h"
#include "train/resume.h"

namespace dm::train {

FieldTable RunConfig::table() {
  FieldTable fields;
  fields.add("model", model);
  fields.add("data", data);
  fields.add("optimizer", optimizer);
  fields.add("schedule", schedule);
  fields.add("layout", layout);
  fields.add("train", train);
  fields.add("eval", eval);
  fields.add("checkpoint", checkpoint);
  fields.add("watchdog", watchdog);
  return fields;
}

at::ScalarType activation_type(const TrainConfig& config) {
  if (config.compute == "bf16" || (config.compute == "auto" && config.device == "cuda")) return at::kBFloat16;
  return config.dtype == "f64" ? at::kDouble : at::kFloat;
}

int64_t RunConfig::total_steps() const {
  const int64_t by_tokens = train.tokens / tokens_per_step() + (train.tokens % tokens_per_step() > 0 ? 1 : 0);
  if (train.steps == 0 || train.tokens == 0) return std::max(train.steps, by_tokens);
  return std::min(train.steps, by_tokens);
}

void RunConfig::resolve_and_validate() {
  DM_REQUIRE(!train.run_dir.empty() || train.dry_run, ExitCode::usage,
             "--run-dir is missing: name a folder for checkpoints and metrics");
  DM_REQUIRE(!data.data.empty(), ExitCode::usage,
             "--data is missing: name a dataset made by `diffmamba prepare`");
  DM_REQUIRE(train.steps > 0 || train.tokens > 0 || train.minutes > 0, ExitCode::usage,
             "the run has no end: give --steps, --tokens or --minutes");
  model::validate(model);
  const bool gpu = train.device == "cuda";
  model::check_device(model, gpu);
  DM_REQUIRE(!gpu || train.dtype == "f32", ExitCode::usage, "--dtype {}: on a GPU weights are f32",
             train.dtype);
  DM_REQUIRE(gpu ? train.compute != "f64" : train.compute == "auto" || train.compute == train.dtype,
             ExitCode::usage, "--compute {} with --device {} and --dtype {}; legal: auto, {}", train.compute,
             train.device, train.dtype, gpu ? "bf16, f32" : train.dtype);
  DM_REQUIRE(
      data.order != "streams" || train.length / layout.cp >= model.d_conv - 1, ExitCode::usage,
      "--order streams with --cp {}: pieces of {} tokens do not hold the {} that a convolution looks back "
      "on; give longer rows or fewer context ranks",
      layout.cp, train.length / layout.cp, model.d_conv - 1);
  validate(schedule, total_steps());
  DM_REQUIRE(train.eval_every == 0 || !eval.eval_data.empty(), ExitCode::usage,
             "--eval-every {} has nothing to evaluate on: give --eval-data", train.eval_every);
  DM_REQUIRE(eval.tasks_every == 0 || !eval.tasks.empty(), ExitCode::usage,
             "--tasks-every {} has no tasks to score: give --tasks", eval.tasks_every);
  check_allowed_names(table(), train.allow);

  if (eval.eval_length == 0) eval.eval_length = train.length;
}

}  // namespace dm::train
