#include "checkpoints/verify.h"

#include <cerrno>
#include <filesystem>
#include <set>

#include "checkpoints/chunks.h"
#include "checkpoints/directory.h"
#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/store.h"
#include "core/error.h"
#include "core/h5_layout.h"

namespace dm::checkpoints {
namespace {

/// What a committed directory may hold, nothing missing and nothing more: an extra file is one that no hash
/// covers.
void check_entries(const std::string& directory, const Manifest& manifest) {
  std::set<std::string> expected{kManifestName, kCommitName};
  for (const auto& file : manifest.files) {
    open_regular(directory + "/" + file.name, file.size_bytes);
    expected.insert(file.name);
  }
  with_errno([&] {
    for (const auto& entry : std::filesystem::directory_iterator(directory))
      DM_REQUIRE(expected.contains(entry.path().filename()), ExitCode::bad_data,
                 "{}: no part of this checkpoint; remove it", entry.path().string());
  });
}

/// The layout that the manifest gives a file.
H5Layout layout_of(const Manifest& manifest, int64_t file) {
  H5Layout layout;
  layout.file_size_bytes = manifest.files[static_cast<size_t>(file)].size_bytes;
  for (const auto& tensor : manifest.tensors)
    for (const auto& piece : tensor.pieces)
      if (piece.file == file)
        layout.datasets.push_back({piece.dataset, tensor.dtype, piece.box.shape, piece.offset_bytes});
  return layout;
}

/// HDF5's view of the file is the manifest's: what h5py reads is what load() reads. libhdf5 sees the file
/// only after its metadata bytes have been found to be those that were written, and first in a child process.
void check_h5(const std::string& path, const H5Layout& expected, const Hash128& metadata) {
  const Hash128 found = metadata_digest(path, expected);
  DM_REQUIRE(found == metadata, ExitCode::bad_data,
             "{}: its metadata bytes do not fit their hash (XXH3-128 {}, manifest {}): damaged; restore the "
             "file or use another checkpoint",
             path, hex(found), hex(metadata));
  validate_h5_in_child(path);
  std::map<std::string, const H5Dataset*> stored;
  const H5Layout layout = read_h5_layout(path);
  for (const H5Dataset& dataset : layout.datasets) stored[dataset.path] = &dataset;
  const auto same_type = [](DType a, DType b) {  // bf16 is u16 in HDF5
    const auto as_stored = [](DType type) { return type == DType::bf16 ? DType::u16 : type; };
    return as_stored(a) == as_stored(b);
  };
  for (const H5Dataset& dataset : expected.datasets) {
    const auto found_dataset = stored.find(dataset.path);
    DM_REQUIRE(found_dataset != stored.end(), ExitCode::bad_data, "{}: {} is not in it", path, dataset.path);
    const H5Dataset& h5 = *found_dataset->second;
    DM_REQUIRE(h5.offset_bytes == dataset.offset_bytes && h5.shape == dataset.shape &&
                   same_type(h5.dtype, dataset.dtype),
               ExitCode::bad_data, "{}: {} is not as the manifest says", path, dataset.path);
  }
  DM_REQUIRE(stored.size() == expected.datasets.size(), ExitCode::bad_data,
             "{}: {} datasets, the manifest has {}", path, stored.size(), expected.datasets.size());
}

constexpr size_t kMaxProblems = 20;  // told of one directory: enough to see a pattern

/// Keeps the message of a check that fails for a reason that speaks against the checkpoint.
void collect(Problems& problems, const std::function<void()>& check) {
  try {
    check();
  } catch (const Error& error) {
    if (!condemns(error)) throw;
    problems.of_device |= error.code() == ExitCode::io;
    if (problems.lines.size() < kMaxProblems)
      problems.lines.emplace_back(error.what());
    else if (problems.lines.size() == kMaxProblems)
      problems.lines.emplace_back("... and more");
  }
}

}  // namespace

bool condemns(const Error& error) {
  switch (error.error_number()) {
    case EIO:
    case EREMOTEIO:
    case EUCLEAN:  // what file systems say that check what they store
    case EBADMSG: return true;
    default: return error.code() == ExitCode::bad_data;
  }
}

void check_structure(const std::string& directory) { check_entries(directory, read_manifest(directory)); }

Problems verify_part(const std::string& directory, int64_t part, int64_t parts) {
  Problems problems;
  Manifest manifest;
  collect(problems, [&] { manifest = read_manifest(directory); });
  if (!problems.lines.empty()) return problems;
  collect(problems, [&] { check_entries(directory, manifest); });
  if (!problems.lines.empty()) return problems;

  ChunkReader reader(directory, manifest);
  int64_t number = 0;
  for (const auto& tensor : manifest.tensors)
    for (const auto& piece : tensor.pieces)
      for (size_t chunk = 0; chunk < piece.chunks.size(); ++chunk)
        if (number++ % parts == part)
          collect(problems, [&] { reader.from(piece, static_cast<int64_t>(chunk) * kChunkBytes); });
  for (int64_t file = part; file < static_cast<int64_t>(manifest.files.size()); file += parts) {
    const Manifest::File& named = manifest.files[static_cast<size_t>(file)];
    collect(problems,
            [&] { check_h5(directory + "/" + named.name, layout_of(manifest, file), named.metadata); });
  }
  return problems;
}

std::vector<std::string> verify(const std::string& directory) { return verify_part(directory, 0, 1).lines; }

void forget_cached(const std::string& directory) {
  for (const auto& file : read_manifest(directory).files)
    open_regular(directory + "/" + file.name, file.size_bytes).forget_cached();
}

}  // namespace dm::checkpoints
