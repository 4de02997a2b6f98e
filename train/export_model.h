#pragma once
// A checkpoint as other programs read it: safetensors, config.json, generation_config.json, the tokenizer's
// file.

#include <cstdint>
#include <string>

#include "core/fields.h"

namespace dm::train {

struct ExportConfig {
  std::string checkpoint;
  std::string output;
  int64_t shard_bytes = 5'000'000'000;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("checkpoint", self.checkpoint, "run or checkpoint folder");
    v("output", self.output, "folder to make", Affects::output);
    v("shard_bytes", self.shard_bytes, "bytes after which weights go on in another file, with an index",
      Range{1, 9.0e18});
  }
};

/// From any training layout, in bounded memory; the output appears when it is complete. Returns the layout's
/// name (model/interchange.h).
std::string export_model(const ExportConfig& config);

}  // namespace dm::train
