#include "train/host_state.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace dm::train {
namespace {

/// Elements [begin, end) of a piece's row-major box as boxes of the logical parameter.
std::vector<checkpoints::Box> boxes_inside(const model::ParameterPiece& piece, int64_t begin, int64_t end) {
  std::vector<checkpoints::Box> boxes = checkpoints::boxes_of_range(piece.shape, begin, end);
  for (checkpoints::Box& box : boxes)
    for (size_t d = 0; d < box.offset.size(); ++d) box.offset[d] += piece.begin[d];
  return boxes;
}

}  // namespace

std::vector<checkpoints::Piece> pieces_of(const FlatParameters& parameters, PiecePurpose purpose,
                                          const std::string& prefix, void* range) {
  std::vector<checkpoints::Piece> pieces;
  for (const Slice& slice : parameters.slices(parameters.rank())) {
    const model::LocalParameter& parameter = parameters.parameters()[static_cast<size_t>(slice.parameter)];
    for (const model::ParameterPiece& piece : parameter.pieces) {
      if (purpose == PiecePurpose::store && !piece.counted) continue;
      const int64_t begin = std::max(slice.begin, piece.offset);
      const int64_t end = std::min(slice.end, piece.offset + piece.count());
      if (begin >= end) continue;
      int64_t offset = slice.offset + begin - slice.begin;  // boxes of a flat range follow each other in it
      for (checkpoints::Box& box : boxes_inside(piece, begin - piece.offset, end - piece.offset)) {
        const int64_t count = box.count();
        pieces.push_back({prefix + parameter.info.name, parameters.dtype(), parameter.info.shape,
                          std::move(box), parameters.at(range, offset)});
        offset += count;
      }
    }
  }
  return pieces;
}

HostState::HostState(FlatParameters& parameters, const ShardedOptimizer& optimizer, OnCpu on_cpu)
    : parameters_(parameters), optimizer_(optimizer) {
  owned_ = {parameters.owned_weights()};
  owned_.insert(owned_.end(), optimizer.slots().begin(), optimizer.slots().end());
  if (on_gpu()) copies_.emplace();
  for (const at::Tensor& range : owned_) {
    const bool shared = !on_gpu() && on_cpu == OnCpu::the_arrays;
    const auto options = at::TensorOptions().dtype(range.dtype()).pinned_memory(on_gpu());
    host_.push_back(shared ? range : at::empty(range.sizes(), options));
    ranges_.push_back(host_.back().data_ptr());
  }
}

void HostState::begin_pull() {
  for (size_t i = 0; i < host_.size(); ++i) {
    if (copies_)
      copies_->start(ranges_[i], owned_[i].data_ptr(), static_cast<int64_t>(owned_[i].nbytes()));
    else if (!host_[i].is_same(owned_[i]))
      host_[i].copy_(owned_[i]);
  }
}

void HostState::hold_updates() {
  if (copies_) copies_->go_first();
}

void HostState::finish_pull() {
  if (copies_) copies_->wait();
}

void HostState::push() {
  for (size_t i = 0; i < host_.size(); ++i)
    if (!host_[i].is_same(owned_[i])) owned_[i].copy_(host_[i], /*non_blocking=*/true);
  if (on_gpu()) kernels::wait_for_gpu();
}

int64_t HostState::size_bytes() const {
  int64_t total = 0;
  for (const at::Tensor& range : host_) total += static_cast<int64_t>(range.nbytes());
  return total;
}

std::vector<checkpoints::Piece> HostState::pieces(Purpose purpose) const {
  // A restore that failed may have left weights on their way from what is written to now.
  if (purpose == Purpose::fill) parameters_.settle();
  std::vector<checkpoints::Piece> pieces = pieces_of(parameters_, purpose, "", ranges_.front());
  const std::vector<std::string>& names = optimizer_.slot_names();
  for (size_t slot = 0; slot < names.size(); ++slot)
    for (checkpoints::Piece& piece : pieces_of(parameters_, purpose, names[slot] + "/", ranges_[slot + 1]))
      pieces.push_back(std::move(piece));
  return pieces;
}

}  // namespace dm::train
