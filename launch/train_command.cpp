#include "core/error.h"
#include "core/log.h"
#include "dist/watchdog.h"
#include "dist/watched_collectives.h"
#include "launch/command.h"
#include "launch/ranks.h"
#include "launch/run_groups.h"
#include "launch/start_facts.h"
#include "launch/threads.h"
#include "model/config.h"
#include "model/placement.h"
#include "train/trainer.h"

namespace dm::launch {
namespace {

class TrainCommand final : public Command {
 public:
  TrainCommand() { table_ = config_.table(); }

  const char* name() const override { return "train"; }
  const char* summary() const override { return "train a model, or go on with a run that was stopped"; }
  const char* description() const override {
    return "Trains on one rank, or on those that mpirun or srun starts: data-parallel, and --tp of them "
           "share each "
           "layer,\n--cp of them each row. The same command again resumes the run from its newest "
           "checkpoint, on any layout. SIGUSR1, SIGTERM, SIGHUP or Ctrl-C save "
           "and stop "
           "(exit code 75).";
  }
  bool takes_ranks() const override { return true; }
  void apply_presets() override {
    if (!config_.model.preset.empty()) model::apply_preset(config_.model, config_.model.preset);
  }

  ExitCode run(const Invocation& invocation) override {
    return run_with_ranks(invocation, [&](dist::Environment& environment) {
      config_.resolve_and_validate();
      config_.train.threads = use_threads(config_.train.threads, environment.local_world());
      log_info("{} rank{} ({} on this host), {} thread{} each", environment.world(),
               environment.world() == 1 ? "" : "s", environment.local_world(), config_.train.threads,
               config_.train.threads == 1 ? "" : "s");
      const dist::LayoutConfig& layout = config_.layout;
      if (environment.world() > 1) {
        const auto group = environment.make_world_group();
        dist::require_agreement(*group, start_facts(config_));
      }
      dist::Watchdog watchdog(environment, config_.watchdog);
      RunGroups ranks(environment, layout, config_.train.device == "cuda", 0,
                      [&watchdog](std::unique_ptr<Collectives> group) {
                        return dist::watched(std::move(group), watchdog.activity());
                      });
      model::check_placement(config_.model, layout.tp, layout.cp, config_.train.length);
      train::Groups groups = ranks.groups();
      DM_REQUIRE(
          groups.data_ranks <= config_.train.global_batch, ExitCode::usage,
          "--global-batch {} has no row for some of the {} ranks on the data axis; give --global-batch {} "
          "or more, or start fewer ranks",
          config_.train.global_batch, groups.data_ranks, groups.data_ranks);
      ranks.print_mapping();
      groups.step_done = [&watchdog](int64_t step) { watchdog.activity().step_done(step); };
      return train::train(config_, groups);
    });
  }

 private:
  train::RunConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_train_command() { return std::make_unique<TrainCommand>(); }

}  // namespace dm::launch
