// parallel_for: every index once, whatever the number of threads and callers; exceptions, nesting and forks.

#include "core/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "core/rng.h"
#include "tests/support/refusal.h"

namespace dm {
namespace {

using test::refusal;

class ParallelTest : public testing::Test {
 protected:
  void SetUp() override { set_threads(4); }
};

std::vector<int> counted(int64_t count) {
  std::vector<int> times(static_cast<size_t>(count));
  parallel_for(count, [&](int64_t i) { ++times[static_cast<size_t>(i)]; });
  return times;
}

TEST_F(ParallelTest, EveryIndexOnce) {
  for (const int64_t count : {0, 1, 2, 3, 4, 5, 1000, 100'003})
    EXPECT_EQ(counted(count), std::vector<int>(static_cast<size_t>(count), 1)) << count;
}

TEST_F(ParallelTest, SeveralThreadsTakePart) {
  std::atomic<int> arrived{0};
  // Each of the four waits for the other three: it ends only when four threads run at once.
  parallel_for(4, [&](int64_t) {
    ++arrived;
    while (arrived < 4) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 4);
}

TEST_F(ParallelTest, TheResultDoesNotDependOnTheThreads) {
  const auto computed = [](int64_t threads) {
    set_threads(threads);
    std::vector<double> values(10'007);
    const CounterRng rng(1, "values");
    parallel_for(10'007, [&](int64_t i) {
      values[static_cast<size_t>(i)] = rng.normal(static_cast<uint64_t>(i)) / 3;
    });
    return values;
  };
  const std::vector<double> one = computed(1);
  for (const int64_t threads : {2, 3, 7, 64}) EXPECT_EQ(computed(threads), one) << threads;
}

TEST_F(ParallelTest, TheFirstExceptionIsRethrownAfterTheOthersEnded) {
  for (int trial = 0; trial < 200; ++trial) {
    std::atomic<int> running{0};
    const std::string message = refusal(ExitCode::bad_data, [&] {
      parallel_for(1000, [&](int64_t i) {
        ++running;
        if (i % 10 == 3) {
          --running;
          DM_FAIL(ExitCode::bad_data, "task {}", i);
        }
        --running;
      });
    });
    EXPECT_EQ(running, 0);
    EXPECT_THAT(message, testing::StartsWith("task "));
  }
  EXPECT_EQ(counted(1000), std::vector<int>(1000, 1));  // and it works as before
}

TEST_F(ParallelTest, AnExceptionOfTheOnlyTaskOrThread) {
  EXPECT_EQ(
      refusal(ExitCode::usage, [] { parallel_for(1, [](int64_t) { DM_FAIL(ExitCode::usage, "one"); }); }),
      "one");
  set_threads(1);
  EXPECT_EQ(
      refusal(ExitCode::usage, [] { parallel_for(9, [](int64_t i) { DM_FAIL(ExitCode::usage, "{}", i); }); }),
      "0");
}

TEST_F(ParallelTest, AnExceptionEndsEvenAHugeCount) {
  std::atomic<int64_t> lowest{0};
  const std::string message = refusal(ExitCode::usage, [&] {
    parallel_for(INT64_MAX, [&](int64_t i) {
      if (i < lowest) lowest = i;
      if (i == 1000) DM_FAIL(ExitCode::usage, "enough");
    });
  });
  EXPECT_EQ(message, "enough");
  EXPECT_EQ(lowest, 0);
}

TEST_F(ParallelTest, NestedCallsRunInTheirThread) {
  std::vector<std::vector<int>> times(16);
  std::atomic<bool> strayed{false};
  parallel_for(16, [&](int64_t i) {
    const auto outer = std::this_thread::get_id();
    auto& mine = times[static_cast<size_t>(i)];
    mine.resize(100);
    parallel_for(100, [&](int64_t j) {
      ++mine[static_cast<size_t>(j)];
      if (std::this_thread::get_id() != outer) strayed = true;
      parallel_for(3, [&](int64_t) {
        if (std::this_thread::get_id() != outer) strayed = true;
      });
    });
  });
  for (const auto& mine : times) EXPECT_EQ(mine, std::vector<int>(100, 1));
  EXPECT_FALSE(strayed);
}

TEST_F(ParallelTest, ATaskIsStillATaskAfterANestedCall) {
  std::atomic<int> refused{0};
  parallel_for(8, [&](int64_t) {
    parallel_for(2, [](int64_t) {});
    try {
      set_threads(2);
    } catch (const Error&) {
      ++refused;
    }
  });
  EXPECT_EQ(refused, 8);
}

TEST_F(ParallelTest, AnExceptionOfANestedCallCanBeCaughtThere) {
  std::atomic<int> caught{0};
  parallel_for(64, [&](int64_t) {
    try {
      parallel_for(8, [](int64_t j) { DM_REQUIRE(j != 5, ExitCode::usage, "five"); });
    } catch (const Error&) {
      ++caught;
    }
  });
  EXPECT_EQ(caught, 64);
}

TEST_F(ParallelTest, TwoCallersAtOnce) {
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int trial = 0; trial < 50; ++trial) right += counted(997) == std::vector<int>(997, 1);
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 4 * 50);
}

TEST_F(ParallelTest, ThreadsMayBeAskedForInsideATask) {
  std::atomic<int64_t> seen{0};
  parallel_for(8, [&](int64_t) { seen += threads(); });
  EXPECT_EQ(seen, 8 * 4);
}

TEST_F(ParallelTest, ThreadsAreCounted) {
  EXPECT_EQ(threads(), 4);
  for (const int64_t wrong : {int64_t{0}, int64_t{-1}, int64_t{4097}, INT64_MIN})
    EXPECT_EQ(refusal(ExitCode::usage, [&] { set_threads(wrong); }),
              fmt::format("{} threads: expected 1 .. 4096", wrong));
  EXPECT_EQ(threads(), 4);
  EXPECT_EQ(refusal(ExitCode::internal, [] { parallel_for(1, [](int64_t) { set_threads(2); }); }),
            "set_threads inside a task");
}

/// What is allocated meanwhile no leak check looks for.
#ifdef __SANITIZE_ADDRESS__
using NotLeaks = __lsan::ScopedDisabler;
#else
struct NotLeaks {
  NotLeaks() {}
};
#endif

/// How a forked child that runs `action` ends: its exit code, or -1 when it still runs after ten seconds.
int in_child(const std::function<int()>& action) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    std::exit(action());  // with the destructors of static objects
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(ParallelTest, AForkedChildStartsItsOwnThreads) {
  {
    const NotLeaks theirs;                              // a child has no thread left that would free them
    EXPECT_EQ(counted(100), std::vector<int>(100, 1));  // the parent's workers exist now
  }
  EXPECT_EQ(in_child([] { return counted(1000) == std::vector<int>(1000, 1) && threads() == 4 ? 7 : 1; }), 7);
  EXPECT_EQ(in_child([] {
              set_threads(2);
              return counted(1000) == std::vector<int>(1000, 1) ? 7 : 1;
            }),
            7);
  EXPECT_EQ(in_child([] { return 7; }), 7);  // or ends without having used any
  EXPECT_EQ(counted(100), std::vector<int>(100, 1));
}

TEST_F(ParallelTest, ThreadsThatCannotStartAreAnError) {
  EXPECT_EQ(in_child([]() -> int {
              if (geteuid() == 0 && setuid(65534) != 0) _exit(3);  // the limit does not bind root
              const rlimit none{0, 0};
              setrlimit(RLIMIT_NPROC, &none);
              set_threads(64);
              try {
                parallel_for(100, [](int64_t) {});
              } catch (const Error& error) {
                _exit(error.code() == ExitCode::io ? 7 : 2);  // at once: a leak check would start a process
              }
              _exit(1);
            }),
            7);
}

}  // namespace
}  // namespace dm
