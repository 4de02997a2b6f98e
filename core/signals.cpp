#include "core/signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <initializer_list>

namespace dm {
namespace {
// Handlers run in any thread and are read in others: atomics without a lock are safe in both respects.
std::atomic<int> request = 0;
std::atomic<int> ending_signals = 0;
std::atomic<int> note_fd = -1;
static_assert(std::atomic<int>::is_always_lock_free);

/// Writes `number` before `end` and returns where it begins; nothing but this is safe in a handler.
char* digits(char* end, long number) {
  do *--end = static_cast<char>('0' + number % 10);
  while ((number /= 10) > 0);
  return end;
}

void note(int signal, pid_t sender) {
  const int fd = note_fd;
  if (fd < 0) return;
  const int error = errno;
  char line[80];
  char* begin = line + sizeof line;
  const auto put = [&](const char* text, size_t size) {
    begin -= size;
    for (size_t i = 0; i < size; ++i) begin[i] = text[i];
  };
  put("\n", 1);
  begin = digits(begin, sender);
  put(" from process ", 14);
  begin = digits(begin, signal);
  put("signal ", 7);
  if (write(fd, begin, static_cast<size_t>(line + sizeof line - begin)) < 0) {
    // A full disk: the signal is obeyed all the same.
  }
  errno = error;
}

extern "C" void on_signal(int signal, siginfo_t* info, void*) {
  note(signal, info->si_pid);
  const int wanted = static_cast<int>(signal == SIGINT ? StopRequest::interrupt : StopRequest::save_and_stop);
  int seen = request;
  while (seen < wanted && !request.compare_exchange_weak(seen, wanted)) {
  }
  // A launcher whose terminal is gone hands on a SIGHUP and a SIGTERM: together they are one request.
  const bool ends = signal == SIGTERM || signal == SIGINT;
  if (ends && ++ending_signals > 1) _exit(128 + signal);
}
}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  action.sa_flags = SA_RESTART;
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);  // a file beyond the limit is then an error of write(2), EFBIG
  // Whoever started us may have blocked them, and a process inherits that: they would never arrive.
  sigset_t ours;
  sigemptyset(&ours);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT, SIGHUP}) sigaddset(&ours, signal);
  pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
}

void note_signals_in(int fd) { note_fd = fd; }

StopRequest stop_requested() { return static_cast<StopRequest>(request.load()); }

}  // namespace dm
