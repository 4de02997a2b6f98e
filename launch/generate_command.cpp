#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "launch/command.h"
#include "launch/generator.h"
#include "launch/threads.h"
#include "launch/trained_model.h"

namespace dm::launch {
namespace {

constexpr int64_t kLargestPromptFileBytes = 256 << 20;

struct GenerateOptions {
  std::string checkpoint;
  std::string prompt;
  std::string prompts;
  int64_t max_tokens = 256;
  int64_t batch = 32;
  int64_t threads = 0;
  bool json = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("checkpoint", self.checkpoint, "run or checkpoint folder");
    v("prompt", self.prompt, "text to continue; empty: a new document");
    v("prompts", self.prompts, "file with one prompt a line, instead of --prompt");
    v("max_tokens", self.max_tokens, "new tokens at most, per prompt", Range{0, 1e9});
    v("batch", self.batch, "prompts decoded side by side", Range{1, 65536});
    v("threads", self.threads, "CPU threads; 0: all cores", Range{0, 4096});
    v("json", self.json, "print one JSON object a prompt instead of text");
  }
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

class GenerateCommand final : public Command {
 public:
  GenerateCommand() {
    table_.add("generate", options_);
    table_.add("sampling", sampling_);
    table_.add("place", place_);
  }

  const char* name() const override { return "generate"; }
  const char* summary() const override { return "continue prompts with a trained model"; }
  const char* description() const override {
    return "Decodes token by token with a state of constant size. The text of a prompt depends on its number "
           "and the seed, not on the\n"
           "prompts it is batched with.";
  }

  ExitCode run(const Invocation&) override {
    DM_REQUIRE(!options_.checkpoint.empty(), ExitCode::usage,
               "generate: --checkpoint is missing: name a run or checkpoint folder");
    DM_REQUIRE(options_.prompt.empty() || options_.prompts.empty(), ExitCode::usage,
               "generate: --prompt and --prompts exclude each other");
    std::vector<std::string> prompts = {options_.prompt};
    if (!options_.prompts.empty()) prompts = lines_of(read_file(options_.prompts, kLargestPromptFileBytes));
    DM_REQUIRE(!prompts.empty(), ExitCode::bad_data, "{}: no prompt in it; write one a line",
               options_.prompts);

    use_threads(options_.threads, 1);
    TrainedModel trained = load_trained_model(options_.checkpoint);
    const auto tokenizer = open_trained_tokenizer(trained);
    const auto model = place(trained, place_);
    for (size_t begin = 0; begin < prompts.size(); begin += static_cast<size_t>(options_.batch))
      continue_batch(*model, *tokenizer, prompts, begin,
                     std::min(prompts.size(), begin + static_cast<size_t>(options_.batch)));
    return ExitCode::ok;
  }

 private:
  void continue_batch(const model::LanguageModel& model, const data::Tokenizer& tokenizer,
                      const std::vector<std::string>& prompts, size_t begin, size_t end) const {
    std::vector<std::vector<int32_t>> ids;
    for (size_t i = begin; i < end; ++i) tokenizer.encode(prompts[i], ids.emplace_back());
    const bool stream = prompts.size() == 1 && !options_.json;  // one text is shown as it comes
    if (stream) print(prompts[0]);
    data::StreamDecoder decoder(tokenizer);
    GenerationStats stats;
    const auto texts = generate(
        model, ids, static_cast<int64_t>(begin), tokenizer, options_.max_tokens, sampling_,
        [&](int64_t, int32_t id) {
          if (stream) print(decoder.push(&id, 1));
        },
        &stats);
    if (stream) print(decoder.finish() + "\n");
    for (size_t i = 0; i < texts.size() && !stream; ++i) {
      const std::string text = tokenizer.decode(texts[i].ids);
      if (options_.json) {
        const Json line = {{"prompt", prompts[begin + i]},
                           {"text", text},
                           {"tokens", texts[i].ids.size()},
                           {"ended", texts[i].ended}};
        print(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
      } else {
        print(fmt::format("--- {}\n{}{}\n", begin + i + 1, prompts[begin + i], text));
      }
    }
    log_info("{} steps of {} text{} in {:.2f} s: {:.0f} steps/s", stats.steps, texts.size(),
             texts.size() == 1 ? "" : "s", stats.seconds, static_cast<double>(stats.steps) / stats.seconds);
  }

  static void print(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  GenerateOptions options_;
  model::SamplingConfig sampling_;
  PlaceOptions place_;
};

}  // namespace

std::unique_ptr<Command> make_generate_command() { return std::make_unique<GenerateCommand>(); }

}  // namespace dm::launch
