#pragma once
// One optimizer step, on any layout, as training, `parity` and `bench step` all take it:
//
//   accumulate(batch)   gradients to zero, passes, sums over the ranks
//   agree(mine)         one reduction, after which all ranks know the same and decide alike
//   update(lr, facts)   clipping, the optimizer, the new weights on every rank
//
// Between the second and the third the caller decides whether the weights may move.

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "model/language_model.h"
#include "train/flat_parameters.h"
#include "train/gradient_exchange.h"
#include "train/groups.h"
#include "train/run_config.h"
#include "train/sharded_optimizer.h"
#include "train/step.h"
#include "train/step_guard.h"
#include "train/stream_state.h"

namespace dm::train {

struct StepSetup {
  DType weights = DType::f32;
  at::ScalarType activations = at::kFloat;
  at::Device device = at::kCPU;
  int64_t bucket_bytes = kBucketBytes;
  int64_t micro_batch = 1;  // rows worked on at once
  uint64_t seed = 0;        // of dropout
  bool record = true;       // micro-steps and gathers of weights as graphs, on a GPU
  int64_t global_rows = 0;  // of a batch, over all ranks; needed by the following two
  bool streams = false;     // rows go on from step to step
  int64_t zero = 1;         // ZeRO stage
};

/// As a run is configured.
StepSetup step_setup(const RunConfig& config);

class StepRunner {
 public:
  /// All weights are zero: initialise() or load them, then call weights_changed(). `config`s are copied, the
  /// groups outlive this object.
  StepRunner(const model::ModelConfig& model, const OptimizerConfig& optimizer, const StepSetup& setup,
             const Groups& groups);

  /// The weights were written other than by update().
  void weights_changed();

  /// The gradient of this rank's rows, and what of its sum over the ranks this rank owns. On a GPU it is
  /// there when this returns.
  void accumulate(const data::Batch& batch);
  /// `mine` with this rank's loss and gradient put in, over all ranks.
  StepFacts agree(StepFacts mine = {}) const;
  /// What the gradient is multiplied by so that its norm is within the optimizer's clip.
  double clip_factor(const StepFacts& facts) const;
  /// The new weights are on their way: the next passes wait for each bucket where they read it, and so does
  /// every other reader, by model() or parameters().
  void update(double lr, const StepFacts& facts);

  /// Of the last accumulate(), the milliseconds in which it did nothing but wait for other ranks' gradients
  /// and weights.
  double exposed_ms() { return exchange_->exposed_ms() + parameters_.gather().exposed_ms(); }
  /// Its exchanges, before update().
  void report(Trace& trace) const;

  /// What this rank knows of the last step by itself.
  const LocalLoss& local() const { return local_; }
  /// Of ranks that hold the same piece of the state, one saves it and counts its gradients.
  bool owns() const { return groups_.across == nullptr || groups_.across->rank() == 0; }
  /// Bytes that this rank puts into a checkpoint.
  int64_t stored_bytes() const;

  FlatParameters& parameters() { return parameters_; }
  const FlatParameters& parameters() const { return parameters_; }
  /// What rows carry from step to step; nullptr where they begin in each.
  StreamState* streams() { return streams_ ? &*streams_ : nullptr; }
  ShardedOptimizer& optimizer() { return optimizer_; }
  const ShardedOptimizer& optimizer() const { return optimizer_; }
  const model::LanguageModel& model() const { return model_; }
  const GradientExchange& exchange() const { return *exchange_; }
  const BatchPasses& passes() const { return passes_; }

 private:
  Groups groups_;
  double clip_;
  FlatParameters parameters_;
  ShardedOptimizer optimizer_;
  std::vector<model::SharedGradients>
      shared_gradients_;  // of all, or of each bucket where they are scattered
  std::unique_ptr<GradientExchange> exchange_;
  bool beside_passes_;  // gradients are exchanged
  model::LanguageModel model_;
  std::optional<StreamState> streams_;
  BatchPasses passes_;
  std::map<std::string, at::Tensor> gradients_;  // of the leaves
  LocalLoss local_;
};

}  // namespace dm::train
