#pragma once
// Writes the shards and the dataset.json of one dataset, streaming: documents of any size, memory bounded.
//
// Tokens go straight to their final place in the shard's file; the number of shards, which every shard's
// attributes hold, is known at the end only, so the metadata is put around them then. Until finish() the
// folder holds .part files.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/shard_format.h"
#include "data/tokenizer.h"

namespace dm::data {

class ShardParts;

class DatasetWriter {
 public:
  /// Creates the folder. A shard ends with the document that brings it to `shard_tokens` or beyond.
  DatasetWriter(std::string directory, const Tokenizer& tokenizer, int64_t shard_tokens);
  ~DatasetWriter();

  /// Ids of the document that is open; `loss` says whether they count as targets.
  void append(const int32_t* ids, int64_t count, bool loss);
  /// Ends it with eos, which counts.
  void end_document();

  int64_t token_count() const { return token_count_; }
  int64_t doc_count() const { return doc_count_; }

  /// Puts the metadata around the payloads, writes dataset.json, syncs everything. At least one document must
  /// be there.
  DatasetInfo finish();

 private:
  void close_shard();

  std::string directory_;
  int64_t shard_tokens_;
  int64_t first_payload_offset_ = 0;
  DatasetInfo info_;
  std::unique_ptr<ShardParts> shard_;  // the one that is open
  int64_t token_count_ = 0;
  int64_t doc_count_ = 0;
};

}  // namespace dm::data
