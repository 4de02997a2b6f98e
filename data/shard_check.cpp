// What must hold of a shard file before a byte of it is used.

#include <sys/stat.h>

#include <algorithm>

#include "core/error.h"
#include "data/prepared_dataset.h"

namespace dm::data {
namespace {
constexpr const char* kRemedy = "restore the file from a good copy, or prepare the dataset again";

void compare(const H5Layout& found, const H5Layout& declared, const std::string& path) {
  const auto same = [](const H5Dataset& a, const H5Dataset& b) {
    return a.path == b.path && a.dtype == b.dtype && a.shape == b.shape && a.offset_bytes == b.offset_bytes;
  };
  for (const H5Dataset& dataset : declared.datasets)
    DM_REQUIRE(std::any_of(found.datasets.begin(), found.datasets.end(),
                           [&](const H5Dataset& f) { return same(f, dataset); }),
               ExitCode::bad_data,
               "{}: {} is missing, or differs from dataset.json in type, extent or place; {}", path,
               dataset.path, kRemedy);
  for (const H5Dataset& dataset : found.datasets)
    DM_REQUIRE(std::any_of(declared.datasets.begin(), declared.datasets.end(),
                           [&](const H5Dataset& d) { return same(d, dataset); }),
               ExitCode::bad_data, "{}: holds {}, which format version {} does not know; {}", path,
               dataset.path, kFormatVersion, kRemedy);
  for (const auto& [name, value] : declared.attributes) {
    const auto here = found.attributes.find(name);
    DM_REQUIRE(here != found.attributes.end() && here->second == value, ExitCode::bad_data,
               "{}: attribute '{}' is missing or differs from dataset.json; {}", path, name, kRemedy);
  }
  DM_REQUIRE(found.attributes.size() == declared.attributes.size(), ExitCode::bad_data,
             "{}: has attributes that format version {} does not know; {}", path, kFormatVersion, kRemedy);
}
}  // namespace

std::string shard_path(const std::string& directory, const DatasetInfo& info, int64_t index) {
  return directory + "/" + shard_name(index, static_cast<int64_t>(info.shards.size()));
}

void check_shard_file(const std::string& directory, const DatasetInfo& info, int64_t index) {
  const std::string path = shard_path(directory, info, index);
  const ShardInfo& shard = info.shards[static_cast<size_t>(index)];
  struct stat file {};
  if (lstat(path.c_str(), &file) < 0 && errno == ENOENT)
    DM_FAIL(ExitCode::bad_data, "{}: missing, but dataset.json lists it; {}", path, kRemedy);
  DM_SYS(lstat(path.c_str(), &file), "open", path);
  DM_REQUIRE(!S_ISLNK(file.st_mode), ExitCode::bad_data, "{}: a symbolic link; put the file itself there",
             path);
  DM_REQUIRE(S_ISREG(file.st_mode), ExitCode::bad_data, "{}: not a regular file", path);
  DM_REQUIRE(file.st_size == shard.size_bytes, ExitCode::bad_data,
             "{}: {} bytes long in place of the {} that dataset.json declares: cut off, added to or another "
             "file; {}",
             path, static_cast<int64_t>(file.st_size), shard.size_bytes, kRemedy);
  DM_REQUIRE(metadata_digest(path, declared_layout(info, index)) == shard.metadata, ExitCode::bad_data,
             "{}: its metadata does not fit dataset.json: damaged, or a file of another dataset or place; {}",
             path, kRemedy);
}

void check_shard_layouts(const std::string& directory, const DatasetInfo& info, int64_t first,
                         int64_t count) {
  std::vector<std::string> paths;
  for (int64_t i = first; i < first + count; ++i) paths.push_back(shard_path(directory, info, i));
  validate_h5_in_child(paths);
  for (int64_t i = 0; i < count; ++i) {
    const std::string& path = paths[static_cast<size_t>(i)];
    compare(read_h5_layout(path), declared_layout(info, first + i), path);
  }
}

}  // namespace dm::data
