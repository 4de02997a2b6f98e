// Times of the operations at a model's two ends, of Mamba-1's scan, of the optimizer and of decoding.

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include <cmath>
#include <random>

#include "kernels/adamw/cuda/adamw_cuda.cuh"
#include "kernels/conv/cuda/step.cuh"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/cross_entropy/cuda/cross_entropy_cuda.cuh"
#include "kernels/embedding/cuda/embedding_cuda.cuh"
#include "kernels/selective_scan/cuda/selective_scan_cuda.cuh"
#include "kernels/square_sum/cuda/square_sum_cuda.cuh"
#include "kernels/ssd/cuda/step.cuh"
#include "tests/kernels/cuda/stopwatch.h"
#include "tests/support/gpu_main.h"

namespace dm::kernels::test {
namespace {

using cuda::Element;
using Call = std::function<cudaError_t(cudaStream_t)>;

constexpr int64_t kVocabulary = 50280;

template <class T>
T* upload(DevicePool& pool, const std::vector<T>& values) {
  const auto bytes = values.size() * sizeof(T);
  auto* const to = static_cast<T*>(pool.bytes(static_cast<int64_t>(bytes)));
  must(cudaMemcpy(to, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  return to;
}

/// Ids whose frequency falls as 1 / rank, as words do.
std::vector<int64_t> words(int64_t tokens) {
  std::mt19937 engine(9);
  std::uniform_real_distribution<double> uniform(0, std::log(double{kVocabulary}));
  std::vector<int64_t> ids(static_cast<size_t>(tokens));
  for (int64_t& id : ids)
    id = std::min<int64_t>(static_cast<int64_t>(std::exp(uniform(engine))) * 7919 % kVocabulary,
                           kVocabulary - 1);
  return ids;
}

void time_cross_entropy() {
  DevicePool pool;
  const int64_t rows = 2560, stride = 50304;
  const cuda::CrossEntropyRows args{.rows = rows,
                                    .vocabulary = kVocabulary,
                                    .stride = stride,
                                    .element = Element::kBFloat16,
                                    .logits = pool.bf16(rows * stride),
                                    .targets = upload(pool, words(rows)),
                                    .mask = upload(pool, std::vector<uint8_t>(rows, 1)),
                                    .gradient = true,
                                    .nll = pool.fp32(rows)};
  const double bytes = 2. * rows * kVocabulary;
  print_time("cross_entropy_rows, loss and gradient", "T 2560, V 50280",
             median_us({[=](cudaStream_t s) { return cuda::cross_entropy_rows(args, s); }}), 2 * bytes);
  cuda::CrossEntropyRows loss = args;
  loss.gradient = false;
  print_time("cross_entropy_rows, loss", "T 2560, V 50280",
             median_us({[=](cudaStream_t s) { return cuda::cross_entropy_rows(loss, s); }}), bytes);
}

/// The whole head. Its floor is arithmetic: 6 T D V at 790 TFLOP/s, as bytes for print_time().
void time_head(int64_t width) {
  const int64_t tokens = 32768;
  const at::TensorOptions gpu = at::TensorOptions(at::kCUDA);
  const at::Tensor h = at::randn({tokens, width}, gpu).to(at::kBFloat16).requires_grad_(),
                   weight = (at::randn({kVocabulary, width}, gpu) * 0.02).to(at::kBFloat16),
                   gradient = at::zeros({kVocabulary, width}, gpu),
                   targets = at::randint(kVocabulary, {tokens}, gpu.dtype(at::kLong)),
                   mask = at::ones({tokens}, gpu.dtype(at::kByte));
  const Weight parts(weight, {{gradient, 0, 0}});
  const double us = median_us({[=](cudaStream_t stream) {
                                const c10::cuda::CUDAStream before = c10::cuda::getCurrentCUDAStream();
                                c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromExternal(stream, 0));
                                linear_cross_entropy(h, parts, targets, mask);
                                c10::cuda::setCurrentCUDAStream(before);
                                return cudaGetLastError();
                              }},
                              12);
  const auto flops = 6. * static_cast<double>(tokens * width * kVocabulary);
  print_time("linear_cross_entropy, with gradients (floor: FLOPs)",
             "T 32768, V 50280, D " + std::to_string(width), us, flops / 790e12 * 3e12);
}

void time_embedding(int64_t width) {
  DevicePool pool;
  const int64_t tokens = 32768;
  const std::vector<int64_t> ids = words(tokens);
  std::vector<int64_t> distinct = ids;
  std::sort(distinct.begin(), distinct.end());
  const auto kinds = static_cast<int64_t>(std::unique(distinct.begin(), distinct.end()) - distinct.begin());
  const int64_t* const on_gpu = upload(pool, ids);
  const cuda::EmbeddingForward forward{tokens,
                                       kVocabulary,
                                       width,
                                       Element::kFloat32,
                                       on_gpu,
                                       pool.fp32(kVocabulary * width),
                                       pool.fp32(tokens * width)};
  const cuda::EmbeddingBackward backward{
      tokens,
      kVocabulary,
      width,
      Element::kFloat32,
      on_gpu,
      pool.fp32(tokens * width),
      pool.bytes(cuda::embedding_workspace_bytes(tokens, kVocabulary, width)),
      pool.fp32(kVocabulary * width)};
  const std::string shape = "T 32768, V 50280, D " + std::to_string(width);
  const auto bytes = [&](int64_t rows) { return static_cast<double>(rows * width * 4); };
  print_time("embedding forward", shape,
             median_us({[=](cudaStream_t s) { return cuda::embedding_forward(forward, s); }}),
             bytes(tokens + kinds));
  print_time("embedding backward", shape,
             median_us({[=](cudaStream_t s) { return cuda::embedding_backward(backward, s); }}),
             bytes(tokens + 2 * kinds));
}

void time_optimizer(int64_t count) {
  DevicePool pool;
  std::vector<cuda::IndexRange> decayed;
  for (int64_t begin = 1000; begin + 700000 < count; begin += 900001)
    decayed.push_back({begin, begin + 700000});
  const AdamWFactors<float> factors = adamw_factors<float>({.lr = 1e-3,
                                                            .beta1 = 0.9,
                                                            .beta2 = 0.95,
                                                            .eps = 1e-8,
                                                            .weight_decay = 0.1,
                                                            .grad_scale = 0.5,
                                                            .step = 9});
  const cuda::AdamWArguments args{.weight = pool.fp32(count),
                                  .m = pool.fp32(count),
                                  .v = pool.steps(count),
                                  .grad = pool.fp32(count),
                                  .count = count,
                                  .decayed = upload(pool, decayed),
                                  .decayed_count = static_cast<int64_t>(decayed.size()),
                                  .factors = upload(pool, std::vector<AdamWFactors<float>>{factors})};
  const std::string shape = std::to_string(count / 1000000) + " M";
  print_time("adamw", shape, median_us({[=](cudaStream_t s) { return cuda::adamw(args, s); }}),
             28. * static_cast<double>(count));
  void* const workspace = pool.bytes(cuda::square_sum_workspace_bytes());
  auto* const sum = static_cast<double*>(pool.bytes(8));
  auto* const first = static_cast<int64_t*>(pool.bytes(8));
  print_time("square_sum", shape, median_us({[=](cudaStream_t s) {
               return cuda::square_sum(args.grad, count, workspace, sum, first, s);
             }}),
             4. * static_cast<double>(count));
}

/// Floors: the bytes that must move (the saved states are the implementation's own).
void time_selective_scan(int64_t rows, int64_t channels, Element dt_element, int64_t states = 16) {
  DevicePool pool;
  const int64_t length = 2048, tokens = rows * length;
  const cuda::SelectiveShape shape{rows, length, channels, states};
  std::vector<float> a(static_cast<size_t>(channels * states));
  for (size_t i = 0; i < a.size(); ++i) a[i] = -static_cast<float>(i % 16 + 1);
  const bool single = dt_element == Element::kFloat32;
  const at::Tensor steps = (at::rand({tokens * channels}, at::TensorOptions(at::kCUDA)) * 0.1)
                               .to(single ? at::kFloat : at::kBFloat16);
  const auto rows_of = [&](int64_t width) {
    return cuda::Rows{pool.bf16(tokens * width), width, Element::kBFloat16};
  };
  const cuda::SelectiveInputs in{.shape = shape,
                                 .x = rows_of(channels),
                                 .dt = {steps.const_data_ptr(), channels, dt_element},
                                 .b = rows_of(states),
                                 .c = rows_of(states),
                                 .a = upload(pool, a),
                                 .d = pool.fp32(channels),
                                 .seq_idx = pool.documents(rows, length, 700),
                                 .initial_state = nullptr};
  const int64_t outer = rows * channels * states;
  const cuda::SelectiveForward forward{in, pool.bytes(cuda::selective_forward_bytes(shape)),
                                       pool.bytes(tokens * channels * 2), pool.fp32(outer),
                                       pool.fp32(cuda::selective_saved_floats(shape))};
  const cuda::SelectiveBackward backward{.in = in,
                                         .saved = forward.saved,
                                         .dy = rows_of(channels),
                                         .dfinal_state = nullptr,
                                         .workspace = pool.bytes(cuda::selective_backward_bytes(shape)),
                                         .dx = pool.bytes(tokens * channels * 2),
                                         .ddt = pool.bytes(tokens * channels * 4),
                                         .db = pool.bytes(tokens * states * 2),
                                         .dc = pool.bytes(tokens * states * 2),
                                         .dbc_stride = states,
                                         .da = pool.fp32(channels * states),
                                         .dd = pool.fp32(channels),
                                         .dinitial_state = nullptr};
  const std::string name = "B " + std::to_string(rows) + ", L 2048, N " + std::to_string(states) + ", E " +
                           std::to_string(channels) + (single ? ", float32 dt" : ", bfloat16 dt");
  const int64_t wide = single ? 4 : 2;
  print_time("selective_scan forward", name,
             median_us({[=](cudaStream_t s) { return cuda::selective_forward(forward, s); }}),
             static_cast<double>(tokens * (channels * (4 + wide) + 4 * states)));
  print_time("selective_scan backward", name,
             median_us({[=](cudaStream_t s) { return cuda::selective_backward(backward, s); }}),
             static_cast<double>(tokens * (channels * (6 + 2 * wide) + 8 * states)));
}

/// States of as many layers as do not fit the cache.
void time_steps(int64_t batch) {
  DevicePool pool;
  const int64_t heads = 64, head_dim = 32, groups = 2, states = 128, channels = 2048;
  const int layers = batch > 8 ? 4 : 48;
  std::vector<Call> ssd, selective, conv;
  const auto rows_of = [&](int64_t width) {
    return cuda::Rows{pool.bf16(batch * width), width, Element::kBFloat16};
  };
  const auto steps_of = [&](int64_t width) {
    return cuda::Rows{pool.steps(batch * width), width, Element::kFloat32};
  };
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<float> a(static_cast<size_t>(channels * 16), -2.f);
    const cuda::StateStep step{.rows = batch,
                               .heads = heads,
                               .head_dim = head_dim,
                               .groups = groups,
                               .states = states,
                               .x = rows_of(heads * head_dim),
                               .dt = steps_of(heads),
                               .b = rows_of(groups * states),
                               .c = rows_of(groups * states),
                               .a = upload(pool, a),
                               .a_by_state = false,
                               .d = pool.fp32(heads),
                               .state = pool.fp32(batch * heads * head_dim * states),
                               .y = pool.bytes(batch * heads * head_dim * 2)};
    ssd.push_back([=](cudaStream_t s) { return cuda::state_step(step, s); });
    const cuda::StateStep s6{.rows = batch,
                             .heads = channels,
                             .head_dim = 1,
                             .groups = 1,
                             .states = 16,
                             .x = rows_of(channels),
                             .dt = steps_of(channels),
                             .b = rows_of(16),
                             .c = rows_of(16),
                             .a = step.a,
                             .a_by_state = true,
                             .d = pool.fp32(channels),
                             .state = pool.fp32(batch * channels * 16),
                             .y = pool.bytes(batch * channels * 2)};
    selective.push_back([=](cudaStream_t s) { return cuda::state_step(s6, s); });
    const int64_t convolved = 2 * (1024 + 256);
    const cuda::ConvStep window{.rows = batch,
                                .channels = convolved,
                                .width = 4,
                                .x = rows_of(convolved),
                                .weight = pool.fp32(convolved * 4),
                                .bias = pool.fp32(convolved),
                                .window = pool.fp32(batch * 3 * convolved),
                                .window_element = Element::kFloat32,
                                .y = pool.bytes(batch * convolved * 2)};
    conv.push_back([=](cudaStream_t s) { return cuda::conv_step(window, s); });
  }
  const std::string shape = "B " + std::to_string(batch);
  const auto bytes = [&](int64_t elements) { return static_cast<double>(8 * batch * elements); };
  print_time("ssd_step", shape + ", H 64, P 32, N 128", median_us(ssd), bytes(heads * head_dim * states));
  print_time("selective_step", shape + ", E 2048, N 16", median_us(selective), bytes(channels * 16));
  print_time("causal_conv_step", shape + ", C 2560, W 4", median_us(conv), bytes(3 * 2560));
}

void time_all() {
  time_cross_entropy();
  for (const int64_t width : {768, 1024, 2048}) time_head(width);
  for (const int64_t width : {768, 1024, 2048}) time_embedding(width);
  time_optimizer(130000003);
  time_optimizer(370000000);
  for (const int64_t channels : {1024, 2048})
    for (const Element dt : {Element::kBFloat16, Element::kFloat32}) time_selective_scan(8, channels, dt);
  time_selective_scan(16, 1536, Element::kBFloat16);
  time_selective_scan(1, 2048, Element::kBFloat16);
  for (const int64_t states : {128, 256}) time_selective_scan(2, 2048, Element::kBFloat16, states);
  for (const int64_t batch : {1, 64}) time_steps(batch);
}

const bool kSet = (dm::test::time_operations = time_all, true);

}  // namespace
}  // namespace dm::kernels::test
