#pragma once
// A user's own HDF5 file: any 1-D integer dataset in it, contiguous or chunked, compressed by libhdf5's own
// filters. Read through H5Dread behind one lock, so slower than prepared shards, and without our checksums;
// opening says so once.

#include <memory>
#include <string>

#include "core/json.h"
#include "data/dataset.h"

namespace dm::data {

/// Validates in a child process, then reads the dataset once from end to end: for its largest id, its
/// documents and its fingerprint. Throws ExitCode::bad_data for a dataset that is not 1-D, holds no integers,
/// is virtual, has external or unallocated storage or a filter that libhdf5 lacks, is reached through a soft
/// or external link, or has ids below 0 or from 2^31 up.
std::shared_ptr<const Dataset> open_hdf5_dataset(const std::string& path, const OpenOptions& options);

/// The datasets of a file, through groups and hard links: {"datasets": [{"name", "tokens" or "problem"}]}.
/// Reads no payload.
Json describe_hdf5(const std::string& path);

}  // namespace dm::data
