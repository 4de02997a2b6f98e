#pragma once
// RUN/attempts.jsonl: what each attempt at a run was started with and how it ended, one JSON object when it
// begins and one when it ends. Never cut back, so that restarts can be counted and a killed attempt is told
// from a running one.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/json.h"

namespace dm::train {

struct Attempt {
  int64_t attempt = 1;  // its number
  std::string began;    // "2026-01-31T23:59:59Z"
  int64_t step = 0;     // that it goes on after
  double seconds = 0;   // of training before it
  int64_t ranks = 1;
  std::string host;    // of rank 0
  std::string device;  // "CPU, 2 threads", "NVIDIA H100 80GB HBM3"
  std::string program;
  int64_t total_steps = 0;  // 0: the run ends by time
  double minutes = 0;       // of training, summed over attempts; 0: the run ends by steps
  int64_t log_every = 1;    // steps between two lines on the terminal
  int64_t tokens_per_step = 0;
  double flops_per_token = 0;                                    // forward and backward, of the cost model
  double peak_flops = std::numeric_limits<double>::quiet_NaN();  // a second, of all ranks
  Json config;                                                   // all options, by section
  std::string ended;  // "done", "saved", or the error; "" while it runs, and after a kill

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("attempt", self.attempt);
    v("began", self.began);
    v("step", self.step);
    v("seconds", self.seconds);
    v("ranks", self.ranks);
    v("host", self.host);
    v("device", self.device);
    v("program", self.program);
    v("total_steps", self.total_steps);
    v("minutes", self.minutes);
    v("log_every", self.log_every);
    v("tokens_per_step", self.tokens_per_step);
    v("flops_per_token", self.flops_per_token);
    v("peak_flops", self.peak_flops);
    v("config", self.config);
  }
};

/// All attempts at a run, oldest first; lines that cannot be read are passed over.
std::vector<Attempt> read_attempts(const std::string& run_dir);

/// Writes down that an attempt begins; returns it with its number and time. A file system that refuses is
/// reported, no more.
Attempt begin_attempt(const std::string& run_dir, Attempt facts);
void end_attempt(const std::string& run_dir, const Attempt& attempt, const std::string& how);

}  // namespace dm::train
