// A build without CUDA.

#include "kernels/device/device.h"

namespace dm::kernels {

std::vector<CudaDevice> cuda_devices() { return {}; }
std::string cuda_status() { return "built without CUDA"; }

}  // namespace dm::kernels
