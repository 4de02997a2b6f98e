#include "data/tokenizers/huggingface.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/tokenizers/nfc.h"
#include "data/tokenizers/tokenizer_json.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

constexpr int64_t kLargestConfigBytes = 64 << 20;
constexpr size_t kLookBackBytes = 128 << 10;  // how far from the end a place to cut is looked for

constexpr const char* kEndNames[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

/// Patterns that end a word between a letter or digit and a blank, whatever follows, and begin one at that
/// blank, whatever came before: text may be cut there. By name, since no look at a pattern proves it.
constexpr const char* kCuttable[] = {
    kGpt2Pattern,  // and GPT-NeoX
    // GPT-4 and Llama 3, Qwen 2
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    // GPT-4o
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"(\p{N})", R"(\p{N}+)", R"(\p{N}{1,3})"};

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/// Whether a cut between a letter or digit and a blank can part the token, or part it from blanks that it
/// takes.
bool parted_by_cut(const AddedToken& token) {
  const std::string& text = token.content;
  for (size_t i = 1; i < text.size(); ++i)
    if (is_blank(text[i]) && !is_blank(text[i - 1])) return true;
  const auto last = static_cast<unsigned char>(text.back());
  return token.rstrip && (std::isalnum(last) || last >= 0x80);
}

bool can_be_cut(const TokenizerJson& parts) {
  for (const SplitStage& stage : parts.stages)
    if (std::find(std::begin(kCuttable), std::end(kCuttable), stage.pattern.text()) == std::end(kCuttable))
      return false;
  return !parts.stages.empty() && std::none_of(parts.raw.begin(), parts.raw.end(), parted_by_cut) &&
         std::none_of(parts.normalised.begin(), parts.normalised.end(), parted_by_cut);
}

/// What tokenizer_config.json beside the file calls eos_token; "" when there is none.
std::string configured_end(const std::string& path) {
  const std::filesystem::path config = std::filesystem::path(path).parent_path() / "tokenizer_config.json";
  std::error_code absent;
  if (!std::filesystem::exists(config, absent)) return "";
  const Json json = parse_json(read_file(config.string(), kLargestConfigBytes), config.string());
  if (!json.is_object() || !json.contains("eos_token")) return "";
  const Json& token = json["eos_token"];
  if (token.is_object()) return required<std::string>(token, "content", config.string() + ": eos_token");
  return token.is_string() ? token.get<std::string>() : "";
}

class HuggingFaceTokenizer final : public Tokenizer {
 public:
  HuggingFaceTokenizer(std::string file, const std::string& path, const EndOfDocument& end)
      : file_(std::move(file)),
        parts_(parse_tokenizer_json(file_, path)),
        cuttable_(can_be_cut(parts_)),
        raw_(parts_.raw),
        normalised_(parts_.normalised),
        letter_("[\\p{L}\\p{N}]", path),
        eos_id_(find_end(path, end)) {}

  const std::string& name() const override { return name_; }
  const std::string& file() const override { return file_; }
  int64_t vocab_size() const override { return parts_.vocab_size(); }
  int64_t eos_id() const override { return eos_id_; }
  Hash128 hash() const override { return xxh3_128(file_.data(), file_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const Borrowed scratch(*this);
    text = replace_invalid_utf8(text, scratch->valid);
    raw_.split(text, [&](std::string_view piece, int32_t id) {
      if (id >= 0) return ids.push_back(id);
      if (parts_.nfc) piece = to_nfc(piece, scratch->normalised);
      normalised_.split(piece, [&](std::string_view words, int32_t token) {
        if (token >= 0) return ids.push_back(token);
        if (parts_.prefix_blank && words[0] != ' ') words = scratch->prefixed = " " + std::string(words);
        encode_piece(words, 0, *scratch.get(), ids);
      });
    });
  }

  size_t complete_prefix(std::string_view text) const override {
    if (!cuttable_) return 0;
    const Borrowed scratch(*this);
    const size_t lowest = text.size() > kLookBackBytes ? text.size() - kLookBackBytes : 1;
    for (size_t at = text.size(); at-- > lowest;) {
      if (parts_.prefix_blank ? text[at] != ' ' : !is_blank(text[at])) continue;
      if (ends_with_letter(text.substr(0, at), *scratch.get())) return at;
    }
    return 0;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    for (const int32_t id : ids)
      if (id != eos_id_) text += text_of(id);
    return text;
  }
  int64_t byte_count(int32_t id) const override {
    return id == eos_id_ ? 0 : static_cast<int64_t>(text_of(id).size());
  }

 private:
  struct Scratch {
    Pattern::Scratch pattern;
    Bpe::Scratch bpe;
    std::string valid, normalised, prefixed;
  };

  /// Scratch for the time of one call; what it remembers of words outlives the call.
  class Borrowed {
   public:
    explicit Borrowed(const HuggingFaceTokenizer& owner) : owner_(owner) {
      const std::lock_guard lock(owner.mutex_);
      if (owner.idle_.empty()) owner.idle_.push_back(std::make_unique<Scratch>());
      scratch_ = std::move(owner.idle_.back());
      owner.idle_.pop_back();
    }
    ~Borrowed() {
      const std::lock_guard lock(owner_.mutex_);
      owner_.idle_.push_back(std::move(scratch_));
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    Scratch* operator->() const { return scratch_.get(); }
    Scratch* get() const { return scratch_.get(); }

   private:
    const HuggingFaceTokenizer& owner_;
    std::unique_ptr<Scratch> scratch_;
  };

  /// The stages from `stage` on, each of which cuts what the one before it left whole; then the words' pairs.
  void encode_piece(std::string_view piece, size_t stage, Scratch& scratch, std::vector<int32_t>& ids) const {
    if (piece.empty()) return;
    if (stage == parts_.stages.size()) return parts_.bpe.encode(piece, scratch.bpe, ids);
    const SplitStage& split = parts_.stages[stage];
    size_t done = 0, begin = 0, end = 0;
    while (done < piece.size() && split.pattern.find(piece, done, scratch.pattern, begin, end)) {
      if (split.keep != SplitStage::Keep::matches)
        encode_piece(piece.substr(done, begin - done), stage + 1, scratch, ids);
      if (split.keep != SplitStage::Keep::others)
        encode_piece(piece.substr(begin, end - begin), stage + 1, scratch, ids);
      done = end;
    }
    if (split.keep != SplitStage::Keep::matches) encode_piece(piece.substr(done), stage + 1, scratch, ids);
  }

  bool ends_with_letter(std::string_view text, Scratch& scratch) const {
    size_t start = text.size();
    do --start;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80);
    const std::string_view last = text.substr(start);
    if (utf8_length(last) != last.size()) return false;
    size_t begin = 0, end = 0;
    return letter_.find(last, 0, scratch.pattern, begin, end);
  }

  const std::string& text_of(int32_t id) const {
    DM_REQUIRE(id >= 0 && id < vocab_size(), ExitCode::bad_data,
               "id {} is outside the {} ids of the tokenizer file", id, vocab_size());
    return parts_.texts[static_cast<size_t>(id)];
  }

  int64_t find_end(const std::string& path, const EndOfDocument& end) const {
    if (end.id >= 0) return end.id;
    std::vector<std::string> names = {end.token};
    if (end.token.empty()) names = {configured_end(path)};
    if (names[0].empty()) names.assign(std::begin(kEndNames), std::end(kEndNames));
    for (const std::string& name : names)
      if (const auto found = parts_.specials.find(name); found != parts_.specials.end()) return found->second;
    DM_FAIL(ExitCode::usage, "{}: no added token '{}' to end documents with; name one with --eos-token", path,
            fmt::join(names, "' or '"));
  }

  std::string name_ = "tokenizer.json";
  std::string file_;
  TokenizerJson parts_;
  bool cuttable_;
  AddedTokens raw_, normalised_;
  Pattern letter_;
  int64_t eos_id_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_huggingface_tokenizer(std::string file, const std::string& path,
                                                      const EndOfDocument& end) {
  return std::make_unique<HuggingFaceTokenizer>(std::move(file), path, end);
}

}  // namespace dm::data
