#include "model/residual.h"

#include "kernels/norm/norm.h"

namespace dm::model {

void declare_norm(const ModelConfig& config, const std::string& name, const Declare& declare) {
  declare.exempt(name + ".weight", {config.d_model}, Init::constant(1));
  if (config.norm == "layer") declare.exempt(name + ".bias", {config.d_model}, Init::constant(0));
}

at::Tensor apply_norm(const ModelConfig& config, const Scope& norm, const at::Tensor& x) {
  if (config.norm == "layer") return kernels::layer_norm(x, norm["weight"], norm["bias"], config.norm_eps);
  return kernels::rms_norm(x, norm["weight"], config.norm_eps);
}

at::Tensor add_block(const ModelConfig& config, const Scope& norm, const at::Tensor& h,
                     const std::function<at::Tensor(const at::Tensor&)>& block) {
  if (config.block_norm == "post") return apply_norm(config, norm, h + block(h));
  return h + block(apply_norm(config, norm, h));
}

}  // namespace dm::model
