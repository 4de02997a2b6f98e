#pragma once
// A Hugging Face tokenizer.json, taken apart. Whatever this version would treat otherwise than the
// `tokenizers` package is refused (ExitCode::bad_data) with the component's name.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/tokenizers/added_tokens.h"
#include "data/tokenizers/bpe.h"
#include "data/tokenizers/pattern.h"

namespace dm::data {

/// The pattern of GPT-2, which `ByteLevel` means.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Cuts a piece of text into smaller ones.
struct SplitStage {
  enum class Keep { all, matches, others };  // which parts become pieces; the others are dropped
  Pattern pattern;
  Keep keep = Keep::all;
};

struct TokenizerJson {
  bool nfc = false;
  std::vector<SplitStage> stages;
  bool prefix_blank = false;                // a piece that does not begin with a blank gets one
  std::vector<AddedToken> raw, normalised;  // found before and after normalisation
  std::map<std::string, int32_t> specials;  // added tokens by content
  std::vector<std::string> texts;           // of each id, in bytes
  Bpe bpe;
  int64_t vocab_size() const { return static_cast<int64_t>(texts.size()); }
};

TokenizerJson parse_tokenizer_json(const std::string& text, const std::string& where);

}  // namespace dm::data
