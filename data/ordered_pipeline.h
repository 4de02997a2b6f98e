#pragma once
// Work on a sequence of items by several threads, results taken in the order of the items: what comes out
// does not depend on how many threads there are. At most `capacity` items are held.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace dm::data {

template <class Item>
class OrderedPipeline {
 public:
  /// `work` may run for several items at once; `sink` runs for one item at a time, in order, in any of the
  /// threads.
  OrderedPipeline(int64_t threads, size_t capacity, std::function<void(Item&)> work,
                  std::function<void(Item&)> sink)
      : work_(std::move(work)), sink_(std::move(sink)), capacity_(capacity) {
    try {
      for (int64_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~OrderedPipeline() { stop(); }  // what is not sunk yet is dropped

  /// Waits while the pipeline is full. Throws what work or sink threw.
  void push(Item item) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return items_.size() < capacity_ || error_; });
    if (error_) std::rethrow_exception(error_);
    items_.push_back({std::move(item), State::waiting});
    changed_.notify_all();
  }

  /// Waits until every item is sunk. Throws what work or sink threw.
  void finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return items_.empty() || error_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  enum class State { waiting, working, worked, sinking };
  struct Entry {
    Item item;
    State state;
  };

  /// The entry to work on or to sink next, nullptr if there is none now. (A deque's elements stay where they
  /// are.)
  Entry* claim() {
    if (error_) return nullptr;
    if (!items_.empty() && items_.front().state == State::worked) {
      items_.front().state = State::sinking;
      return &items_.front();
    }
    for (Entry& entry : items_)
      if (entry.state == State::waiting) {
        entry.state = State::working;
        return &entry;
      }
    return nullptr;
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      Entry* entry = nullptr;
      changed_.wait(lock, [&] { return stopping_ || (entry = claim()) != nullptr; });
      if (entry == nullptr) return;
      const bool sinking = entry->state == State::sinking;
      lock.unlock();
      std::exception_ptr error;
      try {
        (sinking ? sink_ : work_)(entry->item);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && !error_) error_ = error;
      if (sinking)
        items_.pop_front();
      else
        entry->state = State::worked;
      changed_.notify_all();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::function<void(Item&)> work_, sink_;
  size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> items_;  // in order; the front is the next to be sunk
  std::exception_ptr error_{};
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace dm::data
