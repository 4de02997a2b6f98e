#include "data/staging.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"

namespace dm::data {
namespace {
namespace fs = std::filesystem;

constexpr const char* kOwner = "/.owner";
constexpr std::chrono::minutes kYoung{10};  // without an owner: another process may be about to take the lock

bool owner_is_dead(const std::string& path) {
  struct stat info {};
  if (lstat((path + kOwner).c_str(), &info) < 0) {
    std::error_code error;
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(path, error);
    return !error && age > kYoung;
  }
  const File owner = File::open(path + kOwner, O_RDWR | O_NOFOLLOW);
  return flock(owner.fd(), LOCK_EX | LOCK_NB) == 0;
}

void remove_stale(const std::string& output) {
  const fs::path target(output);
  const std::string prefix = target.filename().string() + ".tmp-";
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator(target.has_parent_path() ? target.parent_path() : ".", error)) {
    if (!entry.path().filename().string().starts_with(prefix) || entry.is_symlink() || !entry.is_directory())
      continue;
    try {
      if (!owner_is_dead(entry.path().string())) continue;
      fs::remove_all(entry.path());
      log_info("{}: removed what an interrupted run left", entry.path().string());
    } catch (const std::exception& problem) {  // it is not ours to use, so it does not stop us
      log_warn("{}: left by an interrupted run, but cannot be removed: {}", entry.path().string(),
               problem.what());
    }
  }
}

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

Staging::Staging(const std::string& output) : output_(without_slash(output)) {
  std::error_code error;
  const fs::path parent = fs::path(output_).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (error) throw_errno(error.value(), "create the folder", parent.string(), __FILE__, __LINE__);
  remove_stale(output_);
  std::string pattern = output_ + ".tmp-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw_errno(errno, "create a folder", pattern, __FILE__, __LINE__);
  path_ = pattern;
  const mode_t mask = umask(0);
  umask(mask);
  chmod(path_.c_str(), 0777 & ~mask);  // mkdtemp's 0700 would stay on the result
  owner_ = File::open(path_ + kOwner, O_RDWR | O_CREAT | O_EXCL);
  flock(owner_.fd(),
        LOCK_EX | LOCK_NB);  // where the file system has no locks, nobody can show that we are dead either
}

Staging::~Staging() {
  if (path_.empty()) return;
  std::error_code error;
  fs::remove_all(path_, error);
  if (error) log_warn("{}: cannot be removed: {}", path_, error.message());
}

void Staging::commit() {
  DM_SYS(unlink((path_ + kOwner).c_str()), "remove", path_ + kOwner);
  sync_directory(path_);
  std::error_code none;
  if (fs::is_directory(output_) && fs::is_empty(output_)) fs::remove(output_, none);
  rename_without_replacing(path_, output_);
  path_.clear();
  const fs::path parent = fs::path(output_).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
}

}  // namespace dm::data
