#pragma once
// Byte-pair encoding of one word: its bytes are joined pair by pair, the pair with the lowest rank first and
// the leftmost of equals, until no pair of the list is left.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dm::data {

class Bpe {
 public:
  struct Merge {
    int32_t left, right, result;  // ids; the place in the list is the rank
  };

  /// `byte_ids` are the ids of the 256 bytes, -1 for those that no word has. With `whole_words`, a word that
  /// has an id of its own gets that id however its pairs would join.
  Bpe(std::vector<int32_t> byte_ids, const std::vector<Merge>& merges,
      std::unordered_map<std::string, int32_t> whole_words);
  ~Bpe();
  Bpe(Bpe&&) noexcept;

  /// What one thread needs: working memory, and the ids of short words seen before.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class Bpe;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  /// Appends the ids of `word`, which is not empty.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  class Merges;
  void join(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  std::vector<int32_t> byte_ids_;
  std::unique_ptr<Merges> merges_;
  std::unordered_map<std::string, int32_t> whole_words_;
};

}  // namespace dm::data
