#include "data/tokenizer.h"

#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "data/tokenizers/huggingface.h"
#include "data/tokenizers/sentencepiece.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

constexpr int64_t kLargestFileBytes = 256 << 20;

class ByteTokenizer final : public Tokenizer {
 public:
  const std::string& name() const override { return name_; }
  const std::string& file() const override { return file_; }
  int64_t vocab_size() const override { return 257; }
  int64_t eos_id() const override { return 256; }
  Hash128 hash() const override { return xxh3_128(name_.data(), name_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const size_t begin = ids.size();
    ids.resize(begin + text.size());
    for (size_t i = 0; i < text.size(); ++i) ids[begin + i] = static_cast<unsigned char>(text[i]);
  }
  size_t complete_prefix(std::string_view text) const override { return utf8_boundary(text); }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const int32_t id : ids)
      if (byte_count(id) > 0) text.push_back(static_cast<char>(id));
    return text;
  }
  int64_t byte_count(int32_t id) const override {
    DM_REQUIRE(id >= 0 && id < vocab_size(), ExitCode::bad_data,
               "id {} is outside the {} ids of the tokenizer 'bytes'", id, vocab_size());
    return id == eos_id() ? 0 : 1;
  }

 private:
  std::string name_ = "bytes";
  std::string file_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path, const EndOfDocument& end) {
  if (name_or_path == "bytes") {
    DM_REQUIRE(end.token.empty(), ExitCode::usage,
               "--eos-token {}: the tokenizer 'bytes' ends documents with 256", end.token);
    return std::make_unique<ByteTokenizer>();
  }
  std::error_code absent;
  DM_REQUIRE(std::filesystem::is_regular_file(name_or_path, absent), ExitCode::usage,
             "--tokenizer {}: no such file; give 'bytes', a tokenizer.json or a SentencePiece .model",
             name_or_path);
  std::string file = read_file(name_or_path, kLargestFileBytes);
  if (name_or_path.ends_with(".model"))
    return make_sentencepiece_tokenizer(std::move(file), name_or_path, end);
  DM_REQUIRE(name_or_path.ends_with(".json"), ExitCode::usage,
             "--tokenizer {}: neither a .json (Hugging Face) nor a .model (SentencePiece) file",
             name_or_path);
  return make_huggingface_tokenizer(std::move(file), name_or_path, end);
}

std::unique_ptr<Tokenizer> reopen_tokenizer(const std::string& name_or_path, int64_t eos_id, Hash128 hash) {
  std::error_code absent;
  DM_REQUIRE(name_or_path == "bytes" || std::filesystem::exists(name_or_path, absent), ExitCode::bad_data,
             "{}: the tokenizer's file is missing; restore it", name_or_path);
  auto tokenizer = open_tokenizer(name_or_path, {.token = "", .id = eos_id});
  DM_REQUIRE(tokenizer->hash() == hash, ExitCode::bad_data,
             "{}: not the tokenizer that was used (XXH3-128 {}, now {}); restore that file", name_or_path,
             hex(hash), hex(tokenizer->hash()));
  return tokenizer;
}

std::string StreamDecoder::push(const int32_t* ids, int64_t count) {
  constexpr size_t kKept =
      4;  // in front of what follows, since a token may read otherwise at the start of a text
  constexpr const char* kReplacement = "\xEF\xBF\xBD";  // SentencePiece's for bytes that are no character yet
  ids_.insert(ids_.end(), ids, ids + count);
  const std::string all = tokenizer_.decode(ids_);
  if (utf8_boundary(all) < all.size() || all.ends_with(kReplacement)) return "";
  std::string text = take();
  if (ids_.size() > kKept) ids_.erase(ids_.begin(), ids_.end() - kKept);
  said_ = ids_.size();
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = take();
  ids_.clear();
  said_ = 0;
  return text;
}

std::string StreamDecoder::take() {
  const auto said = ids_.begin() + static_cast<std::ptrdiff_t>(said_);
  return tokenizer_.decode(ids_).substr(tokenizer_.decode({ids_.begin(), said}).size());
}

}  // namespace dm::data
