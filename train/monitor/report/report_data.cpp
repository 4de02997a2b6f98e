#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <type_traits>

#include "train/monitor/report/report.h"

namespace dm::train {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Mean, least and greatest of a column over each span of steps; values that are no numbers are left out.
class Column {
 public:
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ += value, ++count_;
    least_ = std::min(least_, value), greatest_ = std::max(greatest_, value);
  }
  void end_span() {
    const bool any = count_ > 0;
    mean_list_.push_back(any ? Json(sum_ / static_cast<double>(count_)) : Json());
    least_list_.push_back(any ? Json(least_) : Json());
    greatest_list_.push_back(any ? Json(greatest_) : Json());
    several_ |= count_ > 1;
    sum_ = 0, count_ = 0, least_ = kInfinity, greatest_ = -kInfinity;
  }
  Json json() const {
    Json json{{"mean", mean_list_}};
    if (several_) json["least"] = least_list_, json["greatest"] = greatest_list_;
    return json;
  }

 private:
  double sum_ = 0, least_ = kInfinity, greatest_ = -kInfinity;
  int64_t count_ = 0;
  bool several_ = false;
  Json mean_list_ = Json::array(), least_list_ = Json::array(), greatest_list_ = Json::array();
};

/// The columns of a run by name, and its x axes: the last step, token and hour of every span.
Json curves(const std::vector<StepMetrics>& steps, int64_t points) {
  std::map<std::string, Column> columns;
  Json x{{"step", Json::array()}, {"tokens", Json::array()}, {"hours", Json::array()}};
  const auto count = static_cast<int64_t>(steps.size()), spans = std::min(count, points);
  for (int64_t span = 0; span < spans; ++span) {
    const int64_t end = (span + 1) * count / spans;
    for (int64_t i = span * count / spans; i < end; ++i)
      StepMetrics::fields(steps[static_cast<size_t>(i)],
                          [&](const char* name, const auto& value, const char*) {
                            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>)
                              columns[name].add(static_cast<double>(value));
                          });
    for (auto& [name, column] : columns) column.end_span();
    const StepMetrics& last = steps[static_cast<size_t>(end - 1)];
    x["step"].push_back(last.step), x["tokens"].push_back(last.tokens_seen);
    x["hours"].push_back(last.training_seconds / 3600);
  }
  Json json{{"x", x}, {"columns", Json::object()}};
  for (const auto& [name, column] : columns) json["columns"][name] = column.json();
  return json;
}

/// {"layers": [0, 2], "step": [...], "lambda": [[of layer 0...], [of layer 2...]], "norm_1": ...}
Json differences(const std::vector<RunHistory::Difference>& measured, int64_t points) {
  Json json{{"layers", Json::array()}, {"step", Json::array()}};
  if (measured.empty()) return json;
  for (const model::DifferenceStats& layer : measured.back().layers) json["layers"].push_back(layer.layer);
  const size_t layers = measured.back().layers.size();
  for (const char* name : {"lambda", "norm_1", "norm_2", "cosine"}) json[name] = Json(layers, Json::array());
  const auto count = static_cast<int64_t>(measured.size()), kept = std::min(count, points);
  for (int64_t i = 0; i < kept; ++i) {  // the last one is always among them
    const RunHistory::Difference& at = measured[static_cast<size_t>((i + 1) * count / kept - 1)];
    if (at.layers.size() != layers) continue;
    json["step"].push_back(at.step);
    for (size_t l = 0; l < layers; ++l) {
      json["lambda"][l].push_back(at.layers[l].lambda), json["cosine"][l].push_back(at.layers[l].cosine);
      json["norm_1"][l].push_back(at.layers[l].norm_1), json["norm_2"][l].push_back(at.layers[l].norm_2);
    }
  }
  return json;
}

Json run_json(const RunHistory& run, int64_t points) {
  Json json{{"directory", run.run_dir},
            {"curves", curves(run.steps, points)},
            {"difference", differences(run.differences, points)},
            {"attempts", Json::array()},
            {"evaluations", Json::array()},
            {"skipped", Json::array()},
            {"saves", run.saves.size()}};
  for (const Attempt& attempt : run.attempts)
    json["attempts"].push_back({{"attempt", attempt.attempt},
                                {"began", attempt.began},
                                {"step", attempt.step},
                                {"ranks", attempt.ranks},
                                {"host", attempt.host},
                                {"device", attempt.device},
                                {"program", attempt.program},
                                {"ended", attempt.ended}});
  for (const RunHistory::Evaluation& evaluation : run.evaluations) {
    Json values = evaluation.values;
    if (values.is_object()) values.erase("by_position");
    json["evaluations"].push_back({{"step", evaluation.step}, {"values", values}});
  }
  for (const StepMetrics& step : run.steps)
    if (step.skipped())
      json["skipped"].push_back({{"step", step.step}, {"verdict", step.verdict}, {"loss", step.loss}});
  if (!run.attempts.empty()) json["total_steps"] = run.attempts.back().total_steps;
  if (!run.steps.empty()) json["last"] = run.steps.back().json();
  return json;
}

/// Options that are not the same in all runs: {"option": "optimizer.lr", "values": ["0.001", "0.002"]}.
Json config_differences(const std::vector<RunHistory>& runs) {
  std::vector<Json> flat;
  std::set<std::string> names;
  for (const RunHistory& run : runs) {
    const bool known = !run.attempts.empty() && run.attempts.back().config.is_object();
    flat.push_back(known ? run.attempts.back().config.flatten() : Json::object());
    for (const auto& [name, value] : flat.back().items()) names.insert(name);
  }
  Json rows = Json::array();
  for (const std::string& name : names) {
    Json values = Json::array();
    for (const Json& config : flat) values.push_back(config.contains(name) ? config[name] : Json());
    if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end()) continue;
    std::string option = name.substr(1);
    std::replace(option.begin(), option.end(), '/', '.');
    rows.push_back({{"option", option}, {"values", values}});
  }
  return rows;
}

/// The shortest endings of the folders' paths that tell them apart.
std::vector<std::string> short_names(const std::vector<RunHistory>& runs) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  for (size_t parts = 1;; ++parts) {
    names.clear();
    size_t longest = 0;
    for (const RunHistory& run : runs) {
      const fs::path path = fs::path(run.run_dir + "/").parent_path().lexically_normal();
      const auto all = static_cast<size_t>(std::distance(path.begin(), path.end()));
      longest = std::max(longest, all);
      fs::path name;
      for (auto part = std::next(path.begin(), static_cast<std::ptrdiff_t>(all - std::min(all, parts)));
           part != path.end(); ++part)
        name /= *part;
      names.push_back(name);
    }
    const bool distinct = std::set<std::string>(names.begin(), names.end()).size() == names.size();
    if (distinct || parts >= longest) return names;
  }
}

}  // namespace

Json report_data(const std::vector<RunHistory>& runs, int64_t points) {
  Json data{{"runs", Json::array()}, {"differences", config_differences(runs)}};
  data["made"] = fmt::format("{:%Y-%m-%d %H:%M UTC}", fmt::gmtime(std::time(nullptr)));
  const std::vector<std::string> names = short_names(runs);
  for (size_t i = 0; i < runs.size(); ++i) {
    data["runs"].push_back(run_json(runs[i], points));
    data["runs"].back()["name"] = names[i];
  }
  return data;
}

}  // namespace dm::train
