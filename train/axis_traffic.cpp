#include "train/axis_traffic.h"

#include <fmt/format.h>

namespace dm::train {

std::vector<std::pair<const char*, const Traffic*>> AxisTraffic::axes() const {
  return {{"data", &data}, {"context", &context}, {"tensor", &tensor}, {"control", &control}};
}

int64_t AxisTraffic::sent() const { return data.sent() + context.sent() + tensor.sent() + control.sent(); }

AxisTraffic& AxisTraffic::operator+=(const AxisTraffic& other) {
  data += other.data, context += other.context, tensor += other.tensor, control += other.control;
  return *this;
}

AxisTraffic AxisTraffic::since(const AxisTraffic& before) const {
  return {data.since(before.data), context.since(before.context), tensor.since(before.tensor),
          control.since(before.control)};
}

std::string first_difference(const AxisTraffic& traffic, const AxisTraffic& expected) {
  const auto axes = traffic.axes(), others = expected.axes();
  for (size_t i = 0; i < axes.size(); ++i)
    for (const Operation operation : {Operation::all_reduce, Operation::reduce_scatter, Operation::all_gather,
                                      Operation::broadcast, Operation::send}) {
      const int64_t bytes = axes[i].second->count(operation).bytes,
                    other = others[i].second->count(operation).bytes;
      if (bytes != other)
        return fmt::format("{} {}: {} bytes, expected {}", axes[i].first, name(operation), bytes, other);
    }
  return "";
}

}  // namespace dm::train
