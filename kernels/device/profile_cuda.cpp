#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernels/device/gpu.h"
#include "kernels/device/profile.h"

namespace dm::kernels {

std::vector<KernelTime> profile_kernels(const std::function<void()>& work) {
  namespace profiler = torch::autograd::profiler;
  const std::set<torch::profiler::impl::ActivityType> activities = {
      torch::profiler::impl::ActivityType::CPU, torch::profiler::impl::ActivityType::CUDA};
  const profiler::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  wait_for_gpu();
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  work();
  wait_for_gpu();
  std::map<std::string, KernelTime> by_name;
  const std::unique_ptr<profiler::ProfilerResult> result = profiler::disableProfiler();
  for (const profiler::KinetoEvent& event : result->events()) {
    if (event.deviceType() != c10::DeviceType::CUDA) continue;
    KernelTime& time = by_name[event.name()];
    time.name = event.name();
    ++time.calls;
    time.microseconds += static_cast<double>(event.durationNs()) / 1e3;
  }
  std::vector<KernelTime> times;
  for (const auto& [name, time] : by_name) times.push_back(time);
  std::sort(times.begin(), times.end(),
            [](const KernelTime& a, const KernelTime& b) { return a.microseconds > b.microseconds; });
  return times;
}

}  // namespace dm::kernels
