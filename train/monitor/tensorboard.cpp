#include "train/monitor/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <type_traits>

#include "core/error.h"
#include "core/process.h"
#include "train/monitor/events.h"
#include "train/monitor/protobuf.h"
#include "train/monitor/record_file.h"

namespace dm::train {
namespace {

using events::kSummary;
using events::kValue;
using protobuf::Message;

constexpr const char* kEvaluationTag = "eval/";

Message event_now(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return events::event(std::chrono::duration<double>(now).count(), step);
}

/// Numbers that are none have no place on a curve.
void add_scalar(Message& summary, const std::string& tag, double value) {
  if (std::isfinite(value)) summary.message(kValue, events::scalar(tag, value));
}

/// The step whose work an event is part of, as in metrics.jsonl: an evaluation comes before the next step.
bool belongs_to(std::string_view payload, int64_t last_step) {
  const auto step = protobuf::find_field(payload, events::kStep);
  const auto summary = protobuf::find_field(payload, kSummary);
  const auto value = protobuf::find_field(summary ? summary->bytes : "", kValue);
  const auto tag = protobuf::find_field(value ? value->bytes : "", events::kTag);
  const bool evaluation = tag && tag->bytes.starts_with(kEvaluationTag);
  return (step ? static_cast<int64_t>(step->varint) : 0) + (evaluation ? 1 : 0) <= last_step;
}

/// The name of a new file, once those of earlier attempts are without what came after `last_step`.
std::string new_file(const std::string& run_dir, int64_t last_step) {
  namespace fs = std::filesystem;
  const std::string folder = run_dir + "/tensorboard";
  std::error_code error;
  fs::create_directories(folder, error);
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string path = entry->path();
    if (path.find("tfevents") == std::string::npos) continue;
    const int64_t kept =
        kept_record_bytes(path, [&](std::string_view payload) { return belongs_to(payload, last_step); });
    fs::resize_file(path, static_cast<uintmax_t>(kept), error);
  }
  DM_REQUIRE(!error, ExitCode::io, "{}: {}; see that it can be written, or train with --tensorboard false",
             folder, error.message());
  // TensorBoard reads a folder's files in the order of their names.
  const std::string stem = fmt::format("{}/events.out.tfevents.{:010}.{}.{}", folder, std::time(nullptr),
                                       process_identity().host, getpid());
  int64_t number = 0;  // a process may begin two runs within a second
  while (fs::exists(fmt::format("{}.{}", stem, number))) ++number;
  return fmt::format("{}.{}", stem, number);
}

}  // namespace

Tensorboard::Tensorboard(const std::string& run_dir, int64_t last_step, const std::string& config)
    : file_(new_file(run_dir, last_step), 0) {
  append(event_now(0).text(events::kFileVersion, "brain.Event:2"));
  if (last_step > 0) append(event_now(last_step + 1).message(events::kSessionLog, events::session_start()));
  std::string markdown;
  for (size_t at = 0; at < config.size();) {  // four spaces make it a block of code
    const size_t end = std::min(config.find('\n', at), config.size());
    markdown += "    " + config.substr(at, end - at) + "\n";
    at = end + 1;
  }
  append(event_now(last_step).message(kSummary, Message().message(kValue, events::text("config", markdown))));
}

void Tensorboard::append(const protobuf::Message& event) { file_.append(record(event.bytes())); }

void Tensorboard::step(const StepMetrics& metrics) {
  Message summary;
  StepMetrics::fields(metrics, [&](const char* name, const auto& value, const char*) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>)
      add_scalar(summary, fmt::format("train/{}", name), static_cast<double>(value));
  });
  append(event_now(metrics.step).message(kSummary, summary));
}

void Tensorboard::difference(int64_t step, const std::vector<model::DifferenceStats>& layers) {
  Message summary;
  std::vector<double> lambdas;
  for (const model::DifferenceStats& s : layers) {
    const std::string group = fmt::format("layer {:02}/", s.layer);
    add_scalar(summary, group + "lambda", s.lambda);
    add_scalar(summary, group + "norm_1", s.norm_1);
    add_scalar(summary, group + "norm_2", s.norm_2);
    add_scalar(summary, group + "cosine", s.cosine);
    if (std::isfinite(s.lambda)) lambdas.push_back(s.lambda);
  }
  if (!lambdas.empty()) summary.message(kValue, events::histogram("lambda over the layers", lambdas));
  append(event_now(step).message(kSummary, summary));
}

void Tensorboard::evaluation(int64_t step, const Json& values) {
  Message summary;
  const Json flat = values.flatten();
  for (const auto& [name, value] : flat.items())
    if (value.is_number() && name.find("/by_position/") == std::string::npos)
      add_scalar(summary, kEvaluationTag + name.substr(1), value.get<double>());
  append(event_now(step).message(kSummary, summary));
}

}  // namespace dm::train
