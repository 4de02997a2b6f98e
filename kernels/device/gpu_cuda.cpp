#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include "core/error.h"
#include "kernels/device/cuda/tensor.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu.h"

namespace dm::kernels {

void use_gpu(int64_t index) {
  const std::vector<CudaDevice> devices = cuda_devices();
  DM_REQUIRE(!devices.empty(), ExitCode::usage, "no GPU can be used: {}; give --device cpu to do without",
             cuda_status());
  DM_REQUIRE(index >= 0 && index < static_cast<int64_t>(devices.size()), ExitCode::usage,
             "GPU {} is asked for, but this host shows {}: {}", index, devices.size(), cuda_status());
  const CudaDevice& device = devices[static_cast<size_t>(index)];
  DM_REQUIRE(
      device.compute_capability == 90, ExitCode::usage,
      "GPU {} ({}) has compute capability {}.{}, this program's kernels are for 9.0 ({}); configure with "
      "-D CMAKE_CUDA_ARCHITECTURES for another build, or give --device cpu",
      index, device.name, device.compute_capability / 10, device.compute_capability % 10, cuda_status());
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false));
}

void wait_for_gpu() { check_launch(cudaStreamSynchronize(current_stream()), "waiting"); }

GpuMemory gpu_memory() {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(c10::cuda::current_device());
  constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return {stats.allocated_bytes[all].current, stats.allocated_bytes[all].peak,
          stats.reserved_bytes[all].peak};
}

void reset_gpu_peak() { c10::cuda::CUDACachingAllocator::resetPeakStats(c10::cuda::current_device()); }

struct SideCopies::Impl {
  c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false);
  cudaEvent_t begin = nullptr, end = nullptr;  // the current stream's place; the last copy
};

SideCopies::SideCopies() : impl_(new Impl) {
  for (cudaEvent_t* event : {&impl_->begin, &impl_->end})
    check_launch(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
}

SideCopies::~SideCopies() {
  cudaEventSynchronize(impl_->end);
  for (cudaEvent_t event : {impl_->begin, impl_->end}) cudaEventDestroy(event);
}

void SideCopies::start(void* to, const void* from, int64_t size_bytes) {
  const cudaStream_t side = impl_->stream.stream();
  check_launch(cudaEventRecord(impl_->begin, current_stream()), "copying to the host");
  check_launch(cudaStreamWaitEvent(side, impl_->begin), "copying to the host");
  check_launch(cudaMemcpyAsync(to, from, static_cast<size_t>(size_bytes), cudaMemcpyDeviceToHost, side),
               "copying to the host");
  check_launch(cudaEventRecord(impl_->end, side), "copying to the host");
}

void SideCopies::go_first() {
  check_launch(cudaStreamWaitEvent(current_stream(), impl_->end), "waiting for copies");
}

void SideCopies::wait() { check_launch(cudaEventSynchronize(impl_->end), "copying to the host"); }

namespace {

/// What was recorded is given up, so that exchanges in it are released: a communicator waits for that.
void end_failed_capture(at::cuda::CUDAGraph& graph) {
  try {
    graph.capture_end();
  } catch (const std::exception&) {  // it says only that the recording is no longer valid
  }
}

}  // namespace

struct Graph::Impl {
  bool record;
  int64_t runs = 0;
  int64_t nodes = 0;
  std::unique_ptr<at::cuda::CUDAGraph> graph;
};

Graph::Graph(bool record) : impl_(new Impl{record, 0, 0, nullptr}) {}
Graph::~Graph() = default;

void Graph::run(const std::function<void()>& work) {
  if (!impl_->record || ++impl_->runs == 1) return work();
  if (!impl_->graph) {
    // Memory that the first run left cached would be taken a second time for the recorded one.
    wait_for_gpu();
    c10::cuda::CUDACachingAllocator::emptyCache();
    auto graph = std::make_unique<at::cuda::CUDAGraph>(/*keep_graph=*/true);
    // Exchanges are queued by threads of NCCL, which may allocate: only this thread's calls are held to the
    // rules of recording.
    graph->capture_begin(/*pool=*/{0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      end_failed_capture(*graph);
      throw;
    }
    graph->capture_end();
    size_t nodes = 0;
    check_launch(cudaGraphGetNodes(graph->raw_cuda_graph(), nullptr, &nodes), "recording");
    graph->instantiate();
    impl_->nodes = static_cast<int64_t>(nodes);
    impl_->graph = std::move(graph);
  }
  impl_->graph->replay();
}

int64_t Graph::nodes() const { return impl_->nodes; }

}  // namespace dm::kernels
