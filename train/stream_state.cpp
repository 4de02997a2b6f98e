#include "train/stream_state.h"

#include <ATen/ATen.h>

#include "data/loader.h"
#include "kernels/comm/transport.h"
#include "train/flat_parameters.h"

namespace dm::train {
namespace {

int64_t first_row(int64_t global_rows, const Groups& groups, int64_t next) {
  return data::first_row(global_rows, groups.data_rank + next, groups.data_ranks);
}

}  // namespace

StreamState::StreamState(const model::LanguageModel& model, int64_t global_rows, const Groups& groups)
    : first_row_(first_row(global_rows, groups, 0)),
      count_(first_row(global_rows, groups, 1) - first_row_),
      global_rows_(global_rows),
      dtype_(kernels::comm_dtype(model.parameters().begin()->second)),
      placement_(model.placement()),
      states_(model, count_) {}

template <class Use>
void StreamState::each_piece(const Use& use) const {
  if (placement_.cp_rank > 0 || count_ == 0) return;  // the first context rank has the rows' beginnings
  for (const model::RowStates::Tensor& tensor : states_.tensors()) {
    const model::LocalParameter& row = tensor.row;
    std::vector<int64_t> shape = row.info.shape;
    shape.insert(shape.begin(), global_rows_);
    for (const model::ParameterPiece& part : row.pieces) {
      checkpoints::Piece piece{.name = "stream/" + row.info.name,
                               .dtype = dtype_,
                               .global_shape = shape,
                               .box = {part.begin, part.shape},
                               .data = nullptr};
      piece.box.offset.insert(piece.box.offset.begin(), first_row_);
      piece.box.shape.insert(piece.box.shape.begin(), count_);
      const int64_t width = part.count() / part.shape[0];
      use(tensor.values.narrow(1, part.offset / width, part.shape[0]), std::move(piece), part.counted);
    }
  }
}

StreamState::Copy StreamState::copy() const {
  Copy copy;
  each_piece([&](const at::Tensor& values, checkpoints::Piece piece, bool stored) {
    if (!stored) return;
    const auto options = at::TensorOptions().dtype(scalar_type(dtype_));
    copy.arrays.push_back(at::empty(values.sizes(), options).copy_(values));
    piece.data = copy.arrays.back().data_ptr();
    copy.pieces.push_back(std::move(piece));
  });
  return copy;
}

void StreamState::load(const checkpoints::LoadPieces& load) {
  std::vector<at::Tensor> values, arrays;
  std::vector<checkpoints::Piece> pieces;
  each_piece([&](const at::Tensor& view, checkpoints::Piece piece, bool) {
    values.push_back(view);
    arrays.push_back(at::empty(view.sizes(), at::TensorOptions().dtype(scalar_type(dtype_))));
    piece.data = arrays.back().data_ptr();
    pieces.push_back(std::move(piece));
  });
  load(pieces);
  for (size_t i = 0; i < values.size(); ++i) values[i].copy_(arrays[i]);
}

int64_t StreamState::stored_bytes() const {
  int64_t total = 0;
  each_piece([&](const at::Tensor&, const checkpoints::Piece& piece, bool stored) {
    if (stored) total += piece.size_bytes();
  });
  return total;
}

}  // namespace dm::train
