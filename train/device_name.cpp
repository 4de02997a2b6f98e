#include "train/device_name.h"

#include <fmt/core.h>

#include "core/parallel.h"
#include "kernels/device/device.h"

namespace dm::train {

std::string device_name(bool gpu) {
  if (gpu) return kernels::cuda_devices().front().name;
  return fmt::format("CPU, {} thread{}", threads(), threads() == 1 ? "" : "s");
}

}  // namespace dm::train
