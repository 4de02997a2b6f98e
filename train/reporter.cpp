#include "train/reporter.h"

#include <algorithm>
#include <cmath>

#include "core/log.h"

namespace dm::train {
namespace {

/// An evaluation counts as part of the step it precedes: a resume from that point repeats it.
std::optional<int64_t> step_of_metrics_line(std::string_view line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return std::nullopt;
  return json["step"].get<int64_t>() + (json.contains("eval") ? 1 : 0);
}

std::string hours_minutes_seconds(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string short_count(double value) {
  if (value >= 1e7) return fmt::format("{:.1f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.0f}", value);
}

OrderedJson sent_bytes(const AxisTraffic& traffic) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [axis, exchanged] : traffic.axes())
    if (exchanged->sent() > 0) json[axis] = exchanged->sent();
  return json;
}

}  // namespace

Reporter::Reporter(const RunConfig& config, const Progress& resumed, bool speaks)
    : config_(config), resumed_(resumed) {
  if (speaks) metrics_.emplace(config.train.run_dir + "/metrics.jsonl", step_of_metrics_line, resumed.step);
}

void Reporter::step(const StepReport& report) {
  if (!metrics_) return;
  const StepFacts& facts = report.facts;
  const auto tokens = static_cast<double>(config_.tokens_per_step());
  const OrderedJson line{{"step", report.progress.step},
                         {"loss", facts.loss()},
                         {"lr", report.lr},
                         {"gradient_norm", facts.gradient_norm()},
                         {"clip", report.clip},
                         {"verdict", name(report.verdict)},
                         {"targets", static_cast<int64_t>(facts.targets)},
                         {"samples_seen", report.progress.samples},
                         {"tokens_seen", report.progress.tokens},
                         {"tokens_per_second", tokens / report.step_seconds},
                         {"step_ms", report.step_seconds * 1e3},
                         {"data_wait_ms", report.wait_ms},
                         {"exposed_communication_ms", report.exposed_ms},
                         {"sent_bytes", sent_bytes(report.traffic)},
                         {"training_seconds", report.progress.seconds}};
  metrics_->append(line.dump());

  since_line_.seconds += report.step_seconds;
  since_line_.wait_ms += report.wait_ms;
  since_line_.exposed_ms += report.exposed_ms;
  ++since_line_.steps;
  const bool first = report.progress.step == resumed_.step + 1;
  if (first || report.progress.step % config_.train.log_every == 0) terminal_line(report);
}

void Reporter::terminal_line(const StepReport& report) {
  const int64_t total = config_.total_steps();
  const auto steps = static_cast<double>(since_line_.steps);
  const double tokens = steps * static_cast<double>(config_.tokens_per_step());
  // Alone, a rank waits for no other.
  const std::string exchange =
      since_line_.exposed_ms > 0 ? fmt::format("  exchange {:.1f} ms", since_line_.exposed_ms / steps) : "";
  log_info("step {}{}  loss {:.4f}  lr {:.2e}  grad norm {:.3f}  {} tokens/s  data wait {:.1f} ms{}  ETA {}",
           report.progress.step, total > 0 ? fmt::format("/{}", total) : "", report.facts.loss(), report.lr,
           report.facts.gradient_norm(), short_count(tokens / since_line_.seconds),
           since_line_.wait_ms / steps, exchange, time_left(report.progress));
  since_line_ = {};
}

std::string Reporter::time_left(const Progress& progress) const {
  double left = INFINITY;
  if (const int64_t total = config_.total_steps(); total > 0) {
    const double seconds_a_step = attempt_.seconds() / static_cast<double>(progress.step - resumed_.step);
    left = seconds_a_step * static_cast<double>(total - progress.step);
  }
  if (config_.train.minutes > 0)
    left = std::min(left, std::max(0.0, config_.train.minutes * 60 - progress.seconds));
  return hours_minutes_seconds(left);
}

void Reporter::difference(int64_t step, const std::vector<model::DifferenceStats>& layers) {
  if (!metrics_ || layers.empty()) return;
  OrderedJson line{{"step", step}};
  for (const model::DifferenceStats& s : layers)
    line["difference"].push_back({{"layer", s.layer},
                                  {"lambda", s.lambda},
                                  {"norm_1", s.norm_1},
                                  {"norm_2", s.norm_2},
                                  {"cosine", s.cosine}});
  metrics_->append(line.dump());
}

void Reporter::evaluation(int64_t step, const EvalResult& result) {
  if (!metrics_) return;
  metrics_->append(OrderedJson{{"step", step}, {"eval", result.to_json()}}.dump());
  const std::string bits = result.bytes > 0 ? fmt::format("{:.4f} bits per byte", result.bits_per_byte())
                                            : fmt::format("{:.4f} bits per token", result.bits_per_token());
  log_info("step {}  held-out: loss {:.4f}  perplexity {:.3f}  {}  ({} tokens)", step,
           result.nats_per_token(), result.perplexity(), bits, result.tokens);
}

void Reporter::saved(const Saver::Outcome& save) {
  if (!metrics_) return;
  const auto bytes = static_cast<double>(save.bytes);
  metrics_->append(OrderedJson{
      {"step", save.step},
      {"save", {{"wait_ms", save.wait_seconds * 1e3}, {"seconds", save.seconds}, {"bytes", save.bytes}}}}
                       .dump());
  log_info("step {}  saved in {:.2f} s ({:.2f} GB/s a rank); training waited {:.0f} ms", save.step,
           save.seconds, bytes / save.seconds * 1e-9, save.wait_seconds * 1e3);
}

}  // namespace dm::train
