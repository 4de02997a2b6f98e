// The tensor boundary of the scan: checks, strides, autograd. The work is in ssd_cpu.h.

#include "kernels/ssd/ssd.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
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
  std::optional<at::Tensor> initial_state;
  int64_t batch() const { return x.size(0); }
  int64_t length() const { return x.size(1); }
  int64_t heads() const { return x.size(2); }
  int64_t head_dim() const { return x.size(3); }
  int64_t groups() const { return b.size(2); }
  int64_t d_state() const { return b.size(3); }
  int64_t slot_size() const { return ssd_slot_size(head_dim(), d_state()); }
  SsdPieces cut(int64_t longest) const {
    return cut_rows(seq_idx.const_data_ptr<int32_t>(), batch(), length(), longest, initial_state.has_value());
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
          p.initial_state ? p.initial_state->const_data_ptr<T>() : nullptr,
          states.mutable_data_ptr<T>()};
}

struct Forward {
  ScanOutput out;
  at::Tensor states;  // [slots, H, padded N * padded P]
};

Forward forward(const Problem& p, const SsdPieces& cut) {
  Forward result{{at::empty({p.batch(), p.length(), p.heads(), p.head_dim()}, p.x.options()),
                  at::empty({p.batch(), p.heads(), p.head_dim(), p.d_state()}, p.x.options())},
                 at::empty({cut.slots, p.heads(), p.slot_size()}, p.x.options())};
  AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "ssd", [&] {
    ssd_forward<scalar_t>(input<scalar_t>(p, cut, result.states),
                          {written<scalar_t>(result.out.y), result.out.final_state.data_ptr<scalar_t>()});
  });
  return result;
}

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
                               const at::Tensor& d, const at::Tensor& seq_idx,
                               const std::optional<at::Tensor>& initial_state, int64_t longest) {
    Problem p{dense_rows(x),        dt, a.contiguous(), dense_rows(b), dense_rows(c), d.contiguous(),
              seq_idx.contiguous(), {}};
    if (initial_state) p.initial_state = initial_state->contiguous();
    Forward result = kernels::forward(p, p.cut(longest));
    context->save_for_backward(
        {p.x, p.dt, p.a, p.b, p.c, p.d, p.seq_idx, p.initial_state.value_or(at::Tensor()), result.states});
    context->saved_data["longest"] = longest;
    context->set_materialize_grads(false);
    return {result.out.y, result.out.final_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    Problem p{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], {}};
    if (saved[7].defined()) p.initial_state = saved[7];
    const at::Tensor& states = saved[8];
    const SsdPieces cut = p.cut(context->saved_data["longest"].toInt());
    const auto pieces = static_cast<int64_t>(cut.pieces.size());
    const at::Tensor dy =
        grads[0].defined() ? dense_rows(grads[0]) : at::zeros_like(p.x, at::MemoryFormat::Contiguous);
    const at::Tensor dfinal = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const auto like = [](const at::Tensor& t) { return at::empty(t.sizes(), t.options()); };
    at::Tensor dx = like(p.x), ddt = like(p.dt), db = like(p.b), dc = like(p.c);
    at::Tensor da = at::empty({pieces, p.heads()}, p.x.options().dtype(at::kDouble)), dd = like(da);
    at::Tensor dinitial = p.initial_state ? like(*p.initial_state) : at::Tensor();
    at::Tensor dstates = at::empty({cut.slots + p.batch(), p.heads(), p.slot_size()}, p.x.options());
    AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "ssd", [&] {
      ssd_backward<scalar_t>(
          input<scalar_t>(p, cut, states),
          {read<scalar_t>(dy), dfinal.defined() ? dfinal.const_data_ptr<scalar_t>() : nullptr},
          {written<scalar_t>(dx), written<scalar_t>(ddt), written<scalar_t>(db), written<scalar_t>(dc),
           da.data_ptr<double>(), dd.data_ptr<double>(),
           dinitial.defined() ? dinitial.data_ptr<scalar_t>() : nullptr, dstates.data_ptr<scalar_t>(),
           cut.slots});
    });
    return {dx,       ddt,         summed(da, p.a.options()), db, dc, summed(dd, p.d.options()), at::Tensor(),
            dinitial, at::Tensor()};
  }
};

void check(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
           const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
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
  DM_CHECK_SHAPE("ssd", seq_idx, at::kInt, batch, length);
  if (initial_state) DM_CHECK_SHAPE("ssd", *initial_state, parameters, batch, heads, x.size(3), d_state);
}

}  // namespace

ScanOutput ssd(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
               const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
               const std::optional<at::Tensor>& initial_state, int64_t chunk) {
  check(x, dt, a, b, c, d, seq_idx, initial_state, chunk);
  if (x.is_cuda()) return ssd_scan_cuda(x, dt, a, b, c, d, seq_idx, initial_state);
  const variable_list out =
      Scan::apply(x, dt, a, b, c, d, seq_idx, initial_state, std::min(chunk, kSsdLongestPiece));
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
