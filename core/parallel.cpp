#include "core/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
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
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) try {
        task(i);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
        next.store(count);
      }
    inside_task = false;
  }
};

class Pool {
 public:
  explicit Pool(int64_t workers) {
    for (int64_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

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

std::mutex pool_mutex;  // one parallel_for at a time; other callers run their batch alone
int64_t thread_count = 0;
std::unique_ptr<Pool> pool;

}  // namespace

void set_threads(int64_t count) {
  DM_REQUIRE(count >= 1 && count <= 4096, ExitCode::usage, "{} threads: expected 1 .. 4096", count);
  const std::lock_guard lock(pool_mutex);
  thread_count = count;
  pool.reset();
}

int64_t threads() {
  const std::lock_guard lock(pool_mutex);
  if (thread_count == 0) thread_count = available_cores();
  return thread_count;
}

void parallel_for(int64_t count, const std::function<void(int64_t)>& task) {
  Batch batch{task, count};
  const bool nested = inside_task;
  std::unique_lock lock(pool_mutex, std::try_to_lock);
  if (nested || count <= 1 || !lock.owns_lock()) {
    batch.run();
    inside_task = nested;
  } else {
    if (thread_count == 0) thread_count = available_cores();
    if (!pool && thread_count > 1) pool = std::make_unique<Pool>(thread_count - 1);
    if (pool) pool->run(batch);
    else batch.run();
  }
  if (batch.failed) std::rethrow_exception(batch.error);
}

}  // namespace dm
