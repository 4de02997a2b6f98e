#include "launch/generator.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/signals.h"

namespace dm::launch {

std::vector<GeneratedText> generate(const model::LanguageModel& model,
                                    const std::vector<std::vector<int32_t>>& prompts, int64_t first_row,
                                    const data::Tokenizer& tokenizer, int64_t max_tokens,
                                    const model::SamplingConfig& sampling,
                                    const std::function<void(int64_t, int32_t)>& on_token,
                                    GenerationStats* stats) {
  const c10::InferenceMode no_gradients;
  const int64_t eos_id = tokenizer.eos_id();
  const int64_t drawable = std::min(tokenizer.vocab_size(), model.config().vocab_size);
  const auto rows = static_cast<int64_t>(prompts.size());
  std::vector<GeneratedText> texts(prompts.size());
  std::vector<std::vector<int32_t>> fed = prompts;  // what each row has been or will be given
  for (std::vector<int32_t>& row : fed)
    if (row.empty()) {
      DM_REQUIRE(eos_id >= 0, ExitCode::usage,
                 "an empty prompt needs a tokenizer with an end-of-text token; give --prompt");
      row.push_back(static_cast<int32_t>(eos_id));  // documents follow one
    }

  const auto start = std::chrono::steady_clock::now();
  model::Decoder decoder(model, rows);
  const auto finished = [&](int64_t r) {
    return texts[r].ended || static_cast<int64_t>(texts[r].ids.size()) >= max_tokens;
  };
  int64_t position = 0;
  for (bool open = true; open && stop_requested() == StopRequest::none; ++position) {
    at::Tensor ids = at::empty({rows}, at::kLong);
    std::vector<model::DrawAt> places;
    for (int64_t r = 0; r < rows; ++r) {
      // A row that has ended is fed its last token again: its result is not looked at.
      ids.data_ptr<int64_t>()[r] =
          fed[r][std::min<int64_t>(position, static_cast<int64_t>(fed[r].size()) - 1)];
      places.push_back({first_row + r, position});
    }
    const at::Tensor logits = decoder.step(ids).narrow(1, 0, drawable);
    const at::Tensor next = model::sample(logits, sampling, places);
    open = false;
    for (int64_t r = 0; r < rows; ++r) {
      const bool in_prompt = position + 1 < static_cast<int64_t>(fed[r].size());
      if (!in_prompt && !finished(r)) {
        const auto id = static_cast<int32_t>(next.data_ptr<int64_t>()[r]);
        texts[r].ended = id == eos_id;
        if (!texts[r].ended) {
          texts[r].ids.push_back(id);
          fed[r].push_back(id);
          on_token(r, id);
        }
      }
      open = open || in_prompt || !finished(r);
    }
  }
  if (stats)
    *stats = {position, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
  return texts;
}

}  // namespace dm::launch
