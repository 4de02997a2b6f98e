#include "kernels/ssd/ssd_scan_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/comm/kept_group.h"
#include "kernels/device/cuda/tensor.h"
#include "kernels/ssd/cuda/passage.h"
#include "kernels/ssd/cuda/ssd_cuda.cuh"
#include "kernels/ssd/ssd_path_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kName[] = "ssd";

/// [B, L, heads, width] as the kernels read it: rows behind each other, a token's values dense.
at::Tensor dense_tokens(const at::Tensor& t) {
  const bool dense = t.stride(3) == 1 && t.stride(2) == t.size(3) && t.stride(0) == t.size(1) * t.stride(1);
  return dense ? t : t.contiguous();
}

const float* floats(const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

struct Problem {
  at::Tensor x, dt, a, b, c, d, seq_idx;
  at::Tensor before, initial_state;  // may be undefined

  cuda::SsdInputs inputs() const {
    return {.shape = {.rows = x.size(0),
                      .length = x.size(1),
                      .heads = x.size(2),
                      .head_dim = x.size(3),
                      .groups = b.size(2),
                      .state = b.size(3)},
            .element = element_of(x),
            .x = x.const_data_ptr(),
            .dt = floats(dt),
            .a = floats(a),
            .b = b.const_data_ptr(),
            .c = c.const_data_ptr(),
            .d = floats(d),
            .seq_idx = seq_idx.const_data_ptr<int32_t>(),
            .initial_state = floats(initial_state),
            .x_stride = x.stride(1),
            .b_stride = b.stride(1),
            .c_stride = c.stride(1),
            .before = before.defined() ? before.const_data_ptr<int32_t>() + before.size(1) - 1 : nullptr,
            .before_stride = before.defined() ? before.size(1) : 0};
  }
};

class Scan : public torch::autograd::Function<Scan> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dt,
                               const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                               const at::Tensor& d, const Documents& documents,
                               const std::optional<at::Tensor>& initial_state, bool gradient) {
    const at::Tensor& before = documents.before;
    Problem p{dense_tokens(x),
              dt.contiguous(),
              a.contiguous(),
              dense_tokens(b),
              dense_tokens(c),
              d.contiguous(),
              documents.seq_idx.contiguous(),
              before.defined() ? before.contiguous() : before,
              initial_state ? initial_state->contiguous() : at::Tensor()};
    const cuda::SsdInputs in = p.inputs();
    const cuda::SsdPath path = chosen_ssd_path(in);
    const at::Tensor y = at::empty(x.sizes(), x.options());
    const at::Tensor final_state =
        at::empty({x.size(0), x.size(2), x.size(3), b.size(3)}, x.options().dtype(at::kFloat));
    const at::Tensor saved = device_bytes(
        gradient ? cuda::ssd_saved_bytes(in.shape, path) : cuda::ssd_scratch_bytes(in.shape, path), x);
    const at::Tensor workspace = device_bytes(cuda::ssd_forward_bytes(in.shape, path), x);
    cuda::SsdForward args{.in = in,
                          .y = y.mutable_data_ptr(),
                          .final_state = final_state.mutable_data_ptr<float>(),
                          .saved = saved.mutable_data_ptr(),
                          .save_states = gradient,
                          .workspace = workspace.mutable_data_ptr(),
                          .passed = false,
                          .y_stride = y.stride(1)};
    if (documents.context) {
      keep_group(*context, *documents.context);
      const at::Tensor entering = ssd_entering_state(args, path, saved, *documents.context);
      if (entering.defined()) p.initial_state = entering;
      args.in = p.inputs();
    }
    check_launch(cuda::ssd_forward(args, path, current_stream()), kName);
    context->save_for_backward({p.x, p.dt, p.a, p.b, p.c, p.d, p.seq_idx, p.before, p.initial_state,
                                gradient ? saved : at::Tensor()});
    context->saved_data["cut"] = documents.context != nullptr;
    context->saved_data["wanted"] = initial_state.has_value();
    context->set_materialize_grads(false);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Problem p{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7], saved[8]};
    DM_CHECK(saved[9].defined(), "ssd: a gradient is asked for that the forward pass was not told of");
    const cuda::SsdInputs in = p.inputs();
    const cuda::SsdPath path = chosen_ssd_path(in);
    const at::Tensor dy = grads[0].defined() ? grads[0].contiguous() : at::zeros(p.x.sizes(), p.x.options());
    at::Tensor dfinal = grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const auto like = [](const at::Tensor& t) { return at::empty(t.sizes(), t.options()); };
    const at::Tensor dx = like(p.x), ddt = like(p.dt), da = like(p.a), db = like(p.b), dc = like(p.c),
                     dd = like(p.d);
    const bool wanted = context->saved_data["wanted"].toBool();
    const at::Tensor dinitial = wanted ? like(p.initial_state) : at::Tensor();
    const at::Tensor workspace = device_bytes(cuda::ssd_workspace_bytes(in.shape, path), p.x);
    cuda::SsdBackward args{
        .in = in,
        .saved = saved[9].const_data_ptr(),
        .dy = dy.const_data_ptr(),
        .dfinal_state = floats(dfinal),
        .workspace = workspace.mutable_data_ptr(),
        .passed = false,
        .dx = dx.mutable_data_ptr(),
        .ddt = ddt.mutable_data_ptr<float>(),
        .da = da.mutable_data_ptr<float>(),
        .db = db.mutable_data_ptr(),
        .dc = dc.mutable_data_ptr(),
        .dd = dd.mutable_data_ptr<float>(),
        .dinitial_state = dinitial.defined() ? dinitial.mutable_data_ptr<float>() : nullptr,
        .bc_element = element_of(p.b),
        .dy_stride = dy.stride(1),
        .dx_stride = dx.stride(1),
        .db_stride = db.stride(1),
        .dc_stride = dc.stride(1)};
    if (context->saved_data["cut"].toBool()) {
      const at::Tensor leaving = ssd_leaving_gradient(args, path, dy, kept_group(*context));
      if (leaving.defined()) dfinal = dfinal.defined() ? dfinal + leaving : leaving;
      args.dfinal_state = floats(dfinal);
    }
    check_launch(cuda::ssd_backward(args, path, current_stream()), kName);
    return {dx, ddt, da, db, dc, dd, at::Tensor(), dinitial, at::Tensor()};
  }
};

}  // namespace

ScanOutput ssd_scan_cuda(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                         const at::Tensor& c, const at::Tensor& d, const Documents& documents,
                         const std::optional<at::Tensor>& initial_state) {
  bool gradient = initial_state && initial_state->requires_grad();
  for (const at::Tensor* t : {&x, &dt, &a, &b, &c, &d}) gradient = gradient || t->requires_grad();
  const variable_list out =
      Scan::apply(x, dt, a, b, c, d, documents, initial_state, gradient && at::GradMode::is_enabled());
  return {out[0], out[1]};
}

}  // namespace dm::kernels
