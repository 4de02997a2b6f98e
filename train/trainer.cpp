#include "train/trainer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "core/parallel.h"
#include "core/signals.h"
#include "kernels/device/gpu.h"
#include "train/dry_run.h"
#include "train/failures.h"
#include "train/gpu_memory.h"
#include "train/host_state.h"
#include "train/init_from.h"
#include "train/ledger.h"
#include "train/reporter.h"
#include "train/resume.h"
#include "train/rows.h"
#include "train/run_data.h"
#include "train/saver.h"
#include "train/snapshots.h"
#include "train/state.h"
#include "train/step_guard.h"
#include "train/step_runner.h"
#include "train/stopwatch.h"
#include "train/trace.h"
#include "train/weights_vote.h"

namespace dm::train {
namespace {

/// Rank 0 speaks on the terminal; every rank keeps a log in the run's folder, for the time of the run.
class RunLog {
 public:
  RunLog(const std::string& run_dir, int64_t rank) {
    set_log_terminal(rank == 0);
    std::error_code reported_by_opening;
    std::filesystem::create_directories(run_dir + "/logs", reported_by_opening);
    set_log_file(fmt::format("{}/logs/rank-{:05}.log", run_dir, rank));
  }
  ~RunLog() { set_log_file(""); }
};

class Trainer {
 public:
  Trainer(const RunConfig& config, const Groups& groups);
  ExitCode run();

 private:
  ExitCode loop(Reporter& reporter);
  std::optional<Meta> restore();
  Meta take_state(const checkpoints::Summary& from, const LoadPieces& load);
  void take_weights();
  void start_data(const std::optional<Meta>& stored);

  bool finished() const;
  StepFacts flags() const;
  double learning_rate() const;
  void advance(const StepFacts& facts);
  void explain_skip(const StepFacts& facts, Verdict verdict) const;
  void check_weights_if_due() const;
  void evaluate_if_due(Reporter& reporter) const;
  void evaluate_held_out(Reporter& reporter) const;
  void evaluate_tasks(Reporter& reporter) const;
  void measure_difference_if_due(Reporter& reporter) const;
  void save_if_due(const StepFacts& facts, Reporter& reporter);
  void save_and_wait(Reporter& reporter);
  Meta meta() const;
  void begin_save();
  void end_save(Reporter& reporter);
  bool speaks() const { return groups_.all.rank() == 0; }

  const RunConfig& config_;
  Groups groups_;
  RunData data_;                                   // before the store, which makes the run's folder
  const std::unique_ptr<Collectives> save_group_;  // of the store, which saves from a thread of its own
  checkpoints::Store store_;
  RunLog log_;
  Failures failures_;
  StepRunner step_;
  Saver saver_;
  Snapshots snapshots_;
  StepGuard guard_;
  Trace trace_;
  Progress progress_;
  DataIdentity data_identity_;
  std::unique_ptr<data::Loader> loader_;
  Stopwatch attempt_, since_save_;
  double seconds_before_ = 0;  // of training, in earlier attempts
  int64_t saved_step_ = -1;    // whose save was begun last, unless it failed
  bool save_due_ = false;
  bool time_up_ = false;
};

// ---- the loop ----

ExitCode Trainer::loop(Reporter& reporter) {
  Ledger ledger(config_.train.ledger, progress_.step, groups_);
  while (!finished()) {
    evaluate_if_due(reporter);

    const Stopwatch step_time;
    const AxisTraffic before = groups_.traffic ? *groups_.traffic : AxisTraffic();
    trace_.step_begins();
    const data::Batch batch = loader_->next();
    step_.accumulate(batch);
    const double exposed_ms = step_.exposed_ms();
    const StepFacts facts = step_.agree(flags());  // from here on all ranks know the same, and decide alike
    if (trace_.recording()) step_.report(trace_);
    const Verdict verdict = guard_.judge(facts);
    const double lr = learning_rate();
    check_weights_if_due();
    if (verdict == Verdict::update) {
      saver_.hold_updates();
      step_.update(lr, facts);
    } else {
      explain_skip(facts, verdict);
      if (verdict == Verdict::not_finite && step_.streams()) step_.streams()->rows().reset();
    }
    advance(facts);
    groups_.step_done(progress_.step);
    const double step_seconds = step_time.seconds();
    const AxisTraffic exchanged = groups_.traffic ? groups_.traffic->since(before) : AxisTraffic();

    ledger.append(progress_.step, facts.loss(), batch.sample_ids, step_.parameters(), step_.optimizer());
    reporter.step({progress_, facts, verdict, lr, step_.clip_factor(facts), step_seconds, batch.wait_ms,
                   exposed_ms, exchanged});
    trace_.step_ends();
    measure_difference_if_due(reporter);
    save_if_due(facts, reporter);
    if (speaks()) failures_.passed(progress_.step);
    if (facts.stop && !finished()) {
      save_and_wait(reporter);
      log_info("stopped by a signal after step {}; the same command goes on from there", progress_.step);
      return ExitCode::saved;
    }
  }
  save_and_wait(reporter);
  if (data_.held_out() != nullptr) evaluate_held_out(reporter);
  if (data_.tasks() != nullptr) evaluate_tasks(reporter);
  log_info("done: {} steps, {} tokens", progress_.step, progress_.tokens);
  if (config_.train.device == "cuda")
    log_info("GPU memory: tensors held {:.1f} GiB at most",
             static_cast<double>(kernels::gpu_memory().peak_bytes) / (1 << 30));
  return ExitCode::ok;
}

ExitCode Trainer::run() {
  if (finished()) {
    log_info("{}: complete at step {}; raise --steps, --tokens or --minutes to go on", config_.train.run_dir,
             progress_.step);
    snapshots_.remove();
    return ExitCode::ok;
  }
  Reporter reporter(config_, progress_, groups_.all.size(), speaks());
  try {
    const ExitCode code = loop(reporter);
    snapshots_.remove();
    trace_.finish();
    reporter.ended(code == ExitCode::ok ? "done" : "saved");
    return code;
  } catch (const std::exception& error) {
    reporter.ended(error.what());
    failures_.add(progress_.step + 1,
                  error);  // throws an error of its own when that step fails again and again
    throw;
  }
}

// ---- one step's parts ----

bool Trainer::finished() const {
  const int64_t total = config_.total_steps();
  return time_up_ || (total > 0 && progress_.step >= total);
}

/// What this rank knows beside its loss and gradient.
StepFacts Trainer::flags() const {
  const TrainConfig& train = config_.train;
  const double minutes = (seconds_before_ + attempt_.seconds()) / 60;
  return {.stop = stop_requested() != StopRequest::none,
          .save_due = speaks() && train.save_every_minutes > 0 &&
                      since_save_.seconds() >= train.save_every_minutes * 60,
          .time_up = speaks() && train.minutes > 0 && minutes >= train.minutes,
          .saving = saver_.writing()};
}

double Trainer::learning_rate() const {
  return config_.optimizer.lr * schedule_factor(config_.schedule, progress_.step, config_.total_steps());
}

void Trainer::advance(const StepFacts& facts) {
  DM_REQUIRE(guard_.skipped_in_a_row() < config_.train.skip_limit, ExitCode::internal,
             "step {}: {} steps in a row were skipped, the last with loss {} and gradient norm {}; the "
             "weights are those "
             "before them. Lower --lr, lengthen --warmup, or look at the data; raise --skip-limit to go on "
             "regardless",
             progress_.step + 1, guard_.skipped_in_a_row(), facts.loss(), facts.gradient_norm());
  ++progress_.step;
  progress_.samples += config_.train.global_batch;
  progress_.tokens += config_.tokens_per_step();
  progress_.seconds = seconds_before_ + attempt_.seconds();
  time_up_ = facts.time_up;
}

void Trainer::explain_skip(const StepFacts& facts, Verdict verdict) const {
  log_warn("step {} skipped: {} (loss {}, gradient norm {})", progress_.step + 1, name(verdict), facts.loss(),
           facts.gradient_norm());
  if (verdict != Verdict::not_finite) return;
  const std::string mine = fmt::format("rank {}: loss of its rows {}, {}", groups_.all.rank(),
                                       step_.local().nats, step_.parameters().first_non_finite());
  for (const std::string& text : groups_.all.gather_text(mine)) log_warn("  {}", text);
}

/// Before the update, which would spread an error to all, or heal it after its gradient has been added.
void Trainer::check_weights_if_due() const {
  const int64_t every = config_.train.digest_every;
  if (every > 0 && (progress_.step + 1) % every == 0)
    require_equal_weights(step_.parameters(), groups_.replicas, progress_.step + 1);
}

void Trainer::evaluate_if_due(Reporter& reporter) const {
  const auto due = [&](int64_t every) {
    return every > 0 && progress_.step > 0 && progress_.step % every == 0;
  };
  if (due(config_.train.eval_every)) evaluate_held_out(reporter);
  if (due(config_.eval.tasks_every)) evaluate_tasks(reporter);
}

void Trainer::evaluate_held_out(Reporter& reporter) const {
  reporter.evaluation(progress_.step, evaluate(step_.model(), *data_.held_out(), config_.eval,
                                               config_.train.mask_boundary_loss, groups_));
}

void Trainer::evaluate_tasks(Reporter& reporter) const {
  reporter.tasks(progress_.step, data_.tasks()->evaluate(step_.model(), config_.eval.eval_batch, groups_));
}

void Trainer::measure_difference_if_due(Reporter& reporter) const {
  const TrainConfig& train = config_.train;
  const bool due = train.telemetry_every > 0 && progress_.step % train.telemetry_every == 0;
  if (!due || groups_.data_rank != 0) return;
  // Always the same tokens, so that a curve over steps shows the weights alone.
  const data::Dataset& dataset = data_.held_out() != nullptr ? *data_.held_out() : data_.first();
  const int64_t available = std::min(train.telemetry_tokens, dataset.token_count() - 1);
  const int64_t length = std::min(train.length, available);
  const Rows rows = read_rows(dataset, 0, available / length, length, /*mask_boundary_loss=*/false)
                        .piece(groups_.placement)
                        .to(step_.model().device());
  reporter.difference(progress_.step, step_.model().difference_stats(
                                          rows.tokens.narrow(1, 0, rows.seq_idx.size(1)), rows.seq_idx));
}

// ---- checkpoints ----

Meta Trainer::meta() const {
  return {.progress = progress_,
          .updates = step_.optimizer().updates(),
          .guard = guard_.state(),
          .config = RunConfig(config_).table().to_json(),
          .data = data_identity_,
          .program = program_version(),
          .world = groups_.all.size()};
}

void Trainer::begin_save() {
  since_save_.restart();
  saver_.start(progress_.step, meta().to_json());
  saved_step_ = progress_.step;
}

void Trainer::end_save(Reporter& reporter) {
  try {
    reporter.saved(saver_.finish());
  } catch (const Error& error) {
    const Saver::Outcome& save = saver_.outcome();
    if (!save.in_memory) saved_step_ = -1;
    // The checkpoint before is intact, so a full disk must not end the run; the next save may find room.
    if (error.code() != ExitCode::io && error.code() != ExitCode::permission) throw;
    log_error("step {}: {}, training goes on: {}", save.step, save.in_memory ? "no snapshot" : "not saved",
              error.what());
  }
}

void Trainer::save_if_due(const StepFacts& facts, Reporter& reporter) {
  const auto falls_due = [&](int64_t every) { return every > 0 && progress_.step % every == 0; };
  const bool due = facts.save_due || falls_due(config_.train.save_every);
  if (due && facts.saving && !save_due_)
    log_info("step {}  a checkpoint is due while that of step {} is being written; it is taken after that",
             progress_.step, saver_.outcome().step);
  save_due_ |= due;
  if (facts.saving) return;  // on some rank, as all know
  if (saver_.in_flight()) end_save(reporter);
  if (std::exchange(save_due_, false))
    begin_save();
  else if (snapshots_.due(progress_.step))
    saver_.start_snapshot(snapshots_.store(), progress_.step, meta().to_json());
}

/// What a run ends with: unlike a save on the way, it must succeed.
void Trainer::save_and_wait(Reporter& reporter) {
  if (saver_.in_flight()) end_save(reporter);
  if (saved_step_ == progress_.step) return;
  begin_save();
  reporter.saved(saver_.finish());
}

// ---- assembly ----

Trainer::Trainer(const RunConfig& config, const Groups& groups)
    : config_(config),
      groups_(groups),
      data_(config, groups.data_rank, groups.data_ranks),
      save_group_(groups.all.duplicate()),
      store_(config.train.run_dir, config.checkpoint, *save_group_),
      log_(config.train.run_dir, groups.all.rank()),
      failures_(config.train.run_dir, speaks()),
      step_(config.model, config.optimizer, step_setup(config), groups),
      saver_(store_, step_.parameters(), step_.optimizer(), step_.owns(), step_.streams()),
      snapshots_(config, groups_, *save_group_, step_.stored_bytes()),
      guard_(config.train.spike_sigma, config.train.spike_window),
      trace_(config.train.trace, config.train.trace_steps, config.train.device == "cuda", groups.all) {
  if (config.train.digest_every > 0 && groups.replicas.size() == 1)
    log_warn("--digest-every: these weights are held once; there is nothing to compare them with");
  const std::optional<Meta> stored = restore();
  step_.weights_changed();
  start_data(stored);
  seconds_before_ = progress_.seconds;
  time_up_ = config.train.minutes > 0 && seconds_before_ >= config.train.minutes * 60;
  attempt_.restart();
  since_save_.restart();
}

std::optional<Meta> Trainer::restore() {
  const auto take = [&](const auto& from, const auto& load) { return take_state(from, load); };
  if (std::optional<Meta> stored = snapshots_.restore(take)) return stored;
  const std::optional<checkpoints::Summary> newest = store_.newest();
  snapshots_.begin_anew();
  if (newest) {
    const std::string& directory = newest->directory;
    Meta stored = take_state(*newest, [&](const auto& pieces) { checkpoints::load(directory, pieces); });
    saved_step_ = progress_.step;
    return stored;
  }
  step_.parameters().initialise(config_.model, static_cast<uint64_t>(config_.train.seed));
  log_info("{}: a new run of {} parameters on {} rank(s)", config_.train.run_dir,
           model::parameter_count(config_.model), groups_.all.size());
  if (!config_.train.init_from.empty()) take_weights();
  return std::nullopt;
}

Meta Trainer::take_state(const checkpoints::Summary& from, const LoadPieces& load) {
  const Meta stored = Meta::from_json(from.meta, from.directory);
  refuse_differences(config_differences(stored, config_), config_.train.allow, from.directory);
  HostState state(step_.parameters(), step_.optimizer(), HostState::OnCpu::the_arrays);
  load(state.pieces(HostState::Purpose::fill));
  state.push();
  step_.parameters().gather_weights();
  if (step_.streams() && stored.streams()) step_.streams()->load(load);
  step_.optimizer().set_updates(stored.updates);
  guard_.restore(stored.guard, from.directory);
  progress_ = stored.progress;
  log_info("{}: going on after step {}, written by {} on {} rank(s)", from.directory, progress_.step,
           stored.program, stored.world);
  return stored;
}

/// Of --init-from, whose model must be this one; moments, schedule and data begin anew.
void Trainer::take_weights() {
  with_newest_checkpoint(config_.train.init_from, [&](const CheckpointModel& source) {
    const std::string& from = source.summary.directory;
    refuse_differences(model_differences(source.config, config_.model), config_.train.allow, from);
    HostState state(step_.parameters(), step_.optimizer(), HostState::OnCpu::the_arrays);
    state.pull();
    checkpoints::load(from, weights_among(state.pieces(HostState::Purpose::fill)));
    state.push();
    step_.parameters().gather_weights();
    log_info("{}: begins with the weights of {}", config_.train.run_dir, from);
  });
}

void Trainer::start_data(const std::optional<Meta>& stored) {
  loader_ = data_.start(progress_.samples);
  data_identity_ = {loader_->fingerprint(), data_.first().tokenizer(), data_.first().tokenizer_hash(),
                    data_.first().eos_id()};
  if (stored)
    refuse_differences(data_differences(*stored, config_, data_identity_), config_.train.allow,
                       config_.train.run_dir);
  if (speaks()) keep_tokenizer(data_identity_, config_.train.run_dir);
}

}  // namespace

ExitCode train(const RunConfig& config, const Groups& groups) {
  if (config.train.threads > 0) set_threads(config.train.threads);
  at::set_num_threads(static_cast<int>(threads()));
  if (config.train.dry_run) return dry_run(config, groups), ExitCode::ok;
  if (config.train.device != "cuda") return Trainer(config, groups).run();
  const bool bf16 = activation_type(config.train) == at::kBFloat16;
  RunConfig chosen = config;
  const GpuMemoryPlan plan{chosen.model,
                           RankPlace::of(groups),
                           {.rows = config.train.global_batch,
                            .length = config.train.length,
                            .micro_batch = config.train.micro_batch,
                            .activations = bf16 ? DType::bf16 : DType::f32,
                            .bucket_bytes = bucket_bytes(config.train),
                            .streams = config.data.order == "streams",
                            .zero = config.layout.zero},
                           "micro-batch"};
  chosen.model.recompute = chosen_recompute(plan, groups.all);
  announce_memory(plan);
  ExitCode code = ExitCode::internal;
  with_memory_advice(plan, [&] { code = Trainer(chosen, groups).run(); });
  return code;
}

}  // namespace dm::train
