// The shards of a dataset.json as one array of tokens.

#include "data/prepared_dataset.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "data/checked_array.h"
#include "data/shard_format.h"
#include "data/tokenizer.h"

namespace dm::data {
namespace {

/// Widens to int32 and answers whether every id is below the vocabulary's size. Steps of fixed width without
/// branches, which the compiler turns into vector code.
template <class Token>
bool widen(const char* bytes, int64_t count, int64_t vocab_size, int32_t* __restrict to) {
  constexpr int64_t kStep = 256;
  const auto* __restrict from = reinterpret_cast<const Token*>(bytes);
  const auto largest = static_cast<uint32_t>(vocab_size - 1);
  uint32_t outside = 0;  // its top bit: an id has it, or `largest` less the id has
  const auto one = [&](int64_t i) {
    const auto id = static_cast<uint32_t>(from[i]);
    to[i] = static_cast<int32_t>(id);
    outside |= (largest - id) | id;
  };
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep)
    for (int64_t j = 0; j < kStep; ++j) one(i + j);
  for (; i < count; ++i) one(i);
  return outside >> 31 == 0;
}

class Shard {
 public:
  Shard(const std::string& path, const H5Layout& layout, int64_t vocab_size)
      : file_(File::open(path, O_RDONLY | O_NOFOLLOW)),
        vocab_size_(vocab_size),
        tokens_(place(layout, kTokens, kTokenHashes, kBlockTokens)),
        documents_(place(layout, kDocOffsets, kDocHashes, kBlockDocs)),
        narrow_(layout.datasets[0].dtype == DType::u16) {
    if (layout.datasets.size() > 4) mask_.emplace(place(layout, kLossMask, kMaskHashes, kBlockTokens));
  }

  int64_t token_count() const { return tokens_.count(); }

  void read_tokens(int64_t begin, int64_t count, DataCheck check, int32_t* to) const {
    tokens_.read(begin, count, check, [&](const char* bytes, int64_t first, int64_t n) {
      int32_t* here = to + (first - begin);
      if (narrow_ ? widen<uint16_t>(bytes, n, vocab_size_, here)
                  : widen<uint32_t>(bytes, n, vocab_size_, here))
        return;
      const int32_t* odd =
          std::find_if(here, here + n, [&](int32_t id) { return id < 0 || id >= vocab_size_; });
      tokens_.fail(first + (odd - here),
                   fmt::format("token {} has the id {}, which is not below the vocabulary's size {}",
                               first + (odd - here), static_cast<uint32_t>(*odd), vocab_size_));
    });
  }

  void read_mask(int64_t begin, int64_t count, DataCheck check, uint8_t* to) const {
    mask_->read(begin, count, check, [&](const char* bytes, int64_t first, int64_t n) {
      std::copy_n(bytes, n, to + (first - begin));
    });
  }

  /// Appends base + d for every document start d in (begin, begin + count).
  void document_starts(int64_t begin, int64_t count, int64_t base, DataCheck check,
                       std::vector<int64_t>& starts) const {
    const auto low = static_cast<uint64_t>(std::max<int64_t>(begin, 0)),
               high = static_cast<uint64_t>(begin + count);
    // Which block of offsets holds the last one <= low: by their first elements, unchecked. The block is then
    // read and checked, and that it is the right one shows there, so a damaged first element cannot lead
    // astray unseen.
    int64_t block = 0;
    for (int64_t after = (documents_.count() + kBlockDocs - 1) / kBlockDocs; after - block > 1;) {
      const int64_t middle = block + (after - block) / 2;
      (documents_.peek(middle * kBlockDocs) <= low ? block : after) = middle;
    }
    uint64_t previous = 0;
    bool done = false;
    for (int64_t at = block * kBlockDocs; !done; at += kBlockDocs) {
      const int64_t n = std::min(kBlockDocs, documents_.count() - at);
      if (n <= 0) documents_.fail(documents_.count() - 1, "the offsets end before the last token");
      documents_.read(at, n, check, [&](const char* bytes, int64_t first, int64_t piece) {
        const auto* offsets = reinterpret_cast<const uint64_t*>(bytes);
        if (!std::is_sorted(offsets, offsets + piece) || offsets[0] < previous)
          documents_.fail(first, "the offsets do not ascend");
        previous = offsets[piece - 1];
        for (const uint64_t* next = std::upper_bound(offsets, offsets + piece, low); next != offsets + piece;
             ++next) {
          if (*next >= high || *next >= static_cast<uint64_t>(token_count())) {
            done = true;
            return;
          }
          const int64_t start = base + static_cast<int64_t>(*next);
          if (starts.empty() || starts.back() < start)
            starts.push_back(start);  // documents without tokens start nothing
        }
      });
    }
  }

 private:
  CheckedArray::Place place(const H5Layout& layout, const char* name, const char* hashes,
                            int64_t block) const {
    const auto find = [&](const char* wanted) {
      return std::find_if(layout.datasets.begin(), layout.datasets.end(),
                          [&](const H5Dataset& d) { return d.path == wanted; });
    };
    const auto payload = find(name);
    return {&file_,
            name,
            payload->count(),
            size_bytes(payload->dtype),
            block,
            payload->offset_bytes,
            find(hashes)->offset_bytes};
  }

  File file_;
  int64_t vocab_size_;
  CheckedArray tokens_, documents_;
  std::optional<CheckedArray> mask_;
  bool narrow_;
};

/// Every shard stays open, and there may be more of them than the usual soft limit of 1,024 files allows.
/// Where the hard limit is too low as well, opening says so.
void allow_open_files(size_t count) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= 2 * count + 256) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, limit.rlim_cur + 2 * count + 256);
  setrlimit(RLIMIT_NOFILE, &limit);
}

class PreparedDataset final : public Dataset {
 public:
  PreparedDataset(const std::string& directory, DatasetInfo info, DataCheck check)
      : directory_(directory),
        info_(std::move(info)),
        tokenizer_(tokenizer_path(directory, info_)),
        fingerprint_(info_.fingerprint()),
        check_(check) {
    first_tokens_.push_back(0);
    allow_open_files(info_.shards.size());
    for (size_t i = 0; i < info_.shards.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      shards_.push_back(std::make_unique<Shard>(shard_path(directory, info_, index),
                                                declared_layout(info_, index), info_.vocab_size));
      first_tokens_.push_back(first_tokens_.back() + shards_.back()->token_count());
    }
  }

  const std::string& path() const override { return directory_; }
  int64_t token_count() const override { return first_tokens_.back(); }
  int64_t doc_count() const override { return info_.doc_count(); }
  int64_t vocab_size() const override { return info_.vocab_size; }
  int64_t eos_id() const override { return info_.eos_id; }
  Hash128 fingerprint() const override { return fingerprint_; }
  const std::string& tokenizer() const override { return tokenizer_; }
  Hash128 tokenizer_hash() const override { return info_.tokenizer_hash; }
  const std::vector<int32_t>& bytes_of_ids() const override {
    std::call_once(asked_for_bytes_, [&] {
      const auto tokenizer = reopen_tokenizer(tokenizer_, info_.eos_id, info_.tokenizer_hash);
      for (int64_t id = 0; id < info_.vocab_size; ++id)
        bytes_of_ids_.push_back(static_cast<int32_t>(tokenizer->byte_count(static_cast<int32_t>(id))));
    });
    return bytes_of_ids_;
  }
  bool has_loss_mask() const override { return info_.loss_mask; }

  void read_tokens(int64_t begin, int64_t count, int32_t* tokens) const override {
    each_shard(begin, count, [&](const Shard& shard, int64_t from, int64_t n, int64_t done) {
      shard.read_tokens(from, n, check_, tokens + done);
    });
  }

  void read_loss_mask(int64_t begin, int64_t count, uint8_t* mask) const override {
    each_shard(begin, count, [&](const Shard& shard, int64_t from, int64_t n, int64_t done) {
      if (info_.loss_mask)
        shard.read_mask(from, n, check_, mask + done);
      else
        std::fill_n(mask + done, n, uint8_t{1});
    });
  }

  std::vector<int64_t> document_starts(int64_t begin, int64_t count) const override {
    std::vector<int64_t> starts;
    each_shard(begin, count, [&](const Shard& shard, int64_t from, int64_t n, int64_t done) {
      if (from == 0 && done > 0) starts.push_back(done);  // a shard begins with a document
      shard.document_starts(from, n, done - from, check_, starts);
    });
    return starts;
  }

 private:
  /// use(shard, first token in it, tokens, tokens before) for the parts of [begin, begin + count) in
  /// ascending order.
  template <class Use>
  void each_shard(int64_t begin, int64_t count, const Use& use) const {
    DM_CHECK(begin >= 0 && count >= 0 && begin <= token_count() - count,
             "{}: tokens [{}, {} + {}) are outside 0 .. {}", directory_, begin, begin, count, token_count());
    auto shard =
        std::upper_bound(first_tokens_.begin(), first_tokens_.end(), begin) - first_tokens_.begin() - 1;
    for (int64_t done = 0; done < count; ++shard) {
      const auto i = static_cast<size_t>(shard);
      const int64_t from = begin + done - first_tokens_[i];
      const int64_t n = std::min(count - done, shards_[i]->token_count() - from);
      use(*shards_[i], from, n, done);
      done += n;
    }
  }

  std::string directory_;
  DatasetInfo info_;
  std::string tokenizer_;
  Hash128 fingerprint_;
  DataCheck check_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<int64_t> first_tokens_;  // of each shard, and the total
  mutable std::once_flag asked_for_bytes_;
  mutable std::vector<int32_t> bytes_of_ids_;
};

}  // namespace

std::shared_ptr<const Dataset> open_prepared_dataset(const std::string& directory, DataCheck check) {
  DatasetInfo info = read_dataset_info(directory);
  const auto count = static_cast<int64_t>(info.shards.size());
  for (int64_t i = 0; i < count; ++i) check_shard_file(directory, info, i);
  check_shard_layouts(directory, info, 0, count);
  return std::make_shared<PreparedDataset>(directory, std::move(info), check);
}

}  // namespace dm::data
