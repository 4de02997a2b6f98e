#pragma once
// Everything that can be wrong with a prepared dataset, found before a run does.

#include <string>
#include <vector>

#include "core/json.h"

namespace dm::data {

/// Reads every byte of a dataset (or of the train and heldout in a folder that `prepare` made) and returns
/// the problems, each with file, place and remedy: dataset.json and its hash, each shard's size and metadata,
/// what libhdf5 reads in a child process, every block of every payload, offsets that ascend from 0 to the
/// last token, the largest id, the fingerprint, and files that do not belong there. Empty: sound.
std::vector<std::string> verify_dataset(const std::string& path);

/// What `inspect` shows: of prepared datasets what dataset.json says; of a user's own HDF5 file its 1-D
/// integer datasets. Reads no payload.
Json describe_dataset(const std::string& path);

}  // namespace dm::data
