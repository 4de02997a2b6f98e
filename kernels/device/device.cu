#include "kernels/device/device.h"

#include <cuda_runtime.h>

namespace dm::kernels {
namespace {

/// The call's error is taken off the runtime's record, so that a later check does not find it.
int device_count(cudaError_t& error) {
  int count = 0;
  error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

}  // namespace

std::vector<CudaDevice> cuda_devices() {
  cudaError_t error;
  std::vector<CudaDevice> devices(static_cast<size_t>(device_count(error)));
  for (size_t i = 0; i < devices.size(); ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, static_cast<int>(i)) != cudaSuccess) continue;
    devices[i] = {properties.name, properties.major * 10 + properties.minor, properties.multiProcessorCount,
                  static_cast<int64_t>(properties.totalGlobalMem)};
  }
  return devices;
}

std::string cuda_status() {
  std::string text = "built for sm_" DM_CUDA_ARCHITECTURES;
  cudaError_t error;
  if (device_count(error) == 0)
    return text + "; " + (error == cudaSuccess ? "no GPU" : cudaGetErrorString(error));
  const std::vector<CudaDevice> devices = cuda_devices();
  return text + "; " + std::to_string(devices.size()) + " x " + devices.front().name;
}

}  // namespace dm::kernels
