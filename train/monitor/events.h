#pragma once
// TensorBoard's events, written by hand: a dozen fields of TensorFlow's messages (event.proto, summary.proto,
// tensor.proto):
//
//   Event            1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log
//   SessionLog       1 status: 1 START
//   Summary          1 value, repeated
//   Summary.Value    1 tag string, 2 simple_value float, 5 histo, 8 tensor, 9 metadata
//   HistogramProto   1 min, 2 max, 3 num, 4 sum, 5 sum_squares, all double;
//                    6 bucket_limit, 7 bucket, packed doubles: bucket i ends at bucket_limit i
//   TensorProto      1 dtype: 7 string, 2 tensor_shape, 8 string_val bytes, repeated
//   TensorShapeProto 2 dim, repeated: 1 size int64
//   SummaryMetadata  1 plugin_data: 1 plugin_name string; 4 data_class: 2 tensor

#include <cstdint>
#include <string>
#include <vector>

#include "train/monitor/protobuf.h"

namespace dm::train::events {

inline constexpr uint32_t kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;  // of Event
inline constexpr uint32_t kValue = 1;                                                  // of Summary
inline constexpr uint32_t kTag = 1;                                                    // of Summary.Value

/// An Event, to which what it holds is added. `wall_time` in seconds since 1970.
protobuf::Message event(double wall_time, int64_t step);
/// A SessionLog: steps from the event's on, read earlier, no longer count.
protobuf::Message session_start();

// Summary.Value:
protobuf::Message scalar(const std::string& tag, double value);
protobuf::Message text(const std::string& tag, const std::string& markdown);
/// Thirty buckets of equal width; `values` are finite and at least one.
protobuf::Message histogram(const std::string& tag, const std::vector<double>& values);

}  // namespace dm::train::events
