#pragma once
// A model on one rank and the same model placed on all ranks of a test under mpirun.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/placement.h"
#include "tests/model/models.h"

namespace dm::model {

struct Layout {
  std::string name;  // "tp2 cp2"
  Placement placement;
  std::shared_ptr<Collectives> tensor, context;
  TokenRange piece(int64_t length) const;  // of a row
  /// This rank's tokens of [B, L, ..].
  at::Tensor own(const at::Tensor& rows) const;
};
/// Every tp x cp that is the number of ranks. All ranks make them together, once.
const std::vector<Layout>& layouts();

/// What is to hold on every layout, with sizes that all of them take: 24 heads a layer, V 300.
std::vector<NamedConfig> layout_configs();

struct Trace {
  std::vector<at::Tensor> hidden;  // after the embedding and each layer
  at::Tensor logits;
};

/// The model, its data, and its loss and gradients (in the parameters) on one rank.
struct OneRank {
  explicit OneRank(const ModelConfig& config);
  Trace trace() const;
  ModelConfig config;
  Parameters parameters;
  at::Tensor tokens, seq_idx, mask;  // [B, L + 1], [B, L], [B, L]
  at::Tensor loss, per_target;
};

/// The same on a layout.
class Placed {
 public:
  Placed(const OneRank& truth, const Layout& layout);
  /// Of all ranks together, on every rank.
  at::Tensor loss() const { return loss_; }
  at::Tensor per_target() const { return per_target_; }
  const std::map<std::string, at::Tensor>& gradients() const { return gradients_; }
  /// The gradients that are not the one-rank model's, or that places of one element disagree about.
  std::vector<std::string> wrong_gradients() const;
  const LanguageModel& model() const { return *model_; }
  /// Of this rank's tokens.
  Trace trace() const;

 private:
  const OneRank& truth_;
  const Layout& layout_;
  Parameters leaves_;
  std::unique_ptr<LanguageModel> model_;
  at::Tensor loss_, per_target_;
  std::map<std::string, at::Tensor> gradients_;  // whole
  std::vector<std::string> inconsistent_;        // places of one element have different gradients
};

}  // namespace dm::model
