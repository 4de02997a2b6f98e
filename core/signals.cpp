#include "core/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <initializer_list>

namespace dm {
namespace {
// Handlers run in any thread and are read in others: atomics without a lock are safe in both respects.
std::atomic<int> request = 0;
std::atomic<int> ending_signals = 0;
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void on_signal(int signal) {
  const int wanted = static_cast<int>(signal == SIGINT ? StopRequest::interrupt : StopRequest::save_and_stop);
  int seen = request;
  while (seen < wanted && !request.compare_exchange_weak(seen, wanted)) {
  }
  if (signal != SIGUSR1 && ++ending_signals > 1) _exit(128 + signal);
}
}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);  // a file beyond the limit is then an error of write(2), EFBIG
}

StopRequest stop_requested() { return static_cast<StopRequest>(request.load()); }

}  // namespace dm
