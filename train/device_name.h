#pragma once

#include <string>

namespace dm::train {

/// What a run computes on: "NVIDIA H200", or "CPU, 2 threads".
std::string device_name(bool gpu);

}  // namespace dm::train
