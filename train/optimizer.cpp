#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cstring>

#include "core/error.h"
#include "kernels/adamw/adamw.h"
#include "kernels/adamw/adamw_cuda.h"
#include "kernels/adamw/factors.h"

namespace dm::train {
namespace {

class AdamWOnGpu final : public RangeUpdate {
 public:
  AdamWOnGpu(const OptimizerConfig& config, const GpuRange& range)
      : config_(config),
        factors_(at::empty({kFactors}, at::TensorOptions().dtype(at::kFloat).pinned_memory(true))) {
    at::Tensor decayed = at::empty({static_cast<int64_t>(range.decayed.size()), 2}, at::kLong);
    auto* bounds = decayed.data_ptr<int64_t>();
    for (const auto& [begin, end] : range.decayed) *bounds++ = begin, *bounds++ = end;
    const auto device = range.weight.device();
    range_ = {range.weight,   range.slots[0],     range.slots[1],
              range.gradient, decayed.to(device), at::empty({kFactors}, range.weight.options())};
  }

  void run(const UpdateStep& step) override {
    const auto factors = kernels::adamw_factors<float>({.lr = step.lr,
                                                        .beta1 = config_.beta1,
                                                        .beta2 = config_.beta2,
                                                        .eps = config_.eps,
                                                        .weight_decay = config_.weight_decay,
                                                        .grad_scale = step.grad_scale,
                                                        .step = step.update});
    std::memcpy(factors_.data_ptr(), &factors, sizeof factors);
    range_.factors.copy_(factors_, /*non_blocking=*/true);
    kernels::adamw_cuda(range_);
  }

 private:
  static constexpr int64_t kFactors = sizeof(kernels::AdamWFactors<float>) / sizeof(float);
  OptimizerConfig config_;
  at::Tensor factors_;  // pinned; the step before has been waited for when it is written to
  kernels::AdamWRange range_;
};

class AdamW final : public Optimizer {
 public:
  explicit AdamW(const OptimizerConfig& config) : config_(config) {}

  std::vector<std::string> slots() const override { return {"adamw.m", "adamw.v"}; }
  std::unique_ptr<RangeUpdate> on_gpu(const GpuRange& range) const override {
    return std::make_unique<AdamWOnGpu>(config_, range);
  }

  void update(const UpdatePiece& piece, const UpdateStep& step) const override {
    DM_CHECK(piece.slots.size() == 2, "AdamW takes 2 slots, not {}", piece.slots.size());
    const kernels::AdamWStep kernel_step{.lr = step.lr,
                                         .beta1 = config_.beta1,
                                         .beta2 = config_.beta2,
                                         .eps = config_.eps,
                                         .weight_decay = piece.decay ? config_.weight_decay : 0,
                                         .grad_scale = step.grad_scale,
                                         .step = step.update};
    switch (piece.dtype) {
      case DType::f32: return run<float>(piece, kernel_step);
      case DType::f64: return run<double>(piece, kernel_step);
      default: DM_FAIL(ExitCode::internal, "AdamW has no {} weights", name(piece.dtype));
    }
  }

 private:
  template <class T>
  static void run(const UpdatePiece& piece, const kernels::AdamWStep& step) {
    kernels::adamw(static_cast<T*>(piece.weight), static_cast<T*>(piece.slots[0]),
                   static_cast<T*>(piece.slots[1]), static_cast<const T*>(piece.gradient), piece.count, step);
  }

  OptimizerConfig config_;
};

/// The one list of optimizers: a new one is a class above and a line here.
struct Kind {
  const char* name;
  std::unique_ptr<Optimizer> (*make)(const OptimizerConfig&);
};
constexpr Kind kKinds[] = {
    {"adamw",
     [](const OptimizerConfig& c) -> std::unique_ptr<Optimizer> { return std::make_unique<AdamW>(c); }},
};

}  // namespace

std::unique_ptr<RangeUpdate> Optimizer::on_gpu(const GpuRange&) const {
  DM_FAIL(ExitCode::usage, "--optimizer: this update rule has no form for GPUs; give --device cpu, or adamw");
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config) {
  for (const Kind& kind : kKinds)
    if (config.optimizer == kind.name) return kind.make(config);
  DM_FAIL(ExitCode::usage, "--optimizer: '{}' is not one of {}", config.optimizer,
          fmt::join(optimizer_names(), ", "));
}

}  // namespace dm::train
