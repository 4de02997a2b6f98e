#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/comm/context_axis.h"
#include "kernels/comm/kept_group.h"
#include "kernels/conv/cuda/conv_cuda.cuh"
#include "kernels/device/cuda/tensor.h"
#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"
#include "kernels/linear/gemm_cuda.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/selective_mixer/selective_mixer.h"
#include "kernels/selective_scan/cuda/selective_scan_cuda.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Everything the kernels are told, from the tensors of one call. What it points to lives in `t`.
struct Call {
  enum { projected, conv_weight, conv_bias, dt_bias, a, d, scale, seq_idx, before, window, state, kInputs };
  const at::Tensor* t;  // [kInputs]; scale and what enters the rows (before, window, state) may be undefined
  const SelectiveMixerForm& form;

  int64_t rows() const { return t[projected].size(0); }
  int64_t length() const { return t[projected].size(1); }
  int64_t tokens() const { return rows() * length(); }
  int64_t inner() const { return form.branches * form.inner; }
  int64_t low() const { return form.step_rank + 2 * form.d_state; }  // columns of δ | B | C of a branch
  int64_t column_stride() const { return t[projected].stride(1); }
  at::TensorOptions activations() const { return t[projected].options(); }
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
  /// The convolution's inputs of the last tokens, `count` or all there are: a view [B, .., branches, E] of
  /// columns [B, L, >= branches * 2E].
  at::Tensor last_inputs(const at::Tensor& columns, int64_t count) const {
    const int64_t kept = std::min(count, length());
    return columns.narrow(1, length() - kept, kept)
        .narrow(-1, 0, form.branches * 2 * form.inner)
        .unflatten(-1, {form.branches, 2 * form.inner})
        .narrow(-1, 0, form.inner);
  }
  /// [tokens, width] in the dtype of the activations.
  at::Tensor matrix(int64_t width) const { return at::empty({tokens(), width}, activations()); }
  /// δ | B | C of all branches.
  at::Tensor low_matrix() const { return matrix(form.branches * low()); }

  at::Tensor branch(const at::Tensor& m, int64_t i) const { return m.narrow(1, i * form.inner, form.inner); }
  at::Tensor low_of(const at::Tensor& m, int64_t i) const { return m.narrow(1, i * low(), low()); }
  at::Tensor rank_of(const at::Tensor& m, int64_t i) const { return m.narrow(1, i * low(), form.step_rank); }

  cuda::ConvInputs conv() const {
    return {.rows = rows(),
            .length = length(),
            .columns = {.branches = form.branches,
                        .branch_stride = 2 * form.inner,
                        .x_offset = 0,
                        .dt_offset = 0,
                        .inner = form.inner,
                        .group_width = 0,
                        .heads = 0},
            .element = element(),
            .width = t[conv_weight].size(1),
            .projected = t[projected].const_data_ptr(),
            .weight = floats_of(conv_weight),
            .bias = floats_of(conv_bias),
            .dt_bias = nullptr,
            .dt_min = 0.f,
            .dt_max = 0.f,
            .seq_idx = t[seq_idx].const_data_ptr<int32_t>(),
            .initial = t[window].defined() ? t[window].const_data_ptr() : nullptr,
            .projected_stride = column_stride(),
            .before = before_from(0),
            .before_stride = known_before()};
  }

  cuda::SelectiveInputs scan(const at::Tensor& x, const at::Tensor& raw_steps,
                             const at::Tensor& low_rank) const {
    const auto rows_of = [&](const at::Tensor& m, int64_t column) {
      return cuda::Rows{at_column(m, column), m.stride(0), element()};
    };
    return {.shape = {.rows = rows(),
                      .length = length(),
                      .channels = inner(),
                      .states = form.d_state,
                      .groups = form.branches},
            .x = rows_of(x, 0),
            .dt = rows_of(raw_steps, 0),
            .b = rows_of(low_rank, form.step_rank),
            .c = rows_of(low_rank, form.step_rank + form.d_state),
            .group_stride = low(),
            .a = floats_of(a),
            .d = floats_of(d),
            .dt_bias = floats_of(dt_bias),
            .dt_min = static_cast<float>(form.dt_min),
            .dt_max = static_cast<float>(form.dt_max),
            .seq_idx = t[seq_idx].const_data_ptr<int32_t>(),
            .initial_state = floats_of(state),
            .before = before_from(known_before() - 1),
            .before_stride = known_before()};
  }

  /// The gate alone: no spans.
  cuda::GatedNormInputs gate(const at::Tensor& y) const {
    const bool scaled = t[scale].defined();
    return {.tokens = tokens(),
            .branches = form.branches,
            .inner = form.inner,
            .spans = 0,
            .sections = scaled ? t[scale].size(-1) : 0,
            .scale_by_token = scaled && t[scale].dim() == 3,
            .element = element(),
            .y = y.const_data_ptr(),
            .z = at_column(t[projected], form.inner),
            .weight = nullptr,
            .scale = floats_of(scale),
            .eps = 0.f,
            .z_stride = column_stride(),
            .z_branch_stride = 2 * form.inner};
  }

  static void* at_column(const at::Tensor& matrix, int64_t begin) {
    return static_cast<char*>(matrix.data_ptr()) + begin * matrix.element_size();
  }
};

void run(cudaError_t error) { check_launch(error, "selective_mixer"); }
at::Tensor bytes(const Call& call, int64_t count) { return device_bytes(count, call.t[Call::projected]); }

std::string name_of(const char* matrix, int64_t branch) { return matrix + std::to_string(branch); }

void keep_form(AutogradContext& context, const SelectiveMixerForm& f) {
  context.saved_data["sizes"] = std::vector<int64_t>{f.branches, f.inner, f.step_rank, f.d_state};
  context.saved_data["limits"] = std::vector<double>{f.dt_min, f.dt_max};
}
SelectiveMixerForm kept_form(AutogradContext& context) {
  const std::vector<int64_t> n = context.saved_data["sizes"].toIntVector();
  const std::vector<double> limits = context.saved_data["limits"].toDoubleVector();
  return {n[0], n[1], n[2], n[3], limits[0], limits[1]};
}

/// What this rank's piece does to a state, or, given dy, to its gradient.
Passage passage_of(const Call& call, const cuda::SelectiveInputs& in, const void* dy, bool wanted) {
  const std::vector<int64_t> sizes{call.rows(), call.inner(), call.form.d_state};
  Passage piece(sizes, sizes, call.t[Call::a].options());
  if (!wanted) return piece;
  const at::Tensor workspace = bytes(call, cuda::selective_passage_bytes(in.shape));
  run(cuda::selective_passage({.in = in,
                               .dy = dy,
                               .dfinal_state = nullptr,
                               .workspace = workspace.data_ptr(),
                               .state = piece.state.data_ptr<float>(),
                               .decay = piece.decay.data_ptr<float>()},
                              current_stream()));
  return piece;
}

class SelectiveMixer : public torch::autograd::Function<SelectiveMixer> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projected,
                            const at::Tensor& conv_weight, const at::Tensor& conv_bias,
                            const at::Tensor& dt_bias, const at::Tensor& a, const at::Tensor& d,
                            const std::optional<at::Tensor>& scale, const Documents& documents,
                            const SelectiveMixerForm& form, const SelectiveMixerWeights& weights,
                            const SelectiveMixerReach& reach, bool gradient) {
    const cudaStream_t stream = current_stream();
    const at::Tensor factors = scale.value_or(at::Tensor());
    const SelectiveMixerState entering = reach.entering ? *reach.entering : SelectiveMixerState();
    at::Tensor inputs[] = {projected,         conv_weight,      conv_bias,       dt_bias,       a, d, factors,
                           documents.seq_idx, documents.before, entering.window, entering.state};
    const Call call{inputs, form};
    Collectives* const group = documents.context;
    const int64_t halo = call.halo();
    if (group && halo > 0)
      inputs[Call::window] =
          window_before(call.last_inputs(projected, halo).flatten(-2), halo, *group, inputs[Call::window]);
    const at::Tensor x = call.matrix(call.inner()), low = call.low_matrix(),
                     raw_steps = call.matrix(call.inner()), y = call.matrix(call.inner());
    run(cuda::conv_forward({call.conv(), x.data_ptr(), nullptr}, stream));
    for (int64_t i = 0; i < form.branches; ++i) {
      const auto branch = static_cast<size_t>(i);
      multiply_transposed(call.branch(x, i), weights.x_proj[branch].value, call.low_of(low, i));
      multiply_transposed(call.rank_of(low, i), weights.dt_proj[branch].value, call.branch(raw_steps, i));
      keep_weight(*context, weights.x_proj[branch], name_of("x_proj", i));
      keep_weight(*context, weights.dt_proj[branch], name_of("dt_proj", i));
    }
    if (group) {
      const Passage piece =
          passage_of(call, call.scan(x, raw_steps, low), nullptr, group->rank() + 1 < group->size());
      const at::Tensor found = state_entering(piece, *group);
      if (found.defined()) inputs[Call::state] = found;
    }
    const cuda::SelectiveInputs in = call.scan(x, raw_steps, low);
    at::Tensor states, final_state;
    if (reach.leaving) final_state = at::empty({call.rows(), call.inner(), form.d_state}, a.options());
    if (gradient) states = at::empty({cuda::selective_saved_floats(in.shape)}, a.options());
    {
      const at::Tensor workspace = bytes(call, cuda::selective_forward_bytes(in.shape));
      run(cuda::selective_forward({.in = in,
                                   .workspace = workspace.data_ptr(),
                                   .y = y.data_ptr(),
                                   .final_state = reach.leaving ? final_state.data_ptr<float>() : nullptr,
                                   .saved = gradient ? states.data_ptr<float>() : nullptr},
                                  stream));
    }
    at::Tensor out = at::empty({call.rows(), call.length(), call.inner()}, call.activations());
    run(cuda::gated_norm_forward({call.gate(y), out.data_ptr(), nullptr}, stream));
    if (reach.leaving) *reach.leaving = {window_behind(call, inputs[Call::window]), final_state};
    context->save_for_backward({projected, conv_weight, conv_bias, dt_bias, a, d, factors,
                                inputs[Call::seq_idx], inputs[Call::before], inputs[Call::window],
                                inputs[Call::state], x, low, raw_steps, y, states});
    keep_form(*context, form);
    context->saved_data["cut"] = group != nullptr;
    if (group) keep_group(*context, *group);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const cudaStream_t stream = current_stream();
    const variable_list saved = context->get_saved_variables();
    const SelectiveMixerForm form = kept_form(*context);
    const Call call{saved.data(), form};
    const at::Tensor *rest = saved.data() + Call::kInputs, &x = rest[0], &low = rest[1], &raw_steps = rest[2],
                     &y = rest[3], &states = rest[4], &scale = saved[Call::scale];
    DM_CHECK(states.defined(),
             "selective_mixer: a gradient is asked for that the forward pass was not told of");
    const at::Tensor dout = grads[0].contiguous();
    const auto like = [](const at::Tensor& t) { return t.defined() ? at::empty_like(t) : at::Tensor(); };

    const at::Tensor dprojected =
        at::empty({call.rows(), call.length(), call.column_stride()}, call.activations());
    const at::Tensor dy = like(y), dscale = like(scale);
    {
      const cuda::GatedNormInputs in = call.gate(y);
      const at::Tensor workspace = bytes(call, cuda::gated_norm_workspace_bytes(in));
      run(cuda::gated_norm_backward({.in = in,
                                     .root = nullptr,
                                     .dout = dout.const_data_ptr(),
                                     .workspace = workspace.data_ptr(),
                                     .dy = dy.data_ptr(),
                                     .dz = Call::at_column(dprojected, form.inner),
                                     .dweight = nullptr,
                                     .dscale = scale.defined() ? dscale.data_ptr<float>() : nullptr},
                                    stream));
    }

    Collectives* const group = context->saved_data["cut"].toBool() ? &kept_group(*context) : nullptr;
    const at::Tensor dx = like(x), draw_steps = like(raw_steps), dlow = like(low), da = like(saved[Call::a]),
                     dd = like(saved[Call::d]), ddt_bias = like(saved[Call::dt_bias]);
    {
      const cuda::SelectiveInputs in = call.scan(x, raw_steps, low);
      at::Tensor dfinal;
      if (group)
        dfinal = gradient_leaving(passage_of(call, in, dy.const_data_ptr(), group->rank() > 0), *group);
      const at::Tensor workspace = bytes(call, cuda::selective_backward_bytes(in.shape));
      run(cuda::selective_backward(
          {.in = in,
           .saved = states.const_data_ptr<float>(),
           .dy = {dy.const_data_ptr(), dy.stride(0), call.element()},
           .dfinal_state = dfinal.defined() ? dfinal.const_data_ptr<float>() : nullptr,
           .workspace = workspace.data_ptr(),
           .dx = dx.data_ptr(),
           .ddt = draw_steps.data_ptr(),
           .db = Call::at_column(dlow, form.step_rank),
           .dc = Call::at_column(dlow, form.step_rank + form.d_state),
           .dbc_stride = dlow.stride(0),
           .da = da.data_ptr<float>(),
           .dd = dd.data_ptr<float>(),
           .ddt_bias = ddt_bias.data_ptr<float>(),
           .dinitial_state = nullptr},
          stream));
    }
    for (int64_t i = 0; i < form.branches; ++i) {
      const Weight x_proj = kept_weight(*context, name_of("x_proj", i)),
                   dt_proj = kept_weight(*context, name_of("dt_proj", i));
      const at::Tensor dsteps = call.branch(draw_steps, i), dlow_i = call.low_of(dlow, i);
      multiply(dsteps, dt_proj.value, call.rank_of(dlow, i));
      add_weight_gradient(dsteps, call.rank_of(low, i), dt_proj);
      multiply(dlow_i, x_proj.value, call.branch(dx, i), /*add=*/true);
      add_weight_gradient(dlow_i, call.branch(x, i), x_proj);
    }

    const at::Tensor dconv_weight = like(saved[Call::conv_weight]), dconv_bias = like(saved[Call::conv_bias]);
    const bool halo = group && call.halo() > 0;
    at::Tensor dwindow;
    if (halo) dwindow = at::empty({call.rows(), call.halo(), call.inner()}, call.activations());
    {
      const cuda::ConvInputs in = call.conv();
      const at::Tensor workspace = bytes(call, cuda::conv_workspace_bytes(in));
      run(cuda::conv_backward({.in = in,
                               .dxbc = dx.const_data_ptr(),
                               .ddt = nullptr,
                               .workspace = workspace.data_ptr(),
                               .dprojected = dprojected.data_ptr(),
                               .dweight = dconv_weight.data_ptr<float>(),
                               .dbias = dconv_bias.data_ptr<float>(),
                               .ddt_bias = nullptr,
                               .dinitial = halo && group->rank() > 0 ? dwindow.data_ptr() : nullptr},
                              stream));
    }
    if (halo) {
      const at::Tensor last = window_gradient(dwindow, call.length(), *group);
      if (last.defined())
        call.last_inputs(dprojected, call.halo()).add_(last.unflatten(-1, {form.branches, form.inner}));
    }
    return {dprojected.narrow(-1, 0, saved[Call::projected].size(-1)),
            dconv_weight,
            dconv_bias,
            ddt_bias,
            da,
            dd,
            dscale,
            at::Tensor(),
            at::Tensor(),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }

 private:
  /// The convolution's last inputs, some of which may have stood before the rows.
  static at::Tensor window_behind(const Call& call, const at::Tensor& before) {
    const int64_t count = call.halo();
    const at::Tensor last = call.last_inputs(call.t[Call::projected], count).flatten(-2).contiguous();
    const int64_t length = last.size(1);
    if (length == count) return last;
    const at::Tensor window =
        before.defined() ? before : at::zeros({call.rows(), count, call.inner()}, call.activations());
    return at::cat({window.narrow(1, length, count - length), last}, 1);
  }
};

}  // namespace

bool selective_mixer_fuses(const at::Tensor& projected, const SelectiveMixerForm& form) {
  return projected.is_cuda() && form.d_state <= cuda::kSelectiveMostStates &&
         (form.branches == 1 || form.inner % cuda::kSelectiveGroupChannels == 0);
}

at::Tensor selective_mixer(const at::Tensor& projected, const SelectiveMixerWeights& w,
                           const std::optional<at::Tensor>& scale, const Documents& documents,
                           const SelectiveMixerForm& form, const SelectiveMixerReach& reach) {
  DM_CHECK_FLOATING("selective_mixer", projected);
  const int64_t rows = projected.size(0), length = projected.size(1), inner = form.branches * form.inner;
  const at::Tensor &seq_idx = documents.seq_idx, &before = documents.before;
  DM_CHECK_SHAPE("selective_mixer", projected, projected.scalar_type(), rows, length, 2 * inner);
  DM_CHECK_SHAPE("selective_mixer", w.conv_weight, at::kFloat, inner, -1);
  DM_CHECK_SHAPE("selective_mixer", w.conv_bias, at::kFloat, inner);
  DM_CHECK_SHAPE("selective_mixer", w.dt_bias, at::kFloat, inner);
  DM_CHECK_SHAPE("selective_mixer", w.a, at::kFloat, inner, form.d_state);
  DM_CHECK_SHAPE("selective_mixer", w.d, at::kFloat, inner);
  DM_CHECK_SHAPE("selective_mixer", seq_idx, at::kInt, rows, length);
  const int64_t halo = w.conv_weight.size(1) - 1;
  if (before.defined()) {
    DM_CHECK_SHAPE("selective_mixer", before, at::kInt, rows, -1);
    DM_CHECK(before.size(1) >= std::max<int64_t>(halo, 1),
             "selective_mixer: the documents of {} tokens before the rows, expected {}", before.size(1),
             halo);
  }
  SelectiveMixerReach dense = reach;
  SelectiveMixerState entering;
  if (reach.entering) {
    const at::Tensor &window = reach.entering->window, &state = reach.entering->state;
    DM_CHECK_SHAPE("selective_mixer", window, projected.scalar_type(), rows, halo, inner);
    DM_CHECK_SHAPE("selective_mixer", state, at::kFloat, rows, inner, form.d_state);
    entering = {window.contiguous(), state.contiguous()};
    dense.entering = &entering;
  }
  Documents rows_of = documents;
  rows_of.seq_idx = seq_idx.contiguous();
  if (before.defined()) rows_of.before = before.contiguous();
  std::optional<at::Tensor> factors;
  if (scale) factors = whole_scale(scale->to(at::kFloat), rows, length);
  return SelectiveMixer::apply(as_columns(projected), w.conv_weight.contiguous(), w.conv_bias.contiguous(),
                               w.dt_bias.contiguous(), w.a.contiguous(), w.d.contiguous(), factors, rows_of,
                               form, w, dense, at::GradMode::is_enabled());
}

}  // namespace dm::kernels
