#include <c10/cuda/CUDAGuard.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/device/stream.h"

namespace dm::kernels {

void* current_stream_handle() { return current_stream(); }

struct Mark::Impl {
  cudaEvent_t event = nullptr;
  ~Impl() {
    if (event) cudaEventDestroy(event);
  }
};

Mark::Mark(bool on_gpu) : impl_(std::make_unique<Impl>()) {
  if (on_gpu) check_launch(cudaEventCreate(&impl_->event), "a mark");
}
Mark::~Mark() = default;
Mark::Mark(Mark&&) noexcept = default;
Mark& Mark::operator=(Mark&&) noexcept = default;

namespace {
bool recording() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_launch(cudaStreamIsCapturing(current_stream(), &status), "a mark");
  return status != cudaStreamCaptureStatusNone;
}
}  // namespace

// External: a node of the graph sets the event, or waits for it, where otherwise it would only order the
// recorded work.
void Mark::set() {
  if (!impl_->event) return;
  const unsigned flags = recording() ? cudaEventRecordExternal : cudaEventRecordDefault;
  check_launch(cudaEventRecordWithFlags(impl_->event, current_stream(), flags), "a mark");
}

void Mark::wait() const {
  if (!impl_->event) return;
  const unsigned flags = recording() ? cudaEventWaitExternal : cudaEventWaitDefault;
  check_launch(cudaStreamWaitEvent(current_stream(), impl_->event, flags), "waiting for a mark");
}

double Mark::ms_since(const Mark& earlier) const {
  if (!impl_->event) return 0;
  float ms = 0;
  check_launch(cudaEventElapsedTime(&ms, earlier.impl_->event, impl_->event), "time between marks");
  return ms;
}

struct Fence::Impl {
  cudaEvent_t event = nullptr;
  ~Impl() {
    if (event) cudaEventDestroy(event);
  }
};

Fence::Fence(bool on_gpu) : impl_(std::make_unique<Impl>()) {
  if (on_gpu) check_launch(cudaEventCreateWithFlags(&impl_->event, cudaEventDisableTiming), "a fence");
}
Fence::~Fence() = default;

void Fence::set() {
  if (impl_->event) check_launch(cudaEventRecord(impl_->event, current_stream()), "a fence");
}

void Fence::wait() const {
  if (impl_->event) check_launch(cudaStreamWaitEvent(current_stream(), impl_->event), "waiting for a fence");
}

struct SideStream::Impl {
  c10::cuda::CUDAStream stream;
};

SideStream::SideStream(bool on_gpu)
    : impl_(on_gpu ? new Impl{c10::cuda::getStreamFromPool(/*isHighPriority=*/true)} : nullptr) {}
SideStream::~SideStream() = default;

void SideStream::run(const std::function<void()>& work) const {
  if (!impl_) return work();
  const c10::cuda::CUDAStreamGuard guard(impl_->stream);
  work();
}

}  // namespace dm::kernels
