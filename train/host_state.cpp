#include "train/host_state.h"

#include "core/error.h"

namespace dm::train {
namespace {

void add_pieces(std::vector<checkpoints::Piece>& pieces, const FlatParameters& parameters,
                const std::string& prefix, void* range) {
  for (const Slice& slice : parameters.slices(parameters.rank())) {
    const model::ParameterInfo& info = parameters.infos()[static_cast<size_t>(slice.parameter)];
    int64_t offset = slice.offset;  // boxes of a flat range follow each other in it
    for (checkpoints::Box& box : checkpoints::boxes_of_range(info.shape, slice.begin, slice.end)) {
      const int64_t count = box.count();
      pieces.push_back(
          {prefix + info.name, parameters.dtype(), info.shape, std::move(box), parameters.at(range, offset)});
      offset += count;
    }
    DM_CHECK(offset == slice.offset + slice.count(), "{}: boxes hold {} elements of {}", info.name,
             offset - slice.offset, slice.count());
  }
}

}  // namespace

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

std::vector<checkpoints::Piece> HostState::pieces() const {
  std::vector<checkpoints::Piece> pieces;
  add_pieces(pieces, parameters_, "", ranges_.front());
  const std::vector<std::string>& names = optimizer_.slot_names();
  for (size_t slot = 0; slot < names.size(); ++slot)
    add_pieces(pieces, parameters_, names[slot] + "/", ranges_[slot + 1]);
  return pieces;
}

}  // namespace dm::train
