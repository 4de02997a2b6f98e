#pragma once
// Rows that go on from batch to batch: what each leaves to the next one in its place, so that the forward
// pass over consecutive pieces of a stream is that over the stream. Gradients end at the border of a batch
// (truncated backpropagation through time).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/comm/row_state.h"
#include "model/exchanges.h"
#include "model/local_parameters.h"

namespace dm::model {

class RowStates {
 public:
  /// Of `rows` rows, as they are before their first tokens. The model outlives this object, whose context
  /// ranks all make one: what counts is the first one's.
  RowStates(const LanguageModel& model, int64_t rows);

  /// As before the first tokens again.
  void reset();

  /// Puts into `carried`, for LanguageModel::TrainingRows, what stands before the rows from `first` on:
  /// nothing where not `goes_on`, [B] bool. `carried` is empty, or of an earlier pass over so many rows,
  /// whose memory is used again.
  void enter(int64_t first, const at::Tensor& goes_on, std::vector<kernels::Carried>& carried) const;
  /// Takes down what a pass over these `count` rows left, once its backward pass is over. The last context
  /// rank hands it to the first.
  void leave(int64_t first, int64_t count, const std::vector<kernels::Carried>& carried);

  /// The same memory as named logical tensors.
  struct Tensor {
    LocalParameter row;  // what this rank holds of a row: cut along the first dim
    at::Tensor values;   // a view, [rows, row.shape ..]; windows in the type of the activations
  };
  std::vector<Tensor> tensors() const { return tensors_of(states_); }

 private:
  std::vector<Tensor> tensors_of(const std::vector<kernels::RowState>& layers) const;

  Placement placement_;
  at::ScalarType dtype_;                               // of the weights, in which states travel
  std::vector<std::vector<LocalParameter>> declared_;  // by layer, branch by branch the window and the state
  std::vector<kernels::RowState> states_;              // by layer
};

/// What a row takes of a rank: bytes of one copy of its state, with activations of so many bytes, and the
/// elements that a checkpoint gets of it.
struct RowSize {
  int64_t bytes = 0, stored = 0;
};
RowSize row_size(const ModelConfig& config, const Placement& placement, int64_t activation_bytes);

/// What leave() exchanges for `rows` rows on this rank.
std::vector<Exchange> exchanges_of_rows(const ModelConfig& config, const Placement& placement, int64_t rows);

}  // namespace dm::model
