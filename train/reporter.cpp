#include "train/reporter.h"

#include <sys/resource.h>

#include <limits>
#include <sstream>

#include "core/log.h"
#include "core/process.h"
#include "kernels/device/card_rates.h"
#include "kernels/device/gpu.h"
#include "model/cost.h"
#include "train/device_name.h"

namespace dm::train {
namespace {

/// An evaluation counts as part of the step it precedes: a resume from that point repeats it.
std::optional<int64_t> step_of_metrics_line(std::string_view line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return std::nullopt;
  return json["step"].get<int64_t>() + (json.contains("eval") ? 1 : 0);
}

/// Operations a second that MFU is a share of, of one rank: as told, else the card's. Of CPUs and other cards
/// nothing is known.
double peak_flops(const TrainConfig& config, const std::string& device) {
  if (config.peak_tflops > 0) return config.peak_tflops * 1e12;
  const kernels::CardRates* const card = kernels::card_rates(device);
  if (card == nullptr) return std::numeric_limits<double>::quiet_NaN();
  return (activation_type(config) == at::kBFloat16 ? card->peak_bf16_tflops : card->peak_float_tflops) * 1e12;
}

Attempt facts_of(const RunConfig& config, const Progress& resumed, int64_t ranks) {
  const model::StageCost cost = model::model_cost(config.model).total();
  Attempt attempt;
  attempt.step = resumed.step, attempt.seconds = resumed.seconds;
  attempt.ranks = ranks;
  attempt.host = process_identity().host;
  attempt.device = device_name(config.train.device == "cuda");
  attempt.program = program_version();
  attempt.total_steps = config.total_steps(), attempt.minutes = config.train.minutes;
  attempt.log_every = config.train.log_every;
  attempt.tokens_per_step = config.tokens_per_step();
  attempt.flops_per_token = cost.forward_flops + cost.backward_flops;
  attempt.peak_flops = peak_flops(config.train, attempt.device) * static_cast<double>(ranks);
  attempt.config = RunConfig(config).table().to_json();
  return attempt;
}

int64_t peak_memory_bytes(bool gpu) {
  if (gpu) return kernels::gpu_memory().peak_bytes;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

/// The resolved options without the comments.
std::string plain_ini(const RunConfig& config) {
  std::istringstream ini(RunConfig(config).table().to_ini());
  std::string text;
  for (std::string line; std::getline(ini, line);)
    if (!line.starts_with('#') && !line.empty()) text += line + "\n";
  return text;
}

OrderedJson sent_bytes(const AxisTraffic& traffic) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [axis, exchanged] : traffic.axes())
    if (exchanged->sent() > 0) json[axis] = exchanged->sent();
  return json;
}

}  // namespace

Reporter::Voice::Voice(const RunConfig& config, Attempt facts, int64_t resumed_step)
    : attempt(begin_attempt(config.train.run_dir, std::move(facts))),
      metrics(config.train.run_dir + "/metrics.jsonl", step_of_metrics_line, resumed_step),
      meter(attempt) {
  if (config.train.tensorboard) tensorboard.emplace(config.train.run_dir, resumed_step, plain_ini(config));
  if (!config.train.prometheus.empty())
    prometheus.emplace(config.train.prometheus, config.train.run_dir, attempt.attempt - 1);
}

Reporter::Reporter(const RunConfig& config, const Progress& resumed, int64_t ranks, bool speaks)
    : config_(config) {
  if (speaks) voice_.emplace(config, facts_of(config, resumed, ranks), resumed.step);
}

void Reporter::step(const StepReport& report) {
  if (!voice_) return;
  const Attempt& attempt = voice_->attempt;
  const double tokens_per_second = static_cast<double>(attempt.tokens_per_step) / report.step_seconds;
  const StepMetrics metrics{.step = report.progress.step,
                            .loss = report.facts.loss(),
                            .lr = report.lr,
                            .gradient_norm = report.facts.gradient_norm(),
                            .clip = report.clip,
                            .verdict = name(report.verdict),
                            .targets = static_cast<int64_t>(report.facts.targets),
                            .samples_seen = report.progress.samples,
                            .tokens_seen = report.progress.tokens,
                            .tokens_per_second = tokens_per_second,
                            .mfu = tokens_per_second * attempt.flops_per_token / attempt.peak_flops,
                            .step_ms = report.step_seconds * 1e3,
                            .data_wait_ms = report.wait_ms,
                            .exposed_communication_ms = report.exposed_ms,
                            .memory_bytes = peak_memory_bytes(config_.train.device == "cuda"),
                            .training_seconds = report.progress.seconds};
  OrderedJson line = metrics.json();
  line["sent_bytes"] = sent_bytes(report.traffic);
  voice_->metrics.append(line.dump());
  if (voice_->tensorboard) voice_->tensorboard->step(metrics);
  if (voice_->prometheus) voice_->prometheus->step(metrics);
  if (!voice_->meter.add(metrics)) return;
  log_info("{}", voice_->meter.line());
  if (voice_->prometheus) voice_->prometheus->write();
}

void Reporter::difference(int64_t step, const std::vector<model::DifferenceStats>& layers) {
  if (!voice_ || layers.empty()) return;
  OrderedJson line{{"step", step}};
  for (const model::DifferenceStats& s : layers)
    line["difference"].push_back({{"layer", s.layer},
                                  {"lambda", s.lambda},
                                  {"norm_1", s.norm_1},
                                  {"norm_2", s.norm_2},
                                  {"cosine", s.cosine}});
  voice_->metrics.append(line.dump());
  if (voice_->tensorboard) voice_->tensorboard->difference(step, layers);
  if (voice_->prometheus) voice_->prometheus->difference(layers);
}

void Reporter::evaluation(int64_t step, const EvalResult& result) {
  if (!voice_) return;
  const Json json = result.to_json();
  voice_->metrics.append(OrderedJson{{"step", step}, {"eval", json}}.dump());
  if (voice_->tensorboard) voice_->tensorboard->evaluation(step, json);
  if (voice_->prometheus) voice_->prometheus->evaluation(result.nats_per_token());
  const std::string bits = result.bytes > 0 ? fmt::format("{:.4f} bits per byte", result.bits_per_byte())
                                            : fmt::format("{:.4f} bits per token", result.bits_per_token());
  log_info("step {}  held-out: loss {:.4f}  perplexity {:.3f}  {}  ({} tokens)", step,
           result.nats_per_token(), result.perplexity(), bits, result.tokens);
}

void Reporter::tasks(int64_t step, const TaskResults& results) {
  if (!voice_) return;
  const Json json{{"tasks", results.to_json()}};
  voice_->metrics.append(OrderedJson{{"step", step}, {"eval", json}}.dump());
  if (voice_->tensorboard) voice_->tensorboard->evaluation(step, json);
  for (const auto& [task, score] : results.scores) log_info("step {}  {}", step, score.line(task));
}

void Reporter::saved(const Saver::Outcome& save) {
  if (!voice_) return;
  const auto bytes = static_cast<double>(save.bytes);
  voice_->metrics.append(
      OrderedJson{{"step", save.step},
                  {save.in_memory ? "snapshot" : "save",
                   {{"wait_ms", save.wait_seconds * 1e3}, {"seconds", save.seconds}, {"bytes", save.bytes}}}}
          .dump());
  if (save.in_memory) return;
  log_info("step {}  saved in {:.2f} s ({:.2f} GB/s a rank); training waited {:.0f} ms", save.step,
           save.seconds, bytes / save.seconds * 1e-9, save.wait_seconds * 1e3);
}

void Reporter::ended(const std::string& how) {
  if (!voice_) return;
  end_attempt(config_.train.run_dir, voice_->attempt, how);
  if (voice_->prometheus) voice_->prometheus->write();
}

}  // namespace dm::train
