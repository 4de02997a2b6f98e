#pragma once
// Datasets made by `prepare`: a folder with dataset.json and its shards.

#include <memory>
#include <string>

#include "data/dataset.h"
#include "data/shard_format.h"

namespace dm::data {

std::string shard_path(const std::string& directory, const DatasetInfo& info, int64_t index);

/// Compares one shard's place, size and metadata with dataset.json, without libhdf5. Throws
/// ExitCode::bad_data.
void check_shard_file(const std::string& directory, const DatasetInfo& info, int64_t index);
/// Then opens the shards [first, first + count) in a child process, and compares what libhdf5 reads with
/// dataset.json.
void check_shard_layouts(const std::string& directory, const DatasetInfo& info, int64_t first, int64_t count);

std::shared_ptr<const Dataset> open_prepared_dataset(const std::string& directory, DataCheck check);

}  // namespace dm::data
