#pragma once
// Which GPUs this program was built for and which it finds. Works without a GPU or a driver.

#include <cstdint>
#include <string>
#include <vector>

namespace dm::kernels {

struct CudaDevice {
  std::string name;            // "NVIDIA H100 80GB HBM3"
  int64_t compute_capability;  // 90
  int64_t multiprocessors;
  int64_t memory_bytes;
};

/// Empty where there is no GPU, no driver, or in a build without CUDA; cuda_status() says which.
std::vector<CudaDevice> cuda_devices();

/// One line: "built without CUDA", "built for sm_90a; no driver", "built for sm_90a; 1 x NVIDIA H100 80GB
/// HBM3".
std::string cuda_status();

}  // namespace dm::kernels
