#include "train/monitor/run_history.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "train/monitor/progress_meter.h"

namespace dm::train {
namespace {

double number(const Json& object, const char* key) {
  const Json value = object.is_object() ? object.value(key, Json()) : Json();
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

int64_t integer(const Json& object, const char* key) {
  const Json value = object.is_object() ? object.value(key, Json()) : Json();
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

void add_line(RunHistory& history, const Json& line) {
  StepMetrics metrics;
  const int64_t step = integer(line, "step");
  if (StepMetrics::parse(line, metrics)) {
    history.steps.push_back(metrics);
  } else if (line.contains("difference")) {
    RunHistory::Difference difference{step, {}};
    for (const Json& layer : line["difference"])
      difference.layers.push_back({integer(layer, "layer"), number(layer, "lambda"), number(layer, "norm_1"),
                                   number(layer, "norm_2"), number(layer, "cosine")});
    history.differences.push_back(std::move(difference));
  } else if (line.contains("eval") && line["eval"].is_object()) {
    if (history.evaluations.empty() || history.evaluations.back().step != step)
      history.evaluations.push_back({step, Json::object()});
    history.evaluations.back().values.update(line["eval"]);
  } else if (line.contains("save")) {
    const Json& save = line["save"];
    history.saves.push_back({step, number(save, "wait_ms"), number(save, "seconds"), integer(save, "bytes")});
  }
}

}  // namespace

RunHistory read_history(const std::string& run_dir) {
  RunHistory history;
  history.run_dir = run_dir, history.attempts = read_attempts(run_dir);
  std::ifstream file(run_dir + "/metrics.jsonl");
  DM_REQUIRE(
      file.good() || !history.attempts.empty(), ExitCode::bad_data,
      "{}: no run: it holds neither attempts.jsonl nor metrics.jsonl; name the --run-dir of `diffmamba "
      "train`",
      run_dir);
  for (std::string text; std::getline(file, text);)
    if (const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false); line.is_object())
      add_line(history, line);
  return history;
}

int64_t RunHistory::skipped_steps() const {
  return std::count_if(steps.begin(), steps.end(), [](const StepMetrics& s) { return s.skipped(); });
}

std::string RunHistory::progress_line() const {
  if (steps.empty() || attempts.empty()) return "";
  const auto began_before = [&](const Attempt& attempt) { return attempt.step < steps.back().step; };
  const auto attempt = std::find_if(attempts.rbegin(), attempts.rend(), began_before);
  if (attempt == attempts.rend()) return "";
  ProgressMeter meter(*attempt);
  for (const StepMetrics& step : steps)
    if (step.step > attempt->step) meter.add(step);
  return meter.line();
}

}  // namespace dm::train
