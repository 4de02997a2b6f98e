#include "data/tokenizer.h"

#include "core/error.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  const std::string& name() const override { return name_; }
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
    for (const int32_t id : ids) {
      DM_REQUIRE(id >= 0 && id < vocab_size(), ExitCode::bad_data,
                 "id {} is outside the {} ids of the tokenizer 'bytes'", id, vocab_size());
      if (id != eos_id()) text.push_back(static_cast<char>(id));
    }
    return text;
  }

 private:
  std::string name_ = "bytes";
};

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path) {
  if (name_or_path == "bytes") return std::make_unique<ByteTokenizer>();
  DM_FAIL(ExitCode::usage,
          "--tokenizer {}: this version knows 'bytes' only; tokenizer files are not read yet", name_or_path);
}

}  // namespace dm::data
