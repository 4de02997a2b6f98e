#pragma once
// HDF5 as a self-describing container whose payload HDF5 never touches (docs/formats.md says why): datasets
// are contiguous, allocated early and never filled; libhdf5 writes about 4 KiB of metadata; the payload is
// written and read with pwrite and pread at the offsets that H5Dget_offset names. Files so made are
// byte-identical from run to run. One lock guards libhdf5; versioned functions only; HDF5's file locking is
// off; plugin loading is off.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "core/hash.h"

namespace dm {

struct H5Dataset {
  std::string path;  // "/tokens", or "/params/backbone.norm_f.weight": one level of groups at most
  DType dtype;       // little-endian on disk; bf16 is stored as u16 (its meaning is in the manifest)
  std::vector<int64_t> shape;  // elements; a dimension may be 0 (nothing is stored then, offset -1)
  int64_t offset_bytes = -1;   // of the payload in the file
  int64_t size_bytes() const;
  int64_t count() const;
};

using H5Attribute = std::variant<uint64_t, std::string>;  // u64le scalar, or ASCII text of fixed length
using H5Attributes = std::map<std::string, H5Attribute>;

struct H5Layout {
  std::vector<H5Dataset> datasets;  // in the order created
  H5Attributes attributes;          // of the root group
  int64_t file_size_bytes = 0;
};

/// Creates `path` (which must not exist) with the datasets and attributes, fills in offsets and the file's
/// size and returns the layout. The payload is a hole until it is written. Not synced.
H5Layout create_h5(const std::string& path, std::vector<H5Dataset> datasets, const H5Attributes& attributes);

/// Reads the layout of a file made by create_h5 and refuses (ExitCode::bad_data, file and object named)
/// anything else: symlinks, other object kinds, soft or external links, external storage, virtual datasets,
/// chunks, filters, fill values, unknown types, storage outside the file or overlapping, a size that differs
/// from the allocated end. Call it on untrusted files only in a child process: validate_h5_in_child.
H5Layout read_h5_layout(const std::string& path);

/// Runs read_h5_layout in a child process with limits on address space, CPU time and file size, because
/// libhdf5 crashes on some damaged metadata; a crash, a hang or a refusal there throws ExitCode::bad_data
/// naming the file.
void validate_h5_in_child(const std::string& path);
/// The same for many files in one child.
void validate_h5_in_child(const std::vector<std::string>& paths);

/// The ranges [begin, end) of a file that are no dataset's payload, in file order.
std::vector<std::pair<int64_t, int64_t>> metadata_ranges(const H5Layout& layout);

/// XXH3-128 of all bytes of the file that are no dataset's payload, in file order.
Hash128 metadata_digest(const std::string& path, const H5Layout& layout);

}  // namespace dm
