#include "kernels/ssd_mixer/ssd_mixer_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/comm/context_axis.h"
#include "kernels/comm/kept_group.h"
#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/device/cuda/tensor.h"
#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"
#include "kernels/linear/gemm_cuda.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/ssd/cuda/passage.h"
#include "kernels/ssd/cuda/ssd_cuda.cuh"
#include "kernels/ssd/ssd_path_cuda.h"
#include "kernels/ssd_mixer/conv_inputs.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Everything the kernels are told, from the tensors of one call. What it points to lives in `t`.
struct Call {
  enum {
    projected,
    conv_weight,
    conv_bias,
    dt_bias,
    a,
    d,
    norm,
    scale,
    seq_idx,
    before,
    window,
    state,
    kInputs
  };
  const at::Tensor* t;  // [kInputs]; scale and what enters the rows (before, window, state) may be undefined
  const SsdMixerForm& form;

  int64_t rows() const { return t[projected].size(0); }
  int64_t length() const { return t[projected].size(1); }
  int64_t tokens() const { return rows() * length(); }
  int64_t inner() const { return form.branches * form.inner; }
  int64_t heads() const { return form.branches * form.heads; }
  int64_t group_width() const { return form.branches * form.group_width(); }
  int64_t channels() const { return form.branches * form.channels(); }
  int64_t column_stride() const { return t[projected].stride(1); }
  at::TensorOptions activations() const { return t[projected].options(); }
  at::TensorOptions floats() const { return activations().dtype(at::kFloat); }
  cuda::Element element() const { return element_of(t[projected]); }
  const float* floats_of(int input) const {
    return t[input].defined() ? t[input].const_data_ptr<float>() : nullptr;
  }
  int64_t halo() const { return t[conv_weight].size(1) - 1; }
  /// Of the tokens before the rows, their documents: how many are known, and the numbers from one of them on.
  int64_t known_before() const { return t[before].defined() ? t[before].size(1) : 0; }
  const int32_t* before_from(int64_t token) const {
    return t[before].defined() ? t[before].const_data_ptr<int32_t>() + token : nullptr;
  }

  cuda::ConvInputs conv() const {
    return {.rows = rows(),
            .length = length(),
            .columns = {.branches = form.branches,
                        .branch_stride = form.rows(),
                        .x_offset = form.inner,
                        .dt_offset = form.inner + form.channels(),
                        .inner = form.inner,
                        .group_width = form.group_width(),
                        .heads = form.heads},
            .element = element(),
            .width = t[conv_weight].size(1),
            .projected = t[projected].const_data_ptr(),
            .weight = floats_of(conv_weight),
            .bias = floats_of(conv_bias),
            .dt_bias = floats_of(dt_bias),
            .dt_min = static_cast<float>(form.dt_min),
            .dt_max = static_cast<float>(form.dt_max),
            .seq_idx = t[seq_idx].const_data_ptr<int32_t>(),
            .initial = t[window].defined() ? t[window].const_data_ptr() : nullptr,
            .projected_stride = column_stride(),
            .before = before_from(0),
            .before_stride = known_before()};
  }

  /// `xbc` [tokens, channels], of which x, B and C are ranges of columns.
  cuda::SsdInputs scan(const at::Tensor& xbc, const at::Tensor& dt) const {
    return {.shape = {.rows = rows(),
                      .length = length(),
                      .heads = heads(),
                      .head_dim = form.inner / form.heads,
                      .groups = form.branches * form.groups,
                      .state = form.d_state},
            .element = element(),
            .x = xbc.const_data_ptr(),
            .dt = dt.const_data_ptr<float>(),
            .a = floats_of(a),
            .b = column(xbc, inner()),
            .c = column(xbc, inner() + group_width()),
            .d = floats_of(d),
            .seq_idx = t[seq_idx].const_data_ptr<int32_t>(),
            .initial_state = floats_of(state),
            .x_stride = channels(),
            .b_stride = channels(),
            .c_stride = channels(),
            .before = before_from(known_before() - 1),
            .before_stride = known_before()};
  }

  cuda::GatedNormInputs gate(const at::Tensor& y) const {
    const bool scaled = t[scale].defined();
    return {.tokens = tokens(),
            .branches = form.branches,
            .inner = form.inner,
            .spans = form.spans,
            .sections = scaled ? t[scale].size(-1) : 0,
            .scale_by_token = scaled && t[scale].dim() == 3,
            .element = element(),
            .y = y.const_data_ptr(),
            .z = t[projected].const_data_ptr(),
            .weight = floats_of(norm),
            .scale = floats_of(scale),
            .eps = static_cast<float>(form.eps),
            .z_stride = column_stride(),
            .z_branch_stride = form.rows()};
  }

  static void* column(const at::Tensor& matrix, int64_t begin) {
    return static_cast<char*>(matrix.data_ptr()) + begin * matrix.element_size();
  }
};

/// What the kernels of the forward pass leave.
struct Passed {
  at::Tensor xbc;     // [tokens, channels]
  at::Tensor dt;      // [tokens, H]
  at::Tensor states;  // of the scan, for its backward pass
  at::Tensor y;       // [B, L, E]
  at::Tensor root;    // [tokens, spans]
};

at::Tensor bytes(const Call& call, int64_t count) { return device_bytes(count, call.t[Call::projected]); }
void run(cudaError_t error) { check_launch(error, "ssd_mixer"); }

void convolve(const Call& call, Passed& p, cudaStream_t stream) {
  p.xbc = at::empty({call.tokens(), call.channels()}, call.activations());
  if (!p.dt.defined()) p.dt = at::empty({call.tokens(), call.heads()}, call.floats());
  run(cuda::conv_forward({call.conv(), p.xbc.data_ptr(), p.dt.data_ptr<float>()}, stream));
}

cuda::SsdPath path_of(const Call& call, const cuda::SsdInputs& in) {
  return call.form.exact_states ? cuda::SsdPath::kPlain : chosen_ssd_path(in);
}

/// What the scan is told and where it works; y may be left out where only its states are wanted.
struct Scan {
  at::Tensor workspace;
  cuda::SsdPath path;
  cuda::SsdForward args;

  Scan(const Call& call, Passed& p, bool for_backward) {
    const cuda::SsdInputs in = call.scan(p.xbc, p.dt);
    path = path_of(call, in);
    p.states = bytes(
        call, for_backward ? cuda::ssd_saved_bytes(in.shape, path) : cuda::ssd_scratch_bytes(in.shape, path));
    workspace = bytes(call, cuda::ssd_forward_bytes(in.shape, path));
    args = {.in = in,
            .y = nullptr,
            .final_state = nullptr,
            .saved = p.states.data_ptr(),
            .save_states = for_backward,
            .workspace = workspace.data_ptr(),
            .passed = false,
            .y_stride = call.inner()};
  }

  /// The state that enters this rank's piece, or, on the first rank, the row.
  at::Tensor enter(const Call& call, Collectives& group) {
    const at::Tensor found = ssd_entering_state(args, path, workspace, group);
    if (found.defined()) args.in.initial_state = found.const_data_ptr<float>();
    return found.defined() ? found : call.t[Call::state];
  }

  void run(const Call& call, Passed& p, float* final_state, cudaStream_t stream) {
    p.y = at::empty({call.rows(), call.length(), call.inner()}, call.activations());
    args.y = p.y.data_ptr();
    args.final_state = final_state;
    kernels::run(cuda::ssd_forward(args, path, stream));
  }
};

at::Tensor gate(const Call& call, Passed& p, cudaStream_t stream) {
  at::Tensor out = at::empty_like(p.y);
  p.root = at::empty({call.tokens(), call.form.spans}, call.floats());
  run(cuda::gated_norm_forward({call.gate(p.y), out.data_ptr(), p.root.data_ptr<float>()}, stream));
  return out;
}

void keep_form(AutogradContext& context, const SsdMixerForm& f) {
  context.saved_data["sizes"] =
      std::vector<int64_t>{f.branches,    f.inner, f.heads, f.groups,
                           f.d_state,     f.spans, f.chunk, static_cast<int64_t>(f.recompute),
                           f.exact_states};
  context.saved_data["numbers"] = std::vector<double>{f.eps, f.dt_min, f.dt_max};
}

SsdMixerForm kept_form(AutogradContext& context) {
  const std::vector<int64_t> n = context.saved_data["sizes"].toIntVector();
  const std::vector<double> x = context.saved_data["numbers"].toDoubleVector();
  return {.branches = n[0],
          .inner = n[1],
          .heads = n[2],
          .groups = n[3],
          .d_state = n[4],
          .spans = n[5],
          .eps = x[0],
          .dt_min = x[1],
          .dt_max = x[2],
          .chunk = n[6],
          .recompute = static_cast<MixerRecompute>(n[7]),
          .exact_states = n[8] != 0};
}

class SsdMixer : public torch::autograd::Function<SsdMixer> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projected,
                            const at::Tensor& conv_weight, const at::Tensor& conv_bias,
                            const at::Tensor& dt_bias, const at::Tensor& a, const at::Tensor& d,
                            const at::Tensor& norm, const std::optional<at::Tensor>& scale,
                            const Documents& documents, const SsdMixerForm& form, const SsdMixerReach& reach,
                            const Weight& out_proj, bool gradient) {
    const cudaStream_t stream = current_stream();
    const at::Tensor factors = scale.value_or(at::Tensor());
    const SsdMixerState entering = reach.entering ? *reach.entering : SsdMixerState();
    at::Tensor inputs[] = {
        projected,         conv_weight,      conv_bias,       dt_bias,       a, d, norm, factors,
        documents.seq_idx, documents.before, entering.window, entering.state};
    const Call call{inputs, form};
    Collectives* const group = documents.context;
    Passed p;
    at::Tensor out;
    // The backward pass makes everything again, but what comes from other ranks.
    const bool scan_again = form.recompute == MixerRecompute::scan;
    const bool nothing = form.gradients_only && scan_again && out_proj.value.defined();
    const bool save = gradient && !scan_again;
    if (group && call.halo() > 0)
      inputs[Call::window] =
          window_before(last_inputs(projected, form, call.halo()), call.halo(), *group, inputs[Call::window]);
    if (!nothing || group) {
      convolve(call, p, stream);
      Scan scan(call, p, save);
      if (group) inputs[Call::state] = scan.enter(call, *group);
      if (!nothing) {
        at::Tensor final_state;
        if (reach.leaving)
          final_state =
              at::empty({call.rows(), call.heads(), form.inner / form.heads, form.d_state}, call.floats());
        scan.run(call, p, reach.leaving ? final_state.data_ptr<float>() : nullptr, stream);
        if (reach.leaving)
          *reach.leaving = {window_behind(projected, form, call.halo(), inputs[Call::window]), final_state};
        out = gate(call, p, stream);
      }
    }
    if (scan_again) p.dt = p.states = at::Tensor();
    const bool all = gradient && form.recompute == MixerRecompute::none;
    context->save_for_backward({projected, conv_weight, conv_bias, dt_bias, a, d, norm, factors,
                                inputs[Call::seq_idx], inputs[Call::before], inputs[Call::window],
                                inputs[Call::state], p.dt, p.states, scan_again ? at::Tensor() : p.y, p.root,
                                all ? p.xbc : at::Tensor(),
                                all && out_proj.value.defined() ? out : at::Tensor()});
    keep_form(*context, form);
    context->saved_data["multiplied"] = out_proj.value.defined();
    context->saved_data["cut"] = group != nullptr;
    if (group) keep_group(*context, *group);
    if (out_proj.value.defined()) keep_weight(*context, out_proj);
    if (!out_proj.value.defined()) return out;
    at::Tensor product = at::empty({call.rows(), call.length(), out_proj.value.size(0)}, call.activations());
    if (!nothing)
      multiply_transposed(out.view({call.tokens(), -1}), out_proj.value, product.view({call.tokens(), -1}));
    return product;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const cudaStream_t stream = current_stream();
    const variable_list saved = context->get_saved_variables();
    const SsdMixerForm form = kept_form(*context);
    const Call call{saved.data(), form};
    Passed p{.xbc = saved[Call::kInputs + 4],
             .dt = saved[Call::kInputs],
             .states = saved[Call::kInputs + 1],
             .y = saved[Call::kInputs + 2],
             .root = saved[Call::kInputs + 3]};
    const Weight out_proj = context->saved_data["multiplied"].toBool() ? kept_weight(*context) : Weight();
    Collectives* const group = context->saved_data["cut"].toBool() ? &kept_group(*context) : nullptr;

    if (!p.xbc.defined()) convolve(call, p, stream);
    if (form.recompute == MixerRecompute::scan) Scan(call, p, true).run(call, p, nullptr, stream);
    at::Tensor dout = grads[0].contiguous();
    if (out_proj.value.defined()) {
      const at::Tensor dproduct = dout.view({call.tokens(), -1});
      dout = at::empty({call.tokens(), call.inner()}, call.activations());
      multiply(dproduct, out_proj.value, dout);
      const at::Tensor& kept = saved[Call::kInputs + 5];
      const at::Tensor out = kept.defined() ? kept : gate(call, p, stream);
      add_weight_gradient(dproduct, out.view({call.tokens(), -1}), out_proj);
    }

    // Rows as wide as projected's, so that token_lambda finds room behind them.
    at::Tensor dprojected = at::empty({call.rows(), call.length(), call.column_stride()}, call.activations());
    at::Tensor dy = at::empty_like(p.y);
    at::Tensor dnorm = at::empty_like(saved[Call::norm]);
    const at::Tensor& scale = saved[Call::scale];
    at::Tensor dscale = scale.defined() ? at::empty_like(scale) : at::Tensor();
    {
      const cuda::GatedNormInputs in = call.gate(p.y);
      const at::Tensor workspace = bytes(call, cuda::gated_norm_workspace_bytes(in));
      run(cuda::gated_norm_backward({.in = in,
                                     .root = p.root.const_data_ptr<float>(),
                                     .dout = dout.const_data_ptr(),
                                     .workspace = workspace.data_ptr(),
                                     .dy = dy.data_ptr(),
                                     .dz = dprojected.data_ptr(),
                                     .dweight = dnorm.data_ptr<float>(),
                                     .dscale = scale.defined() ? dscale.data_ptr<float>() : nullptr},
                                    stream));
    }
    dout.reset();

    at::Tensor dxbc = at::empty_like(p.xbc), ddt = at::empty_like(p.dt), da = at::empty_like(saved[Call::a]),
               dd = at::empty_like(saved[Call::d]);
    {
      const cuda::SsdInputs in = call.scan(p.xbc, p.dt);
      const cuda::SsdPath path = path_of(call, in);
      const at::Tensor workspace = bytes(call, cuda::ssd_workspace_bytes(in.shape, path));
      cuda::SsdBackward args{.in = in,
                             .saved = p.states.const_data_ptr(),
                             .dy = dy.const_data_ptr(),
                             .dfinal_state = nullptr,
                             .workspace = workspace.data_ptr(),
                             .passed = false,
                             .dx = dxbc.data_ptr(),
                             .ddt = ddt.data_ptr<float>(),
                             .da = da.data_ptr<float>(),
                             .db = Call::column(dxbc, call.inner()),
                             .dc = Call::column(dxbc, call.inner() + call.group_width()),
                             .dd = dd.data_ptr<float>(),
                             .dinitial_state = nullptr,
                             .bc_element = call.element(),
                             .dy_stride = call.inner(),
                             .dx_stride = call.channels(),
                             .db_stride = call.channels(),
                             .dc_stride = call.channels()};
      at::Tensor dfinal;
      if (group) dfinal = ssd_leaving_gradient(args, path, dy, *group);
      if (dfinal.defined()) args.dfinal_state = dfinal.const_data_ptr<float>();
      run(cuda::ssd_backward(args, path, stream));
    }

    at::Tensor dconv_weight = at::empty_like(saved[Call::conv_weight]),
               dconv_bias = at::empty_like(saved[Call::conv_bias]),
               ddt_bias = at::empty_like(saved[Call::dt_bias]), dwindow;
    const bool halo = group && call.halo() > 0;
    if (halo) dwindow = at::empty({call.rows(), call.halo(), call.channels()}, call.activations());
    {
      const cuda::ConvInputs in = call.conv();
      const at::Tensor workspace = bytes(call, cuda::conv_workspace_bytes(in));
      run(cuda::conv_backward({.in = in,
                               .dxbc = dxbc.const_data_ptr(),
                               .ddt = ddt.const_data_ptr<float>(),
                               .workspace = workspace.data_ptr(),
                               .dprojected = dprojected.data_ptr(),
                               .dweight = dconv_weight.data_ptr<float>(),
                               .dbias = dconv_bias.data_ptr<float>(),
                               .ddt_bias = ddt_bias.data_ptr<float>(),
                               .dinitial = halo && group->rank() > 0 ? dwindow.data_ptr() : nullptr},
                              stream));
    }
    if (halo) add_last(dprojected, window_gradient(dwindow, call.length(), *group), form);
    return {dprojected.narrow(-1, 0, saved[Call::projected].size(-1)),
            dconv_weight,
            dconv_bias,
            ddt_bias,
            da,
            dd,
            dnorm,
            dscale,
            at::Tensor(),
            at::Tensor(),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }

 private:
  /// Adds what the rank behind has found for the convolution's last inputs, if there is one.
  static void add_last(const at::Tensor& dprojected, const at::Tensor& last, const SsdMixerForm& form) {
    if (!last.defined()) return;
    conv_inputs(dprojected, form)
        .narrow(1, dprojected.size(1) - last.size(1), last.size(1))
        .add_(last.unflatten(-1, {form.branches, form.channels()}));
  }
};

}  // namespace

at::Tensor ssd_mixer_cuda(const at::Tensor& projected, const SsdMixerWeights& w,
                          const std::optional<at::Tensor>& scale, const Documents& documents,
                          const SsdMixerForm& form, const SsdMixerReach& reach, const Weight* out_proj) {
  DM_CHECK_FLOATING("ssd_mixer", projected);
  const int64_t rows = projected.size(0), length = projected.size(1), inner = form.branches * form.inner;
  const int64_t channels = form.branches * form.channels(), heads = form.branches * form.heads;
  const at::Tensor &seq_idx = documents.seq_idx, &before = documents.before;
  DM_CHECK_SHAPE("ssd_mixer", w.conv_weight, at::kFloat, channels, -1);
  DM_CHECK_SHAPE("ssd_mixer", w.conv_bias, at::kFloat, channels);
  DM_CHECK_SHAPE("ssd_mixer", w.dt_bias, at::kFloat, heads);
  DM_CHECK_SHAPE("ssd_mixer", w.a, at::kFloat, heads);
  DM_CHECK_SHAPE("ssd_mixer", w.d, at::kFloat, heads);
  DM_CHECK_SHAPE("ssd_mixer", w.norm, at::kFloat, inner);
  DM_CHECK_SHAPE("ssd_mixer", seq_idx, at::kInt, rows, length);
  const int64_t halo = w.conv_weight.size(1) - 1;
  if (before.defined()) {
    DM_CHECK_SHAPE("ssd_mixer", before, at::kInt, rows, -1);
    DM_CHECK(before.size(1) >= halo, "ssd_mixer: the documents of {} tokens before the rows, expected {}",
             before.size(1), halo);
  }
  SsdMixerReach whole = reach;
  SsdMixerState entering;
  if (reach.entering) {
    DM_CHECK_SHAPE("ssd_mixer", reach.entering->window, projected.scalar_type(), rows, halo, channels);
    DM_CHECK_SHAPE("ssd_mixer", reach.entering->state, at::kFloat, rows, heads, form.inner / form.heads,
                   form.d_state);
    entering = {reach.entering->window.contiguous(), reach.entering->state.contiguous()};
    whole.entering = &entering;
  }
  if (out_proj) DM_CHECK_SHAPE("ssd_mixer", out_proj->value, projected.scalar_type(), -1, inner);
  std::optional<at::Tensor> factors;
  if (scale) factors = whole_scale(scale->to(at::kFloat), rows, length);
  Documents dense = documents;
  dense.seq_idx = seq_idx.contiguous();
  if (before.defined()) dense.before = before.contiguous();
  return SsdMixer::apply(as_columns(projected), w.conv_weight.contiguous(), w.conv_bias.contiguous(),
                         w.dt_bias.contiguous(), w.a.contiguous(), w.d.contiguous(), w.norm.contiguous(),
                         factors, dense, form, whole, out_proj ? *out_proj : Weight(),
                         at::GradMode::is_enabled());
}

}  // namespace dm::kernels
