#include "train/optimizer.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "kernels/adamw/adamw.h"

namespace dm::train {
namespace {

class AdamW final : public Optimizer {
 public:
  explicit AdamW(const OptimizerConfig& config) : config_(config) {}

  std::vector<std::string> slots() const override { return {"adamw.m", "adamw.v"}; }

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
