#pragma once
// A dataset in memory: made-up bytes in documents, each ended by token 256, as the bytes tokenizer writes
// them.

#include <algorithm>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/dataset.h"

namespace dm::test {

class MemoryDataset final : public data::Dataset {
 public:
  static constexpr int32_t kEos = 256;

  /// `tokens` random tokens; about every `document`-th is an end of document.
  MemoryDataset(int64_t tokens, uint64_t document, std::string tokenizer = "bytes")
      : tokenizer_(std::move(tokenizer)) {
    if (tokenizer_ == "bytes") bytes_of_ids_.assign(kEos, 1), bytes_of_ids_.push_back(0);
    const CounterRng random(5, "memory dataset");
    for (uint64_t i = 0; i < static_cast<uint64_t>(tokens); ++i) {
      const bool ends = random.below(2 * i, document) == 0;
      tokens_.push_back(ends ? kEos : static_cast<int32_t>(random.below(2 * i + 1, 256)));
      if (ends) starts_.push_back(static_cast<int64_t>(i) + 1);
    }
  }
  void set_loss_mask(std::vector<uint8_t> mask) { mask_ = std::move(mask); }
  const std::vector<int32_t>& tokens() const { return tokens_; }

  const std::string& path() const override { return path_; }
  int64_t token_count() const override { return static_cast<int64_t>(tokens_.size()); }
  int64_t doc_count() const override { return static_cast<int64_t>(starts_.size()) + 1; }
  int64_t vocab_size() const override { return kEos + 1; }
  int64_t eos_id() const override { return kEos; }
  Hash128 fingerprint() const override { return {}; }
  const std::string& tokenizer() const override { return tokenizer_; }
  Hash128 tokenizer_hash() const override { return {}; }
  const std::vector<int32_t>& bytes_of_ids() const override { return bytes_of_ids_; }
  bool has_loss_mask() const override { return !mask_.empty(); }
  void read_tokens(int64_t begin, int64_t count, int32_t* tokens) const override {
    std::copy_n(tokens_.begin() + begin, count, tokens);
  }
  void read_loss_mask(int64_t begin, int64_t count, uint8_t* mask) const override {
    std::copy_n(mask_.begin() + begin, count, mask);
  }
  std::vector<int64_t> document_starts(int64_t begin, int64_t count) const override {
    std::vector<int64_t> inside;
    for (const int64_t start : starts_)
      if (start > begin && start < begin + count) inside.push_back(start - begin);
    return inside;
  }

 private:
  std::string path_ = "memory", tokenizer_;
  std::vector<int32_t> tokens_, bytes_of_ids_;
  std::vector<int64_t> starts_;  // of documents, the first at 0 left out
  std::vector<uint8_t> mask_;
};

}  // namespace dm::test
