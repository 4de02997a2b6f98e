#include "data/tokenizers/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <exception>

#include "core/error.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581, which pieces have for a blank

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string file, const std::string& path, const EndOfDocument& end)
      : file_(std::move(file)), path_(path) {
    check(load(), "no SentencePiece model");
    eos_id_ = find_end(end);
  }

  const std::string& name() const override { return name_; }
  const std::string& file() const override { return file_; }
  int64_t vocab_size() const override { return pieces_.GetPieceSize(); }
  int64_t eos_id() const override { return eos_id_; }
  Hash128 hash() const override { return xxh3_128(file_.data(), file_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    std::string storage;
    std::vector<int> found;
    check(pieces_.Encode(replace_invalid_utf8(text, storage), &found), "a text cannot be encoded");
    ids.insert(ids.end(), found.begin(), found.end());
  }

  /// The model puts a blank before a text, joins blanks and cuts by the likelihood of the whole.
  size_t complete_prefix(std::string_view) const override { return 0; }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::vector<int> without_ends;
    for (const int32_t id : ids) {
      require(id);
      if (id != eos_id_) without_ends.push_back(id);
    }
    std::string text;
    check(pieces_.Decode(without_ends, &text), "ids cannot be decoded");
    return text;
  }

  int64_t byte_count(int32_t id) const override {
    require(id);
    if (id == eos_id_ || pieces_.IsControl(id) || pieces_.IsUnused(id)) return 0;
    if (pieces_.IsByte(id)) return 1;
    const std::string& piece = pieces_.IdToPiece(id);
    int64_t count = static_cast<int64_t>(piece.size());
    for (size_t at = piece.find(kBlank); at != std::string::npos; at = piece.find(kBlank, at + 1)) count -= 2;
    return count;
  }

 private:
  sentencepiece::util::Status load() {
    try {
      return pieces_.LoadFromSerializedProto(file_);
    } catch (const std::exception& problem) {  // the trie inside takes no piece that begins with a NUL
      return {sentencepiece::util::StatusCode::kInvalidArgument, problem.what()};
    }
  }
  void check(const sentencepiece::util::Status& status, const char* problem) const {
    DM_REQUIRE(status.ok(), ExitCode::bad_data, "{}: {}: {}", path_, problem, status.message());
  }
  void require(int32_t id) const {
    DM_REQUIRE(id >= 0 && id < vocab_size(), ExitCode::bad_data,
               "id {} is outside the {} ids of the tokenizer {}", id, vocab_size(), path_);
  }

  int64_t find_end(const EndOfDocument& end) const {
    if (end.id >= 0) return end.id;
    if (end.token.empty()) {
      DM_REQUIRE(pieces_.eos_id() >= 0, ExitCode::usage,
                 "{}: the model has no piece that ends a text; name one with --eos-token", path_);
      return pieces_.eos_id();
    }
    const int id = pieces_.PieceToId(end.token);
    DM_REQUIRE(!pieces_.IsUnknown(id), ExitCode::usage, "{}: has no piece '{}' for --eos-token", path_,
               end.token);
    return id;
  }

  std::string name_ = "tokenizer.model";
  std::string file_, path_;
  sentencepiece::SentencePieceProcessor pieces_;
  int64_t eos_id_ = -1;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string file, const std::string& path,
                                                        const EndOfDocument& end) {
  return std::make_unique<SentencePieceTokenizer>(std::move(file), path, end);
}

}  // namespace dm::data
