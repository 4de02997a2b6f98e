#pragma once
// Choosing the next token from logits. A draw is a function of (seed, row, position) alone, so the text of a
// prompt does not depend on which prompts it is batched with.

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/fields.h"

namespace dm::model {

struct SamplingConfig {
  double temperature = 1.0;  // 0: the most likely token
  int64_t top_k = 0;
  double top_p = 1.0;
  int64_t seed = 1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("temperature", self.temperature, "logits are divided by it; 0 takes the most likely token",
      Range{0, 1000});
    v("top_k", self.top_k, "draw from the k most likely tokens only; 0: from all", Range{0, 4294967296.0});
    v("top_p", self.top_p, "draw from the fewest most likely tokens that hold this probability; 1: from all",
      Range{0, 1});
    v("seed", self.seed, "of the draws", Range{0, 9007199254740992.0});
  }
};

/// Where in which text a token is drawn: `row` is the text's number over all batches, `position` the token's
/// in it.
struct DrawAt {
  int64_t row;
  int64_t position;
};

/// logits [B, V] and B places -> ids [B] int64. Among equal logits the smaller id counts as more likely.
/// Logits that are not finite are refused (ExitCode::internal).
at::Tensor sample(const at::Tensor& logits, const SamplingConfig& config, const std::vector<DrawAt>& places);

}  // namespace dm::model
