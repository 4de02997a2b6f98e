#pragma once
// State-space mixers up to their output projection, one branch or two side by side in one pass.
//
// Two branches of width E are one mixer of width 2E: their in_proj rows stand below each other (one GEMM),
// their channels beside each other (one convolution), their B/C groups are the groups of one scan, and the
// gated norm takes each branch by itself. A layer multiplies the result by [out_proj_1, out_proj_2], K = 2E,
// or adds its halves first.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/comm/documents.h"
#include "kernels/comm/row_state.h"
#include "kernels/decode/decode_chain.h"
#include "model/cost.h"
#include "model/cut.h"
#include "model/exchanges.h"
#include "model/placement.h"
#include "model/scope.h"

namespace dm::model {

/// The widths of one branch that its layer decides.
struct Branch {
  int64_t inner;                // E
  int64_t head_dim;             // P (Mamba-2)
  const char* head_dim_option;  // where P comes from, for messages
};

/// A parameter of one branch; its name is stem + leaf, as in "in_proj" + ".weight". A differential scan
/// stores those that are not `shared` once a branch ("in_proj_1.weight") and the others once.
struct BranchParameter {
  std::string stem, leaf;
  std::vector<int64_t> shape;
  bool decay;
  Init init;
  bool shared;
  Cut cut = {};
};

/// Which units of a layer's branches each tensor rank works on: by branch, by rank. Where a rank has some of
/// several branches, it has equally many of each.
using Dealt = std::vector<std::vector<Run>>;

/// The part of a layer's mixers that one tensor rank works on.
struct MixerPart {
  Dealt dealt;
  Placement placement;
  const Run& units(int64_t branch) const {
    return dealt[static_cast<size_t>(branch)][static_cast<size_t>(placement.tp_rank)];
  }
  /// The branches that this rank has units of, ascending.
  std::vector<int64_t> branches() const;
  /// Whether some rank has some of a branch, but not all `units` of it.
  bool splits_branches(int64_t units) const;
};

/// What of a branch is dealt out over the tensor axis, one by one.
struct Units {
  int64_t count;
  const char* what;  // "heads"
};

/// Finds a branch's parameters by stem and leaf.
class BranchLookup {
 public:
  /// The branch whose parameters stand in `scope` under their own names.
  explicit BranchLookup(Scope scope)
      : BranchLookup(std::move(scope),
                     [](const std::string& stem, const std::string& leaf) { return stem + leaf; }) {}
  /// `name` gives the name in `scope`.
  using Naming = std::function<std::string(const std::string& stem, const std::string& leaf)>;
  BranchLookup(Scope scope, Naming name) : scope_(std::move(scope)), name_(std::move(name)) {}

  at::Tensor operator()(const std::string& stem, const std::string& leaf) const {
    return scope_[name_(stem, leaf)];
  }
  kernels::Weight matrix(const std::string& stem, const std::string& leaf) const {
    return scope_.matrix(name_(stem, leaf));
  }

 private:
  Scope scope_;
  Naming name_;
};

/// What decoding carries from token to token.
struct DecodeState : kernels::RowState {
  std::optional<at::Tensor> sections;  // a difference's factors, where they are the same for every token
};

/// A tensor that a row of a branch hands on: its name, its shape without the rows, and its cut along the
/// first dim.
struct CarriedTensor {
  std::string stem;
  std::vector<int64_t> shape;
  Cut cut;
};

/// A mixer bound to its weights as they are now.
class Mixer {
 public:
  virtual ~Mixer() = default;

  /// From here on output() is asked for its gradients alone, and may leave its values undefined.
  virtual void want_gradients_only() {}
  /// projected [B, L, R]: the products of the branches' in_proj, one branch after the other -> gated and, on
  /// Mamba-2, normalised scan output [B, L, branches * E], times `scale`: an [S] or [B, L, S] tensor of one
  /// factor for each of S equal sections of the channels.
  virtual at::Tensor gated(const at::Tensor& projected, const kernels::Documents& documents,
                           const std::optional<at::Tensor>& scale) const = 0;
  /// linear(gated(..), out_proj), where a mixer can do that with less memory.
  virtual at::Tensor output(const at::Tensor& projected, const kernels::Documents& documents,
                            const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj) const;
  /// gated() for one more token, projected [B, R] -> [B, branches * E]; no gradients.
  virtual at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                                const std::optional<at::Tensor>& scale) const = 0;
  /// linear(gated_step(..), out_proj), where a mixer can do that in fewer passes; `projected` may come from
  /// the chain, and what is returned too.
  virtual at::Tensor output_step(const at::Tensor& projected, DecodeState& state,
                                 const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj,
                                 kernels::DecodeChain& chain) const;
  /// Zero; the window in the dtype of the activations, states in that of the parameters.
  virtual DecodeState new_state(int64_t batch, at::ScalarType activations) const = 0;
};

class MixerKind {
 public:
  virtual ~MixerKind() = default;
  virtual const char* name() const = 0;
  /// Whether there are heads to give a λ, groups, and a gated norm to take over them.
  virtual bool has_heads() const = 0;
  /// Refuses sizes that do not divide; `letter` names the layer in the message.
  virtual void validate(const ModelConfig& config, const Branch& branch, char letter) const = 0;
  virtual Units units(const ModelConfig& config, const Branch& branch) const = 0;
  /// Of a branch whose units are dealt out so, each with its cut; whole without.
  virtual std::vector<BranchParameter> parameters(const ModelConfig& config, const Branch& branch,
                                                  const std::vector<Run>& dealt) const = 0;
  /// What a row of such a branch leaves to the row that goes on from there: the scan's state, behind the
  /// convolution's window, transposed, where that has any tokens. Mixers keep it in a RowState, whose window
  /// has the branches of the part beside each other; so has its state, or there is one a branch.
  virtual std::vector<CarriedTensor> carried(const ModelConfig& config, const Branch& branch,
                                             const std::vector<Run>& dealt) const = 0;
  /// `branches`: of those of the part, in its order.
  virtual std::unique_ptr<Mixer> bind(const ModelConfig& config, const Branch& branch,
                                      const std::vector<BranchLookup>& branches,
                                      const MixerPart& part) const = 0;
  /// What a pass of the part's mixers exchanges with other ranks.
  virtual std::vector<Exchange> exchanges(const ModelConfig& config, const Branch& branch,
                                          const MixerPart& part, const PassSize& size,
                                          bool backward) const = 0;
  /// Costs a token of `branches` branches side by side, without any projection of the residual stream.
  virtual std::vector<StageCost> stages(const ModelConfig& config, const Branch& branch,
                                        int64_t branches) const = 0;
  /// Of a layer of `branches` branches side by side.
  virtual LayerMemory memory(const ModelConfig& config, const Branch& branch, int64_t branches,
                             double activation_bytes) const = 0;
};

const MixerKind& mixer_kind(const std::string& name);
const MixerKind& mamba1_kind();
const MixerKind& mamba2_kind();

/// MixerKind::carried() with a window [C, W - 1] of channels that are cut so, and a scan's state.
std::vector<CarriedTensor> window_and_state(const ModelConfig& config, Cut channels, int64_t channel_count,
                                            std::vector<int64_t> state, Cut units);

/// Declares a branch whose parameters stand under their own names.
void declare_branch(const ModelConfig& config, const Branch& branch, const std::vector<Run>& dealt,
                    const Declare& declare);

/// Costs a token of a layer made of `branches` mixers side by side: the residual add with its norms, in_proj
/// (and `more_rows` of it that are no mixer's), the mixers, and an output projection of `out_width` channels.
std::vector<StageCost> mixer_layer_stages(const ModelConfig& config, const Branch& branch, int64_t branches,
                                          int64_t out_width, int64_t more_rows = 0);

/// softplus(dt), clamped to the configured limits.
at::Tensor step_size(const ModelConfig& config, const at::Tensor& dt);
/// Every out_proj starts smaller by the root of the number of layers that add to the residual stream.
Init out_proj_init(const ModelConfig& config, int64_t fan_in);

}  // namespace dm::model
