#include "model/residual.h"

#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/residual_norm.h"

namespace dm::model {

void declare_norm(const ModelConfig& config, const std::string& name, const Declare& declare) {
  declare.exempt(name + ".weight", {config.d_model}, Init::constant(1));
  if (config.norm == "layer") declare.exempt(name + ".bias", {config.d_model}, Init::constant(0));
}

at::Tensor apply_norm(const ModelConfig& config, const Scope& norm, const at::Tensor& x,
                      at::ScalarType activations) {
  if (config.norm == "layer")
    return kernels::layer_norm(x, norm["weight"], norm["bias"], config.norm_eps, activations);
  return kernels::rms_norm(x, norm["weight"], config.norm_eps, activations);
}

namespace {

/// Only where activations are bfloat16 the stream can be.
at::Tensor stream_of(const ModelConfig& config, const at::Tensor& embedded, at::ScalarType activations) {
  return config.residual_dtype == "bf16" && activations == at::kBFloat16 ? embedded.to(activations)
                                                                         : embedded;
}

}  // namespace

Stream enter(const ModelConfig& config, const at::Tensor& embedded, const Scope& norm,
             at::ScalarType activations) {
  const at::Tensor h = stream_of(config, embedded, activations);
  if (config.block_norm == "post") return {h, h.to(activations)};
  return {h, apply_norm(config, norm, h, activations)};
}

Stream add(const ModelConfig& config, const Stream& stream, const at::Tensor& y,
           const std::optional<at::Tensor>& output_norm, const Scope& norm, const Scope& next, bool last) {
  const at::ScalarType activations = y.scalar_type();
  if (config.block_norm == "pre" && config.norm == "rms") {
    const kernels::ResidualNorm passed =
        kernels::residual_norm(stream.h, y, output_norm, next["weight"], config.norm_eps);
    return {passed.h, passed.u};
  }
  const at::Tensor sum = stream.h + (output_norm ? kernels::rms_norm(y, *output_norm, config.norm_eps) : y);
  if (config.block_norm == "pre") return {sum, apply_norm(config, next, sum, activations)};
  const at::Tensor h = apply_norm(config, norm, sum, stream.h.scalar_type());
  return {h, last ? apply_norm(config, next, h, activations) : h.to(activations)};
}

StepStream::StepStream(const ModelConfig& config, at::Tensor h, at::ScalarType activations, const Scope& norm,
                       kernels::DecodeChain& chain)
    : chain_(&chain) {
  pending_ = config.block_norm == "pre" && config.norm == "rms";
  if (pending_) {
    in_front_ = {stream_of(config, h, activations), std::nullopt, std::nullopt, norm["weight"],
                 config.norm_eps};
    return;
  }
  const Stream entered = enter(config, h, norm, activations);
  in_front_.h = entered.h, u_ = entered.u;
}

StepStream::StepStream(const ModelConfig& config, const StepStream& stream, const at::Tensor& y,
                       const std::optional<at::Tensor>& output_norm, const Scope& before, const Scope& norm,
                       bool last)
    : chain_(stream.chain_), pending_(stream.pending_) {
  if (pending_) {
    in_front_ = {stream.in_front_.h, y, output_norm, norm["weight"], config.norm_eps};
    return;
  }
  chain_->run();
  const Stream passed = add(config, {stream.in_front_.h, stream.u_}, y, output_norm, before, norm, last);
  in_front_.h = passed.h, u_ = passed.u;
}

at::Tensor StepStream::product(const kernels::Weight& matrix) {
  const at::Tensor result = queued_product(matrix);
  chain_->run();
  return result;
}

at::Tensor StepStream::queued_product(const kernels::Weight& matrix) {
  if (!pending_) return kernels::linear(u_, matrix);
  const kernels::NormedProduct result = kernels::norm_linear(in_front_, matrix, *chain_);
  in_front_.h = result.h, in_front_.y.reset();
  return result.product;
}

}  // namespace dm::model
