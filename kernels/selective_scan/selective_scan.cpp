// The tensor boundary of the selective scan: checks, strides, autograd. The work is in
// selective_scan_simd.cpp.

#include "kernels/selective_scan/selective_scan.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/selective_scan/selective_scan_cpu.h"
#include "kernels/selective_scan/selective_scan_cuda.h"
#include "kernels/shares.h"
#include "kernels/simd/scratch.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
RowArray<const T> row_array(const at::Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0), t.stride(1)};
}

struct Problem {
  at::Tensor x, dt, a_transposed, b, c, d, seq_idx;
  at::Tensor initial_state;  // may be undefined
  at::Tensor states;         // may be undefined

  template <class T>
  SelectiveInput<T> input() const {
    return {x.size(0),
            x.size(1),
            x.size(2),
            b.size(2),
            row_array<T>(x),
            row_array<T>(dt),
            row_array<T>(b),
            row_array<T>(c),
            a_transposed.const_data_ptr<T>(),
            d.const_data_ptr<T>(),
            seq_idx.const_data_ptr<int32_t>(),
            initial_state.defined() ? initial_state.const_data_ptr<T>() : nullptr,
            states.defined() ? states.mutable_data_ptr<T>() : nullptr};
  }
};

/// task(row, channel block, scratch) for all, spread over the threads.
template <class T, class Task>
void for_blocks(const SelectiveInput<T>& in, const Task& task) {
  const int64_t blocks = in.channel_blocks(), elements = DM_SIMD_CALL(selective_scratch_size<T>)(in.d_state);
  parallel_for(in.batch * blocks, [&](int64_t i) { task(i / blocks, i % blocks, scratch<T>(elements)); });
}

class Scan : public torch::autograd::Function<Scan> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dt,
                               const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                               const at::Tensor& d, const at::Tensor& seq_idx,
                               const std::optional<at::Tensor>& initial_state, bool gradient) {
    Problem p{dense_rows(x),
              dense_rows(dt),
              a.t().contiguous(),
              dense_rows(b),
              dense_rows(c),
              d.contiguous(),
              seq_idx.contiguous(),
              initial_state ? initial_state->contiguous() : at::Tensor(),
              {}};
    const int64_t batch = x.size(0), channels = x.size(2), d_state = b.size(2);
    if (gradient)
      p.states =
          at::empty({batch, (x.size(1) + kScanTokens - 1) / kScanTokens, d_state, channels}, x.options());
    at::Tensor y = at::empty(x.sizes(), x.options()),
               final_state = at::empty({batch, channels, d_state}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "selective_scan", [&] {
      using T = scalar_t;
      const SelectiveInput<T> in = p.input<T>();
      const SelectiveOutput<T> out{y.data_ptr<T>(), final_state.data_ptr<T>()};
      for_blocks(in, [&](int64_t row, int64_t block, T* memory) {
        DM_SIMD_CALL(selective_forward_task<T>)(in, out, row, block, memory);
      });
    });
    context->save_for_backward(
        {p.x, p.dt, p.a_transposed, p.b, p.c, p.d, p.seq_idx, p.initial_state, p.states});
    context->set_materialize_grads(false);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7], saved[8]};
    DM_CHECK(p.states.defined(),
             "selective_scan: a gradient is asked for that the forward pass was not told of");
    const auto like = [](const at::Tensor& t) { return at::empty(t.sizes(), t.options()); };
    const at::Tensor dy = grads[0].defined() ? dense_rows(grads[0]) : at::zeros(p.x.sizes(), p.x.options());
    const at::Tensor dfinal = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    at::Tensor dx = like(p.x), ddt = like(p.dt), da = like(p.a_transposed), db = like(p.b), dc = like(p.c),
               dd = like(p.d);
    at::Tensor dinitial = p.initial_state.defined() ? like(p.initial_state) : at::Tensor();
    AT_DISPATCH_FLOATING_TYPES(p.x.scalar_type(), "selective_scan", [&] {
      using T = scalar_t;
      const SelectiveInput<T> in = p.input<T>();
      const auto shares = [&](int64_t count, const at::Tensor& of) {
        return at::empty({count, of.numel()}, of.options().dtype(at::kDouble));
      };
      const at::Tensor b = shares(in.channel_blocks(), db), c = shares(in.channel_blocks(), dc),
                       a = shares(in.batch, da), d = shares(in.batch, dd);
      const SelectiveGradient<T> grad{row_array<T>(dy),
                                      dfinal.defined() ? dfinal.const_data_ptr<T>() : nullptr,
                                      dx.data_ptr<T>(),
                                      ddt.data_ptr<T>(),
                                      dinitial.defined() ? dinitial.data_ptr<T>() : nullptr,
                                      b.data_ptr<double>(),
                                      c.data_ptr<double>(),
                                      a.data_ptr<double>(),
                                      d.data_ptr<double>()};
      for_blocks(in, [&](int64_t row, int64_t block, T* memory) {
        DM_SIMD_CALL(selective_backward_task<T>)(in, grad, row, block, memory);
      });
      const auto add = [](const at::Tensor& from, at::Tensor& to) {
        sum_shares(from.const_data_ptr<double>(), from.size(0), from.size(1), to.data_ptr<T>());
      };
      add(a, da);
      add(b, db);
      add(c, dc);
      add(d, dd);
    });
    return {dx, ddt, da.t().contiguous(), db, dc, dd, at::Tensor(), dinitial, at::Tensor()};
  }
};

/// On a GPU the parameters and the state are float32, and so may dt be.
at::ScalarType parameter_type(const at::Tensor& x) { return x.is_cuda() ? at::kFloat : x.scalar_type(); }
at::ScalarType step_type(const at::Tensor& x, const at::Tensor& dt) {
  return x.is_cuda() && dt.defined() && dt.scalar_type() == at::kFloat ? at::kFloat : x.scalar_type();
}

}  // namespace

ScanOutput selective_scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, const at::Tensor& seq_idx,
                          const std::optional<at::Tensor>& initial_state) {
  DM_CHECK_FLOATING("selective_scan", x);
  const at::ScalarType dtype = x.scalar_type(), parameters = parameter_type(x);
  DM_CHECK_SHAPE("selective_scan", x, dtype, -1, -1, -1);
  const int64_t batch = x.size(0), length = x.size(1), channels = x.size(2);
  DM_CHECK(length >= 1, "selective_scan: x is {}: there must be a token", describe(x));
  DM_CHECK_SHAPE("selective_scan", dt, step_type(x, dt), batch, length, channels);
  DM_CHECK_SHAPE("selective_scan", a, parameters, channels, -1);
  const int64_t d_state = a.size(1);
  DM_CHECK_SHAPE("selective_scan", b, dtype, batch, length, d_state);
  DM_CHECK_SHAPE("selective_scan", c, dtype, batch, length, d_state);
  DM_CHECK_SHAPE("selective_scan", d, parameters, channels);
  DM_CHECK_SHAPE("selective_scan", seq_idx, at::kInt, batch, length);
  if (initial_state) DM_CHECK_SHAPE("selective_scan", *initial_state, parameters, batch, channels, d_state);
  if (x.is_cuda()) return selective_scan_cuda(x, dt, a, b, c, d, seq_idx, initial_state);
  bool gradient = initial_state && initial_state->requires_grad();
  for (const at::Tensor* t : {&x, &dt, &a, &b, &c, &d}) gradient = gradient || t->requires_grad();
  const variable_list out =
      Scan::apply(x, dt, a, b, c, d, seq_idx, initial_state, gradient && at::GradMode::is_enabled());
  return {out[0], out[1]};
}

at::Tensor selective_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, const at::Tensor& d, at::Tensor& state) {
  DM_CHECK_FLOATING("selective_step", x);
  const at::ScalarType dtype = x.scalar_type(), parameters = parameter_type(x);
  DM_CHECK_SHAPE("selective_step", x, dtype, -1, -1);
  const int64_t batch = x.size(0), channels = x.size(1);
  DM_CHECK_SHAPE("selective_step", dt, step_type(x, dt), batch, channels);
  DM_CHECK_SHAPE("selective_step", a, parameters, channels, -1);
  const int64_t d_state = a.size(1);
  DM_CHECK_SHAPE("selective_step", b, dtype, batch, d_state);
  DM_CHECK_SHAPE("selective_step", c, dtype, batch, d_state);
  DM_CHECK_SHAPE("selective_step", d, parameters, channels);
  DM_CHECK_SHAPE("selective_step", state, parameters, batch, channels, d_state);
  DM_CHECK(state.is_contiguous(), "selective_step: state is not contiguous; it is updated in place");
  const at::NoGradGuard no_grad;
  if (x.is_cuda()) return selective_step_cuda(x, dt, a, b, c, d, state);
  const at::Tensor dense_x = x.contiguous(), dense_dt = dt.contiguous(), dense_a = a.contiguous(),
                   dense_b = b.contiguous(), dense_c = c.contiguous(), dense_d = d.contiguous();
  at::Tensor y = at::empty({batch, channels}, x.options());
  AT_DISPATCH_FLOATING_TYPES(dtype, "selective_step", [&] {
    using T = scalar_t;
    const T *xs = dense_x.const_data_ptr<T>(), *dts = dense_dt.const_data_ptr<T>(),
            *as = dense_a.const_data_ptr<T>(), *bs = dense_b.const_data_ptr<T>(),
            *cs = dense_c.const_data_ptr<T>(), *ds = dense_d.const_data_ptr<T>();
    T *states = state.data_ptr<T>(), *ys = y.data_ptr<T>();
    const int64_t blocks = (channels + kScanChannels - 1) / kScanChannels;
    parallel_for(batch * blocks, [&](int64_t task) {
      const int64_t row = task / blocks, begin = task % blocks * kScanChannels;
      for (int64_t e = begin; e < std::min(channels, begin + kScanChannels); ++e) {
        const int64_t i = row * channels + e;
        ys[i] =
            DM_SIMD_CALL(selective_step_channel<T>)(states + i * d_state, xs[i], dts[i], as + e * d_state,
                                                    bs + row * d_state, cs + row * d_state, ds[e], d_state);
      }
    });
  });
  return y;
}

}  // namespace dm::kernels
