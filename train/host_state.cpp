#include "train/host_state.h"

#include "core/error.h"
#include "kernels/device/gpu.h"

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

HostState::HostState(FlatParameters& parameters, const ShardedOptimizer& optimizer)
    : parameters_(parameters), optimizer_(optimizer) {
  device_ = {parameters.owned_weights()};
  device_.insert(device_.end(), optimizer.slots().begin(), optimizer.slots().end());
  for (const at::Tensor& range : device_) {
    host_.push_back(range.is_cpu() ? range
                                   : at::empty(range.sizes(),
                                               at::TensorOptions().dtype(range.dtype()).pinned_memory(true)));
    ranges_.push_back(host_.back().data_ptr());
  }
}

void HostState::pull() {
  for (size_t i = 0; i < host_.size(); ++i)
    if (!device_[i].is_cpu()) host_[i].copy_(device_[i], /*non_blocking=*/true);
  if (!device_.front().is_cpu()) kernels::wait_for_gpu();
}

void HostState::push() {
  for (size_t i = 0; i < host_.size(); ++i)
    if (!device_[i].is_cpu()) device_[i].copy_(host_[i], /*non_blocking=*/true);
  if (!device_.front().is_cpu()) kernels::wait_for_gpu();
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
