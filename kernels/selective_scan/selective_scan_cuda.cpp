#include "kernels/selective_scan/selective_scan_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/rows_of.h"
#include "kernels/selective_scan/cuda/selective_scan_cuda.cuh"
#include "kernels/ssd/cuda/step.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kName[] = "selective_scan";

const float* floats(const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

struct Problem {
  at::Tensor x, dt, a, b, c, d, seq_idx;
  at::Tensor initial_state;  // may be undefined

  cuda::SelectiveInputs inputs() const {
    return {.shape = {.rows = x.size(0), .length = x.size(1), .channels = x.size(2), .states = a.size(1)},
            .x = token_rows(x),
            .dt = token_rows(dt),
            .b = token_rows(b),
            .c = token_rows(c),
            .a = floats(a),
            .d = floats(d),
            .seq_idx = seq_idx.const_data_ptr<int32_t>(),
            .initial_state = floats(initial_state)};
  }
};

class Scan : public torch::autograd::Function<Scan> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dt,
                               const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                               const at::Tensor& d, const at::Tensor& seq_idx,
                               const std::optional<at::Tensor>& initial_state, bool gradient) {
    const Problem p{dense_tokens(x),      dense_tokens(dt),
                    a.contiguous(),       dense_tokens(b),
                    dense_tokens(c),      d.contiguous(),
                    seq_idx.contiguous(), initial_state ? initial_state->contiguous() : at::Tensor()};
    const cuda::SelectiveInputs in = p.inputs();
    const at::TensorOptions single = x.options().dtype(at::kFloat);
    const at::Tensor workspace = device_bytes(cuda::selective_forward_bytes(in.shape), x);
    at::Tensor y = at::empty(x.sizes(), x.options()),
               final_state = at::empty({x.size(0), x.size(2), a.size(1)}, single), saved;
    if (gradient) saved = at::empty({cuda::selective_saved_floats(in.shape)}, single);
    check_launch(cuda::selective_forward({.in = in,
                                          .workspace = workspace.mutable_data_ptr(),
                                          .y = y.mutable_data_ptr(),
                                          .final_state = final_state.mutable_data_ptr<float>(),
                                          .saved = gradient ? saved.mutable_data_ptr<float>() : nullptr},
                                         current_stream()),
                 kName);
    context->save_for_backward({p.x, p.dt, p.a, p.b, p.c, p.d, p.seq_idx, p.initial_state, saved});
    context->set_materialize_grads(false);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7]};
    DM_CHECK(saved[8].defined(),
             "selective_scan: a gradient is asked for that the forward pass was not told of");
    const cuda::SelectiveInputs in = p.inputs();
    const at::Tensor dy = grads[0].defined() ? dense_tokens(grads[0]) : at::zeros(p.x.sizes(), p.x.options());
    const at::Tensor dfinal = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const auto like = [](const at::Tensor& t) { return at::empty(t.sizes(), t.options()); };
    at::Tensor dx = like(p.x), ddt = like(p.dt), da = like(p.a), db = like(p.b), dc = like(p.c),
               dd = like(p.d), dinitial = p.initial_state.defined() ? like(p.initial_state) : at::Tensor();
    const at::Tensor workspace = device_bytes(cuda::selective_backward_bytes(in.shape), p.x);
    check_launch(cuda::selective_backward(
                     {.in = in,
                      .saved = floats(saved[8]),
                      .dy = token_rows(dy),
                      .dfinal_state = floats(dfinal),
                      .workspace = workspace.mutable_data_ptr(),
                      .dx = dx.mutable_data_ptr(),
                      .ddt = ddt.mutable_data_ptr(),
                      .db = db.mutable_data_ptr(),
                      .dc = dc.mutable_data_ptr(),
                      .dbc_stride = in.shape.states,
                      .da = da.mutable_data_ptr<float>(),
                      .dd = dd.mutable_data_ptr<float>(),
                      .dinitial_state = dinitial.defined() ? dinitial.mutable_data_ptr<float>() : nullptr},
                     current_stream()),
                 kName);
    return {dx, ddt, da, db, dc, dd, at::Tensor(), dinitial, at::Tensor()};
  }
};

}  // namespace

ScanOutput selective_scan_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                               const at::Tensor& seq_idx, const std::optional<at::Tensor>& initial_state) {
  DM_REQUIRE(a.size(1) <= cuda::kSelectiveMostStates, ExitCode::usage,
             "selective_scan: a state of {} has no kernel on the GPU; up to {} have one", a.size(1),
             cuda::kSelectiveMostStates);
  bool gradient = initial_state && initial_state->requires_grad();
  for (const at::Tensor* t : {&x, &dt, &a, &b, &c, &d}) gradient = gradient || t->requires_grad();
  const variable_list out =
      Scan::apply(x, dt, a, b, c, d, seq_idx, initial_state, gradient && at::GradMode::is_enabled());
  return {out[0], out[1]};
}

at::Tensor selective_step_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, const at::Tensor& d,
                               at::Tensor& state) {
  const DenseRows xs(x), dts(dt), bs(b), cs(c);
  const at::Tensor dense_a = a.contiguous(), dense_d = d.contiguous(), y = at::empty(x.sizes(), x.options());
  check_launch(cuda::state_step({.rows = x.size(0),
                                 .heads = x.size(1),
                                 .head_dim = 1,
                                 .groups = 1,
                                 .states = a.size(1),
                                 .x = xs.rows(),
                                 .dt = dts.rows(),
                                 .b = bs.rows(),
                                 .c = cs.rows(),
                                 .a = floats(dense_a),
                                 .a_by_state = true,
                                 .d = floats(dense_d),
                                 .state = state.mutable_data_ptr<float>(),
                                 .y = y.mutable_data_ptr()},
                                current_stream()),
               "selective_step");
  return y;
}

}  // namespace dm::kernels
