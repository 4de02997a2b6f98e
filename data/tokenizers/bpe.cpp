#include "data/tokenizers/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "core/hash.h"

namespace dm::data {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;

/// A word seen before. One cache line: longer words, or of more ids, are not remembered.
struct alignas(64) Remembered {
  static constexpr size_t kBytes = 30, kIds = 8;
  std::array<char, kBytes> word;
  uint8_t size = 0;  // 0: nothing
  uint8_t count = 0;
  std::array<int32_t, kIds> ids;
};
static_assert(sizeof(Remembered) == 64);

constexpr size_t kRemembered = size_t{1} << 15;  // 2 MiB a thread, about a core's second-level cache

/// A stretch of the word that is one token by now.
struct Symbol {
  int32_t id;
  int32_t previous, next;  // -1: none
};

struct Candidate {
  uint32_t rank;
  int32_t left;  // symbol; the right one is its next
  int32_t left_id, right_id;

  /// For a heap whose top is the lowest rank, leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

}  // namespace

/// (left, right) -> (rank, result): open addressing in a table of a power of two, at most half full.
class Bpe::Merges {
 public:
  struct Found {
    uint32_t rank;
    int32_t result;
  };

  explicit Merges(const std::vector<Merge>& merges)
      : slots_(std::bit_ceil(2 * merges.size() + 2)), mask_(slots_.size() - 1) {
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      Slot& slot = slots_[place(key(merges[rank].left, merges[rank].right))];
      slot = {key(merges[rank].left, merges[rank].right), static_cast<uint32_t>(rank), merges[rank].result};
    }
  }

  Found find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[place(key(left, right))];
    return {slot.rank, slot.result};
  }

 private:
  struct Slot {
    uint64_t key = UINT64_MAX;
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }

  /// Where the key is, or would be.
  size_t place(uint64_t key) const {
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15) >> 32) & mask_;
    while (slots_[at].key != key && slots_[at].key != UINT64_MAX) at = (at + 1) & mask_;
    return at;
  }

  std::vector<Slot> slots_;
  size_t mask_;
};

struct Bpe::Scratch::Memory {
  std::vector<Remembered> remembered{kRemembered};
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

Bpe::Scratch::Scratch() : memory_(std::make_unique<Memory>()) {}
Bpe::Scratch::~Scratch() = default;
Bpe::Bpe(Bpe&&) noexcept = default;
Bpe::~Bpe() = default;

Bpe::Bpe(std::vector<int32_t> byte_ids, const std::vector<Merge>& merges,
         std::unordered_map<std::string, int32_t> whole_words)
    : byte_ids_(std::move(byte_ids)),
      merges_(std::make_unique<Merges>(merges)),
      whole_words_(std::move(whole_words)) {
  DM_CHECK(byte_ids_.size() == 256, "{} bytes", byte_ids_.size());
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() > Remembered::kBytes) return join(word, scratch, ids);
  const uint64_t hash = xxh3_64(word.data(), word.size());
  Remembered& memory = scratch.memory_->remembered[hash % kRemembered];
  if (memory.size == word.size() && std::memcmp(memory.word.data(), word.data(), word.size()) == 0) {
    ids.insert(ids.end(), memory.ids.begin(), memory.ids.begin() + memory.count);
    return;
  }
  const size_t begin = ids.size();
  join(word, scratch, ids);
  const size_t count = ids.size() - begin;
  if (count > Remembered::kIds) return;
  std::copy(word.begin(), word.end(), memory.word.begin());
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), memory.ids.begin());
  memory.size = static_cast<uint8_t>(word.size());
  memory.count = static_cast<uint8_t>(count);
}

void Bpe::join(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (!whole_words_.empty())
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end())
      return ids.push_back(whole->second);

  DM_REQUIRE(word.size() < INT32_MAX, ExitCode::bad_data, "a word of {} bytes", word.size());
  std::vector<Symbol>& symbols = scratch.memory_->symbols;
  std::vector<Candidate>& heap = scratch.memory_->heap;
  symbols.clear();
  heap.clear();
  const auto size = static_cast<int32_t>(word.size());
  for (int32_t i = 0; i < size; ++i)
    symbols.push_back({byte_ids_[static_cast<unsigned char>(word[static_cast<size_t>(i)])], i - 1,
                       i + 1 < size ? i + 1 : -1});
  const auto candidate = [&](int32_t left) {
    const Symbol& first = symbols[static_cast<size_t>(left)];
    const Symbol& second = symbols[static_cast<size_t>(first.next)];
    return Candidate{merges_->find(first.id, second.id).rank, left, first.id, second.id};
  };
  for (int32_t i = 0; i + 1 < size; ++i)
    if (const Candidate found = candidate(i); found.rank != kNoRank) heap.push_back(found);
  std::make_heap(heap.begin(), heap.end());
  const auto offer = [&](int32_t left) {
    const Candidate found = candidate(left);
    if (found.rank == kNoRank) return;
    heap.push_back(found);
    std::push_heap(heap.begin(), heap.end());
  };

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.left)];
    if (left.id != best.left_id || left.next < 0) continue;  // joined to others since
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != best.right_id) continue;
    left.id = merges_->find(best.left_id, best.right_id).result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    if (left.previous >= 0) offer(left.previous);
    if (left.next >= 0) offer(best.left);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    ids.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace dm::data
