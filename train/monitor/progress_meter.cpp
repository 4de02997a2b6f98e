#include "train/monitor/progress_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace dm::train {
namespace {

std::string short_count(double value) {
  if (value >= 1e7) return fmt::format("{:.1f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.0f}", value);
}

}  // namespace

std::string hours_minutes_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "unknown";
  const auto s = static_cast<int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

bool ProgressMeter::due() const {
  return last_.step == attempt_.step + 1 || last_.step % attempt_.log_every == 0;
}

bool ProgressMeter::add(const StepMetrics& metrics) {
  if (due()) since_line_ = {};
  last_ = metrics;
  since_line_.step_ms += metrics.step_ms;
  since_line_.wait_ms += metrics.data_wait_ms;
  since_line_.exposed_ms += metrics.exposed_communication_ms;
  ++since_line_.steps;
  line_ = text();
  return due();
}

std::string ProgressMeter::text() const {
  const auto steps = static_cast<double>(since_line_.steps);
  const double tokens_per_second =
      steps * static_cast<double>(attempt_.tokens_per_step) / since_line_.step_ms * 1e3;
  const double mfu = tokens_per_second * attempt_.flops_per_token / attempt_.peak_flops;
  std::string text = fmt::format("step {}", last_.step);
  if (attempt_.total_steps > 0) text += fmt::format("/{}", attempt_.total_steps);
  text += fmt::format("  loss {:.4f}  lr {:.2e}  grad norm {:.3f}  {} tokens/s", last_.loss, last_.lr,
                      last_.gradient_norm, short_count(tokens_per_second));
  if (std::isfinite(mfu)) text += fmt::format("  MFU {:.1f} %", mfu * 100);
  text += fmt::format("  data wait {:.1f} ms", since_line_.wait_ms / steps);
  if (since_line_.exposed_ms > 0)  // alone, a rank waits for no other
    text += fmt::format("  exchange {:.1f} ms", since_line_.exposed_ms / steps);
  text += fmt::format("  ETA {}", hours_minutes_seconds(seconds_left()));
  const int64_t restarts = attempt_.attempt - 1;
  if (restarts > 0) text += fmt::format("  {} restart{}", restarts, restarts == 1 ? "" : "s");
  return text;
}

double ProgressMeter::seconds_left() const {
  double left = INFINITY;
  if (attempt_.total_steps > 0) {
    const double a_step =
        (last_.training_seconds - attempt_.seconds) / static_cast<double>(last_.step - attempt_.step);
    left = a_step * static_cast<double>(attempt_.total_steps - last_.step);
  }
  if (attempt_.minutes > 0)
    left = std::min(left, std::max(0.0, attempt_.minutes * 60 - last_.training_seconds));
  return left;
}

}  // namespace dm::train
