#include "model/mixers/mixer.h"

#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/linear/linear.h"

namespace dm::model {

const MixerKind& mixer_kind(const std::string& name) {
  for (const MixerKind* kind : {&mamba2_kind(), &mamba1_kind()})
    if (name == kind->name()) return *kind;
  DM_FAIL(ExitCode::usage, "--mixer: '{}' is no mixer; known: mamba2, mamba1", name);
}

at::Tensor Mixer::output(const at::Tensor& projected, const kernels::Documents& documents,
                         const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj) const {
  return kernels::linear(gated(projected, documents, scale), out_proj);
}

at::Tensor Mixer::output_step(const at::Tensor& projected, DecodeState& state,
                              const std::optional<at::Tensor>& scale, const kernels::Weight& out_proj,
                              kernels::DecodeChain& chain) const {
  chain.run();
  return kernels::linear(gated_step(projected, state, scale), out_proj);
}

std::vector<int64_t> MixerPart::branches() const {
  std::vector<int64_t> present;
  for (int64_t b = 0; b < static_cast<int64_t>(dealt.size()); ++b)
    if (!units(b).empty()) present.push_back(b);
  return present;
}

bool MixerPart::splits_branches(int64_t units) const {
  for (const std::vector<Run>& branch : dealt)
    for (const Run& run : branch)
      if (!run.empty() && run.count() < units) return true;
  return false;
}

void declare_branch(const ModelConfig& config, const Branch& branch, const std::vector<Run>& dealt,
                    const Declare& declare) {
  for (const BranchParameter& p : mixer_kind(config.mixer).parameters(config, branch, dealt))
    declare.parameter(p.stem + p.leaf, p.shape, p.decay, p.init, p.cut);
}

std::vector<CarriedTensor> window_and_state(const ModelConfig& config, Cut channels, int64_t channel_count,
                                            std::vector<int64_t> state, Cut units) {
  std::vector<CarriedTensor> all;
  if (config.d_conv > 1) all.push_back({"conv", {channel_count, config.d_conv - 1}, std::move(channels)});
  all.push_back({"scan", std::move(state), std::move(units)});
  return all;
}

std::vector<StageCost> mixer_layer_stages(const ModelConfig& config, const Branch& branch, int64_t branches,
                                          int64_t out_width, int64_t more_rows) {
  const MixerKind& kind = mixer_kind(config.mixer);
  int64_t rows = more_rows;
  for (const BranchParameter& p : kind.parameters(config, branch, {}))
    if (p.stem == "in_proj") rows += branches * p.shape[0];
  std::vector<StageCost> stages = {residual_cost(config.d_model),
                                   linear_cost("in_proj", config.d_model, rows)};
  for (StageCost& stage : kind.stages(config, branch, branches)) stages.push_back(std::move(stage));
  stages.push_back(linear_cost("out_proj", out_width, config.d_model));
  return stages;
}

at::Tensor step_size(const ModelConfig& config, const at::Tensor& dt) {
  const at::Tensor step = at::softplus(dt);
  if (config.dt_limit_min <= 0 && config.dt_limit_max <= 0) return step;
  const double top = config.dt_limit_max > 0 ? config.dt_limit_max : std::numeric_limits<double>::infinity();
  return step.clamp(config.dt_limit_min, top);
}

Init out_proj_init(const ModelConfig& config, int64_t fan_in) {
  return Init::linear(fan_in, std::sqrt(static_cast<double>(layer_letters(config).size())));
}

}  // namespace dm::model
