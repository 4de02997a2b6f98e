#include "train/recorded_work.h"

namespace dm::train {

void RecordedWork::run(AxisTraffic* traffic, const std::function<void()>& work) {
  const AxisTraffic before = traffic ? *traffic : AxisTraffic();
  bool replayed = true;
  graph_.run([&] {
    replayed = false;
    work();
  });
  if (!traffic) return;
  if (replayed)
    *traffic += exchanged_;
  else
    exchanged_ = traffic->since(before);
}

}  // namespace dm::train
