// The tensor boundary of the scan: checks, strides, autograd. The work is in ssd_cpu.h.

#include "kernels/ssd/ssd.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/comm/context_axis.h"
#include "kernels/comm/kept_group.h"
#include "kernels/shares.h"
#include "kernels/ssd/ssd_cpu.h"
#include "kernels/ssd/ssd_scan_cuda.h"
#include "kernels/ssd/ssd_step_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The inputs as tensors of one call, dense where the kernels want it, and their extents.
struct Problem {
  at::Tensor x, dt, a, b, c, d, seq_idx;
  at::Tensor initial_state;  // undefined: zero
  at::Tensor enters;         // [B] bool: whether it enters the row
  int64_t batch() const { return x.size(0); }
  int64_t length() const { return x.size(1); }
  int64_t heads() const { return x.size(2); }
  int64_t head_dim() const { return x.size(3); }
  int64_t groups() const { return b.size(2); }
  int64_t d_state() const { return b.size(3); }
  int64_t slot_size() const { return ssd_slot_size(head_dim(), d_state()); }
  SsdPieces cut(int64_t longest) const {
    return cut_rows(seq_idx.const_data_ptr<int32_t>(), batch(), length(), longest,
                    initial_state.defined() ? enters.const_data_ptr<bool>() : nullptr);
  }
};

template <class T, class Tensor>
TokenArray<T> token_array(Tensor&& t, T* data) {
  return {data, t.stride(0), t.stride(1), t.stride(2)};
}
template <class T>
TokenArray<const T> read(const at::Tensor& t) {
  return token_array<const T>(t, t.const_data_ptr<T>());
}
template <class T>
TokenArray<T> written(at::Tensor& t) {
  return token_array<T>(t, t.data_ptr<T>());
}

template <class T>
SsdInput<T> input(const Problem& p, const SsdPieces& cut, const at::Tensor& states) {
  return {p.batch(),
          p.heads(),
          p.head_dim(),
          p.groups(),
          p.d_state(),
          cut.pieces.data(),
          cut.rows.data(),
          read<T>(p.x),
          read<T>(p.dt),
          read<T>(p.b),
          read<T>(p.c),
          p.a.const_data_ptr<T>(),
          p.d.const_data_ptr<T>(),
          p.initial_state.defined() ? p.initial_state.const_data_ptr<T>() : nullptr,
          states.mutable_data_ptr<T>()};
}

at::Tensor new_states(const Problem& p, const SsdPieces& cut) {
  return at::empty({cut.slots, p.heads(), p.slot_size()}, p.x.options());
}

struct Forward {
  ScanOutput out;
  at::Tensor states;  // [slots, H, padded N * padded P]
};

Forward forward(const Problem& p, const SsdPieces& cut) {
  Forward result{{at::empty({p.batch(), p.length(), p.heads(), p.head_dim()}, p.x.options()),
                  at::empty({p.batch(), p.heads(), p.head_dim(), p.d_state()}, p.x.options())},
                 new_states(p, cut)};
  AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "ssd", [&] {
    ssd_forward<scalar_t>(input<scalar_t>(p, cut, result.states),
                          {written<scalar_t>(result.out.y), result.out.final_state.data_ptr<scalar_t>()});
  });
  return result;
}

/// Where the rows go on from others: what this rank's piece does to a state, and whether it does.
struct Cut {
  Collectives* group;
  at::Tensor passed;  // [B] bool

  Passage passage(const Problem& p) const {
    Passage piece({p.batch(), p.heads(), p.head_dim(), p.d_state()}, {p.batch(), p.heads(), 1, 1},
                  p.x.options());
    const at::Tensor decay = (p.dt.sum(1) * p.a).exp();  // [B, H]
    const at::Tensor through = at::where(passed.unsqueeze(1), decay, at::zeros({}, decay.options()));
    piece.decay.copy_(through.view(piece.decay.sizes()));
    return piece;
  }

  /// What enters it, p.initial_state being what enters the row.
  at::Tensor entering(const Problem& p, const SsdPieces& pieces) const {
    const Passage piece = passage(p);
    at::Tensor state = piece.state;
    if (group->rank() + 1 < group->size())
      AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "ssd", [&] {
        ssd_final_state<scalar_t>(input<scalar_t>(p, pieces, new_states(p, pieces)),
                                  {{}, state.data_ptr<scalar_t>()});
      });
    const at::Tensor found = state_entering(piece, *group);
    return found.defined() ? found : p.initial_state;
  }
};

/// The pieces' shares [pieces, H] added in order.
at::Tensor summed(const at::Tensor& shares, const at::TensorOptions& options) {
  at::Tensor sum = at::empty({shares.size(1)}, options);
  AT_DISPATCH_FLOATING_TYPES(sum.scalar_type(), "ssd", [&] {
    sum_shares(shares.const_data_ptr<double>(), shares.size(0), shares.size(1), sum.data_ptr<scalar_t>());
  });
  return sum;
}

class Scan : public torch::autograd::Function<Scan> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dt,
                               const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                               const at::Tensor& d, const Documents& documents,
                               const std::optional<at::Tensor>& initial_state, int64_t longest) {
    Problem p{dense_rows(x),
              dt,
              a.contiguous(),
              dense_rows(b),
              dense_rows(c),
              d.contiguous(),
              documents.seq_idx.contiguous(),
              initial_state ? initial_state->contiguous() : at::Tensor(),
              documents.before.defined() ? documents.continues()
                                         : at::ones({x.size(0)}, x.options().dtype(at::kBool))};
    at::Tensor passed;
    if (documents.context) {
      passed = documents.passed();
      p.initial_state = Cut{documents.context, passed}.entering(p, p.cut(longest));
      keep_group(*context, *documents.context);
    }
    Forward result = kernels::forward(p, p.cut(longest));
    context->save_for_backward(
        {p.x, p.dt, p.a, p.b, p.c, p.d, p.seq_idx, p.initial_state, p.enters, passed, result.states});
    context->saved_data["longest"] = longest;
    context->saved_data["wanted"] = initial_state.has_value();
    context->set_materialize_grads(false);
    return {result.out.y, result.out.final_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7], saved[8]};
    const at::Tensor &passed = saved[9], &states = saved[10];
    const SsdPieces cut = p.cut(context->saved_data["longest"].toInt());
    const auto pieces = static_cast<int64_t>(cut.pieces.size());
    const at::Tensor dy =
        grads[0].defined() ? dense_rows(grads[0]) : at::zeros_like(p.x, at::MemoryFormat::Contiguous);
    at::Tensor dfinal = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const auto like = [](const at::Tensor& t) { return at::empty(t.sizes(), t.options()); };
    at::Tensor dx = like(p.x), ddt = like(p.dt), db = like(p.b), dc = like(p.c);
    at::Tensor da = at::empty({pieces, p.heads()}, p.x.options().dtype(at::kDouble)), dd = like(da);
    at::Tensor dinitial = p.initial_state.defined() ? like(p.initial_state) : at::Tensor();
    at::Tensor dstates = at::empty({cut.slots + p.batch(), p.heads(), p.slot_size()}, p.x.options());
    AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "ssd", [&] {
      const SsdInput<scalar_t> in = input<scalar_t>(p, cut, states);
      const auto pointer = [](const at::Tensor& t) { return t.defined() ? t.data_ptr<scalar_t>() : nullptr; };
      const auto outputs = [&] { return SsdOutputGradient<scalar_t>{read<scalar_t>(dy), pointer(dfinal)}; };
      SsdInputGradient<scalar_t> din{
          written<scalar_t>(dx), written<scalar_t>(ddt),       written<scalar_t>(db),
          written<scalar_t>(dc), da.data_ptr<double>(),        dd.data_ptr<double>(),
          pointer(dinitial),     dstates.data_ptr<scalar_t>(), cut.slots};
      if (passed.defined()) {
        Collectives& group = kept_group(*context);
        const Passage piece = Cut{&group, passed}.passage(p);
        if (group.rank() > 0) {
          din.initial_state = pointer(piece.state);
          ssd_initial_gradient(in, outputs(), din);
          din.initial_state = pointer(dinitial);
        }
        const at::Tensor leaving = gradient_leaving(piece, group);
        if (leaving.defined()) dfinal = dfinal.defined() ? dfinal + leaving : leaving;
      }
      ssd_backward(in, outputs(), din);
    });
    if (!context->saved_data["wanted"].toBool()) dinitial = at::Tensor();
    return {dx,       ddt,         summed(da, p.a.options()), db, dc, summed(dd, p.d.options()), at::Tensor(),
            dinitial, at::Tensor()};
  }
};

void check(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
           const at::Tensor& c, const at::Tensor& d, const Documents& documents,
           const std::optional<at::Tensor>& initial_state, int64_t chunk) {
  DM_CHECK_FLOATING("ssd", x);
  const at::ScalarType dtype = x.scalar_type();
  DM_CHECK_SHAPE("ssd", x, dtype, -1, -1, -1, -1);
  DM_CHECK_SHAPE("ssd", b, dtype, x.size(0), x.size(1), -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), heads = x.size(2), groups = b.size(2),
                d_state = b.size(3);
  DM_CHECK(length >= 1, "ssd: x is {}: there must be a token", describe(x));
  DM_CHECK(groups >= 1 && heads % groups == 0, "ssd: x is {} and b {}: the groups must divide the heads",
           describe(x), describe(b));
  DM_CHECK(chunk >= 1, "ssd: chunk is {}, expected at least 1", chunk);
  const at::ScalarType parameters = parameter_dtype(x);
  DM_CHECK_SHAPE("ssd", dt, parameters, batch, length, heads);
  DM_CHECK_SHAPE("ssd", a, parameters, heads);
  DM_CHECK_SHAPE("ssd", c, dtype, batch, length, groups, d_state);
  DM_CHECK_SHAPE("ssd", d, parameters, heads);
  const at::Tensor &seq_idx = documents.seq_idx, &before = documents.before;
  DM_CHECK_SHAPE("ssd", seq_idx, at::kInt, batch, length);
  if (before.defined()) DM_CHECK_SHAPE("ssd", before, at::kInt, batch, -1);
  DM_CHECK(!initial_state || !documents.context || documents.context->rank() == 0,
           "ssd: a state enters a row on the first rank of its pieces, not on rank {}",
           documents.context->rank());
  if (initial_state) DM_CHECK_SHAPE("ssd", *initial_state, parameters, batch, heads, x.size(3), d_state);
}

}  // namespace

ScanOutput ssd(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
               const at::Tensor& c, const at::Tensor& d, const Documents& documents,
               const std::optional<at::Tensor>& initial_state, int64_t chunk) {
  check(x, dt, a, b, c, d, documents, initial_state, chunk);
  if (x.is_cuda()) return ssd_scan_cuda(x, dt, a, b, c, d, documents, initial_state);
  const variable_list out =
      Scan::apply(x, dt, a, b, c, d, documents, initial_state, std::min(chunk, kSsdLongestPiece));
  return {out[0], out[1]};
}

at::Tensor ssd_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                    const at::Tensor& c, const at::Tensor& d, at::Tensor& state) {
  DM_CHECK_FLOATING("ssd_step", x);
  // On a GPU the parameters and the state are float32, and so may dt be.
  const at::ScalarType dtype = x.scalar_type(), parameters = x.is_cuda() ? at::kFloat : dtype;
  const bool single_dt = x.is_cuda() && dt.defined() && dt.scalar_type() == at::kFloat;
  DM_CHECK_SHAPE("ssd_step", x, dtype, -1, -1, -1);
  const int64_t batch = x.size(0), heads = x.size(1), head_dim = x.size(2);
  DM_CHECK_SHAPE("ssd_step", b, dtype, batch, -1, -1);
  const int64_t groups = b.size(1), d_state = b.size(2);
  DM_CHECK(groups >= 1 && heads % groups == 0, "ssd_step: x is {} and b {}: the groups must divide the heads",
           describe(x), describe(b));
  DM_CHECK_SHAPE("ssd_step", dt, single_dt ? at::kFloat : dtype, batch, heads);
  DM_CHECK_SHAPE("ssd_step", a, parameters, heads);
  DM_CHECK_SHAPE("ssd_step", c, dtype, batch, groups, d_state);
  DM_CHECK_SHAPE("ssd_step", d, parameters, heads);
  DM_CHECK_SHAPE("ssd_step", state, parameters, batch, heads, head_dim, d_state);
  DM_CHECK(state.is_contiguous(), "ssd_step: state is not contiguous; it is updated in place");
  const at::NoGradGuard no_grad;
  if (x.is_cuda()) return ssd_step_cuda(x, dt, a, b, c, d, state);
  const at::Tensor dense_x = x.contiguous(), dense_dt = dt.contiguous(), dense_a = a.contiguous(),
                   dense_b = b.contiguous(), dense_c = c.contiguous(), dense_d = d.contiguous();
  at::Tensor y = at::empty({batch, heads, head_dim}, x.options());
  AT_DISPATCH_FLOATING_TYPES(dtype, "ssd_step", [&] {
    using T = scalar_t;
    const T *xs = dense_x.const_data_ptr<T>(), *dts = dense_dt.const_data_ptr<T>(),
            *as = dense_a.const_data_ptr<T>(), *bs = dense_b.const_data_ptr<T>(),
            *cs = dense_c.const_data_ptr<T>(), *ds = dense_d.const_data_ptr<T>();
    T *states = state.data_ptr<T>(), *ys = y.data_ptr<T>();
    parallel_for(batch * heads, [&](int64_t i) {
      const int64_t head = i % heads, group = i / heads * groups + head / (heads / groups);
      ssd_step_head<T>(states + i * head_dim * d_state, xs + i * head_dim, dts[i], as[head],
                       bs + group * d_state, cs + group * d_state, ds[head], ys + i * head_dim, head_dim,
                       d_state);
    });
  });
  return y;
}

}  // namespace dm::kernels
