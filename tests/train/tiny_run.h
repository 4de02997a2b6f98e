#pragma once
// Training runs of a few seconds: a dataset file of made-up bytes, a tiny model, and what a run left behind.

#include <string>
#include <vector>

#include "core/collectives.h"
#include "core/json.h"
#include "train/run_config.h"

namespace dm::test {

/// A prepared dataset in `directory`: about `tokens` tokens in documents of some twenty bytes, each byte but
/// the first determined by the one before, in several shards.
void write_tiny_data(const std::string& directory, int64_t tokens);

/// A run in FOLDER/`name` on FOLDER/data, with its ledger in FOLDER/`name`.ledger: AdamW with clipping
/// active, a constant schedule after a warm-up, `steps` steps of 5 rows of 12 tokens.
train::RunConfig tiny_run(const std::string& folder, const std::string& name, int64_t steps);

/// A folder that all ranks of a group share, with FOLDER/data in it; rank 0 makes and removes it.
class SharedFolder {
 public:
  explicit SharedFolder(Collectives& group);
  ~SharedFolder();
  const std::string& path() const { return path_; }

 private:
  Collectives& group_;
  std::string path_;
};

/// Values of `key` in the lines of RUN/metrics.jsonl that have it.
std::vector<double> metric(const std::string& run_dir, const char* key);

/// The newest checkpoint's weights, concatenated in order of their names, as float64.
std::vector<double> final_weights(const std::string& run_dir);

/// ||a - b|| / ||b||; infinite when the sizes differ.
double relative_difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace dm::test
