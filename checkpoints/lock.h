#pragma once
// The lock of a run directory: one job at a time may write there. docs/formats.md gives the rules.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "checkpoints/lease.h"
#include "core/files.h"

namespace dm::checkpoints {

/// Who holds the run, as far as LOCK and this host's processes say; nullopt when nobody does. A holder on
/// another host is believed.
std::optional<Lease> current_holder(const std::string& run_directory);

struct LockTiming {
  std::chrono::milliseconds bump{10'000};   // between two steps of the counter
  std::chrono::milliseconds still{60'000};  // a counter that stands as long belongs to a dead job
  std::chrono::milliseconds poll{1'000};
  std::chrono::milliseconds release{1'200};  // how long a holder that may be ending is waited for
};

class RunLock {
 public:
  /// Takes RUN_DIRECTORY/LOCK, or throws ExitCode::locked naming the holder: at once when it is alive on this
  /// host, after `timing.still` at most when that is hard to know.
  explicit RunLock(const std::string& run_directory, const LockTiming& timing = {});
  ~RunLock();

  /// Throws ExitCode::locked when another job has taken over in the meantime (this one was stopped for too
  /// long).
  void require_held() const;

 private:
  OsLock open_current();
  void acquire();
  bool is_current() const;
  void take_in_place();
  void replace(const std::string& seen);
  bool stands_still(const std::string& seen, const std::optional<Lease>& holder) const;
  void beat();

  std::string path_;
  LockTiming timing_;
  Lease lease_;
  File file_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread heart_;
};

}  // namespace dm::checkpoints
