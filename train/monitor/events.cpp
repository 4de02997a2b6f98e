#include "train/monitor/events.h"

#include <algorithm>

namespace dm::train::events {

using protobuf::Message;

namespace {
constexpr int64_t kHistogramBuckets = 30;
}

Message event(double wall_time, int64_t step) { return Message().number(1, wall_time).integer(kStep, step); }

Message session_start() { return Message().integer(1, 1); }

Message scalar(const std::string& tag, double value) {
  return Message().text(kTag, tag).single(2, static_cast<float>(value));
}

Message text(const std::string& tag, const std::string& markdown) {
  const Message one = Message().message(2, Message().integer(1, 1));
  const Message tensor = Message().integer(1, 7).message(2, one).text(8, markdown);
  const Message metadata = Message().message(1, Message().text(1, "text")).integer(4, 2);
  return Message().text(kTag, tag).message(8, tensor).message(9, metadata);
}

Message histogram(const std::string& tag, const std::vector<double>& values) {
  const auto [min, max] = std::minmax_element(values.begin(), values.end());
  // Equal values still need a bucket of some width.
  const double width = std::max(*max - *min, 1e-6) / kHistogramBuckets;
  std::vector<double> limits, counts(kHistogramBuckets);
  for (int64_t i = 1; i <= kHistogramBuckets; ++i) limits.push_back(*min + width * static_cast<double>(i));
  double sum = 0, squares = 0;
  for (const double value : values) {
    const auto bucket = std::min(static_cast<int64_t>((value - *min) / width), kHistogramBuckets - 1);
    ++counts[static_cast<size_t>(bucket)];
    sum += value, squares += value * value;
  }
  const Message histo = Message()
                            .number(1, *min)
                            .number(2, *max)
                            .number(3, static_cast<double>(values.size()))
                            .number(4, sum)
                            .number(5, squares)
                            .packed(6, limits)
                            .packed(7, counts);
  return Message().text(kTag, tag).message(5, histo);
}

}  // namespace dm::train::events
