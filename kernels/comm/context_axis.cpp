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

/// 0 where the decay is, also of NaN: nothing passes the border of a document.
at::Tensor times(const at::Tensor& decay, const at::Tensor& state) {
  return at::where(decay.eq(0), at::zeros({}, state.options()), decay * state);
}

/// Exclusive composition along the line of the maps of all pieces, applied to zero; undefined where it
/// begins.
at::Tensor composed(const Passage& piece, const Line& line) {
  const int64_t at = line.position(), size = line.size();
  const auto empty = [&] {
    return Passage(piece.state.sizes(), piece.decay.sizes(), piece.message.options());
  };
  // First everyone gets the map before its own; then each takes in what stands 1, 2, 4, .. before it.
  Passage before = empty();
  {
    const std::unique_ptr<Pending> sent = at + 1 < size ? line.send(piece.message, at + 1) : nullptr;
    if (at > 0) line.receive(before.message, at - 1);
    if (sent) sent->wait();
  }
  for (int64_t distance = 1; distance < size - 1; distance *= 2) {
    const bool sends = at >= 1 && at + distance < size, receives = at - distance >= 1;
    const Passage further = empty();
    const std::unique_ptr<Pending> sent = sends ? line.send(before.message, at + distance) : nullptr;
    if (receives) line.receive(further.message, at - distance);
    if (sent) sent->wait();
    if (!receives) continue;
    before.state.add_(times(before.decay, further.state));
    before.decay.copy_(times(before.decay, further.decay));
  }
  return at > 0 ? before.state : at::Tensor();
}

at::Tensor or_zero(const at::Tensor& values, const at::Tensor& like) {
  return values.defined() ? values : at::zeros_like(like);
}

class TokensBefore : public torch::autograd::Function<TokensBefore> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t count, Collectives* group,
                            const at::Tensor* before_the_row) {
    keep_group(*context, *group);
    context->saved_data["length"] = x.size(1);
    const at::Tensor window = window_before(x, count, *group, *before_the_row);
    if (!window.defined()) return at::zeros({x.size(0), count, x.size(2)}, x.options());
    // What is returned becomes part of the graph, which the caller's tensor must not.
    return window.is_same(*before_the_row) ? window.clone() : window;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const int64_t length = context->saved_data["length"].toInt();
    const at::Tensor dx = at::zeros({grads[0].size(0), length, grads[0].size(2)}, grads[0].options());
    const at::Tensor tail = window_gradient(grads[0], length, kept_group(*context));
    if (tail.defined()) dx.narrow(1, length - tail.size(1), tail.size(1)).copy_(tail);
    return {dx, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

class StateBefore : public torch::autograd::Function<StateBefore> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& state, const at::Tensor& decay,
                            Collectives* group) {
    keep_group(*context, *group);
    const at::Tensor entering = or_zero(state_entering(passage(state, decay), *group), state);
    context->save_for_backward({decay, entering});
    return entering;
  }

  /// With g the gradient of what enters a piece, that of what leaves rank r is g_{r+1} + decay_{r+1} times
  /// that of what leaves rank r + 1: the same composition from the other end.
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &decay = saved[0], &entering = saved[1];
    const at::Tensor leaving =
        or_zero(gradient_leaving(passage(grads[0], decay), kept_group(*context)), grads[0]);
    return {leaving, (leaving * entering).sum_to_size(decay.sizes()), at::Tensor()};
  }

 private:
  static Passage passage(const at::Tensor& state, const at::Tensor& decay) {
    const Passage piece(state.sizes(), decay.sizes(), state.options());
    piece.state.copy_(state);
    piece.decay.copy_(decay);
    return piece;
  }
};

}  // namespace

at::Tensor window_before(const at::Tensor& x, int64_t count, Collectives& group,
                         const at::Tensor& before_the_row) {
  DM_CHECK(x.dim() == 3 && x.size(1) >= 1 && count >= 1, "window_before: {} before {}", count, describe(x));
  const Line line{group, false};
  const int64_t kept = std::min(count, x.size(1)), at = line.position();
  const bool first = at == 0, last = at + 1 == line.size(), whole = kept == count;
  at::Tensor before = before_the_row;
  if (!first) before = at::empty({x.size(0), count, x.size(2)}, x.options());
  if (first && !last && !whole && !before.defined())
    before = at::zeros({x.size(0), count, x.size(2)}, x.options());
  at::Tensor handed;
  if (!last) handed = x.narrow(1, x.size(1) - kept, kept).contiguous();
  std::unique_ptr<Pending> sent;
  if (!last && whole) sent = line.send(handed, at + 1);
  if (!first) line.receive(before, at - 1);
  if (!last && !whole) {  // what of the window goes on with a short piece
    handed = at::cat({before.narrow(1, kept, count - kept), handed}, 1);
    sent = line.send(handed, at + 1);
  }
  if (sent) sent->wait();
  return before;
}

at::Tensor window_gradient(const at::Tensor& dwindow, int64_t length, Collectives& group) {
  const Line line{group, true};
  const int64_t count = dwindow.size(1), kept = std::min(count, length), at = line.position();
  const bool first = at == 0, last = at + 1 == line.size(), whole = kept == count;
  at::Tensor handed = last ? at::Tensor() : dwindow.contiguous(), after;
  if (!first) after = at::empty(dwindow.sizes(), dwindow.options());
  std::unique_ptr<Pending> sent;
  if (!last && whole) sent = line.send(handed, at + 1);
  if (!first) line.receive(after, at - 1);
  if (!last && !whole) {
    handed = handed.clone();
    if (!first) handed.narrow(1, kept, count - kept).add_(after.narrow(1, 0, count - kept));
    sent = line.send(handed, at + 1);
  }
  if (sent) sent->wait();
  return first ? after : after.narrow(1, count - kept, kept);
}

Passage::Passage(at::IntArrayRef state_sizes, at::IntArrayRef decay_sizes, const at::TensorOptions& options) {
  const int64_t states = c10::multiply_integers(state_sizes), decays = c10::multiply_integers(decay_sizes);
  message = at::empty({states + decays}, options);
  state = message.narrow(0, 0, states).view(state_sizes);
  decay = message.narrow(0, states, decays).view(decay_sizes);
}

at::Tensor state_entering(const Passage& piece, Collectives& group) {
  const at::Tensor entering = composed(piece, {group, false});
  return DM_FAULT("context.state") && entering.defined() ? at::zeros_like(entering) : entering;
}

at::Tensor gradient_leaving(const Passage& piece, Collectives& group) {
  return composed(piece, {group, true});
}

at::Tensor tokens_before(const at::Tensor& x, int64_t count, Collectives& group,
                         const at::Tensor& before_the_row) {
  const at::Tensor before = TokensBefore::apply(x, count, &group, &before_the_row);
  return DM_FAULT("context.halo") ? before.roll(1, 1) : before;
}

at::Tensor state_before(const at::Tensor& state, const at::Tensor& decay, Collectives& group) {
  return StateBefore::apply(state, decay, &group);
}

int64_t context_messages(int64_t ranks, int64_t rank) {
  int64_t count = rank + 1 < ranks ? 1 : 0;
  for (int64_t distance = 1; distance < ranks - 1; distance *= 2)
    count += rank >= 1 && rank + distance < ranks ? 1 : 0;
  return count;
}

Documents::Documents(at::Tensor piece, Collectives& group, int64_t tokens, const at::Tensor& before_the_row)
    : seq_idx(std::move(piece)), context(&group) {
  const int64_t count = std::max<int64_t>(tokens, 1);
  at::Tensor first = before_the_row;
  if (!first.defined()) first = seq_idx.narrow(1, 0, 1).bitwise_not().expand({-1, count});
  before = window_before(seq_idx.unsqueeze(2), count, group, first.contiguous().unsqueeze(2)).squeeze(2);
}

at::Tensor Documents::of_the_last(const at::Tensor& tokens) const {
  const int64_t count = tokens.size(1);
  const at::Tensor all = at::cat({before, seq_idx}, 1), numbers = all.narrow(1, all.size(1) - count, count);
  const at::Tensor own = numbers.eq(seq_idx.narrow(1, seq_idx.size(1) - 1, 1)).unsqueeze(2);
  return at::where(own, tokens, at::zeros({}, tokens.options()));
}

at::Tensor Documents::continues() const { return before.select(1, -1).eq(seq_idx.select(1, 0)); }

at::Tensor Documents::passed() const {
  // Documents stand together: what ends the piece with its first token's number has taken all of it.
  return continues().logical_and(seq_idx.select(1, 0).eq(seq_idx.select(1, -1)));
}

}  // namespace dm::kernels
