#pragma once
// Models of other programs as runs: a folder with config.json and safetensors (or a state dict of torch)
// becomes a run folder with one checkpoint at step 0, which eval, generate, inspect, export and train
// --init-from take.

#include <cstdint>
#include <string>

#include "core/fields.h"

namespace dm::train {

struct ImportConfig {
  std::string input;
  std::string output;
  std::string tokenizer;
  int64_t swap_last = 0;
  std::string swap_split = "head";
  int64_t seed = 1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("input", self.input,
      "folder with config.json and the weights, as transformers or state-spaces write them");
    v("output", self.output, "run folder to make", Affects::output);
    v("tokenizer", self.tokenizer,
      "tokenizer file; empty: tokenizer.json or tokenizer.model of the input, if any");
    v("swap_last", self.swap_last, "make this many of the last plain layers differential", Range{0, 4096});
    v("swap_split", self.swap_split,
      "what the branches take: half of every head's channels, or the first and last rows as the published "
      "code",
      Choices{{"head", "rows"}});
    v("seed", self.seed, "seed of the parameters that a swapped layer does not inherit", Range{0, 9.0e18});
  }
};

/// Bounded memory: weights go through an unnamed file beside the output. Throws ExitCode::bad_data for what
/// is damaged or not known to this version, ExitCode::usage when the output holds a run.
void import_model(const ImportConfig& config);

}  // namespace dm::train
