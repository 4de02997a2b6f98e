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

#include "model/cost.h"
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
};

/// Finds a branch's parameter by stem and leaf.
using BranchLookup = std::function<at::Tensor(const std::string& stem, const std::string& leaf)>;

/// What decoding carries from token to token.
struct DecodeState {
  at::Tensor window;               // [B, W - 1, C], the convolution's last inputs
  std::vector<at::Tensor> states;  // of the scan
};

/// A mixer bound to its weights as they are now.
class Mixer {
 public:
  virtual ~Mixer() = default;

  /// Blocks of rows of all branches' in_proj, [R, D] in all, in the order that `gated` takes their products.
  virtual std::vector<at::Tensor> in_proj_rows() const = 0;
  /// projected [B, L, R] -> gated and, on Mamba-2, normalised scan output [B, L, branches * E], times
  /// `scale`: an [S] or [B, L, S] tensor of one factor for each of S equal sections of the channels.
  virtual at::Tensor gated(const at::Tensor& projected, const at::Tensor& seq_idx,
                           const std::optional<at::Tensor>& scale) const = 0;
  /// The same for one more token, projected [B, R] -> [B, branches * E]; no gradients.
  virtual at::Tensor gated_step(const at::Tensor& projected, DecodeState& state,
                                const std::optional<at::Tensor>& scale) const = 0;
  virtual DecodeState new_state(int64_t batch) const = 0;
};

class MixerKind {
 public:
  virtual ~MixerKind() = default;
  virtual const char* name() const = 0;
  /// Whether there are heads to give a λ, groups, and a gated norm to take over them.
  virtual bool has_heads() const = 0;
  /// Refuses sizes that do not divide; `letter` names the layer in the message.
  virtual void validate(const ModelConfig& config, const Branch& branch, char letter) const = 0;
  virtual std::vector<BranchParameter> parameters(const ModelConfig& config, const Branch& branch) const = 0;
  virtual std::unique_ptr<Mixer> bind(const ModelConfig& config, const Branch& branch,
                                      const std::vector<BranchLookup>& branches) const = 0;
  /// Costs a token of `branches` branches side by side, without any projection of the residual stream.
  virtual std::vector<StageCost> stages(const ModelConfig& config, const Branch& branch,
                                        int64_t branches) const = 0;
};

const MixerKind& mixer_kind(const std::string& name);
const MixerKind& mamba1_kind();
const MixerKind& mamba2_kind();

/// The branch whose parameters all stand in one scope under their own names.
BranchLookup lookup_in(const Scope& scope);
/// Declares a branch whose parameters stand under their own names.
void declare_branch(const ModelConfig& config, const Branch& branch, const Declare& declare);

/// Costs a token of a layer made of `branches` mixers side by side: the residual add with its norms, in_proj
/// (and `more_rows` of it that are no mixer's), the mixers, and an output projection of `out_width` channels.
std::vector<StageCost> mixer_layer_stages(const ModelConfig& config, const Branch& branch, int64_t branches,
                                          int64_t out_width, int64_t more_rows = 0);

/// Pieces below each other; the piece itself when there is one, so that a single branch copies nothing.
at::Tensor stack_rows(const std::vector<at::Tensor>& pieces);
/// softplus(dt), clamped to the configured limits.
at::Tensor step_size(const ModelConfig& config, const at::Tensor& dt);
/// Every out_proj starts smaller by the root of the number of layers that add to the residual stream.
Init out_proj_init(const ModelConfig& config, int64_t fan_in);

}  // namespace dm::model
