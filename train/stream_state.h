#pragma once
// What the rows of `--order streams` carry from step to step, on this rank, and as checkpoints hold it:
// "stream/" + tensor, [rows of the global batch, ..], so that any layout goes on from any other.

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/state.h"
#include "model/row_states.h"
#include "train/groups.h"

namespace dm::train {

class StreamState {
 public:
  /// Of this rank's rows of `global_rows`, as they are before their first tokens. The model outlives this
  /// object.
  StreamState(const model::LanguageModel& model, int64_t global_rows, const Groups& groups);

  model::RowStates& rows() { return states_; }

  /// A copy in host memory of what this rank stores: of each element one rank has it.
  struct Copy {
    std::vector<at::Tensor> arrays;  // that the pieces point to
    std::vector<checkpoints::Piece> pieces;
  };
  Copy copy() const;
  int64_t stored_bytes() const;  // of such a copy

  /// Becomes what a checkpoint or snapshot holds of these rows.
  void load(const checkpoints::LoadPieces& load);

 private:
  /// use(view of a stretch of this rank's rows, the piece it is, whether it is stored from here).
  template <class Use>
  void each_piece(const Use& use) const;

  int64_t first_row_, count_, global_rows_;
  DType dtype_;
  model::Placement placement_;
  model::RowStates states_;
};

}  // namespace dm::train
