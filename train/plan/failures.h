#pragma once
// What failures cost a long run: how much of the time remains as training, from how often GPUs fail, what a
// save costs and how long it takes to go on. By a closed form, and by drawing the failures of many months.

#include <cstdint>
#include <optional>

#include "core/fields.h"

namespace dm::train {

/// What a cluster's file says of its failures, and of what helps against them.
struct FailureConfig {
  double mttf_hours = 7.9;
  int64_t mttf_gpus = 1024;
  double several_nodes = 0.02;
  double scheduler_minutes = 5;
  double detect_seconds = 32;
  double relaunch_seconds = 1;
  double start_seconds = 20;
  double start_rank_ms = 20;
  double filesystem_gbs = 50;
  double rank_gbs = 0.5;
  double memory_gbs = 2;
  double save_steps = 0.2;
  double days = 30;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("mttf_hours", self.mttf_hours,
      "hours from one failure to the next, in the mean, of a job on mttf_gpus GPUs", Range{1e-3, 1e9});
    v("mttf_gpus", self.mttf_gpus, "GPUs of that job; failures grow with their number", Range{1, 1e7});
    v("several_nodes", self.several_nodes,
      "share of failures that take several nodes at once, and what they held in memory for each other",
      Range{0, 1});
    v("scheduler_minutes", self.scheduler_minutes,
      "minutes until a job that was given back starts again, where nothing keeps the allocation",
      Range{0, 1e6});
    v("detect_seconds", self.detect_seconds,
      "seconds from a failure to the end of all ranks: the watchdog's timeout and two", Range{0, 1e6});
    v("relaunch_seconds", self.relaunch_seconds,
      "seconds that launch/supervise takes to start the job again in its allocation", Range{0, 1e6});
    v("start_seconds", self.start_seconds, "seconds from there to the first step, without reading the state",
      Range{0, 1e6});
    v("start_rank_ms", self.start_rank_ms, "milliseconds that each rank adds to that", Range{0, 1e6});
    v("filesystem_gbs", self.filesystem_gbs, "GB/s that all nodes together read and write", Range{1e-6, 1e6});
    v("rank_gbs", self.rank_gbs, "GB/s at most of one rank, there", Range{1e-6, 1e6});
    v("memory_gbs", self.memory_gbs,
      "GB/s of one rank into its node's memory and a copy on another node, and back", Range{1e-6, 1e6});
    v("save_steps", self.save_steps, "steps that training loses by a save, waits and slow-down together",
      Range{0, 1e6});
    v("days", self.days, "days of the run that is simulated", Range{1e-3, 1e5});
  }
};

/// One place that a state is saved to; seconds.
struct SavePlace {
  double every = 0;    // of training between two saves
  double blocked = 0;  // that training loses by one
  double latency = 0;  // from its begin until it counts; training goes on meanwhile
  double restart = 0;  // from a failure to the first step after it, which the newest state here begins
};

struct FailureModel {
  double mttf = 0;           // seconds, of the whole job
  double several_nodes = 0;  // share of failures that leave `disk` alone
  SavePlace disk;
  std::optional<SavePlace> memory;
};

/// Share of the time that remains as training, with the disk alone, in the long run. Failures come at any
/// time (exponentially distributed), restarts included. With L = every + blocked a state follows the next
/// after
///   E = M (1 - exp(-L/M)) exp((restart + L + latency) / M)
/// seconds in the mean: L where nothing fails, else a restart, a whole interval and the time until it counts,
/// as often as it takes. For latency 0 this is Daly's M exp(restart / M) (exp(L / M) - 1).
double expected_goodput(double mttf, const SavePlace& place);

/// The `every` with the largest expected goodput, no shorter than a save takes, whose own `every` is ignored.
double best_interval(double mttf, SavePlace place);

/// What Young (1974) and Daly (2006) give for saves that training waits for.
double young_interval(double mttf, double blocked);
double daly_interval(double mttf, double blocked);

struct Goodput {
  double mean = 0, standard_error = 0;
  double low = 0, high = 0;  // between which nine tenths of the runs are
  double failures = 0;       // of a run, in the mean
};

/// Runs of so many seconds, each with its own failures: a pure function of its arguments.
Goodput simulate(const FailureModel& model, double seconds, int64_t runs);

}  // namespace dm::train
