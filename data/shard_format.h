#pragma once
// Token shards on disk: names, constants and dataset.json, as docs/formats.md ("Token shards") describes
// them. The one place that builds and parses any of it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/h5_layout.h"
#include "core/hash.h"

namespace dm::data {

inline constexpr const char* kFormatName = "diffmamba-tokens";
inline constexpr uint64_t kFormatVersion = 1;
inline constexpr const char* kDatasetFile = "dataset.json";

inline constexpr int64_t kBlockTokens = 4 << 10;        // tokens (or mask bytes) under one XXH3-64
inline constexpr int64_t kBlockDocs = 4 << 10;          // entries of /doc_offsets under one XXH3-64
inline constexpr int64_t kMaxVocab = int64_t{1} << 31;  // ids are held as int32

inline constexpr const char* kTokens = "/tokens";
inline constexpr const char* kTokenHashes = "/block_xxh3";
inline constexpr const char* kDocOffsets = "/doc_offsets";
inline constexpr const char* kDocHashes = "/doc_offsets_xxh3";
inline constexpr const char* kLossMask = "/loss_mask";
inline constexpr const char* kMaskHashes = "/loss_mask_xxh3";

constexpr int64_t blocks(int64_t count, int64_t block) { return (count + block - 1) / block; }
constexpr DType token_dtype(int64_t vocab_size) { return vocab_size <= 65536 ? DType::u16 : DType::u32; }

/// "tokens-00003-of-00008.h5"
std::string shard_name(int64_t index, int64_t count);

/// Names that a dataset's tokenizer may have besides "bytes": of the copy of its file.
inline constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer.model"};

/// What dataset.json says of one shard.
struct ShardInfo {
  int64_t token_count = 0;
  int64_t doc_count = 0;
  int64_t max_token_id = -1;
  int64_t size_bytes = 0;
  std::vector<int64_t> offsets_bytes;  // of the payloads, in the order of shard_datasets; -1: empty
  Hash128 metadata;                    // XXH3-128 of all bytes that are no payload
  Hash128 token_hashes;                // XXH3-128 of the bytes of /block_xxh3
  Hash128 doc_hashes;                  // of /doc_offsets_xxh3
  Hash128 mask_hashes;                 // of /loss_mask_xxh3; zero without a mask
};

/// dataset.json.
struct DatasetInfo {
  std::string tokenizer;  // "bytes", or the name of the tokenizer's file in the dataset's folder
  Hash128 tokenizer_hash;
  int64_t vocab_size = 0;
  int64_t eos_id = -1;
  bool loss_mask = false;
  std::vector<ShardInfo> shards;

  int64_t token_count() const;
  int64_t doc_count() const;
  int64_t max_token_id() const;
  /// XXH3-128 of a text that names everything that determines the samples; docs/formats.md spells it out.
  Hash128 fingerprint() const;
};

/// "bytes", or the path of the tokenizer's file in the dataset's folder.
std::string tokenizer_path(const std::string& directory, const DatasetInfo& info);

/// The datasets of a shard, in the order in which they stand in the file, and its attributes.
std::vector<H5Dataset> shard_datasets(const DatasetInfo& dataset, const ShardInfo& shard);
H5Attributes shard_attributes(const DatasetInfo& dataset, int64_t index);
/// The layout that dataset.json declares for a shard: what read_h5_layout must answer.
H5Layout declared_layout(const DatasetInfo& dataset, int64_t index);

/// The text of dataset.json, whose last member is the hash of what stands before it.
std::string to_text(const DatasetInfo& info);
/// Refuses (ExitCode::bad_data) whatever to_text would not write; `where` names the file.
DatasetInfo parse_dataset_info(std::string_view text, const std::string& where);
DatasetInfo read_dataset_info(const std::string& directory);

}  // namespace dm::data
