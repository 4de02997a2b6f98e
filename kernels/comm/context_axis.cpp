#include "kernels/comm/context_axis.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/check.h"
#include "kernels/comm/documents.h"
#include "kernels/comm/kept_group.h"
#include "kernels/comm/transport.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The neighbours in the order of the tokens, or against it, as a backward pass goes.
struct Line {
  Collectives& group;
  bool reversed;
  int64_t size() const { return group.size(); }
  int64_t position() const { return reversed ? size() - 1 - group.rank() : group.rank(); }
  int64_t rank_at(int64_t position) const { return reversed ? size() - 1 - position : position; }

  /// The tensor outlives the Pending.
  std::unique_ptr<Pending> send(const at::Tensor& values, int64_t position) const {
    return group.send(values.const_data_ptr(), values.numel(), comm_dtype(values), rank_at(position));
  }
  void receive(const at::Tensor& values, int64_t position) const {
    group.receive(values.data_ptr(), values.numel(), comm_dtype(values), rank_at(position))->wait();
  }
};

/// The window before the piece, from the rank before.
at::Tensor window(const at::Tensor& x, int64_t count, Collectives& group) {
  const Line line{group, false};
  const int64_t kept = std::min(count, x.size(1)), at = line.position();
  const bool first = at == 0, last = at + 1 == line.size();
  const at::Tensor tail = x.narrow(1, x.size(1) - kept, kept).contiguous();
  at::Tensor before = at::zeros({x.size(0), count, x.size(2)}, x.options());
  std::unique_ptr<Pending> sent;
  if (!last && kept == count) sent = line.send(tail, at + 1);
  if (!first) line.receive(before, at - 1);
  at::Tensor handed;  // what of the window goes on with a short piece
  if (!last && kept < count) {
    handed = at::cat({before.narrow(1, kept, count - kept), tail}, 1);
    sent = line.send(handed, at + 1);
  }
  if (sent) sent->wait();
  return before;
}

/// From the window's gradient that of x's last tokens, [B, min(count, L), C].
at::Tensor window_backward(const at::Tensor& dbefore, int64_t length, Collectives& group) {
  const Line line{group, true};
  const int64_t count = dbefore.size(1), kept = std::min(count, length), at = line.position();
  const bool first = at == 0, last = at + 1 == line.size();
  at::Tensor total = dbefore.contiguous(), after = at::zeros_like(total);
  std::unique_ptr<Pending> sent;
  if (!last && kept == count) sent = line.send(total, at + 1);
  if (!first) line.receive(after, at - 1);
  if (!last && kept < count) {
    total = total.clone();
    total.narrow(1, kept, count - kept).add_(after.narrow(1, 0, count - kept));
    sent = line.send(total, at + 1);
  }
  if (sent) sent->wait();
  return after.narrow(1, count - kept, kept);
}

class TokensBefore : public torch::autograd::Function<TokensBefore> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t count,
                            Collectives* group) {
    keep_group(*context, *group);
    context->saved_data["shape"] = x.sizes();
    return window(x, count, *group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const at::Tensor dx = at::zeros(context->saved_data["shape"].toIntVector(), grads[0].options());
    const at::Tensor tail = window_backward(grads[0], dx.size(1), kept_group(*context));
    dx.narrow(1, dx.size(1) - tail.size(1), tail.size(1)).copy_(tail);
    return {dx, at::Tensor(), at::Tensor()};
  }
};

/// 0 where the decay is, also of NaN: nothing passes the border of a document.
at::Tensor times(const at::Tensor& decay, const at::Tensor& state) {
  return at::where(decay.eq(0), at::zeros({}, state.options()), decay * state);
}

/// Exclusive composition along the line of the maps S -> decay S + state, applied to zero.
at::Tensor composed(const at::Tensor& state, const at::Tensor& decay, const Line& line) {
  const int64_t at = line.position(), size = line.size(), states = state.numel(), decays = decay.numel();
  const at::Tensor mine = at::empty({states + decays}, state.options()), other = at::empty_like(mine);
  const auto state_of = [&](const at::Tensor& both) { return both.narrow(0, 0, states).view(state.sizes()); };
  const auto decay_of = [&](const at::Tensor& both) {
    return both.narrow(0, states, decays).view(decay.sizes());
  };
  state_of(mine).copy_(state);
  decay_of(mine).copy_(decay);
  // First everyone gets the map before its own; then each takes in what stands 1, 2, 4, .. before it.
  {
    const std::unique_ptr<Pending> sent = at + 1 < size ? line.send(mine, at + 1) : nullptr;
    if (at > 0) line.receive(other, at - 1);
    if (sent) sent->wait();
    at > 0 ? mine.copy_(other) : mine.zero_();
  }
  for (int64_t distance = 1; distance < size - 1; distance *= 2) {
    const bool sends = at >= 1 && at + distance < size, receives = at - distance >= 1;
    const std::unique_ptr<Pending> sent = sends ? line.send(mine, at + distance) : nullptr;
    if (receives) line.receive(other, at - distance);
    if (sent) sent->wait();
    if (!receives) continue;
    state_of(mine).add_(times(decay_of(mine), state_of(other)));
    decay_of(mine).copy_(times(decay_of(mine), decay_of(other)));
  }
  return state_of(mine);
}

class StateBefore : public torch::autograd::Function<StateBefore> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& state, const at::Tensor& decay,
                            Collectives* group) {
    keep_group(*context, *group);
    const at::Tensor entering = composed(state, decay, {*group, false});
    context->save_for_backward({decay, entering});
    return entering;
  }

  /// With g the gradient of what enters a piece, that of what leaves rank r is g_{r+1} + decay_{r+1} times
  /// that of what leaves rank r + 1: the same composition from the other end.
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &decay = saved[0], &entering = saved[1];
    const at::Tensor leaving = composed(grads[0], decay, {kept_group(*context), true});
    return {leaving, (leaving * entering).sum_to_size(decay.sizes()), at::Tensor()};
  }
};

}  // namespace

at::Tensor tokens_before(const at::Tensor& x, int64_t count, Collectives& group) {
  DM_CHECK(x.dim() == 3 && x.size(1) >= 1 && count >= 1, "tokens_before: {} before {}", count, describe(x));
  const at::Tensor before = TokensBefore::apply(x, count, &group);
  return DM_FAULT("context.halo") ? before.roll(1, 1) : before;
}

at::Tensor state_before(const at::Tensor& state, const at::Tensor& decay, Collectives& group) {
  const at::Tensor entering = StateBefore::apply(state, decay, &group);
  return DM_FAULT("context.state") ? at::zeros_like(entering) : entering;
}

int64_t context_messages(int64_t ranks, int64_t rank) {
  int64_t count = rank + 1 < ranks ? 1 : 0;
  for (int64_t distance = 1; distance < ranks - 1; distance *= 2)
    count += rank >= 1 && rank + distance < ranks ? 1 : 0;
  return count;
}

Documents::Documents(at::Tensor piece, Collectives& group, int64_t tokens)
    : seq_idx(std::move(piece)),
      context(&group),
      before(window(seq_idx.unsqueeze(2), std::max<int64_t>(tokens, 1), group).squeeze(2)) {}

at::Tensor Documents::continues() const {
  const at::Tensor same = before.select(1, -1).eq(seq_idx.select(1, 0));
  return context->rank() > 0 ? same : at::zeros_like(same);
}

at::Tensor Documents::continued() const {
  return seq_idx.eq(seq_idx.narrow(1, 0, 1)).logical_and(continues().unsqueeze(1));
}

at::Tensor Documents::passed() const { return continued().select(1, -1); }

}  // namespace dm::kernels
