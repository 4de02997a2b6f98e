// Named sizes: the table of docs/model.md, and the small ones.

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "model/config.h"

namespace dm::model {
namespace {

/// What tells the four families apart.
struct Family {
  const char* name;
  const char* mixer;
  bool differential;
  const char* lambda;   // as each published code has it
  int64_t published_n;  // d_state of the published sizes
};
constexpr Family kFamilies[] = {{"diffmamba2", "mamba2", true, "sigmoid_sum", 128},
                                {"mamba2", "mamba2", false, "sigmoid_sum", 128},
                                {"diffmamba1", "mamba1", true, "exp_diff", 16},
                                {"mamba1", "mamba1", false, "exp_diff", 16}};

constexpr int64_t kNeoXVocabulary = 50280;  // GPT-NeoX-20B's tokenizer
constexpr int64_t kByteVocabulary = 257;    // 256 bytes and the end of a document

/// The published sizes, in every family.
struct Size {
  const char* name;
  int64_t d_model, layers, head_dim, head_dim_plain;
};
constexpr Size kSizes[] = {{"130m", 768, 24, 32, 64},  {"370m", 1024, 48, 32, 64},
                           {"790m", 1536, 48, 32, 64}, {"1.3b", 2048, 48, 32, 64},
                           {"2.7b", 2560, 64, 32, 64}, {"6.9b", 4096, 64, 64, 64}};

struct Preset {
  std::string name;
  ModelConfig config;
};

ModelConfig family_config(const Family& family, int64_t layers) {
  ModelConfig c;
  c.mixer = family.mixer;
  c.lambda = family.lambda;
  c.pattern = family.differential ? "all" : fmt::format("M*{}", layers);
  c.layers = layers;
  return c;
}

ModelConfig published(const Family& family, const Size& size) {
  ModelConfig c = family_config(family, size.layers);
  c.d_model = size.d_model;
  c.vocab_size = kNeoXVocabulary;
  c.d_state = family.published_n;
  c.head_dim = size.head_dim;
  c.head_dim_plain = size.head_dim_plain;
  return c;
}

/// Trains on a CPU: the demo.
ModelConfig tiny(const Family& family) {
  ModelConfig c = family_config(family, 4);
  c.d_model = 192;
  c.vocab_size = kByteVocabulary;
  c.d_state = family.mixer == std::string("mamba2") ? 32 : 8;
  c.head_dim = 32;
  c.head_dim_plain = 64;
  c.chunk_size = 64;
  return c;
}

/// Every letter, eight heads a branch: small enough to compare layouts in float64, and divisible by 2, 4 and
/// 8 ranks.
ModelConfig parity(const Family& family) {
  ModelConfig c = family_config(family, 4);
  c.pattern = family.differential ? "DMSF" : "MFMF";
  c.d_model = 64;
  c.vocab_size = kByteVocabulary;
  c.d_state = 16;
  c.head_dim = 8;
  c.head_dim_plain = 16;
  c.chunk_size = 32;
  return c;
}

/// The paper's language-modelling stacks, (DDF)×6 and ×12, and the plain ones that they are compared with,
/// (MMF)×6 and ×12.
ModelConfig paper(const Family& family, int64_t repeats) {
  ModelConfig c = family_config(family, 0);
  c.pattern = fmt::format("({})*{}", family.differential ? "DDF" : "MMF", repeats);
  c.d_model = 1024;
  c.vocab_size = kNeoXVocabulary;
  c.d_state = 64;
  c.head_dim = c.head_dim_plain = 64;
  c.norm = "layer";
  c.block_norm = "post";
  return c;
}

std::vector<Preset> make_presets() {
  std::vector<Preset> presets;
  const auto add = [&](std::string name, ModelConfig config) {
    config.preset = name;
    presets.push_back({std::move(name), std::move(config)});
  };
  for (const Family& family : kFamilies) {
    const std::string prefix = std::string(family.name) + "-";
    for (const Size& size : kSizes) add(prefix + size.name, published(family, size));
    add(prefix + "tiny", tiny(family));
    add(prefix + "parity", parity(family));
  }
  for (const Family& family : {kFamilies[0], kFamilies[1]})
    for (const int64_t repeats : {6, 12})
      add(fmt::format("{}-paper{}", family.name, repeats), paper(family, repeats));
  return presets;
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = make_presets();
  return all;
}

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return names;
}

void apply_preset(ModelConfig& config, const std::string& preset) {
  const auto found =
      std::find_if(presets().begin(), presets().end(), [&](const Preset& p) { return p.name == preset; });
  DM_REQUIRE(found != presets().end(), ExitCode::usage, "--preset {}: no such preset; known: {}", preset,
             fmt::join(preset_names(), ", "));
  config = found->config;
}

}  // namespace dm::model
