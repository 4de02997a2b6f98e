#include "train/trace.h"

#include <algorithm>
#include <utility>

#include "core/files.h"
#include "core/log.h"
#include "kernels/device/gpu.h"

namespace dm::train {

Trace::Trace(const std::string& path, int64_t steps, bool on_gpu, Collectives& group)
    : path_(path),
      on_gpu_(on_gpu),
      group_(group),
      last_(path.empty() ? 0 : kSkipped + steps),
      zero_(now()),
      host_base_(zero_),
      gpu_base_(on_gpu) {
  if (path_.empty()) return;
  group_.barrier();
  zero_ = now();
}

void Trace::step_begins() {
  recording_ = ++step_ > kSkipped && step_ <= last_;
  if (!recording_) return;
  if (on_gpu_) kernels::wait_for_gpu();
  host_base_ = now();
  gpu_base_.set();
}

void Trace::step_ends() {
  if (recording_ && on_gpu_) kernels::wait_for_gpu();
  host("host", "step", host_base_, now());
  recording_ = false;
  if (step_ == last_) finish();
}

void Trace::host(const char* track, std::string name, Time from, Time to) {
  if (recording_) add(track, std::move(name), ms(zero_, from) * 1e3, ms(zero_, to) * 1e3);
}

void Trace::gpu(const char* track, std::string name, const kernels::Mark& from, const kernels::Mark& to) {
  if (!recording_) return;
  const double base = ms(zero_, host_base_);
  add(track, std::move(name), (base + from.ms_since(gpu_base_)) * 1e3, (base + to.ms_since(gpu_base_)) * 1e3);
}

void Trace::add(const char* track, std::string name, double from_us, double to_us) {
  auto known = std::find(tracks_.begin(), tracks_.end(), track);
  if (known == tracks_.end()) known = tracks_.insert(known, track);
  events_.push_back({{"name", std::move(name)},
                     {"ph", "X"},
                     {"pid", group_.rank()},
                     {"tid", known - tracks_.begin()},
                     {"ts", from_us},
                     {"dur", to_us - from_us},
                     {"args", {{"step", step_}}}});
}

void Trace::finish() {
  if (path_.empty()) return;
  const auto title = [&](const char* what, int64_t track, const std::string& text) {
    events_.push_back(
        {{"name", what}, {"ph", "M"}, {"pid", group_.rank()}, {"tid", track}, {"args", {{"name", text}}}});
  };
  title("process_name", 0, fmt::format("rank {}", group_.rank()));
  for (size_t track = 0; track < tracks_.size(); ++track)
    title("thread_name", static_cast<int64_t>(track), tracks_[track]);
  OrderedJson all = OrderedJson::array();
  for (const std::string& text : group_.gather_text(events_.dump()))
    for (auto& event : OrderedJson::parse(text)) all.push_back(std::move(event));
  events_ = OrderedJson::array();
  const std::string path = std::exchange(path_, "");
  if (group_.rank() != 0) return;
  write_file_atomically(path, OrderedJson{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(all)}}.dump());
  if (step_ <= kSkipped)
    return log_warn("{}: the attempt ended before its step {}: nothing was traced", path, kSkipped + 1);
  log_info("{}: a trace of steps {} to {} of this attempt", path, kSkipped + 1, std::min(step_, last_));
}

}  // namespace dm::train
