#pragma once
// Optimizers over a flat range of weights. An optimizer is its named slots (one value a weight, checkpointed
// as "SLOT/PARAMETER") and an update of one contiguous piece of one parameter. It never sees ranks:
// FlatParameters hands it the range this rank owns, piece by piece.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/fields.h"

namespace dm::train {

/// The names that `optimizer` takes.
std::vector<std::string> optimizer_names();

struct OptimizerConfig {
  std::string optimizer = "adamw";
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;  // of the global gradient norm

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("optimizer", self.optimizer, "update rule", Choices{optimizer_names()});
    v("lr", self.lr, "peak learning rate", Range{0, 1e3});
    v("beta1", self.beta1, "decay of the first moment, per step", Range{0, 0.999999999});
    v("beta2", self.beta2, "decay of the second moment, per step", Range{0, 0.999999999});
    v("eps", self.eps, "added to the root of the second moment", Range{0, 1});
    v("weight_decay", self.weight_decay, "decoupled weight decay, per unit of learning rate", Range{0, 1e3});
    v("clip", self.clip, "gradients are scaled down to this global norm; 0: never", Range{0, 1e12});
  }
};

/// What one update needs beside the arrays.
struct UpdateStep {
  double lr = 0;
  double grad_scale = 1;  // multiplies every gradient: 1 / counted targets, and clipping
  int64_t update = 1;     // number of this update, from 1; skipped steps do not count
};

/// A contiguous piece of one parameter with its gradient and slots, `count` elements each.
struct UpdatePiece {
  DType dtype;  // f32 or f64, of all arrays
  void* weight;
  const void* gradient;
  std::vector<void*> slots;  // in the order of Optimizer::slots()
  int64_t count;
  bool decay;  // takes weight decay
};

/// The whole range that a rank owns, on a GPU, where one launch updates all of it.
struct GpuRange {
  at::Tensor weight, gradient;                       // [count]
  std::vector<at::Tensor> slots;                     // [count] each, in the order of Optimizer::slots()
  std::vector<std::pair<int64_t, int64_t>> decayed;  // [begin, end) of what takes weight decay, ascending
};
class RangeUpdate {
 public:
  virtual ~RangeUpdate() = default;
  virtual void run(const UpdateStep& step) = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// Names of the slots as checkpoints spell them; all start at zero.
  virtual std::vector<std::string> slots() const = 0;
  virtual void update(const UpdatePiece& piece, const UpdateStep& step) const = 0;
  /// Refuses (ExitCode::usage) unless the update rule has a form for GPUs.
  virtual std::unique_ptr<RangeUpdate> on_gpu(const GpuRange& range) const;
};

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config);

}  // namespace dm::train
