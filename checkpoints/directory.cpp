#include "checkpoints/directory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

struct stat status_of(const std::string& path) {
  struct stat info {};
  const int result = lstat(path.c_str(), &info);
  DM_REQUIRE(result == 0 || (errno != ENOENT && errno != ENOTDIR), ExitCode::bad_data,
             "{}: missing; restore it from a copy", path);
  DM_SYS(result, "stat", path);
  DM_REQUIRE(!S_ISLNK(info.st_mode), ExitCode::bad_data,
             "{}: a symbolic link, which a checkpoint never holds", path);
  return info;
}

}  // namespace

void require_directory(const std::string& directory) {
  const struct stat info = status_of(without_trailing_slashes(directory));
  DM_REQUIRE(S_ISDIR(info.st_mode), ExitCode::bad_data, "{}: not a directory; name a step_... directory",
             directory);
}

File open_regular(const std::string& path, int64_t size_bytes) {
  const struct stat info = status_of(path);
  DM_REQUIRE(S_ISREG(info.st_mode), ExitCode::bad_data, "{}: not a regular file", path);
  DM_REQUIRE(size_bytes < 0 || info.st_size == size_bytes, ExitCode::bad_data,
             "{}: {} bytes, but the manifest says {}; restore it from a copy", path,
             static_cast<int64_t>(info.st_size), size_bytes);
  return File::open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

std::string read_regular(const std::string& path, int64_t limit_bytes) {
  const File file = open_regular(path);
  const int64_t size = file.size_bytes();
  DM_REQUIRE(size <= limit_bytes, ExitCode::bad_data,
             "{}: {} bytes are more than the {} such a file may have", path, size, limit_bytes);
  std::string text(static_cast<size_t>(size), '\0');
  file.read_at(text.data(), text.size(), 0);
  return text;
}

void write_new_file(const std::string& path, std::string_view content) {
  File file = File::open(path, O_WRONLY | O_CREAT | O_EXCL);
  file.write_at(content.data(), content.size(), 0);
  file.sync();
  file.close();
}

std::string base_name(const std::string& path) {
  const std::string trimmed = without_trailing_slashes(path);
  return trimmed.substr(trimmed.rfind('/') + 1);
}

std::vector<std::filesystem::path> entries(const std::string& directory,
                                           const std::function<bool(const std::string& name)>& wanted) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (wanted(entry.path().filename().string())) found.push_back(entry.path());
  return found;
}

Manifest read_manifest(const std::string& directory) {
  require_directory(directory);
  const std::string commit_path = directory + "/" + kCommitName, path = directory + "/" + kManifestName;
  const std::string text = read_regular(path, kMaxManifestBytes), line = read_regular(commit_path, 4096);
  DM_REQUIRE(
      line == commit_line(text), ExitCode::bad_data,
      "{}: its XXH3-128 is {}, but {} says otherwise; one of the two is damaged: use another checkpoint",
      path, commit_line(text).substr(0, 32), commit_path);
  Manifest manifest = parse_manifest(text, path);
  const auto step = parse_step_name(base_name(directory));
  DM_REQUIRE(!step || *step == manifest.step, ExitCode::bad_data,
             "{}: holds step {}; the directory was renamed or its files were swapped", path, manifest.step);
  return manifest;
}

}  // namespace dm::checkpoints
