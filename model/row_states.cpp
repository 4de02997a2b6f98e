#include "model/row_states.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/comm/transport.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

/// The tensors of a layer's state in one list, the window first.
std::vector<at::Tensor> listed(const kernels::RowState& state) {
  std::vector<at::Tensor> all = state.states;
  if (state.window.defined()) all.insert(all.begin(), state.window);
  return all;
}

kernels::RowState copy_of_shape(const kernels::RowState& state, int64_t rows) {
  const auto some = [&](const at::Tensor& t) { return at::empty_like(t.narrow(0, 0, rows)); };
  kernels::RowState copy;
  if (state.window.defined()) copy.window = some(state.window);
  for (const at::Tensor& t : state.states) copy.states.push_back(some(t));
  return copy;
}

}  // namespace

RowStates::RowStates(const LanguageModel& model, int64_t rows)
    : placement_(model.placement()), dtype_(model.parameters().begin()->second.scalar_type()) {
  const at::NoGradGuard no_gradients;
  for (int64_t i = 0; i < model.layers(); ++i)
    states_.push_back(model.kind(i).bind(model.layer(i))->new_state(rows, model.activations()));
  declared_.resize(states_.size());
  for (LocalParameter& tensor : local_parts(declared_carried(model.config(), placement_.tp), placement_))
    declared_[static_cast<size_t>(tensor.info.depth)].push_back(std::move(tensor));
}

void RowStates::reset() {
  for (const kernels::RowState& layer : states_)
    for (const at::Tensor& t : listed(layer)) t.zero_();
}

void RowStates::enter(int64_t first, const at::Tensor& goes_on,
                      std::vector<kernels::Carried>& carried) const {
  const at::NoGradGuard no_gradients;
  const int64_t count = goes_on.size(0);
  if (carried.empty())
    for (const kernels::RowState& layer : states_)
      carried.push_back({copy_of_shape(layer, count), {{}, std::vector<at::Tensor>(layer.states.size())}});
  DM_CHECK(carried.size() == states_.size(), "states of {} layers for {}", carried.size(), states_.size());
  // One kernel a tensor on a GPU, which stands still meanwhile.
  std::map<at::ScalarType, at::Tensor> zeros;
  for (size_t i = 0; i < states_.size(); ++i) {
    const std::vector<at::Tensor> from = listed(states_[i]), to = listed(carried[i].before);
    for (size_t k = 0; k < from.size(); ++k) {
      const at::Tensor rows = from[k].narrow(0, first, count);
      at::Tensor& zero = zeros[rows.scalar_type()];
      if (!zero.defined()) zero = at::zeros({}, rows.options());
      std::vector<int64_t> by_row(static_cast<size_t>(rows.dim()), 1);
      by_row[0] = count;
      at::Tensor begun = to[k];
      at::where_out(begun, goes_on.view(by_row), rows, zero);
    }
  }
}

void RowStates::leave(int64_t first, int64_t count, const std::vector<kernels::Carried>& carried) {
  const at::NoGradGuard no_gradients;
  if (placement_.cp == 1) {
    for (size_t i = 0; i < states_.size(); ++i) {
      const std::vector<at::Tensor> from = listed(carried[i].after), to = listed(states_[i]);
      for (size_t k = 0; k < from.size(); ++k) to[k].narrow(0, first, count).copy_(from[k]);
    }
    return;
  }
  const int64_t last = placement_.cp - 1;
  const bool has = placement_.cp_rank == last, keeps = placement_.cp_rank == 0;
  if (!has && !keeps) return;
  std::vector<kernels::RowState> after;
  for (const kernels::Carried& layer : carried) after.push_back(layer.after);
  const std::vector<Tensor> left = has ? tensors_of(after) : std::vector<Tensor>(), mine = tensors();
  for (size_t i = 0; i < mine.size(); ++i) {
    const at::Tensor rows = mine[i].values.narrow(0, first, count);
    const at::TensorOptions options = rows.options().dtype(dtype_);
    const at::Tensor message =
        has ? left[i].values.to(dtype_).contiguous() : at::empty(rows.sizes(), options);
    const DType dtype = kernels::comm_dtype(message);
    if (has) {
      placement_.context->send(message.const_data_ptr(), message.numel(), dtype, 0)->wait();
    } else {
      placement_.context->receive(message.data_ptr(), message.numel(), dtype, last)->wait();
      if (!DM_FAULT("context.rows")) rows.copy_(message);
    }
  }
}

std::vector<RowStates::Tensor> RowStates::tensors_of(const std::vector<kernels::RowState>& layers) const {
  std::vector<Tensor> all;
  for (size_t i = 0; i < layers.size(); ++i) {
    const kernels::RowState& layer = layers[i];
    const std::vector<LocalParameter>& declared = declared_[i];
    if (declared.empty()) continue;  // a layer that looks at one token at a time
    const bool window = states_[i].window.size(1) > 0;
    const int64_t branches = static_cast<int64_t>(declared.size()) / (window ? 2 : 1);
    auto next = declared.begin();
    for (int64_t b = 0; b < branches; ++b) {
      if (window) all.push_back({*next++, layer.window.chunk(branches, 2)[b].transpose(1, 2)});
      const bool together = layer.states.size() == 1;
      all.push_back(
          {*next++, together ? layer.states[0].chunk(branches, 1)[b] : layer.states[static_cast<size_t>(b)]});
    }
  }
  return all;
}

RowSize row_size(const ModelConfig& config, const Placement& placement, int64_t activation_bytes) {
  constexpr int64_t kStateBytes = 4;
  RowSize size;
  for (const LocalParameter& tensor : local_parts(declared_carried(config, placement.tp), placement)) {
    const std::string& name = tensor.info.name;
    const bool window = name.compare(name.rfind('.') + 1, 4, "conv") == 0;
    size.bytes += tensor.count() * (window ? activation_bytes : kStateBytes);
    if (placement.cp_rank > 0) continue;  // the first context rank has the rows' beginnings
    for (const ParameterPiece& piece : tensor.pieces)
      if (piece.counted) size.stored += piece.count();
  }
  return size;
}

std::vector<Exchange> exchanges_of_rows(const ModelConfig& config, const Placement& p, int64_t rows) {
  std::vector<Exchange> all;
  if (p.cp == 1 || p.cp_rank + 1 < p.cp) return all;
  for (const LocalParameter& tensor : local_parts(declared_carried(config, p.tp), p))
    all.push_back(
        {Exchange::Axis::context, Operation::send, Exchange::Element::weight, rows * tensor.count()});
  return all;
}

}  // namespace dm::model
