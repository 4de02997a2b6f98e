#pragma once
// The entries of a zip file that are stored as they are, not packed.

#include <cstdint>
#include <map>
#include <string>

#include "core/files.h"

namespace dm::checkpoints {

struct ZipEntry {
  int64_t offset_bytes = 0;  // of its content
  int64_t size_bytes = 0;
};

/// By name. Throws ExitCode::bad_data unless every entry lies in the file and is stored unpacked.
std::map<std::string, ZipEntry> read_zip_entries(const File& file);

}  // namespace dm::checkpoints
