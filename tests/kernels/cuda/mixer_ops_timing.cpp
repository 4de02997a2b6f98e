// Times of the operations around the scan at the presets' shapes, 32,768 tokens in rows of 2,048.

#include <cstdio>
#include <limits>

#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"
#include "kernels/norm/cuda/norm_cuda.cuh"
#include "tests/kernels/cuda/stopwatch.h"
#include "tests/support/gpu_main.h"

namespace dm::kernels::test {
namespace {

using Calls = std::vector<std::function<cudaError_t(cudaStream_t)>>;

constexpr int64_t kRows = 16, kLength = 2048, kTokens = kRows * kLength;
constexpr int kSets = 2;

std::string shape_name(int64_t d, const char* more) {
  return "T " + std::to_string(kTokens) + ", D " + std::to_string(d) + more;
}

void time_copy() {
  DevicePool pool;
  constexpr int64_t kBytes = 1 << 29;
  void *from = pool.bf16(kBytes / 2), *to = pool.bytes(kBytes);
  print_time("copy", "512 MiB", median_us({[=](cudaStream_t stream) {
               return cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream);
             }}),
             2. * kBytes);
}

/// Two branches, N 128, one group each, heads of 32.
void time_conv(int64_t d) {
  DevicePool pool;
  const int64_t heads = d / 32, group = 128, columns = 2 * d + 2 * group + heads, stride = 2 * columns;
  const int64_t channels = 2 * (d + 2 * group);
  Calls forward, backward;
  for (int set = 0; set < kSets; ++set) {
    const cuda::ConvInputs in{.rows = kRows,
                              .length = kLength,
                              .columns = {2, columns, d, 2 * d + 2 * group, d, group, heads},
                              .element = cuda::Element::kBFloat16,
                              .width = 4,
                              .projected = pool.bf16(kTokens * stride),
                              .weight = pool.fp32(channels * 4),
                              .bias = pool.fp32(channels),
                              .dt_bias = pool.fp32(2 * heads),
                              .dt_min = 0.f,
                              .dt_max = std::numeric_limits<float>::infinity(),
                              .seq_idx = pool.documents(kRows, kLength, 700),
                              .initial = nullptr,
                              .projected_stride = stride};
    void* const xbc = pool.bf16(kTokens * channels);
    float* const dt = pool.fp32(kTokens * 2 * heads);
    const cuda::ConvBackward back{in,
                                  xbc,
                                  dt,
                                  pool.bytes(cuda::conv_workspace_bytes(in)),
                                  pool.bytes(kTokens * stride * 2),
                                  pool.fp32(channels * 4),
                                  pool.fp32(channels),
                                  pool.fp32(2 * heads),
                                  nullptr};
    forward.push_back([=](cudaStream_t s) { return cuda::conv_forward({in, xbc, dt}, s); });
    backward.push_back([=](cudaStream_t s) { return cuda::conv_backward(back, s); });
  }
  const auto bytes = [&](int64_t a_channel, int64_t a_head) {
    return static_cast<double>(kTokens * (a_channel * channels + a_head * 2 * heads));
  };
  print_time("conv forward", shape_name(d, ""), median_us(forward), bytes(4, 6));
  print_time("conv backward", shape_name(d, ""), median_us(backward), bytes(6, 8));
}

void time_gated_norm(int64_t d, int64_t sections, bool by_token, const char* name) {
  DevicePool pool;
  const int64_t columns = 2 * d + 256 + d / 32, width = 2 * d;
  Calls forward, backward;
  for (int set = 0; set < kSets; ++set) {
    const cuda::GatedNormInputs in{.tokens = kTokens,
                                   .branches = 2,
                                   .inner = d,
                                   .spans = 2,
                                   .sections = sections,
                                   .scale_by_token = by_token,
                                   .element = cuda::Element::kBFloat16,
                                   .y = pool.bf16(kTokens * width),
                                   .z = pool.bf16(kTokens * 2 * columns),
                                   .weight = pool.fp32(width),
                                   .scale = pool.fp32(by_token ? kTokens * sections : sections),
                                   .eps = 1e-5f,
                                   .z_stride = 2 * columns,
                                   .z_branch_stride = columns};
    void* const out = pool.bf16(kTokens * width);
    float* const root = pool.fp32(kTokens * 2);
    const cuda::GatedNormBackward back{in,
                                       root,
                                       out,
                                       pool.bytes(cuda::gated_norm_workspace_bytes(in)),
                                       pool.bytes(kTokens * width * 2),
                                       pool.bytes(kTokens * 4 * columns),
                                       pool.fp32(width),
                                       pool.fp32(by_token ? kTokens * sections : sections)};
    forward.push_back([=](cudaStream_t s) { return cuda::gated_norm_forward({in, out, root}, s); });
    backward.push_back([=](cudaStream_t s) { return cuda::gated_norm_backward(back, s); });
  }
  const double scales = by_token ? static_cast<double>(kTokens * sections * 4) : 0;
  print_time("gated_norm forward", shape_name(d, name), median_us(forward),
             static_cast<double>(kTokens * 6 * width) + scales);
  print_time("gated_norm backward", shape_name(d, name), median_us(backward),
             static_cast<double>(kTokens * 10 * width) + 2 * scales);
}

void time_residual_norm(int64_t d, cuda::Element stream, bool subln, const char* name) {
  DevicePool pool;
  const int64_t wide = stream == cuda::Element::kFloat32 ? 4 : 2;
  const auto of_stream = [&] { return wide == 4 ? pool.fp32(kTokens * d) : pool.bf16(kTokens * d); };
  Calls forward, backward;
  for (int set = 0; set < kSets; ++set) {
    const cuda::ResidualNormInputs in{.rows = kTokens,
                                      .width = d,
                                      .stream = stream,
                                      .element = cuda::Element::kBFloat16,
                                      .y = pool.bf16(kTokens * d),
                                      .subln = subln ? pool.fp32(d) : nullptr,
                                      .weight = pool.fp32(d),
                                      .eps = 1e-5f};
    void *const h = of_stream(), *const h_next = of_stream(), *const u = pool.bf16(kTokens * d);
    float* const roots = pool.fp32(2 * kTokens);
    const cuda::ResidualNormBackward back{in,
                                          h_next,
                                          roots,
                                          roots + kTokens,
                                          h,
                                          u,
                                          pool.bytes(cuda::residual_norm_workspace_bytes(in)),
                                          pool.bytes(kTokens * d * wide),
                                          pool.bytes(kTokens * d * 2),
                                          pool.fp32(d),
                                          pool.fp32(d)};
    forward.push_back([=](cudaStream_t s) {
      return cuda::residual_norm_forward({in, h, h_next, u, roots, roots + kTokens}, s);
    });
    backward.push_back([=](cudaStream_t s) { return cuda::residual_norm_backward(back, s); });
  }
  print_time("residual_norm forward", shape_name(d, name), median_us(forward),
             static_cast<double>(kTokens * d * (2 * wide + 4)));
  print_time("residual_norm backward", shape_name(d, name), median_us(backward),
             static_cast<double>(kTokens * d * (3 * wide + (subln ? 6 : 4))));
}

void time_norm(int64_t d, cuda::Element x_element, bool layer, const char* name) {
  DevicePool pool;
  const int64_t wide = x_element == cuda::Element::kFloat32 ? 4 : 2;
  Calls forward, backward;
  for (int set = 0; set < kSets; ++set) {
    const cuda::NormInputs in{.rows = kTokens,
                              .width = d,
                              .x_element = x_element,
                              .y_element = cuda::Element::kBFloat16,
                              .x = wide == 4 ? pool.fp32(kTokens * d) : pool.bf16(kTokens * d),
                              .weight = pool.fp32(d),
                              .bias = layer ? pool.fp32(d) : nullptr,
                              .eps = 1e-5f,
                              .x_stride = d};
    void* const y = pool.bf16(kTokens * d);
    float *const mean = pool.fp32(kTokens), *const root = pool.fp32(kTokens);
    const cuda::NormBackward back{in,
                                  mean,
                                  root,
                                  y,
                                  pool.bytes(cuda::norm_workspace_bytes(in)),
                                  pool.bytes(kTokens * d * wide),
                                  pool.fp32(d),
                                  layer ? pool.fp32(d) : nullptr,
                                  d};
    forward.push_back([=](cudaStream_t s) { return cuda::norm_forward({in, y, mean, root}, s); });
    backward.push_back([=](cudaStream_t s) { return cuda::norm_backward(back, s); });
  }
  const std::string op = layer ? "layer_norm" : "rms_norm";
  print_time(op + " forward", shape_name(d, name), median_us(forward),
             static_cast<double>(kTokens * d * (wide + 2)));
  print_time(op + " backward", shape_name(d, name), median_us(backward),
             static_cast<double>(kTokens * d * (2 * wide + 2)));
}

void time_all() {
  time_copy();
  for (const int64_t d : {1024, 2048, 768, 4096}) {
    time_conv(d);
    time_gated_norm(d, 2, false, ", one λ");
    time_gated_norm(d, 2, true, ", λ by token");
    time_gated_norm(d, d / 16, true, ", λ by token and head");
    time_residual_norm(d, cuda::Element::kFloat32, true, ", float32 stream");
    time_residual_norm(d, cuda::Element::kFloat32, false, ", float32 stream, no subln");
    time_residual_norm(d, cuda::Element::kBFloat16, true, ", bfloat16 stream");
    time_norm(d, cuda::Element::kFloat32, false, ", from float32");
    time_norm(d, cuda::Element::kBFloat16, true, ", from bfloat16");
  }
}

const bool kSet = (dm::test::time_operations = time_all, true);

}  // namespace
}  // namespace dm::kernels::test
