#pragma once
// Text from a model: prompts of any lengths decoded side by side, one token of each a step.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/language_model.h"
#include "model/sampling.h"

namespace dm::launch {

struct GeneratedText {
  std::vector<int32_t> ids;  // without the prompt, without the end-of-text token
  bool ended = false;        // by the end-of-text token
};

struct GenerationStats {
  int64_t steps = 0;  // decoding steps, prompts included
  double seconds = 0;
};

/// Continues each prompt by at most `max_tokens`. A text stops at the tokenizer's end-of-text token. An empty
/// prompt starts a new document. Ids that the model has beyond the tokenizer's, as vocabularies padded to a
/// round size do, are never drawn. `on_token(row, id)` is called for every new token, in order. What a prompt
/// gets depends on its number (first_row + its index) and the seed, not on its companions.
std::vector<GeneratedText> generate(const model::LanguageModel& model,
                                    const std::vector<std::vector<int32_t>>& prompts, int64_t first_row,
                                    const data::Tokenizer& tokenizer, int64_t max_tokens,
                                    const model::SamplingConfig& sampling,
                                    const std::function<void(int64_t, int32_t)>& on_token,
                                    GenerationStats* stats = nullptr);

}  // namespace dm::launch
