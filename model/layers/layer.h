#pragma once
// What a layer letter is: one class in one file of this folder, listed in registry.cpp. No other file knows
// letters.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/cost.h"
#include "model/exchanges.h"
#include "model/mixers/mixer.h"
#include "model/placement.h"
#include "model/residual.h"
#include "model/scope.h"

namespace dm::model {

/// A layer's place in a model: what it is built from.
struct LayerView {
  const ModelConfig& config;
  int64_t index;     // 0-based
  Scope parameters;  // "backbone.layers.{index}."
  Placement placement = {};
  bool gradients_only = false;  // the values of forward() are not looked at
};

/// What is dealt out over the tensor axis, for the check and its message.
struct TensorParts {
  int64_t count;
  std::string what;  // "heads of both branches"
};

/// A layer bound to its weights as they are now, without the norm and the residual add around it.
class Layer {
 public:
  virtual ~Layer() = default;
  /// u [B, L, D], documents of [B, L] tokens -> [B, L, D], differentiable; what is added to the residual
  /// stream is its output_norm() of that.
  virtual at::Tensor forward(const at::Tensor& u, const kernels::Documents& documents) const = 0;
  /// One more token: what `stream` holds of it -> [B, D], which may come from the stream's chain; no
  /// gradients.
  virtual at::Tensor step(StepStream& stream, DecodeState& state) const = 0;
  virtual DecodeState new_state(int64_t /*batch*/, at::ScalarType /*activations*/) const { return {}; }
  /// Weight [D] of an RMSNorm over the layer's output, which is taken in one pass with the residual add.
  virtual std::optional<at::Tensor> output_norm() const { return std::nullopt; }
};

/// The difference of two branches as its formula says, one branch after the other.
struct PlainDifference {
  at::Tensor y_1, y_2;  // the branches, [B, L, width]
  at::Tensor lambda;    // [1], [H], [B, L, 1] or [B, L, H]
  at::Tensor output;    // of the layer, [B, L, D], its output norm included
};

/// The layer's output as it enters the residual stream, its output norm included: for looking at a layer by
/// itself.
at::Tensor normalised_output(const Layer& layer, const at::Tensor& u, const kernels::Documents& documents,
                             double eps);

class LayerKind {
 public:
  virtual ~LayerKind() = default;
  virtual char letter() const = 0;
  virtual const char* name() const = 0;  // "differential", for messages and tables

  /// Refuses what cannot be (ExitCode::usage), naming the legal set.
  virtual void validate(const ModelConfig& config) const = 0;
  /// Into how many equal parts the tensor axis can cut the layer's work: its sizes are the divisors.
  virtual TensorParts tensor_parts(const ModelConfig& config) const = 0;
  /// The parameters of layer `index` after its norm, in forward order, each with its cut.
  virtual void declare(const ModelConfig& config, int64_t index, const Declare& declare) const = 0;
  /// What a row hands on through the layer where rows go on from batch to batch, branch by branch
  /// (MixerKind::carried), without the rows.
  virtual void declare_carried(const ModelConfig&, const Declare&) const {}
  virtual std::unique_ptr<Layer> bind(const LayerView& view) const = 0;
  /// What a pass of the layer exchanges between the gathering and the scattering of its tokens.
  virtual std::vector<Exchange> exchanges(const ModelConfig&, const Placement&, const PassSize&,
                                          bool /*backward*/) const {
    return {};
  }
  /// Costs a token, the residual add and norms included.
  virtual std::vector<StageCost> stages(const ModelConfig& config) const = 0;
  /// With activations of so many bytes.
  virtual LayerMemory memory(const ModelConfig& config, double activation_bytes) const = 0;

  /// Whether it takes a difference, and then its plain form: the reference of `forward` and the source of
  /// telemetry.
  virtual bool has_difference() const { return false; }
  virtual PlainDifference plain(const LayerView&, const at::Tensor& u,
                                const kernels::Documents& documents) const;
};

}  // namespace dm::model
