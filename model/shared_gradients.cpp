// The sum of what several places have of one element's gradient.

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/comm/transport.h"
#include "model/local_parameters.h"

namespace dm::model {

SharedGradients::SharedGradients(const ModelConfig& config, const Placement& placement, int64_t begin,
                                 int64_t end)
    : tensor_(placement.tensor) {
  // Every rank goes through the pieces of all, so that all give an element the same slot.
  std::map<std::pair<std::string, std::vector<int64_t>>, int64_t> slots;
  for (int64_t rank = 0; rank < placement.tp; ++rank) {
    Placement other = placement;
    other.tp_rank = rank;
    for (const LocalParameter& local : local_parameters(config, other))
      for (const ParameterPiece& piece : local.pieces) {
        const int64_t depth = local.info.depth;
        if (piece.places == 1 || depth < begin || depth >= end) continue;
        const auto [slot, added] = slots.try_emplace({local.info.name, piece.begin}, count_);
        if (added) {
          count_ += piece.count();
          count_by_depth_.resize(std::max(count_by_depth_.size(), static_cast<size_t>(depth) + 1));
          count_by_depth_[static_cast<size_t>(depth)] += piece.count();
        }
        if (rank == placement.tp_rank)
          blocks_.push_back({local.info.name, piece.offset, piece.count(), slot->second});
      }
  }
}

void SharedGradients::sum(const std::map<std::string, at::Tensor>& gradients) const {
  if (count_ == 0) return;
  const at::NoGradGuard no_gradients;
  const at::Tensor parts = at::zeros({count_}, gradients.begin()->second.options());
  const auto place = [&](const Block& block) {
    const at::Tensor& gradient = gradients.at(block.name);
    DM_CHECK(gradient.is_contiguous() && gradient.scalar_type() == parts.scalar_type(),
             "the gradient of {} is not contiguous, or not of the others' type", block.name);
    return gradient.view(-1).narrow(0, block.offset, block.count);
  };
  for (const Block& block : blocks_) parts.narrow(0, block.slot, block.count).add_(place(block));
  if (!DM_FAULT("gradients.unsummed")) kernels::all_reduce(parts, *tensor_);
  for (const Block& block : blocks_) {
    if (DM_FAULT("gradients.lambda") && block.name.find("lambda_") != std::string::npos) continue;
    place(block).copy_(parts.narrow(0, block.slot, block.count));
  }
}

}  // namespace dm::model
