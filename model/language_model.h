#pragma once
// The language model as a function of its named parameters. Knows no ranks, no optimizer and no files.

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/linear/weight.h"
#include "model/config.h"
#include "model/init.h"
#include "model/placement.h"

namespace dm::model {

/// A logical parameter: the unit of initialisation, of checkpoints and of interchange.
struct ParameterInfo {
  std::string name;            // "backbone.layers.3.mixer_1.in_proj.weight"
  std::vector<int64_t> shape;  // conv1d.weight is [C, 1, W]
  bool decay = false;          // takes weight decay
  Init init;                   // what its elements start as
  int64_t depth = 0;           // its layer; 0 for the embeddings, the number of layers for what follows them
  int64_t count() const;       // elements
};

/// All parameters in forward order: embeddings, layers, final norm, head.
std::vector<ParameterInfo> parameter_infos(const ModelConfig& config);
int64_t parameter_count(const ModelConfig& config);

/// Fills `values` (any float dtype, contiguous, CPU) with the initial elements [begin, begin +
/// values.numel()) of the row-major parameter: a pure function of (seed, name, element index).
void initialise(const ModelConfig& config, const ParameterInfo& info, uint64_t seed, int64_t begin,
                at::Tensor values);

using Parameters = std::map<std::string, at::Tensor>;  // leaves, by name

/// ExitCode::bad_data unless these are the model's parameters, as local_parameters() has them: names, shapes,
/// one floating type.
void check_parameters(const ModelConfig& config, const Parameters& parameters,
                      const Placement& placement = {});

/// Scalars a differential layer can report about its two branches, each a mean over the tokens seen.
struct DifferenceStats {
  int64_t layer;
  double lambda;  // mean of the effective weight
  double norm_1;  // ||y_1|| per token
  double norm_2;
  double cosine;  // cos(y_1, y_2)
};

}  // namespace dm::model
namespace dm::kernels {
struct Carried;
struct CrossEntropy;
class DecodeChain;
struct Documents;
struct VocabularyShare;
}  // namespace dm::kernels
namespace dm::model {

class LayerKind;
class Matrices;
class Scope;
class StepStream;
struct LayerView;
struct Stream;

class LanguageModel {
 public:
  /// Holds references to the leaves, all on one device. On the CPU, what the optimizer writes into them the
  /// next forward pass sees, and `activations` is their dtype. On a GPU the leaves are float32, `activations`
  /// float32 or bfloat16, and products take copies of the matrices, which weights_changed() renews; their
  /// gradients are added to the leaves' own. Checks names, shapes, dtypes. The leaves are what the placement
  /// holds (model/local_parameters.h), and all ranks of its groups make the same calls in the same order.
  explicit LanguageModel(const ModelConfig& config, Parameters parameters,
                         std::optional<at::ScalarType> activations = std::nullopt,
                         const Placement& placement = {});
  ~LanguageModel();
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  /// To be called after the leaves of parameters of depths [begin, end) have been written to, in forward
  /// order where they are parts: with each part what needs it and earlier ones alone is renewed.
  void weights_changed(int64_t begin = 0, int64_t end = std::numeric_limits<int64_t>::max());

  /// How many matrices weights_changed() renews; it grows where a pass reads one for the first time.
  int64_t matrices() const;

  const ModelConfig& config() const { return config_; }
  const Parameters& parameters() const { return parameters_; }
  const Placement& placement() const { return placement_; }
  at::ScalarType activations() const { return activations_; }
  at::Device device() const { return parameters_.begin()->second.device(); }

  // On every layout ids, seq_idx and so on are those of this rank's piece of the rows, [B, L] with L the
  // piece's length; what is returned is of that piece too, and the same on all tensor ranks.

  /// Which rows of a run a pass of training is over: dropout draws by it. Without it nothing is dropped, and
  /// rows begin where they begin.
  struct TrainingRows {
    uint64_t seed = 0;
    at::Tensor samples;    // [B] int64, on the model's device: each row's number in the whole run
    int64_t position = 0;  // of this rank's piece in the rows
    /// By layer, where rows go on from the batch before (model/row_states.h). It outlives the backward pass.
    std::vector<kernels::Carried>* carried = nullptr;
  };

  /// Called with (layer, hidden [B, L, D]) for every layer in `layers`, the residual stream after that layer;
  /// -1 is the embedding.
  struct Taps {
    std::vector<int64_t> layers;
    std::function<void(int64_t, const at::Tensor&)> visit;
  };

  /// ids, seq_idx [B, L] int64/int32 -> residual stream after the final norm [B, L, D] in the dtype of the
  /// activations, differentiable.
  at::Tensor hidden(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps = nullptr,
                    const TrainingRows* rows = nullptr) const;
  /// -> logits [B, L, V]; on several tensor ranks without gradients.
  at::Tensor logits(const at::Tensor& ids, const at::Tensor& seq_idx, const Taps* taps = nullptr) const;

  /// tokens [B, L + 1] int64, seq_idx [B, L], mask [B, L] (0: no loss). Sum over counted targets of the
  /// cross-entropy in nats (differentiable scalar; the caller divides by the global count), and optionally
  /// every target's loss [B, L].
  at::Tensor loss_sum(const at::Tensor& tokens, const at::Tensor& seq_idx, const at::Tensor& mask,
                      at::Tensor* per_target = nullptr, const TrainingRows* rows = nullptr) const;

  /// `passed` is called in every later backward pass with a falling depth: from then on all gradients of
  /// parameters of greater depth are complete (on a GPU: once the current stream has come so far). Those of
  /// depth 0 are when the pass ends.
  void watch_backward(std::function<void(int64_t depth)> passed) { passed_ = std::move(passed); }

  /// `reads` is called by whatever takes parameters from this object, before it does, with the greatest depth
  /// of those that it takes: of a forward pass often and, but for a tied head, with a rising depth. Weights
  /// may be on their way until then.
  void watch_reads(std::function<void(int64_t depth)> reads) { reads_ = std::move(reads); }

  /// Telemetry of all D and S layers over a sample of tokens: runs the plain, unmerged form once, without
  /// gradients.
  std::vector<DifferenceStats> difference_stats(const at::Tensor& ids, const at::Tensor& seq_idx) const;

  // What the model is assembled from, for the decoder and for tests of single layers.
  int64_t layers() const { return static_cast<int64_t>(letters_.size()); }
  const LayerKind& kind(int64_t index) const;
  LayerView layer(int64_t index) const;
  // On several tensor ranks a stream is of the rank's share of the tokens, [t, D].
  Stream enter(const at::Tensor& ids,
               const TrainingRows* rows = nullptr) const;  // [...] -> the stream before layer 0, [..., D]
  /// The stream after layer `index`, whose output is y; after the last layer its `u` is the final norm's.
  Stream add(int64_t index, const Stream& stream, const at::Tensor& y,
             const std::optional<at::Tensor>& output_norm) const;
  /// The same for one token of decoding: ids [B], and what stands behind layer `index`.
  StepStream step_enter(const at::Tensor& ids, kernels::DecodeChain& chain) const;
  StepStream step_add(int64_t index, const StepStream& stream, const at::Tensor& y,
                      const std::optional<at::Tensor>& output_norm) const;
  kernels::Weight embeddings() const;  // [V, D], in the dtype of the residual stream; the rank's rows
  kernels::Weight head() const;        // [V, D], likewise
  /// What the last norm's output is multiplied by for logits, and the logits of that product: [V, D], or with
  /// the clusters of an adaptive softmax [V + clusters, D], whose logits are log-probabilities.
  kernels::Weight logit_rows() const;
  at::Tensor logits_of(const at::Tensor& product) const;

 private:
  void reads(int64_t depth) const {
    if (reads_) reads_(depth);
  }
  const char* head_name() const;
  at::Tensor clusters() const;  // undefined where there are none
  kernels::CrossEntropy head_loss(const at::Tensor& h, const at::Tensor& targets,
                                  const at::Tensor& counts) const;
  at::Tensor embedded(const at::Tensor& ids) const;
  kernels::VocabularyShare vocabulary_share() const;
  /// The rank's share of a stream [t, D] -> of all tokens [B, L, D], ids being [B, L].
  at::Tensor all_tokens(const at::Tensor& mine, const at::Tensor& ids) const;
  /// The rank's part [B, L, D] of a sum over the tensor ranks -> its share of the sum's tokens.
  at::Tensor own_tokens(const at::Tensor& part) const;
  /// Of x, the rank's share of the tokens `ids`, the part `p` dropped as the mask `name` of `rows` says.
  at::Tensor dropped(const at::Tensor& x, double p, const std::string& name, const at::Tensor& ids,
                     const TrainingRows* rows) const;
  Scope norm_before(int64_t index) const;  // of layer `index`, or the final norm
  /// Lets backward passes report that they have come to the input of layer `index`.
  void watch(int64_t index, const Stream& stream) const;
  /// Which document each token is of, as the scans see it: all one when documents are not kept apart.
  /// With `carried` rows go on from those of the batch before.
  kernels::Documents documents(const at::Tensor& seq_idx, bool carried = false) const;

  ModelConfig config_;
  std::string letters_;
  Parameters parameters_;
  at::ScalarType activations_;
  Placement placement_;
  std::unique_ptr<Matrices> matrices_;  // on a GPU
  std::function<void(int64_t depth)> passed_, reads_;
};

/// Recurrent decoding: O(1) state a token. The model outlives it; its weights are taken as they are at
/// construction. On a GPU a step is recorded as a graph when it comes a second time.
class Decoder {
 public:
  Decoder(const LanguageModel& model, int64_t batch);
  ~Decoder();
  /// ids [B] int64, on the CPU or the model's device -> logits [B, V] for the next token, there until the
  /// next step. Equals the full forward pass.
  at::Tensor step(const at::Tensor& ids);
  void reset();

  int64_t state_bytes() const;  // carried from token to token
  int64_t graph_nodes() const;  // 0 before there is a graph

 private:
  struct State;
  const LanguageModel& model_;
  std::unique_ptr<State> state_;
};

}  // namespace dm::model
