#include "train/dry_run.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "train/made_up_rows.h"
#include "train/step_runner.h"

namespace dm::train {
namespace {

constexpr int64_t kSteps = 2, kHeads = 8, kHeadDim = 8, kLength = 32;

/// The letters that occur, each once.
std::string distinct(const std::string& letters) {
  std::string once;
  for (const char letter : letters)
    if (once.find(letter) == std::string::npos) once += letter;
  return once;
}

model::ModelConfig shrunken(model::ModelConfig model, int64_t tp) {
  model.preset.clear();
  model.pattern = distinct(layer_letters(model));
  model.layers = 0;
  model.d_model = kHeads * kHeadDim * tp;  // heads for every tensor rank
  model.head_dim = kHeadDim;
  model.head_dim_plain = 2 * kHeadDim;
  model.n_groups = std::min<int64_t>(model.n_groups, 2);
  model.d_state = std::min<int64_t>(model.d_state, 16);
  model.dt_rank = 0;
  model.chunk_size = std::min<int64_t>(model.chunk_size, 16);
  model.vocab_size = std::min<int64_t>(model.vocab_size, 512);
  const auto clusters = static_cast<int64_t>(model.cutoffs.size());
  for (int64_t k = 0; k < clusters; ++k)
    model.cutoffs[static_cast<size_t>(k)] = std::to_string(model.vocab_size * (k + 1) / (clusters + 1));
  return model;
}

}  // namespace

RunConfig shrunken(const RunConfig& config, int64_t data_ranks) {
  RunConfig small = config;
  small.model = shrunken(config.model, config.layout.tp);
  small.train.length = std::min(config.train.length, kLength * config.layout.cp);
  small.train.global_batch = std::min(config.train.global_batch, 2 * data_ranks);
  small.train.micro_batch = 1;
  model::validate(small.model);
  return small;
}

void dry_run(const RunConfig& config, const Groups& groups) {
  set_log_terminal(groups.all.rank() == 0);
  const RunConfig small = shrunken(config, groups.data_ranks);
  log_info(
      "dry run: of the model of {} parameters, {} tokens a step, {} steps, one of {} parameters on rows of "
      "{} tokens",
      model::parameter_count(config.model), config.tokens_per_step(), config.total_steps(),
      model::parameter_count(small.model), small.train.length);
  StepRunner runner(small.model, small.optimizer, step_setup(small), groups);
  runner.parameters().initialise(small.model, static_cast<uint64_t>(small.train.seed));
  runner.weights_changed();
  const int64_t rows = small.train.global_batch,
                begin = data::first_row(rows, groups.data_rank, groups.data_ranks),
                end = data::first_row(rows, groups.data_rank + 1, groups.data_ranks);
  for (int64_t step = 0; step < kSteps; ++step) {
    runner.accumulate(
        made_up_rows(small.model, small.train.seed, small.train.length, step * rows + begin, end - begin));
    const StepFacts facts = runner.agree();
    DM_REQUIRE(std::isfinite(facts.loss()) && std::isfinite(facts.gradient_norm()), ExitCode::internal,
               "dry run, step {}: loss {}, gradient norm {}", step + 1, facts.loss(), facts.gradient_norm());
    const double lr = small.optimizer.lr * schedule_factor(small.schedule, step, config.total_steps());
    runner.update(lr, facts);
    log_info("dry run, step {}: loss {:.4f}, gradient norm {:.4f}, lr {:.3g}", step + 1, facts.loss(),
             facts.gradient_norm(), lr);
  }
}

}  // namespace dm::train
