#include <fmt/format.h>

#include "checkpoints/bench/save_bench.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "data/bench/loader_bench.h"
#include "kernels/bench/scan_bench.h"
#include "launch/command.h"
#include "launch/ranks.h"
#include "launch/run_groups.h"
#include "launch/threads.h"
#include "model/config.h"
#include "train/bench/decode_bench.h"
#include "train/bench/exchange_bench.h"
#include "train/bench/ops_bench.h"
#include "train/bench/step_bench.h"

namespace dm::launch {
namespace {

struct BenchOptions {
  std::string what;
  int64_t threads = 0;
  std::string json;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("what", self.what, "step, ops, decode, exchange, checkpoint, scan or loader",
      Choices{{"", "step", "ops", "decode", "exchange", "checkpoint", "scan", "loader"}});
    v("threads", self.threads, "CPU threads; 0: all cores", Range{0, 4096});
    v("json", self.json, "write the result to this file as well");
  }
};

class BenchCommand final : public Command {
 public:
  BenchCommand() {
    table_.add("bench", options_);
    table_.add("scan", scan_);
    table_.add("loader", loader_);
    table_.add("step", step_);
    table_.add("exchange", exchange_);
    table_.add("checkpoint", save_);
    table_.add("layout", layout_);
    table_.add("model", model_);
  }

  const char* name() const override { return "bench"; }
  const char* summary() const override {
    return "time training steps, single operations, decoding, exchanges between ranks, saves, the scan "
           "against its peers, or the "
           "loader";
  }
  const char* description() const override {
    return "step: whole optimizer steps of a model (--preset NAME) on random tokens, beside the floor of the "
           "cost "
           "model, on the\n"
           "CPU or a GPU, and over ranks in any layout (--tp, --cp). ops: its operations one by one, forward "
           "and backward, likewise. decode: tokens of recurrent decoding, --rows texts "
           "side by side. exchange: the gradients and weights of a step "
           "between ranks.\ncheckpoint: saves of ranks into --save-dir, beside dd with as many "
           "writers.\nscan: forward and backward of the Mamba-2 scan beside the chunked einsum form "
           "and "
           "the step loop "
           "through LibTorch, same\n"
           "threads, in one run. loader: random reads from page cache, and the wait for data with slow reads "
           "injected.";
  }
  const char* positional() const override { return "what"; }
  bool takes_ranks() const override { return true; }

  void apply_presets() override {
    if (!model_.preset.empty()) model::apply_preset(model_, model_.preset);
  }

  ExitCode run(const Invocation& invocation) override {
    DM_REQUIRE(!options_.what.empty(), ExitCode::usage,
               "bench: say what: step, ops, decode, exchange, checkpoint, scan or loader");
    if (options_.what == "checkpoint")
      return run_with_ranks(invocation, [&](dist::Environment& environment) {
        const auto group = environment.make_world_group();
        const Json result = checkpoints::bench_save(save_, *group);
        if (environment.rank() == 0) report(result);
        return ExitCode::ok;
      });
    DM_REQUIRE(layout_.zero == 1, ExitCode::usage,
               "--zero {}: bench measures steps of stage 1 only; leave it out", layout_.zero);
    if (options_.what == "step" || options_.what == "exchange")
      return run_with_ranks(invocation, [&](dist::Environment& environment) {
        use_threads(options_.threads, environment.local_world());
        const bool on_gpu = step_.device == "cuda";
        RunGroups ranks(environment, layout_, on_gpu);
        Json result;
        if (options_.what == "step") {
          result = train::bench_step(model_, step_, ranks.groups()).json();
          result["model"] = model_.preset;
        } else {
          result = train::bench_exchange(exchange_, on_gpu, ranks.groups());
        }
        if (environment.rank() == 0) report(result);
        return ExitCode::ok;
      });
    DM_REQUIRE(!dist::launched_in_parallel(), ExitCode::usage,
               "bench {} runs as one process: start it without mpirun or srun", options_.what);
    const int64_t threads = use_threads(options_.threads, 1);
    if (options_.what == "decode") {
      Json result = train::bench_decode(model_, step_).json();
      result["model"] = model_.preset;
      report(result);
    } else if (options_.what == "ops") {
      Json result = train::bench_ops(model_, step_).json();
      result["model"] = model_.preset;
      report(result);
    } else if (options_.what == "scan") {
      scan_.threads = threads;
      report(kernels::bench_scan(scan_).json());
    } else {
      report(data::bench_loader(loader_).json());
    }
    return ExitCode::ok;
  }

 private:
  void report(const Json& result) const {
    fmt::print("{}\n", result.dump(2));
    if (!options_.json.empty()) write_file_atomically(options_.json, result.dump(2) + "\n");
  }

  BenchOptions options_;
  kernels::ScanBenchConfig scan_;
  data::LoaderBenchConfig loader_;
  train::StepBenchConfig step_;
  train::ExchangeBenchConfig exchange_;
  checkpoints::SaveBenchConfig save_;
  dist::LayoutConfig layout_;
  model::ModelConfig model_;
};

}  // namespace

std::unique_ptr<Command> make_bench_command() { return std::make_unique<BenchCommand>(); }

}  // namespace dm::launch
