#pragma once
// Which files `--input` names, in the order in which they are read.

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"

namespace dm::data {

struct InputFile {
  std::string path;         // "-" is standard input
  std::string name;         // as given, or relative to the given folder: what the order goes by
  int64_t size_bytes = -1;  // packed as it is; -1: not known (a pipe)
};

/// Folders are searched to the bottom; their files are sorted by the bytes of their relative names; names
/// that begin with a dot and symbolic links to folders are passed over. With `suffixes`, only files in
/// folders whose names end in one of them (also before .gz or .zst) are taken. Throws for what does not
/// exist, cannot be read or is empty of files.
std::vector<InputFile> find_inputs(const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& suffixes);

/// XXH3-128 over names and sizes: to notice that other files stand there than the last time.
Hash128 list_hash(const std::vector<InputFile>& files);
/// -1 when the size of one is unknown.
int64_t total_bytes(const std::vector<InputFile>& files);
/// The name without .gz or .zst.
std::string unpacked_name(const std::string& name);

}  // namespace dm::data
