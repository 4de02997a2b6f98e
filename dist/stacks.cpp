#include "dist/stacks.h"

#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

namespace dm::dist {
namespace {

constexpr int kSignal = SIGUSR2;
constexpr int kDeepest = 64;

pthread_t watched;
std::atomic<int> target = -1;
std::atomic<bool> written = false;

extern "C" void on_stack_wanted(int) {
  void* frames[kDeepest];
  if (const int fd = target; fd >= 0) backtrace_symbols_fd(frames, backtrace(frames, kDeepest), fd);
  written = true;
}

}  // namespace

void watch_this_thread() {
  watched = pthread_self();
  void* frame = nullptr;
  backtrace(&frame, 1);  // the first call loads a library, which a handler must not do
  struct sigaction action {};
  action.sa_handler = on_stack_wanted;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(kSignal, &action, nullptr);
}

void write_stack_of_main(int fd) {
  target = fd, written = false;
  pthread_kill(watched, kSignal);
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
  while (!written && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace dm::dist
