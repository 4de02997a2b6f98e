#include "data/shard_format.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace dm::data {
namespace {

constexpr int64_t kMaxDatasetFileBytes = 64 << 20;
constexpr int64_t kMaxShards = 100'000;
constexpr int64_t kMaxShardTokens = int64_t{1} << 44;  // no sum over shards or count of bytes can overflow
constexpr std::string_view kSelfKey = "  \"self_xxh128\": \"";
constexpr size_t kTailBytes = kSelfKey.size() + 32 + std::string_view("\"\n}\n").size();

template <class Value>
int64_t total(const std::vector<ShardInfo>& shards, Value value) {
  return std::accumulate(shards.begin(), shards.end(), int64_t{0},
                         [&](int64_t sum, const ShardInfo& shard) { return sum + value(shard); });
}

OrderedJson shard_json(const DatasetInfo& info, int64_t index) {
  const ShardInfo& shard = info.shards[static_cast<size_t>(index)];
  OrderedJson json;
  json["file"] = shard_name(index, static_cast<int64_t>(info.shards.size()));
  json["size_bytes"] = shard.size_bytes;
  json["token_count"] = shard.token_count;
  json["doc_count"] = shard.doc_count;
  json["max_token_id"] = shard.max_token_id;
  OrderedJson& offsets = json["offsets_bytes"] = OrderedJson::object();
  const auto datasets = shard_datasets(info, shard);
  for (size_t i = 0; i < datasets.size(); ++i) offsets[datasets[i].path] = shard.offsets_bytes[i];
  json["metadata_xxh128"] = hex(shard.metadata);
  json["block_xxh3_xxh128"] = hex(shard.token_hashes);
  json["doc_offsets_xxh3_xxh128"] = hex(shard.doc_hashes);
  if (info.loss_mask) json["loss_mask_xxh3_xxh128"] = hex(shard.mask_hashes);
  return json;
}

ShardInfo parse_shard(const DatasetInfo& info, const Json& json, int64_t index, int64_t count,
                      const std::string& where) {
  const std::string file = required<std::string>(json, "file", where);
  DM_REQUIRE(file == shard_name(index, count), ExitCode::bad_data,
             "{}: shard {} is called '{}' in place of '{}'", where, index, file, shard_name(index, count));
  const std::string here = where + ": " + file;
  const auto number = [&](const char* key, int64_t low, int64_t high) {
    const int64_t value = required<int64_t>(json, key, here);
    DM_REQUIRE(value >= low && value <= high, ExitCode::bad_data, "{}: '{}' is {}, outside {} .. {}", here,
               key, value, low, high);
    return value;
  };
  const auto hash = [&](const char* key) {
    return parse_hash128(required<std::string>(json, key, here), here + ": " + key);
  };

  ShardInfo shard;
  shard.size_bytes = number("size_bytes", 1, INT64_MAX);
  shard.token_count = number("token_count", 1, kMaxShardTokens);
  shard.doc_count = number("doc_count", 1, shard.token_count);
  shard.max_token_id = number("max_token_id", 0, info.vocab_size - 1);
  shard.metadata = hash("metadata_xxh128");
  shard.token_hashes = hash("block_xxh3_xxh128");
  shard.doc_hashes = hash("doc_offsets_xxh3_xxh128");
  if (info.loss_mask) shard.mask_hashes = hash("loss_mask_xxh3_xxh128");

  const Json offsets = required<Json>(json, "offsets_bytes", here);
  const auto datasets = shard_datasets(info, shard);
  DM_REQUIRE(offsets.is_object() && offsets.size() == datasets.size(), ExitCode::bad_data,
             "{}: 'offsets_bytes' names other datasets than the {} of this format", here, datasets.size());
  for (const H5Dataset& dataset : datasets) {
    const int64_t offset = required<int64_t>(offsets, dataset.path.c_str(), here);
    DM_REQUIRE(offset > 0 && offset <= shard.size_bytes - dataset.size_bytes(), ExitCode::bad_data,
               "{}: {} at byte {} reaches past the end of the file", here, dataset.path, offset);
    shard.offsets_bytes.push_back(offset);
  }
  DM_REQUIRE(json.size() == (info.loss_mask ? 10u : 9u), ExitCode::bad_data,
             "{}: has members that version {} does not know", here, kFormatVersion);
  return shard;
}

/// Checks the hash at the end and returns the document.
Json parse_checked(std::string_view text, const std::string& where) {
  constexpr const char* kRemedy = "restore it from a good copy, or prepare the dataset again";
  const size_t body = text.size() < kTailBytes ? 0 : text.size() - kTailBytes;
  const std::string_view tail = text.substr(body);
  DM_REQUIRE(body > 0 && tail.substr(0, kSelfKey.size()) == kSelfKey &&
                 tail.substr(kSelfKey.size() + 32) == "\"\n}\n",
             ExitCode::bad_data,
             "{}: does not end with self_xxh128: cut off, or no dataset of this program; {}", where, kRemedy);
  const Hash128 stored = parse_hash128(tail.substr(kSelfKey.size(), 32), where + ": self_xxh128");
  DM_REQUIRE(stored == xxh3_128(text.data(), body), ExitCode::bad_data,
             "{}: its first {} bytes do not fit self_xxh128: it was damaged or edited; {}", where, body,
             kRemedy);
  return parse_json(text, where);
}

}  // namespace

std::string shard_name(int64_t index, int64_t count) {
  return fmt::format("tokens-{:05}-of-{:05}.h5", index, count);
}

int64_t DatasetInfo::token_count() const {
  return total(shards, [](const ShardInfo& s) { return s.token_count; });
}
int64_t DatasetInfo::doc_count() const {
  return total(shards, [](const ShardInfo& s) { return s.doc_count; });
}
int64_t DatasetInfo::max_token_id() const {
  int64_t largest = -1;
  for (const ShardInfo& shard : shards) largest = std::max(largest, shard.max_token_id);
  return largest;
}

Hash128 DatasetInfo::fingerprint() const {
  std::string text = fmt::format("{} {}\n{} {} {} {}\n", kFormatName, kFormatVersion, hex(tokenizer_hash),
                                 vocab_size, eos_id, loss_mask ? "masked" : "plain");
  for (const ShardInfo& shard : shards) {
    text += fmt::format("{} {} {} {}", shard.token_count, shard.doc_count, hex(shard.token_hashes),
                        hex(shard.doc_hashes));
    text += loss_mask ? " " + hex(shard.mask_hashes) + "\n" : "\n";
  }
  return xxh3_128(text.data(), text.size());
}

std::string tokenizer_path(const std::string& directory, const DatasetInfo& info) {
  return info.tokenizer == "bytes" ? info.tokenizer : directory + "/" + info.tokenizer;
}

std::vector<H5Dataset> shard_datasets(const DatasetInfo& dataset, const ShardInfo& shard) {
  std::vector<H5Dataset> datasets = {
      {kTokens, token_dtype(dataset.vocab_size), {shard.token_count}},
      {kDocOffsets, DType::u64, {shard.doc_count + 1}},
      {kTokenHashes, DType::u64, {blocks(shard.token_count, kBlockTokens)}},
      {kDocHashes, DType::u64, {blocks(shard.doc_count + 1, kBlockDocs)}},
  };
  if (dataset.loss_mask) {
    datasets.push_back({kLossMask, DType::u8, {shard.token_count}});
    datasets.push_back({kMaskHashes, DType::u64, {blocks(shard.token_count, kBlockTokens)}});
  }
  return datasets;
}

H5Attributes shard_attributes(const DatasetInfo& dataset, int64_t index) {
  const ShardInfo& shard = dataset.shards[static_cast<size_t>(index)];
  const auto number = [](int64_t value) { return static_cast<uint64_t>(value); };
  return {{"format", kFormatName},
          {"version", kFormatVersion},
          {"tokenizer_xxh128", hex(dataset.tokenizer_hash)},
          {"vocab_size", number(dataset.vocab_size)},
          {"eos_id", number(dataset.eos_id)},
          {"token_count", number(shard.token_count)},
          {"doc_count", number(shard.doc_count)},
          {"max_token_id", number(shard.max_token_id)},
          {"shard_index", number(index)},
          {"shard_count", number(static_cast<int64_t>(dataset.shards.size()))}};
}

H5Layout declared_layout(const DatasetInfo& dataset, int64_t index) {
  const ShardInfo& shard = dataset.shards[static_cast<size_t>(index)];
  H5Layout layout{shard_datasets(dataset, shard), shard_attributes(dataset, index), shard.size_bytes};
  for (size_t i = 0; i < layout.datasets.size(); ++i)
    layout.datasets[i].offset_bytes = shard.offsets_bytes[i];
  return layout;
}

std::string to_text(const DatasetInfo& info) {
  OrderedJson json;
  json["format"] = kFormatName;
  json["version"] = kFormatVersion;
  json["tokenizer"] = info.tokenizer;
  json["tokenizer_xxh128"] = hex(info.tokenizer_hash);
  json["vocab_size"] = info.vocab_size;
  json["eos_id"] = info.eos_id;
  json["loss_mask"] = info.loss_mask;
  json["token_count"] = info.token_count();
  json["doc_count"] = info.doc_count();
  json["max_token_id"] = info.max_token_id();
  json["fingerprint"] = hex(info.fingerprint());
  OrderedJson& shards = json["shards"] = OrderedJson::array();
  for (size_t i = 0; i < info.shards.size(); ++i) shards.push_back(shard_json(info, static_cast<int64_t>(i)));

  std::string text = json.dump(2);
  text.resize(text.size() - std::string_view("\n}").size());
  text += ",\n";
  return text + std::string(kSelfKey) + hex(xxh3_128(text.data(), text.size())) + "\"\n}\n";
}

DatasetInfo parse_dataset_info(std::string_view text, const std::string& where) {
  const Json json = parse_checked(text, where);
  const std::string format = required<std::string>(json, "format", where);
  DM_REQUIRE(format == kFormatName, ExitCode::bad_data, "{}: format '{}' is not {}", where, format,
             kFormatName);
  const int64_t version = required<int64_t>(json, "version", where);
  DM_REQUIRE(version == static_cast<int64_t>(kFormatVersion), ExitCode::bad_data,
             "{}: format version {}; this program reads version {}: prepare the dataset again, or use the "
             "program that made it",
             where, version, kFormatVersion);

  DatasetInfo info;
  info.tokenizer = required<std::string>(json, "tokenizer", where);
  DM_REQUIRE(info.tokenizer == "bytes" || std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles),
                                                    info.tokenizer) != std::end(kTokenizerFiles),
             ExitCode::bad_data, "{}: the tokenizer '{}' is neither bytes nor {}", where, info.tokenizer,
             fmt::join(kTokenizerFiles, " nor "));
  info.tokenizer_hash =
      parse_hash128(required<std::string>(json, "tokenizer_xxh128", where), where + ": tokenizer_xxh128");
  info.vocab_size = required<int64_t>(json, "vocab_size", where);
  DM_REQUIRE(info.vocab_size >= 1 && info.vocab_size <= kMaxVocab, ExitCode::bad_data,
             "{}: vocab_size {} is outside 1 .. {}", where, info.vocab_size, kMaxVocab);
  info.eos_id = required<int64_t>(json, "eos_id", where);
  DM_REQUIRE(info.eos_id >= 0 && info.eos_id < info.vocab_size, ExitCode::bad_data,
             "{}: eos_id {} is not below vocab_size {}", where, info.eos_id, info.vocab_size);
  info.loss_mask = required<bool>(json, "loss_mask", where);
  const Json shards = required<Json>(json, "shards", where);
  DM_REQUIRE(shards.is_array() && !shards.empty() && shards.size() <= static_cast<size_t>(kMaxShards),
             ExitCode::bad_data, "{}: 'shards' is not a list of 1 .. {} shards", where, kMaxShards);
  for (size_t i = 0; i < shards.size(); ++i)
    info.shards.push_back(
        parse_shard(info, shards[i], static_cast<int64_t>(i), static_cast<int64_t>(shards.size()), where));
  // Totals, fingerprint and anything unknown: the document is the one that these shards give, or it is
  // refused.
  Json expected = parse_json(to_text(info), where), found = json;
  expected.erase("self_xxh128"), found.erase("self_xxh128");
  DM_REQUIRE(found == expected, ExitCode::bad_data,
             "{}: a total or the fingerprint contradicts the shards, or a member is unknown to version {}; "
             "prepare the dataset again",
             where, kFormatVersion);
  return info;
}

DatasetInfo read_dataset_info(const std::string& directory) {
  const std::string path = directory + "/" + kDatasetFile;
  return parse_dataset_info(read_file(path, kMaxDatasetFileBytes), path);
}

}  // namespace dm::data
