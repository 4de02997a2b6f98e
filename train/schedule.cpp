#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace dm::train {
namespace {

int64_t decay_length(const ScheduleConfig& config, int64_t total_steps) {
  if (config.decay_steps > 0) return config.decay_steps;
  if (config.schedule == "wsd") return std::max<int64_t>(1, total_steps / 10);
  return std::max<int64_t>(1, total_steps - config.warmup);
}

bool needs_end(const ScheduleConfig& config) {
  return config.schedule == "wsd" || (config.schedule != "constant" && config.decay_steps == 0);
}

}  // namespace

double schedule_factor(const ScheduleConfig& config, int64_t step, int64_t total_steps) {
  DM_CHECK(total_steps > 0 || !needs_end(config), "schedule {} without a known end", config.schedule);
  if (step < config.warmup) return static_cast<double>(step + 1) / static_cast<double>(config.warmup);
  if (config.schedule == "constant") return 1.0;

  const int64_t length = decay_length(config, total_steps);
  const int64_t start = config.schedule == "wsd" ? total_steps - length : config.warmup;
  const double t = std::clamp(static_cast<double>(step - start) / static_cast<double>(length), 0.0, 1.0);
  const double remaining = config.schedule == "cosine" ? (1 + std::cos(std::numbers::pi * t)) / 2 : 1 - t;
  return config.min_lr_ratio + (1 - config.min_lr_ratio) * remaining;
}

void validate(const ScheduleConfig& config, int64_t total_steps) {
  DM_REQUIRE(total_steps > 0 || !needs_end(config), ExitCode::usage,
             "--schedule {} must know where the run ends: give --steps or --tokens{}", config.schedule,
             config.schedule == "wsd" ? ", or take --schedule constant"
                                      : ", or --decay-steps, or take --schedule constant");
  DM_REQUIRE(total_steps == 0 || config.warmup <= total_steps, ExitCode::usage,
             "--warmup {} is longer than the run: --steps or --tokens give {} steps", config.warmup,
             total_steps);
  if (config.schedule == "constant")
    DM_REQUIRE(config.decay_steps == 0, ExitCode::usage,
               "--decay-steps {} contradicts --schedule constant, which never decays", config.decay_steps);
  if (config.schedule == "wsd") {
    const int64_t decay = decay_length(config, total_steps);
    DM_REQUIRE(config.warmup + decay <= total_steps, ExitCode::usage,
               "--warmup {} and a decay of {} steps (--decay-steps) do not fit into the run's {} steps",
               config.warmup, decay, total_steps);
  }
}

}  // namespace dm::train
