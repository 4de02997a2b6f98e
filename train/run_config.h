#pragma once
// Everything `diffmamba train` can be told, by section. A section's struct stands beside the code that obeys
// it.

#include <ATen/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/store.h"
#include "core/fields.h"
#include "data/loader.h"
#include "dist/layout.h"
#include "dist/watchdog.h"
#include "model/config.h"
#include "train/evaluator.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace dm::train {

struct TrainConfig {
  std::string run_dir;
  int64_t seed = 1;
  std::string device = "cpu";    // cpu | cuda
  std::string dtype = "f32";     // f32 | f64
  std::string compute = "auto";  // auto | bf16 | f32 | f64
  int64_t length = 512;          // L
  int64_t global_batch = 32;     // rows
  int64_t micro_batch = 8;       // rows
  bool mask_boundary_loss = false;
  int64_t threads = 0;

  // The run ends at the first of those that are not 0.
  int64_t steps = 0;
  int64_t tokens = 0;
  double minutes = 0;

  double spike_sigma = 6;
  int64_t spike_window = 128;  // steps
  int64_t skip_limit = 50;     // steps

  int64_t log_every = 10;  // steps
  int64_t eval_every = 0;  // steps
  int64_t save_every = 0;  // steps
  double save_every_minutes = 15;
  int64_t digest_every = 0;       // steps
  int64_t telemetry_every = 100;  // steps
  int64_t telemetry_tokens = 1024;
  bool tensorboard = true;
  std::string prometheus;
  double peak_tflops = 0;
  std::string init_from;
  std::string ledger;
  std::string trace;
  int64_t trace_steps = 8;
  double bucket_mib = 64;
  std::vector<std::string> allow;
  bool dry_run = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("run_dir", self.run_dir,
      "folder of this run: checkpoints, metrics.jsonl, logs; the same folder again resumes it",
      Affects::output);
    v("seed", self.seed, "seed of the initial weights and of dropout", Range{0, 9.0e18});
    v("device", self.device, "where the model is: on the CPU, or on one GPU", Choices{{"cpu", "cuda"}},
      Affects::speed);
    v("dtype", self.dtype, "type of weights and moments", Choices{{"f32", "f64"}});
    v("compute", self.compute,
      "type of activations and products; auto: bf16 on a GPU, that of the weights on the CPU",
      Choices{{"auto", "bf16", "f32", "f64"}});
    v("length", self.length, "tokens a row", Range{1, 1e9});
    v("global_batch", self.global_batch, "rows a step, over all ranks; any number of ranks shares them",
      Range{1, 1e9});
    v("micro_batch", self.micro_batch, "rows at most that a rank works on at once; more are accumulated",
      Range{1, 1e9}, Affects::speed);
    v("mask_boundary_loss", self.mask_boundary_loss,
      "no loss for the first token of a document after the row's first");
    v("threads", self.threads, "CPU threads per rank; 0: this host's cores shared by its ranks",
      Range{0, 4096}, Affects::speed);

    v("steps", self.steps, "end after this many steps; 0: not by steps", Range{0, 1e12});
    v("tokens", self.tokens, "end once this many tokens were read; 0: not by tokens", Range{0, 9.0e18});
    v("minutes", self.minutes, "end after this many minutes of training, summed over resumes; 0: not by time",
      Range{0, 1e9}, Affects::output);

    v("spike_sigma", self.spike_sigma,
      "skip a step whose loss or gradient norm exceeds the window's mean by this many standard deviations; "
      "0: never",
      Range{0, 1e6});
    v("spike_window", self.spike_window, "steps that the spike rule looks back", Range{2, 1e6});
    v("skip_limit", self.skip_limit, "give up after this many skipped steps in a row", Range{1, 1e12},
      Affects::output);

    v("log_every", self.log_every, "steps between two lines on the terminal", Range{1, 1e12},
      Affects::output);
    v("eval_every", self.eval_every, "steps between two evaluations; 0: only at the end", Range{0, 1e12},
      Affects::output);
    v("save_every", self.save_every, "steps between two checkpoints; 0: not by steps", Range{0, 1e12},
      Affects::output);
    v("save_every_minutes", self.save_every_minutes, "minutes between two checkpoints; 0: not by time",
      Range{0, 1e9}, Affects::output);
    v("digest_every", self.digest_every,
      "steps between two comparisons of the weights' hashes over all data ranks, which names a rank whose "
      "memory "
      "errs; 0: none",
      Range{0, 1e12}, Affects::output);
    v("telemetry_every", self.telemetry_every,
      "steps between two measurements of the differential layers; 0: none", Range{0, 1e12}, Affects::output);
    v("telemetry_tokens", self.telemetry_tokens, "tokens that such a measurement looks at", Range{1, 1e9},
      Affects::output);
    v("tensorboard", self.tensorboard, "write event files for TensorBoard into RUN/tensorboard",
      Affects::output);
    v("prometheus", self.prometheus,
      "file ending in .prom that holds the latest figures for node_exporter's textfile collector",
      Affects::output);
    v("peak_tflops", self.peak_tflops,
      "what MFU is a share of, 10^12 operations a second and rank; 0: the data sheet's of an H100 or H200, "
      "no "
      "MFU elsewhere",
      Range{0, 1e6}, Affects::output);
    v("init_from", self.init_from,
      "run or checkpoint, such as `diffmamba import` makes, whose weights a new run begins with; a run that "
      "is resumed does not look at it",
      Affects::output);
    v("ledger", self.ledger,
      "file that takes one line a step: loss bits, hash of sample ids, digest of the state", Affects::output);
    v("trace", self.trace,
      "file that takes a timeline of the first steps of this attempt, for Perfetto or chrome://tracing",
      Affects::output);
    v("trace_steps", self.trace_steps, "steps in that timeline, after three that are not", Range{1, 1000},
      Affects::output);
    v("bucket_mib", self.bucket_mib,
      "MiB of gradients that are exchanged at once; layers are gathered until they are so many. Changes how "
      "the "
      "gradient norm is rounded",
      Range{1e-6, 1e6});
    v("allow", self.allow,
      "options whose value may differ from the checkpoint's on resuming, comma-separated", Affects::output);
    v("dry_run", self.dry_run,
      "take two steps of such a model made small, on made-up rows, on the ranks there are; read no data and "
      "write nothing",
      Affects::output);
  }
};

inline int64_t bucket_bytes(const TrainConfig& config) {
  return static_cast<int64_t>(config.bucket_mib * (1 << 20));
}
/// The type of activations that `compute` means.
at::ScalarType activation_type(const TrainConfig& config);

struct RunConfig {
  model::ModelConfig model;
  data::LoaderConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  dist::LayoutConfig layout;
  TrainConfig train;
  EvalConfig eval;
  checkpoints::StoreConfig checkpoint;
  dist::WatchdogConfig watchdog;

  /// All options, by sections model, data, optimizer, schedule, layout, train, eval, checkpoint. Refers to
  /// *this.
  FieldTable table();

  /// Fills in what follows from other options (eval_length) and refuses contradictions, naming the options
  /// (ExitCode::usage). The launcher applies model.preset, and threads 0, before.
  void resolve_and_validate();

  /// Steps until the end by steps or tokens, whichever comes first; 0 when neither is given.
  int64_t total_steps() const;
  int64_t tokens_per_step() const { return train.global_batch * train.length; }
};

}  // namespace dm::train
