#include "kernels/bench/scan_bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/bench/ssd_chunked.h"
#include "kernels/ssd/ssd.h"
#include "kernels/ssd/ssd_reference.h"

namespace dm::kernels {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor drawn(const char* name, at::IntArrayRef shape, double low, double high) {
  const CounterRng rng(1, name);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* values = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i)
    values[i] = static_cast<float>(rng.uniform(static_cast<uint64_t>(i), low, high));
  return tensor;
}

double milliseconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

Timing timing(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

/// The inputs x, dt, a, b, c, d of one scan, and the forms that are compared.
class Bench {
 public:
  explicit Bench(const ScanBenchConfig& s)
      : inputs_{drawn("x", {s.batch, s.length, s.heads, s.head_dim}, -1, 1),
                drawn("dt", {s.batch, s.length, s.heads}, 0.001, 0.1),
                drawn("a", {s.heads}, -16, -1),
                drawn("b", {s.batch, s.length, s.groups, s.d_state}, -1, 1),
                drawn("c", {s.batch, s.length, s.groups, s.d_state}, -1, 1),
                drawn("d", {s.heads}, -1, 1)},
        seq_idx_(at::zeros({s.batch, s.length}, at::kInt)),
        dy_(drawn("dy", inputs_[0].sizes(), -1, 1)) {}

  using Form = std::function<at::Tensor(const Tensors&)>;
  Form ours() const {
    return [this](const Tensors& t) {
      return ssd(t[0], t[1], t[2], t[3], t[4], t[5], seq_idx_, std::nullopt, t[0].size(1)).y;
    };
  }
  Form chunked(int64_t chunk) const {
    return [chunk](const Tensors& t) { return ssd_chunked(t[0], t[1], t[2], t[3], t[4], t[5], chunk); };
  }
  Form step_loop() const {
    return [this](const Tensors& t) {
      return ssd_reference(t[0], t[1], t[2], t[3], t[4], t[5], seq_idx_, std::nullopt).y;
    };
  }

  /// y and the gradients of all inputs for the fixed dy.
  Tensors forward_backward(const Form& form) const {
    Tensors leaves;
    for (const at::Tensor& t : inputs_) leaves.push_back(t.detach().requires_grad_());
    Tensors results = {form(leaves)};
    for (const at::Tensor& gradient : torch::autograd::grad({results[0]}, leaves, {dy_}))
      results.push_back(gradient);
    return results;
  }
  void forward(const Form& form) const {
    const at::NoGradGuard no_grad;
    form(inputs_);
  }

 private:
  Tensors inputs_;
  at::Tensor seq_idx_, dy_;
};

double largest_difference(const Tensors& a, const Tensors& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = (a[i] - b[i]).norm().item<double>() / b[i].norm().item<double>();
    // float32 through sums of thousands of terms that partly cancel; a wrong term would show as 1e-2 or more.
    DM_CHECK(difference <= 1e-3, "bench: the scans disagree by {} in result {}", difference, i);
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace

ScanBenchResult bench_scan(const ScanBenchConfig& config) {
  DM_REQUIRE(config.batch >= 1 && config.heads >= 1 && config.head_dim >= 1 && config.groups >= 1 &&
                 config.d_state >= 1 && config.heads % config.groups == 0 && config.repetitions >= 1,
             ExitCode::usage,
             "bench: sizes and repetitions must be positive, and the {} groups must divide the {} heads",
             config.groups, config.heads);
  DM_REQUIRE(config.length >= 256 && config.length % 256 == 0, ExitCode::usage,
             "bench: length {} is not a multiple of 256, which the chunked form needs", config.length);
  set_threads(config.threads);
  at::set_num_threads(static_cast<int>(config.threads));
  const Bench bench(config);
  ScanBenchResult result;

  const Tensors ours = bench.forward_backward(bench.ours());
  double best = 0;
  for (const int64_t chunk : {32, 64, 128, 256}) {
    result.difference =
        std::max(result.difference, largest_difference(ours, bench.forward_backward(bench.chunked(chunk))));
    double time = milliseconds([&] { bench.forward_backward(bench.chunked(chunk)); });
    time = std::min(time, milliseconds([&] { bench.forward_backward(bench.chunked(chunk)); }));
    if (result.chunk != 0 && best <= time) continue;
    result.chunk = chunk;
    best = time;
  }
  largest_difference(ours, bench.forward_backward(bench.step_loop()));

  std::vector<double> mine, mine_forward, chunked, loop;
  for (int64_t i = 0; i < config.repetitions;
       ++i) {  // in turn, so that a slow moment of the machine meets both
    mine.push_back(milliseconds([&] { bench.forward_backward(bench.ours()); }));
    chunked.push_back(milliseconds([&] { bench.forward_backward(bench.chunked(result.chunk)); }));
    mine_forward.push_back(milliseconds([&] { bench.forward(bench.ours()); }));
  }
  for (int64_t i = 0; i < std::max<int64_t>(3, config.repetitions / 4); ++i)
    loop.push_back(milliseconds([&] { bench.forward_backward(bench.step_loop()); }));
  result.ours = timing(mine);
  result.ours_forward = timing(mine_forward);
  result.chunked = timing(chunked);
  result.step_loop = timing(loop);
  result.speedup = std::min(result.chunked.median_ms, result.step_loop.median_ms) / result.ours.median_ms;
  return result;
}

Json ScanBenchResult::json() const {
  const auto timing = [](const Timing& t) {
    return Json{{"median_ms", t.median_ms}, {"p10_ms", t.p10_ms}, {"p90_ms", t.p90_ms}};
  };
  return {{"ours", timing(ours)},
          {"ours_forward", timing(ours_forward)},
          {"chunked_einsum", timing(chunked)},
          {"step_loop", timing(step_loop)},
          {"chunk_of_einsum", chunk},
          {"speedup_over_faster_peer", speedup},
          {"largest_relative_difference", difference}};
}

}  // namespace dm::kernels
