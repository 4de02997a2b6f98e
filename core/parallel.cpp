#include "core/parallel.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"

namespace dm {
namespace {

int64_t available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

thread_local bool inside_task = false;

/// One parallel_for in flight: indices are handed out by an atomic counter.
struct Batch {
  const std::function<void(int64_t)>& task;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};

  void run() {
    inside_task = true;
    for (int64_t i; !failed && (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) try {
        task(i);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    inside_task = false;
  }
};

class Pool {
 public:
  explicit Pool(int64_t workers) {
    try {
      for (int64_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      stop();
      DM_FAIL(ExitCode::io,
              "cannot start thread {} of {}: {}; ask for fewer threads or raise the limit (ulimit -u)",
              threads_.size() + 2, workers + 1, error.what());
    }
  }
  ~Pool() { stop(); }

  void run(Batch& batch) {
    {
      const std::lock_guard lock(mutex_);
      batch_ = &batch;
      busy_ = static_cast<int64_t>(threads_.size());
      ++generation_;
    }
    wake_.notify_all();
    batch.run();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    batch_ = nullptr;
  }

 private:
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void work() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      Batch* batch = batch_;
      lock.unlock();
      batch->run();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Batch* batch_ = nullptr;
  int64_t busy_ = 0;
  uint64_t generation_ = 0;
  bool stopping_ = false;
};

std::mutex pool_mutex;                 // one parallel_for at a time; other callers run their batch alone
std::atomic<int64_t> thread_count{0};  // 0: not asked for yet
// Never destroyed at exit: idle workers need no goodbye, and in a forked child, which has none, it would wait
// for them.
Pool* pool = nullptr;
pid_t pool_process = 0;

/// The workers of this process, or nullptr where there are none to be had. A forked child starts its own: its
/// copy of the parent's pool has no threads behind it.
Pool* workers() {
  const pid_t process = getpid();
  if (pool_process != process) pool = nullptr;
  if (pool == nullptr && threads() > 1) {
    pool = new Pool(threads() - 1);
    pool_process = process;
  }
  return pool;
}

}  // namespace

void set_threads(int64_t count) {
  DM_REQUIRE(count >= 1 && count <= 4096, ExitCode::usage, "{} threads: expected 1 .. 4096", count);
  DM_CHECK(!inside_task, "set_threads inside a task");
  const std::lock_guard lock(pool_mutex);
  thread_count = count;
  if (pool_process == getpid()) delete pool;
  pool = nullptr;
}

int64_t threads() {
  if (thread_count == 0) {
    int64_t nobody_asked = 0;
    thread_count.compare_exchange_strong(nobody_asked, available_cores());
  }
  return thread_count;
}

void parallel_for(int64_t count, const std::function<void(int64_t)>& task) {
  Batch batch{task, count};
  const bool nested = inside_task;
  std::unique_lock lock(pool_mutex, std::defer_lock);
  Pool* helpers = !nested && count > 1 && lock.try_lock() ? workers() : nullptr;
  if (helpers != nullptr)
    helpers->run(batch);
  else
    batch.run();
  inside_task = nested;
  if (batch.failed) std::rethrow_exception(batch.error);
}

}  // namespace dm
