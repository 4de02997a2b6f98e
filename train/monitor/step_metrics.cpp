#include "train/monitor/step_metrics.h"

#include <limits>

namespace dm::train {
namespace {

void take(const Json& value, double& field) {
  field = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}
void take(const Json& value, int64_t& field) { field = value.is_number_integer() ? value.get<int64_t>() : 0; }
void take(const Json& value, std::string& field) {
  field = value.is_string() ? value.get<std::string>() : "";
}

}  // namespace

OrderedJson StepMetrics::json() const {
  OrderedJson line;
  fields(*this, [&](const char* name, const auto& value, const char*) { line[name] = value; });
  return line;
}

bool StepMetrics::parse(const Json& line, StepMetrics& metrics) {
  if (!line.is_object() || !line.contains("loss")) return false;
  fields(metrics, [&](const char* name, auto& value, const char*) { take(line.value(name, Json()), value); });
  return true;
}

}  // namespace dm::train
