#include "data/dataset.h"

#include <filesystem>

#include "core/error.h"
#include "data/hdf5_dataset.h"
#include "data/prepared_dataset.h"

namespace dm::data {
namespace fs = std::filesystem;

std::vector<std::string> datasets_below(const std::string& directory) {
  std::error_code ignored;
  if (fs::exists(fs::path(directory) / kDatasetFile, ignored)) return {directory};
  std::vector<std::string> found;
  for (const char* part : {"train", "heldout"})
    if (fs::exists(fs::path(directory) / part / kDatasetFile, ignored))
      found.push_back(directory + "/" + part);
  return found;
}

std::shared_ptr<const Dataset> open_dataset(const std::string& path, const OpenOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  DM_REQUIRE(fs::exists(status), ExitCode::usage,
             "{}: no such dataset; make one with `diffmamba prepare --output {}`", path, path);
  if (fs::is_directory(status)) {
    DM_REQUIRE(options.hdf5_name.empty(), ExitCode::usage,
               "--hdf5-name {}: {} is a prepared dataset; the option is for your own HDF5 file",
               options.hdf5_name, path);
    const auto found = datasets_below(path);
    DM_REQUIRE(!found.empty(), ExitCode::usage,
               "{}: no dataset: it holds no {}; name a folder that `diffmamba prepare` made", path,
               kDatasetFile);
    DM_REQUIRE(found.front() == path, ExitCode::usage, "{}: holds the dataset{} {}{}; name one of them", path,
               found.size() > 1 ? "s" : "", fs::path(found.front()).filename().string(),
               found.size() > 1 ? " and " + fs::path(found.back()).filename().string() : "");
    return open_prepared_dataset(path, options.check);
  }
  DM_REQUIRE(!options.hdf5_name.empty(), ExitCode::usage,
             "{}: a file, not a folder that `diffmamba prepare` made; for your own HDF5 file say which "
             "dataset with --hdf5-name",
             path);
  return open_hdf5_dataset(path, options);
}

}  // namespace dm::data
