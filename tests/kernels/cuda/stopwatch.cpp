#include "tests/kernels/cuda/stopwatch.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace dm::kernels::test {
namespace {

constexpr double kFloorBytesPerUs = 3.0e6;  // 3.0 TB/s, what a copy reaches on an H100
constexpr int64_t kBlock = 1 << 20;         // values drawn; memory repeats them

template <class T, class Draw>
std::vector<T> drawn(const Draw& draw) {
  std::vector<T> values(kBlock);
  for (T& v : values) v = draw();
  return values;
}

std::vector<float> normals() {
  std::mt19937 engine(7);
  std::normal_distribution<float> normal(0.f, 0.5f);
  return drawn<float>([&] { return normal(engine); });
}

}  // namespace

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

DevicePool::~DevicePool() {
  for (void* p : memory_) must(cudaFree(p), "cudaFree");
}

void* DevicePool::bytes(int64_t count) {
  void* p = nullptr;
  must(cudaMalloc(&p, static_cast<size_t>(std::max<int64_t>(count, 1))), "cudaMalloc");
  memory_.push_back(p);
  return p;
}

void* DevicePool::filled(const void* block, int64_t block_bytes, int64_t bytes_wanted) {
  char* p = static_cast<char*>(bytes(bytes_wanted));
  const auto size = [](int64_t bytes) { return static_cast<size_t>(bytes); };
  int64_t done = std::min(block_bytes, bytes_wanted);
  must(cudaMemcpy(p, block, size(done), cudaMemcpyHostToDevice), "cudaMemcpy");
  for (; done < bytes_wanted; done *= 2)
    must(cudaMemcpy(p + done, p, size(std::min(done, bytes_wanted - done)), cudaMemcpyDeviceToDevice),
         "cudaMemcpy");
  return p;
}

float* DevicePool::fp32(int64_t count) {
  static const std::vector<float> block = normals();
  return static_cast<float*>(filled(block.data(), kBlock * 4, count * 4));
}

void* DevicePool::bf16(int64_t count) {
  static const std::vector<uint16_t> block = [] {
    const std::vector<float> from = normals();
    std::vector<uint16_t> to(kBlock);
    for (size_t i = 0; i < to.size(); ++i)
      to[i] = static_cast<uint16_t>(reinterpret_cast<const uint32_t&>(from[i]) >> 16);
    return to;
  }();
  return filled(block.data(), kBlock * 2, count * 2);
}

float* DevicePool::steps(int64_t count) {
  std::mt19937 engine(8);
  std::uniform_real_distribution<float> uniform(1e-3f, 0.1f);
  static const std::vector<float> block = drawn<float>([&] { return uniform(engine); });
  return static_cast<float*>(filled(block.data(), kBlock * 4, count * 4));
}

int32_t* DevicePool::documents(int64_t rows, int64_t length, int64_t each) {
  std::vector<int32_t> ids(static_cast<size_t>(rows * length));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(i % static_cast<size_t>(length) / static_cast<size_t>(each));
  const auto bytes = static_cast<int64_t>(ids.size() * 4);
  return static_cast<int32_t*>(filled(ids.data(), bytes, bytes));
}

double median_us(const std::vector<std::function<cudaError_t(cudaStream_t)>>& calls, int repeats) {
  cudaStream_t stream;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  for (const auto& call : calls) must(call(stream), "warm-up");
  must(cudaStreamSynchronize(stream), "warm-up");
  cudaGraph_t graph;
  cudaGraphExec_t work;
  constexpr int kRounds = 4;  // in a graph, so that its launch weighs little
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int round = 0; round < kRounds; ++round)
    for (const auto& call : calls) must(call(stream), "capture");
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&work, graph, 0), "instantiate");
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin), "cudaEventCreate");
  must(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> times;
  for (int i = 0; i < repeats + 5; ++i) {
    must(cudaEventRecord(begin, stream), "event");
    must(cudaGraphLaunch(work, stream), "replay");
    must(cudaEventRecord(end, stream), "event");
    must(cudaEventSynchronize(end), "replay");
    float ms = 0.f;
    must(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 5)
      times.push_back(1e3 * static_cast<double>(ms) / (kRounds * static_cast<double>(calls.size())));
  }
  must(cudaGraphExecDestroy(work), "destroy");
  must(cudaGraphDestroy(graph), "destroy");
  must(cudaEventDestroy(begin), "destroy");
  must(cudaEventDestroy(end), "destroy");
  must(cudaStreamDestroy(stream), "destroy");
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size()) / 2, times.end());
  return times[times.size() / 2];
}

void print_time(const std::string& op, const std::string& shape, double us, double bytes) {
  std::printf(
      "{\"op\": \"%s\", \"shape\": \"%s\", \"us\": %.1f, \"gb_per_s\": %.0f, \"percent_of_floor\": %.1f}\n",
      op.c_str(), shape.c_str(), us, bytes / us * 1e-3, 100 * bytes / kFloorBytesPerUs / us);
  std::fflush(stdout);
}

}  // namespace dm::kernels::test
