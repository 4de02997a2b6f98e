#include "model/config.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "model/adaptive_softmax.h"
#include "model/lambda.h"
#include "model/layers/registry.h"

namespace dm::model {

void validate(const ModelConfig& config) {
  const std::string letters = layer_letters(config);
  const MixerKind& mixer = mixer_kind(config.mixer);
  validate_cutoffs(config);
  lambda_form(config.lambda);
  for (const LayerKind* kind : layer_kinds())
    if (letters.find(kind->letter()) != std::string::npos) kind->validate(config);
  DM_REQUIRE(mixer.has_heads() || config.norm_group == "all", ExitCode::usage,
             "--norm-group {}: {} has no gated norm to group; legal with --mixer {}: all", config.norm_group,
             config.mixer, config.mixer);
  DM_REQUIRE(mixer.has_heads() || config.n_groups == 1, ExitCode::usage,
             "--n-groups {}: {} has one B and C a branch; legal with --mixer {}: 1", config.n_groups,
             config.mixer, config.mixer);
  DM_REQUIRE(config.dt_limit_max == 0 || config.dt_limit_max >= config.dt_limit_min, ExitCode::usage,
             "--dt-limit-min {} is above --dt-limit-max {}; 0 means none", config.dt_limit_min,
             config.dt_limit_max);
}

void check_device(const ModelConfig& config, bool on_gpu) {
  DM_REQUIRE(!on_gpu || config.cutoffs.empty(), ExitCode::usage,
             "--cutoffs {}: the adaptive softmax is computed on CPUs alone; on a GPU leave --cutoffs away: "
             "the plain "
             "softmax is exact, and its logits are never held",
             fmt::join(config.cutoffs, ","));
}

}  // namespace dm::model
