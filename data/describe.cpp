#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "data/hdf5_dataset.h"
#include "data/prepared_dataset.h"
#include "data/verify.h"

namespace dm::data {
namespace {

Json describe_prepared(const std::string& directory) {
  const DatasetInfo info = read_dataset_info(directory);
  Json shards = Json::array();
  int64_t bytes = 0;
  for (size_t i = 0; i < info.shards.size(); ++i) {
    const ShardInfo& shard = info.shards[i];
    bytes += shard.size_bytes;
    shards.push_back({{"file", shard_name(static_cast<int64_t>(i), static_cast<int64_t>(info.shards.size()))},
                      {"size_bytes", shard.size_bytes},
                      {"token_count", shard.token_count},
                      {"doc_count", shard.doc_count}});
  }
  return {{"path", directory},
          {"kind", "prepared dataset"},
          {"tokenizer", info.tokenizer},
          {"tokenizer_xxh128", hex(info.tokenizer_hash)},
          {"vocab_size", info.vocab_size},
          {"eos_id", info.eos_id},
          {"max_token_id", info.max_token_id()},
          {"loss_mask", info.loss_mask},
          {"token_dtype", name(token_dtype(info.vocab_size))},
          {"token_count", info.token_count()},
          {"doc_count", info.doc_count()},
          {"mean_document_tokens",
           static_cast<double>(info.token_count()) / static_cast<double>(info.doc_count())},
          {"size_bytes", bytes},
          {"fingerprint", hex(info.fingerprint())},
          {"shards", shards}};
}

}  // namespace

Json describe_dataset(const std::string& path) {
  if (std::filesystem::is_regular_file(path)) return describe_hdf5(path);
  const std::vector<std::string> directories = datasets_below(path);
  DM_REQUIRE(!directories.empty(), ExitCode::usage, "{}: no dataset: it holds no {}", path, kDatasetFile);
  if (directories.front() == path) return describe_prepared(path);
  Json json;
  for (const std::string& directory : directories)
    json[std::filesystem::path(directory).filename().string()] = describe_prepared(directory);
  return json;
}

}  // namespace dm::data
