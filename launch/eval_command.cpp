#include <fmt/format.h>

#include <memory>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "launch/command.h"
#include "launch/ranks.h"
#include "launch/threads.h"
#include "launch/trained_model.h"
#include "train/evaluator.h"
#include "train/tasks/task_set.h"

namespace dm::launch {
namespace {

struct EvalOptions {
  std::string checkpoint;
  std::string data;
  std::string hdf5_name;
  int64_t eos_id = -1;
  int64_t rows = 0;
  int64_t length = 0;
  int64_t batch = 8;
  int64_t threads = 0;
  bool positions = false;
  bool mask_boundary_loss = false;
  std::string tasks;
  bool items = false;
  std::string json;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("checkpoint", self.checkpoint, "run or checkpoint folder");
    v("data", self.data, "dataset to evaluate on, from its start");
    v("hdf5_name", self.hdf5_name, "name of a 1-D integer dataset inside your own HDF5 file");
    v("eos_id", self.eos_id, "token that ends a document in your own HDF5 file; -1: one document",
      Range{-1, 4294967295.0});
    v("rows", self.rows, "rows to evaluate; 0: all", Range{0, 1e15});
    v("length", self.length, "tokens a row; 0: as in training", Range{0, 1e9});
    v("batch", self.batch, "rows per rank and forward pass", Range{1, 1e9});
    v("threads", self.threads, "CPU threads per rank; 0: this host's cores shared by its ranks",
      Range{0, 4096});
    v("positions", self.positions, "also write the loss at every position");
    v("mask_boundary_loss", self.mask_boundary_loss,
      "no loss for the first token of a document after the row's first");
    v("tasks", self.tasks,
      "JSONL file of multiple-choice and cloze items, scored by log-likelihood; see launch/get_tasks");
    v("items", self.items, "also write the log-likelihoods of every item of the tasks");
    v("json", self.json, "write the result to this file as well");
  }
};

class EvalCommand final : public Command {
 public:
  EvalCommand() {
    table_.add("eval", options_);
    table_.add("place", place_);
  }

  const char* name() const override { return "eval"; }
  const char* summary() const override {
    return "perplexity, bits per byte, loss by position; multiple-choice and cloze tasks";
  }
  const char* description() const override {
    return "Evaluates a checkpoint on a dataset, each target once, or on multiple-choice and cloze items, on "
           "any "
           "number of ranks.";
  }
  bool takes_ranks() const override { return true; }

  ExitCode run(const Invocation& invocation) override {
    DM_REQUIRE(!options_.checkpoint.empty(), ExitCode::usage,
               "eval: --checkpoint is missing: name a run or checkpoint folder");
    DM_REQUIRE(!options_.data.empty() || !options_.tasks.empty(), ExitCode::usage,
               "eval: nothing to evaluate on: give --data, a dataset folder, or --tasks, a file of items");
    return run_with_ranks(invocation, [&](dist::Environment& environment) {
      use_threads(options_.threads, environment.local_world());
      const auto group = environment.make_world_group();
      TrainedModel trained = load_trained_model(options_.checkpoint);
      const auto dataset = open_data(trained);
      std::optional<train::TaskSet> tasks;
      if (!options_.tasks.empty())
        tasks.emplace(options_.tasks, *open_trained_tokenizer(trained), trained.model.config.vocab_size);

      const auto model = place(trained, place_, environment.local_rank());
      const train::Groups groups = train::data_parallel(*group);
      const bool speaks = environment.rank() == 0;
      const checkpoints::Summary& summary = trained.model.summary;
      if (speaks) fmt::print("{} at step {}\n", summary.directory, summary.step);
      Json json{{"checkpoint", summary.directory}, {"step", summary.step}};
      if (dataset) {
        train::EvalConfig config;
        config.eval_rows = options_.rows;
        config.eval_length = options_.length > 0 ? options_.length : trained.length;
        config.eval_batch = options_.batch;
        const auto result = train::evaluate(*model, *dataset, config, options_.mask_boundary_loss, groups);
        if (speaks) print(result);
        json.update(result.to_json(options_.positions));
        json["data"] = options_.data;
      }
      if (tasks) {
        const train::TaskResults results = tasks->evaluate(*model, options_.batch, groups);
        for (const auto& [task, score] : results.scores)
          if (speaks) fmt::print("  {}\n", score.line(task));
        json["tasks"] = results.to_json();
        if (options_.items) json["log_likelihoods"] = results.log_likelihoods;
      }
      if (speaks && !options_.json.empty()) write_file_atomically(options_.json, json.dump(2) + "\n");
      return ExitCode::ok;
    });
  }

 private:
  /// nullptr without --data.
  std::shared_ptr<const data::Dataset> open_data(const TrainedModel& trained) const {
    if (options_.data.empty()) return nullptr;
    auto dataset =
        data::open_dataset(options_.data, {data::DataCheck::touched, options_.hdf5_name, options_.eos_id});
    refuse_other_tokenizer(trained, *dataset);
    return dataset;
  }

  void print(const train::EvalResult& result) const {
    fmt::print("  on {}\n", options_.data);
    fmt::print("  {:<18} {}\n  {:<18} {:.4f}\n  {:<18} {:.3f}\n", "targets", result.tokens, "nats per token",
               result.nats_per_token(), "perplexity", result.perplexity());
    if (result.bytes >= 0) fmt::print("  {:<18} {:.4f}\n", "bits per byte", result.bits_per_byte());
    fmt::print("  loss by position\n");
    for (const auto& bucket : result.buckets())
      fmt::print("    {:>7} .. {:<7} {:.4f}\n", bucket.begin, bucket.end - 1, bucket.nats_per_token);
  }

  EvalOptions options_;
  PlaceOptions place_;
};

}  // namespace

std::unique_ptr<Command> make_eval_command() { return std::make_unique<EvalCommand>(); }

}  // namespace dm::launch
