#include "train/monitor/prometheus.h"

#include <fmt/format.h>

#include <cmath>
#include <ctime>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"

namespace dm::train {
namespace {

std::string escaped(const std::string& label) {
  std::string text;
  for (const char c : label) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

/// One gauge with its help; `labels` without braces.
std::string gauge(const std::string& name, const std::string& help, const std::string& labels, double value) {
  return fmt::format("# HELP diffmamba_{0} {1}\n# TYPE diffmamba_{0} gauge\ndiffmamba_{0}{{{2}}} {3}\n", name,
                     help, labels, value);
}

}  // namespace

Prometheus::Prometheus(std::string path, const std::string& run, int64_t restarts)
    : path_(std::move(path)),
      label_(fmt::format("run=\"{}\"", escaped(run))),
      restarts_(restarts),
      held_out_loss_(std::numeric_limits<double>::quiet_NaN()) {}

void Prometheus::step(const StepMetrics& metrics) {
  last_ = metrics;
  if (metrics.skipped()) ++skipped_;
}

std::string Prometheus::text() const {
  std::string text;
  StepMetrics::fields(last_, [&](const char* name, const auto& value, const char* help) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>)
      if (std::isfinite(static_cast<double>(value)))
        text += gauge(name, help, label_, static_cast<double>(value));
  });
  text += gauge("skipped_steps", "in this attempt", label_, static_cast<double>(skipped_));
  text += gauge("restarts", "attempts at the run before this one", label_, static_cast<double>(restarts_));
  text += gauge("updated_seconds", "when this was written, in Unix time", label_,
                static_cast<double>(std::time(nullptr)));
  if (std::isfinite(held_out_loss_))
    text += gauge("held_out_loss", "of the last evaluation, in nats a token", label_, held_out_loss_);
  if (!layers_.empty())
    text += "# HELP diffmamba_lambda mean weight of the second branch\n# TYPE diffmamba_lambda gauge\n";
  for (const model::DifferenceStats& s : layers_)
    text += fmt::format("diffmamba_lambda{{{},layer=\"{}\"}} {}\n", label_, s.layer, s.lambda);
  return text;
}

void Prometheus::write() {
  try {
    write_file_atomically(path_, text());
    failing_ = false;
  } catch (const Error& error) {
    if (!failing_) log_warn("--prometheus: {}; training goes on", error.what());
    failing_ = true;
  }
}

}  // namespace dm::train
