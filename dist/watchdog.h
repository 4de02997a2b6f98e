#pragma once
// Nobody waits for ever: a thread on every rank sends heartbeats over a communicator of its own, and when a
// rank falls silent or the job stands still, names the culprit and ends the job on all ranks with
// ExitCode::lost.
//
//   rank r --(every beat: step, exchange, progress)--> rank 0, which judges (watch_report.h)
//   rank 0 --(every beat)--> all, which watch rank 0 alone
//
// Before the job ends, every rank that still can writes the stack of its working thread into its log; one
// that was stopped on the host of another rank is woken for it.

#include <cstdint>
#include <functional>
#include <memory>

#include "core/fields.h"
#include "dist/activity.h"
#include "dist/environment.h"

namespace dm::dist {

struct WatchdogConfig {
  double watchdog_seconds = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("watchdog_seconds", self.watchdog_seconds,
      "end the job (71) when a rank gives no sign of life, or no rank gets on with anything, for so long: "
      "more "
      "than a rank computes between two exchanges, or a device takes to flush a checkpoint; 0: wait for ever",
      Range{0, 1e6}, Affects::output);
  }
};

class Watchdog {
 public:
  /// All ranks make theirs together, in the thread to be watched; with one rank or 0 seconds nothing is
  /// watched. Goes before the environment does.
  Watchdog(Environment& environment, const WatchdogConfig& config);
  /// Ends the watch; the others' go on.
  ~Watchdog();

  /// Where the working thread says what it does.
  Activity& activity();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::dist
