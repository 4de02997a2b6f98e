#include "data/verify.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "data/byte_source.h"
#include "data/checked_array.h"
#include "data/prepared_dataset.h"
#include "data/tokenizer.h"

namespace dm::data {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kMaxProblems = 20;  // of one shard; the first ones say what happened
constexpr const char* kRemedy = "restore the file from a good copy, or prepare the dataset again";

class ShardVerifier {
 public:
  ShardVerifier(const std::string& directory, const DatasetInfo& info, int64_t index)
      : info_(info),
        shard_(info.shards[static_cast<size_t>(index)]),
        path_(shard_path(directory, info, index)),
        layout_(declared_layout(info, index)) {
    if (!attempt([&] { check_shard_file(directory, info, index); })) return;
    if (!attempt([&] { check_shard_layouts(directory, info, index, 1); })) return;
    attempt([&] { check_payloads(); });
  }

  std::vector<std::string> problems;

 private:
  template <class Check>
  bool attempt(const Check& check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      if (error.code() == ExitCode::interrupted) throw;
      problems.emplace_back(error.what());
      return false;
    }
  }

  void check_payloads() {
    file_ = File::open(path_, O_RDONLY | O_NOFOLLOW);
    check_hashes(kTokenHashes, shard_.token_hashes);
    check_hashes(kDocHashes, shard_.doc_hashes);
    if (info_.loss_mask) check_hashes(kMaskHashes, shard_.mask_hashes);
    check_tokens();
    check_documents();
    if (info_.loss_mask) check_mask();
  }

  const H5Dataset& dataset(const char* name) const {
    return *std::find_if(layout_.datasets.begin(), layout_.datasets.end(),
                         [&](const H5Dataset& d) { return d.path == name; });
  }

  void check_hashes(const char* name, const Hash128& declared) {
    const H5Dataset& hashes = dataset(name);
    std::vector<char> buffer(1 << 20);
    Hasher hasher;
    for (int64_t at = 0; at < hashes.size_bytes();) {
      const auto step = static_cast<size_t>(
          std::min<int64_t>(hashes.size_bytes() - at, static_cast<int64_t>(buffer.size())));
      file_.read_at(buffer.data(), step, hashes.offset_bytes + at);
      hasher.update(buffer.data(), step);
      at += static_cast<int64_t>(step);
    }
    if (hasher.digest_128() != declared)
      problems.push_back(fmt::format("{}: {} (bytes {} .. {}) does not fit dataset.json; {}", path_, name,
                                     hashes.offset_bytes, hashes.offset_bytes + hashes.size_bytes() - 1,
                                     kRemedy));
  }

  /// Every block by itself, so that one that is damaged does not hide the next.
  void each_block(const char* name, const char* hashes, int64_t block, const CheckedArray::Use& use) {
    const H5Dataset& payload = dataset(name);
    const CheckedArray array({&file_, name, payload.count(), size_bytes(payload.dtype), block,
                              payload.offset_bytes, dataset(hashes).offset_bytes});
    for (int64_t begin = 0; begin < array.count(); begin += block) {
      stop_if_asked();
      attempt([&] { array.read(begin, std::min(block, array.count() - begin), DataCheck::touched, use); });
      if (static_cast<int64_t>(problems.size()) >= kMaxProblems) {
        problems.push_back(fmt::format("{}: more problems follow", path_));
        return;
      }
    }
  }

  void check_tokens() {
    const bool narrow = dataset(kTokens).dtype == DType::u16;
    int64_t largest = -1;
    each_block(kTokens, kTokenHashes, kBlockTokens, [&](const char* bytes, int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t id = narrow ? reinterpret_cast<const uint16_t*>(bytes)[i]
                                  : reinterpret_cast<const uint32_t*>(bytes)[i];
        largest = std::max(largest, id);
        DM_REQUIRE(id < info_.vocab_size, ExitCode::bad_data,
                   "{}: token {} has the id {}, which is not below vocab_size {}; {}", path_, first + i, id,
                   info_.vocab_size, kRemedy);
      }
    });
    if (problems.empty() && largest != shard_.max_token_id)
      problems.push_back(fmt::format("{}: its largest id is {}, but dataset.json says {}; {}", path_, largest,
                                     shard_.max_token_id, kRemedy));
  }

  void check_documents() {
    uint64_t previous = 0;
    bool started = false;
    each_block(kDocOffsets, kDocHashes, kBlockDocs, [&](const char* bytes, int64_t first, int64_t count) {
      const auto* offsets = reinterpret_cast<const uint64_t*>(bytes);
      for (int64_t i = 0; i < count; ++i) {
        DM_REQUIRE(started || offsets[i] == 0, ExitCode::bad_data, "{}: {} starts at {} in place of 0; {}",
                   path_, kDocOffsets, offsets[i], kRemedy);
        started = true;
        DM_REQUIRE(offsets[i] >= previous, ExitCode::bad_data,
                   "{}: {}[{}] = {} is below the {} before it; {}", path_, kDocOffsets, first + i, offsets[i],
                   previous, kRemedy);
        previous = offsets[i];
      }
    });
    if (problems.empty() && previous != static_cast<uint64_t>(shard_.token_count))
      problems.push_back(fmt::format("{}: {} ends at {} in place of token_count {}; {}", path_, kDocOffsets,
                                     previous, shard_.token_count, kRemedy));
  }

  void check_mask() {
    each_block(kLossMask, kMaskHashes, kBlockTokens, [&](const char* bytes, int64_t first, int64_t count) {
      for (int64_t i = 0; i < count; ++i)
        DM_REQUIRE(bytes[i] == 0 || bytes[i] == 1, ExitCode::bad_data, "{}: {}[{}] is neither 0 nor 1; {}",
                   path_, kLossMask, first + i, kRemedy);
    });
  }

  const DatasetInfo& info_;
  const ShardInfo& shard_;
  std::string path_;
  H5Layout layout_;
  File file_;
};

void verify_one(const std::string& directory, std::vector<std::string>& problems) {
  DatasetInfo info;
  try {
    info = read_dataset_info(directory);  // its hash, its totals and its fingerprint
  } catch (const Error& error) {
    problems.emplace_back(error.what());
    return;
  }
  const auto count = static_cast<int64_t>(info.shards.size());
  for (int64_t i = 0; i < count; ++i) {
    const ShardVerifier verifier(directory, info, i);
    problems.insert(problems.end(), verifier.problems.begin(), verifier.problems.end());
  }
  try {
    reopen_tokenizer(tokenizer_path(directory, info), info.eos_id, info.tokenizer_hash);
  } catch (const Error& error) {
    problems.emplace_back(error.what());
  }
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    bool known = name == kDatasetFile || name == info.tokenizer;
    for (int64_t i = 0; i < count && !known; ++i) known = name == shard_name(i, count);
    if (!known)
      problems.push_back(
          fmt::format("{}: does not belong to the dataset; move it elsewhere", entry.path().string()));
  }
}

}  // namespace

std::vector<std::string> verify_dataset(const std::string& path) {
  const std::vector<std::string> directories = datasets_below(path);
  DM_REQUIRE(!directories.empty(), ExitCode::usage, "{}: no dataset: it holds no {}", path, kDatasetFile);
  std::vector<std::string> problems;
  for (const std::string& directory : directories) verify_one(directory, problems);
  return problems;
}

}  // namespace dm::data
