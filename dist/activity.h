#pragma once
// What a rank is doing right now, written by its working thread and read by its watchdog.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include "core/progress.h"

namespace dm::dist {

class Activity {
  using Clock = std::chrono::steady_clock;

 public:
  /// From construction to destruction the rank is inside an exchange with others. `name` is a literal.
  class Inside {
   public:
    Inside(Activity& activity, const char* name) : activity_(activity), begin_(Clock::now()) {
      if (activity_.depth_++ > 0) return;
      activity_.name_ = name;
      ++activity_.exchanges_;
    }
    ~Inside() {
      if (--activity_.depth_ > 0) return;
      ++activity_.ended_;
      activity_.waited_ += Clock::now() - begin_;
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Activity& activity_;
    const Clock::time_point begin_;
  };

  struct Snapshot {
    int64_t step = 0;
    double busy_seconds = 0;  // of the last step, exchanges left out
    int64_t exchanges = 0;    // begun so far
    bool inside = false;      // the last of them has not ended
    const char* name = "none yet";
    int64_t progress = 0;  // grows whenever anything is begun or done
  };

  /// A step is done.
  void step_done(int64_t step) {
    const Clock::time_point now = Clock::now();
    const Clock::duration waited = std::exchange(waited_, {});
    busy_seconds_ = std::chrono::duration<double>(now - std::exchange(step_began_, now) - waited).count();
    step_ = step;
    ++steps_;
  }

  Snapshot now() const {
    const int64_t begun = exchanges_;
    return {step_, busy_seconds_, begun, depth_ > 0, name_, begun + ended_ + steps_ + progress_made()};
  }

 private:
  std::atomic<int64_t> step_ = 0, exchanges_ = 0, ended_ = 0, steps_ = 0;
  std::atomic<double> busy_seconds_ = 0;
  std::atomic<int> depth_ = 0;
  std::atomic<const char*> name_ = "none yet";
  // Of the working thread alone.
  Clock::time_point step_began_ = Clock::now();
  Clock::duration waited_{};
};

}  // namespace dm::dist
