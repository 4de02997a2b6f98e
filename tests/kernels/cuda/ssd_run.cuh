#pragma once
// A problem on the device: buffers, both passes, results back on the host, times.

#include <cuda_runtime.h>

#include <memory>

#include "kernels/ssd/cuda/ssd_cuda.cuh"
#include "tests/kernels/cuda/ssd_problem.h"

namespace dm::test {

/// Ends the program on an error, with its place.
void require_cuda(cudaError_t error, const char* what);

/// Device memory of a test; filled with bytes 0xff (NaN in every element type) when made.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t bytes);
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  void poison() const;

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

class SsdRun {
 public:
  /// x, b and c become column ranges of one buffer, as behind the convolution; so do dx, db and dc.
  SsdRun(const SsdProblem& problem, kernels::cuda::SsdPath path, cudaStream_t stream);

  void forward() const;
  void backward() const;
  /// The walks over the states alone, forward and, from what forward() has saved, back.
  void passage() const;
  void passage_back() const;
  /// All of it as for a piece of a row: each pass goes on from the walk before it.
  void pieces() const;
  void poison() const;
  SsdResults<float> results() const;

  const kernels::cuda::SsdForward& forward_args() const { return forward_; }
  const kernels::cuda::SsdBackward& backward_args() const { return backward_; }
  kernels::cuda::SsdPath path() const { return path_; }

 private:
  DeviceBuffer* buffer(int64_t bytes);
  float* upload(const std::vector<float>& values);

  SsdShape shape_;
  Element element_;
  bool states_;
  cudaStream_t stream_;
  kernels::cuda::SsdPath path_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::vector<DeviceBuffer*> outputs_;
  kernels::cuda::SsdForward forward_{};
  kernels::cuda::SsdBackward backward_{};
  kernels::cuda::SsdPassage passage_{}, passage_back_{};
};

}  // namespace dm::test
