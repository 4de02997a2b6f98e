#pragma once
// `train --trace FILE`: what ran when, as the JSON that Perfetto and chrome://tracing open. A process of the
// trace is a rank, its tracks are "host" and the streams of its GPU, or what the CPU does in their place.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/collectives.h"
#include "core/json.h"
#include "kernels/device/stream.h"

namespace dm::train {

class Trace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static Time now() { return std::chrono::steady_clock::now(); }
  static double ms(Time from, Time to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  }

  /// Without a path nothing is recorded. All ranks of `group` (host memory) make it together; their clocks
  /// are compared then. Steps kSkipped + 1 .. kSkipped + `steps` of this attempt are recorded: the first ones
  /// prepare and record what later ones replay.
  static constexpr int64_t kSkipped = 3;
  Trace(const std::string& path, int64_t steps, bool on_gpu, Collectives& group);

  /// All ranks call them around every step. While a step is recorded they wait for the GPU. What a step's
  /// passes did is told in between, once the model's stream has been waited for.
  void step_begins();
  void step_ends();
  bool recording() const { return recording_; }
  /// Writes what there is, unless it is written: all ranks call it. (After the last recorded step it is.)
  void finish();

  void host(const char* track, std::string name, Time from, Time to);
  /// Between marks that have been reached, of this step or of what was under way when it began.
  void gpu(const char* track, std::string name, const kernels::Mark& from, const kernels::Mark& to);

 private:
  void add(const char* track, std::string name, double from_us, double to_us);

  std::string path_;
  bool on_gpu_;
  Collectives& group_;
  int64_t last_;
  int64_t step_ = 0;
  bool recording_ = false;
  Time zero_;  // of this trace: the ranks left a barrier
  // The same moment on both clocks: when a step begins, the model's stream has nothing left to do.
  Time host_base_;
  kernels::Mark gpu_base_;
  std::vector<std::string> tracks_{"host"};
  OrderedJson events_ = OrderedJson::array();
};

}  // namespace dm::train
