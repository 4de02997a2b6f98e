#pragma once
// A training run as a checkpoint holds it, beside its tensors (host_state.h): a JSON document for the rest.

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/json.h"

namespace dm::train {

/// How far a run has come. Nothing else is needed to find the next batch or the next learning rate.
struct Progress {
  int64_t step = 0;     // completed, skipped ones included
  int64_t samples = 0;  // rows consumed
  int64_t tokens = 0;   // rows * length, summed over steps
  double seconds = 0;   // of training, over all attempts
};

/// What the data was, beyond its path.
struct DataIdentity {
  Hash128 fingerprint;    // Loader::fingerprint: datasets, weights, seed, order
  std::string tokenizer;  // "bytes", or the path of its file; the run's folder has a copy
  Hash128 tokenizer_hash;
  int64_t eos_id = -1;
};

/// The document of a training checkpoint.
struct Meta {
  Progress progress;
  int64_t updates = 0;  // of the optimizer
  Json guard;           // StepGuard::state
  Json config;          // FieldTable::to_json of the RunConfig
  DataIdentity data;
  std::string program;  // version and build that wrote it
  int64_t world = 1;    // ranks that wrote it, for the record

  /// Whether rows went on from step to step (--order streams), so that the checkpoint has their state.
  bool streams() const;

  Json to_json() const;
  /// Throws ExitCode::bad_data naming `where`.
  static Meta from_json(const Json& json, const std::string& where);
};

/// Where the tokenizer's file is: the copy in the run's folder, else where the dataset had it. `checkpoint`
/// is the folder of one checkpoint.
std::string find_tokenizer(const DataIdentity& data, const std::string& checkpoint);
/// Puts a copy of the tokenizer's file into the run's folder, so that the run needs no dataset to be used.
void keep_tokenizer(const DataIdentity& data, const std::string& run_dir);

/// Version and build of this program.
std::string program_version();

}  // namespace dm::train
