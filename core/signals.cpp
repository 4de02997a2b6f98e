#include "core/signals.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace dm {
namespace {
volatile std::sig_atomic_t request = 0;
volatile std::sig_atomic_t ending_signals = 0;

extern "C" void on_signal(int signal) {
  const int wanted = static_cast<int>(signal == SIGINT ? StopRequest::interrupt : StopRequest::save_and_stop);
  if (request < wanted) request = wanted;
  if (signal == SIGUSR1) return;
  ending_signals = ending_signals + 1;
  if (ending_signals > 1) _exit(128 + signal);
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
}

StopRequest stop_requested() { return static_cast<StopRequest>(static_cast<int>(request)); }

}  // namespace dm
