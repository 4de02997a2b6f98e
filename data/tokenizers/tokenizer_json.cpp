#include "data/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "core/error.h"
#include "core/json.h"
#include "data/tokenizers/nfc.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

constexpr int64_t kMaxIds = int64_t{1} << 24;
constexpr int64_t kMaxIdsPerToken = 16, kFreeIds = 4096;  // ids without a token take memory too

/// ByteLevel writes a byte as one character: itself where it is visible Latin-1, the next free one from
/// U+0100 on where it is not.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const int c = visible ? byte : next++;
      text_[static_cast<size_t>(byte)] =
          c < 0x80 ? std::string(1, static_cast<char>(c))
                   : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
      bytes_[text_[static_cast<size_t>(byte)]] = static_cast<char>(byte);
    }
  }

  const std::string& text(int byte) const { return text_[static_cast<size_t>(byte)]; }
  /// The bytes that `text` writes; `text` itself where a character is none of the alphabet.
  std::string bytes(const std::string& text) const {
    std::string result;
    for (size_t at = 0; at < text.size();) {
      const size_t length = utf8_length(std::string_view(text).substr(at));
      const auto found = bytes_.find(text.substr(at, length));
      if (found == bytes_.end()) return text;
      result.push_back(found->second);
      at += length;
    }
    return result;
  }

 private:
  std::array<std::string, 256> text_;
  std::unordered_map<std::string, char> bytes_;
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet one;
  return one;
}

/// A part of the file, and what it is called in messages.
struct Part {
  const Json& json;
  std::string where;

  [[noreturn]] void refuse(const std::string& what) const {
    DM_FAIL(ExitCode::bad_data, "{}: {} is not supported", where, what);
  }
  bool empty() const { return json.is_null(); }
  bool has(const char* key) const { return json.is_object() && json.contains(key) && !json[key].is_null(); }
  Part operator[](const char* key) const {
    static const Json null;
    return {json.is_object() && json.contains(key) ? json[key] : null, fmt::format("{}: {}", where, key)};
  }
  std::string type() const { return required<std::string>(json, "type", where); }
  bool flag(const char* key, bool missing) const {
    return has(key) ? required<bool>(json, key, where) : missing;
  }
  std::vector<Part> items(const char* key) const {
    const Part list = (*this)[key];
    DM_REQUIRE(list.json.is_array(), ExitCode::bad_data, "{} is not a list", list.where);
    std::vector<Part> parts;
    for (const Json& item : list.json)
      parts.push_back({item, fmt::format("{}[{}]", list.where, parts.size())});
    return parts;
  }
};

bool reads_nfc(const Part& normalizer) {
  if (normalizer.empty()) return false;
  const std::string type = normalizer.type();
  if (type == "NFC") return true;
  if (type != "Sequence") normalizer.refuse(type);
  bool nfc = false;
  for (const Part& item : normalizer.items("normalizers")) nfc = reads_nfc(item) || nfc;
  return nfc;
}

SplitStage read_split(const Part& split) {
  const Part pattern = split["pattern"];
  std::string text;
  if (pattern.has("Regex")) {
    text = required<std::string>(pattern.json, "Regex", pattern.where);
  } else {
    for (const char c : required<std::string>(pattern.json, "String", pattern.where)) {
      if (static_cast<unsigned char>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c))) text += '\\';
      text += c;
    }
  }
  const auto behavior = required<std::string>(split.json, "behavior", split.where);
  const bool invert = split.flag("invert", false);
  if (behavior != "Isolated" && behavior != "Removed") split.refuse("behavior " + behavior);
  const auto keep = behavior == "Isolated" ? SplitStage::Keep::all
                    : invert               ? SplitStage::Keep::matches
                                           : SplitStage::Keep::others;
  return {Pattern(text, pattern.where), keep};
}

class Reader {
 public:
  Reader(const std::string& text, const std::string& where)
      : json_(parse_json(text, where)), root_{json_, where} {}

  TokenizerJson result() {
    for (const char* part : {"truncation", "padding"})
      if (root_.has(part)) root_[part].refuse("anything but null; set it so in a copy of the file. It");
    nfc_ = reads_nfc(root_["normalizer"]);
    DM_REQUIRE(!root_["pre_tokenizer"].empty(), ExitCode::bad_data,
               "{}: pre_tokenizer: none is not supported", root_.where);
    read_pre_tokenizer(root_["pre_tokenizer"]);
    if (!byte_level_) root_["pre_tokenizer"].refuse("a list without ByteLevel at its end");
    check_decoder(root_["decoder"]);
    count_tokens();
    read_vocabulary(root_["model"]);
    read_added_tokens();
    return {nfc_,      std::move(stages_), prefix_blank_,           std::move(raw_), std::move(normalised_),
            specials_, std::move(texts_),  read_bpe(root_["model"])};
  }

 private:
  void read_pre_tokenizer(const Part& part) {
    if (byte_level_) part.refuse("anything behind ByteLevel");
    const std::string type = part.type();
    if (type == "Sequence") {
      for (const Part& item : part.items("pretokenizers")) read_pre_tokenizer(item);
    } else if (type == "Split") {
      stages_.push_back(read_split(part));
    } else if (type == "Digits") {
      stages_.push_back({Pattern(part.flag("individual_digits", false) ? "\\p{N}" : "\\p{N}+", part.where)});
    } else if (type == "ByteLevel") {
      byte_level_ = true;
      prefix_blank_ = part.flag("add_prefix_space", true);
      if (prefix_blank_ && !stages_.empty()) part.refuse("add_prefix_space behind another pre_tokenizer");
      if (part.flag("use_regex", true)) stages_.push_back({Pattern(kGpt2Pattern, part.where)});
    } else {
      part.refuse(type);
    }
  }

  static void check_decoder(const Part& decoder) {
    if (decoder.empty()) decoder.refuse("none (ids would be joined by blanks)");
    const std::string type = decoder.type();
    if (type == "ByteLevel") return;
    if (type != "Sequence") decoder.refuse(type);
    const std::vector<Part> items = decoder.items("decoders");
    if (items.size() != 1) decoder.refuse("a list of several");
    check_decoder(items[0]);
  }

  void count_tokens() {
    const Json& vocab = root_["model"]["vocab"].json;
    const auto tokens = static_cast<int64_t>(vocab.size() + root_["added_tokens"].json.size());
    ids_ = std::min(kMaxIds, kMaxIdsPerToken * tokens + kFreeIds);
  }

  void set_text(int64_t id, std::string text, const std::string& where) {
    DM_REQUIRE(id >= 0 && id < ids_, ExitCode::bad_data,
               "{}: id {} is outside 0 .. {}, which is a lot for so few tokens", where, id, ids_ - 1);
    if (static_cast<size_t>(id) >= texts_.size()) texts_.resize(static_cast<size_t>(id) + 1);
    texts_[static_cast<size_t>(id)] = std::move(text);
  }

  void read_vocabulary(const Part& model) {
    if (model.has("type") && model.type() != "BPE") model.refuse(model.type());
    const Part vocab = model["vocab"];
    DM_REQUIRE(vocab.json.is_object(), ExitCode::bad_data, "{} is not an object", vocab.where);
    for (const auto& [text, id] : vocab.json.items()) {
      DM_REQUIRE(id.is_number_integer(), ExitCode::bad_data, "{}: the id of '{}' is no whole number",
                 vocab.where, text);
      const auto number = id.get<int64_t>();
      set_text(number, alphabet().bytes(text), vocab.where);
      vocab_[text] = static_cast<int32_t>(number);
    }
  }

  int32_t id_of(const std::string& token, const std::string& where) const {
    const auto found = vocab_.find(token);
    DM_REQUIRE(found != vocab_.end(), ExitCode::bad_data, "{}: '{}' is not in the vocabulary", where, token);
    return found->second;
  }

  Bpe read_bpe(const Part& model) const {
    if (model.has("dropout") && model.json["dropout"] != 0.0) model["dropout"].refuse("anything but null");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (model.has(affix) && model.json[affix] != "") model[affix].refuse("anything but null");
    if (model.flag("byte_fallback", false)) model["byte_fallback"].refuse("anything but false");

    std::vector<int32_t> byte_ids;
    for (int byte = 0; byte < 256; ++byte) {
      const bool in_utf8 =
          byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);  // the others need no id, some files have none
      byte_ids.push_back(in_utf8 ? id_of(alphabet().text(byte), model["vocab"].where) : -1);
    }
    std::vector<Bpe::Merge> merges;
    for (const Part& item : model.items("merges")) {
      const auto [left, right] = pair(item);
      merges.push_back({id_of(left, item.where), id_of(right, item.where), id_of(left + right, item.where)});
    }
    std::unordered_map<std::string, int32_t> whole_words;
    if (model.flag("ignore_merges", false))
      for (const auto& [text, id] : vocab_) whole_words[alphabet().bytes(text)] = id;
    return {std::move(byte_ids), merges, std::move(whole_words)};
  }

  /// "left right", or ["left", "right"] as newer files write it.
  static std::pair<std::string, std::string> pair(const Part& merge) {
    const Json& json = merge.json;
    if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string())
      return {json[0].get<std::string>(), json[1].get<std::string>()};
    const std::string text = json.is_string() ? json.get<std::string>() : "";
    const size_t blank = text.find(' ');
    DM_REQUIRE(blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos,
               ExitCode::bad_data, "{} is not a pair of tokens", merge.where);
    return {text.substr(0, blank), text.substr(blank + 1)};
  }

  void read_added_tokens() {
    if (!root_.has("added_tokens")) return;
    for (const Part& item : root_.items("added_tokens")) {
      auto content = required<std::string>(item.json, "content", item.where);
      const auto id = required<int64_t>(item.json, "id", item.where);
      DM_REQUIRE(!content.empty(), ExitCode::bad_data, "{}: content is empty", item.where);
      if (item.flag("single_word", false)) item.refuse("single_word");
      set_text(id, alphabet().bytes(content), item.where);
      specials_[content] = static_cast<int32_t>(id);
      AddedToken token{static_cast<int32_t>(id), content, item.flag("lstrip", false),
                       item.flag("rstrip", false)};
      if (!item.flag("normalized", !item.flag("special", false))) {
        raw_.push_back(std::move(token));
        continue;
      }
      std::string storage;
      if (nfc_) token.content = std::string(to_nfc(content, storage));
      normalised_.push_back(std::move(token));
    }
  }

  Json json_;
  Part root_;
  int64_t ids_ = 0;  // all are below
  bool nfc_ = false, byte_level_ = false, prefix_blank_ = false;
  std::vector<SplitStage> stages_;
  std::vector<AddedToken> raw_, normalised_;
  std::map<std::string, int32_t> specials_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, int32_t> vocab_;
};

}  // namespace

TokenizerJson parse_tokenizer_json(const std::string& text, const std::string& where) {
  return Reader(text, where).result();
}

}  // namespace dm::data
