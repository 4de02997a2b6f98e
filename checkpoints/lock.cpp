#include "checkpoints/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/log.h"

namespace dm::checkpoints {
namespace {

constexpr size_t kMaxLockBytes = 4096;

OsLock try_lock(const File& file) {
  int result = 0;
  do result = flock(file.fd(), LOCK_EX | LOCK_NB);
  while (result < 0 && errno == EINTR);
  if (result == 0) return OsLock::acquired;
  if (errno == EWOULDBLOCK) return OsLock::busy;
  if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)
    return OsLock::unsupported;
  throw_errno(errno, "lock", file.path(), __FILE__, __LINE__);
}

/// What the file says now; "" when it says nothing.
std::string content(const File& file) {
  std::string text(kMaxLockBytes, '\0');
  const ssize_t got = pread(file.fd(), text.data(), text.size(), 0);
  DM_SYS(got, "read", file.path());
  text.resize(static_cast<size_t>(got));
  return text;
}

bool same_file(const File& file, const std::string& path) {
  struct stat open {
  }, named{};
  return fstat(file.fd(), &open) == 0 && lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

[[noreturn]] void refuse(const std::string& path, const std::optional<Lease>& holder) {
  const std::string run = std::filesystem::path(path).parent_path();
  DM_FAIL(ExitCode::locked,
          "{}: in use by {}; wait until it ends, or stop it, or choose another run directory", run,
          holder ? holder->holder() : "another job, which does not say who it is");
}

}  // namespace

std::optional<Lease> current_holder(const std::string& run_directory) {
  std::error_code absent;
  const std::string path = run_directory + "/" + kLockName;
  if (!std::filesystem::is_regular_file(path, absent)) return std::nullopt;
  const std::optional<Lease> holder = Lease::parse(read_file(path, kMaxLockBytes));
  if (!holder) return std::nullopt;
  const bool here = holder->boot_id == Lease::mine().boot_id;
  return here && !process_runs(*holder) ? std::nullopt : holder;
}

RunLock::RunLock(const std::string& run_directory, const LockTiming& timing)
    : path_(run_directory + "/" + kLockName), timing_(timing), lease_(Lease::mine()) {
  acquire();
  heart_ = std::thread([this] { beat(); });
}

RunLock::~RunLock() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  heart_.join();
  // An empty file is a free lock. It stays: a file that is unlinked could be locked by one job while another
  // makes a new one.
  if (is_current() && ftruncate(file_.fd(), 0) < 0)
    log_warn("{}: cannot be cleared; the next job sees that this one has ended", path_);
}

/// Opens what LOCK names and tries the operating system's lock on it.
OsLock RunLock::open_current() {
  while (true) {
    file_ = File::open(path_, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
    const OsLock result = try_lock(file_);
    if (same_file(file_, path_)) return result;  // not replaced between the two calls
  }
}

void RunLock::acquire() {
  const auto give_up = std::chrono::steady_clock::now() + timing_.release;
  while (true) {
    const OsLock os_lock = open_current();
    const std::string seen = content(file_);
    const std::optional<Lease> holder = Lease::parse(seen);
    const bool holder_runs = holder && process_runs(*holder);
    Verdict verdict = Verdict::take;
    if (holder)
      verdict = judge(*holder, lease_, os_lock, holder_runs);
    else if (os_lock == OsLock::busy)
      verdict = Verdict::refuse;  // a holder that has not yet written, or no longer
    else if (os_lock == OsLock::unsupported && !seen.empty())
      verdict = Verdict::watch;

    if (verdict == Verdict::refuse) {
      // A job that is being killed goes within a moment, its launcher sometimes before it.
      if (std::chrono::steady_clock::now() > give_up) refuse(path_, holder);
      std::this_thread::sleep_for(timing_.release / 20);
      continue;
    }
    if (verdict == Verdict::watch && !stands_still(seen, holder)) continue;
    return os_lock == OsLock::acquired ? take_in_place() : replace(seen);
  }
}

void RunLock::take_in_place() {
  const std::string text = lease_.text();
  file_.write_at(text.data(), text.size(), 0);
  DM_SYS(ftruncate(file_.fd(), static_cast<off_t>(text.size())), "truncate", path_);
  file_.sync();
}

/// Where the file's own lock cannot be had, a new file takes its place; `seen` is what the judgement was
/// about.
void RunLock::replace(const std::string& seen) {
  const std::string fresh = std::filesystem::path(path_).parent_path() / new_lock_name(lease_.nonce);
  File mine = File::open(fresh, O_RDWR | O_CREAT | O_EXCL);
  try_lock(mine);
  const std::string text = lease_.text();
  mine.write_at(text.data(), text.size(), 0);
  mine.sync();
  const bool unchanged = content(file_) == seen && same_file(file_, path_);
  if (!unchanged || std::rename(fresh.c_str(), path_.c_str()) != 0) {
    ::unlink(fresh.c_str());
    refuse(path_, Lease::parse(content(file_)));
  }
  file_ = std::move(mine);
  // Another job may have judged the same moment; the last to rename has it, and the others see that now.
  std::this_thread::sleep_for(timing_.release / 4);
  if (!is_current()) refuse(path_, Lease::parse(read_file(path_, kMaxLockBytes)));
}

/// Throws as soon as the holder's counter moves; false when the lock is released meanwhile.
bool RunLock::stands_still(const std::string& seen, const std::optional<Lease>& holder) const {
  const std::string who = holder ? holder->holder() : "an unknown job";
  log_warn("{}: held by {}; watching for {} s whether it is alive", path_, who,
           std::chrono::duration<double>(timing_.still).count());
  const auto end = std::chrono::steady_clock::now() + timing_.still;
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(timing_.poll);
    // Opened anew each time: that is what makes a network file system look at the server.
    const std::string now = content(File::open(path_, O_RDONLY | O_NOFOLLOW));
    if (now.empty()) return false;
    if (now != seen) refuse(path_, Lease::parse(now));
  }
  log_warn("{}: its counter stood still; taken over from {}", path_, who);
  return true;
}

bool RunLock::is_current() const { return same_file(file_, path_); }

void RunLock::require_held() const {
  // A damaged text changes nothing; a text of somebody else, or another file, does.
  const auto now = Lease::parse(content(file_));
  if (is_current() && (!now || now->nonce == lease_.nonce)) return;
  DM_FAIL(ExitCode::locked, "{}: this job no longer holds it: {}; nothing is written any more", path_,
          now && now->nonce != lease_.nonce ? now->holder() + " does" : "the file was removed or replaced");
}

void RunLock::beat() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, timing_.bump, [this] { return stopping_; })) try {
      require_held();
      ++lease_.counter;
      const std::string text = lease_.text();
      file_.write_at(text.data(), text.size(), 0);
      file_.sync();
    } catch (const Error& error) {
      log_warn("{}", error.what());
    }
}

}  // namespace dm::checkpoints
