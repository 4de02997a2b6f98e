#include "train/run_data.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/row_reader.h"
#include "data/tokenizer.h"

namespace dm::train {
namespace {

std::shared_ptr<const data::Dataset> open_held_out(const RunConfig& config) {
  if (config.eval.eval_data.empty()) return nullptr;
  data::OpenOptions options;
  if (!std::filesystem::is_directory(config.eval.eval_data))
    options.hdf5_name = config.data.hdf5_name, options.eos_id = config.data.eos_id;
  return data::open_dataset(config.eval.eval_data, options);
}

std::unique_ptr<data::Tokenizer> tokenizer_of(const data::Dataset& dataset) {
  DM_REQUIRE(
      dataset.tokenizer_hash() != Hash128{}, ExitCode::usage,
      "--tasks needs text to be encoded, and {} does not say with which tokenizer it was made; train on "
      "a dataset of `diffmamba prepare`",
      dataset.path());
  return data::reopen_tokenizer(dataset.tokenizer(), dataset.eos_id(), dataset.tokenizer_hash());
}

}  // namespace

RunData::RunData(const RunConfig& config, int64_t rank, int64_t world)
    : config_(config),
      shape_{.length = config.train.length,
             .global_rows = config.train.global_batch,
             .rank = rank,
             .world = world,
             .packed = config.model.packed,
             .mask_boundary_loss = config.train.mask_boundary_loss},
      datasets_(data::open_datasets(config.data, config.train.length)),
      held_out_(open_held_out(config)) {
  data::RowReader(datasets_, config.data, shape_);  // its constructor checks that they make samples
  int64_t vocab_size = 0;
  for (const auto& [dataset, weight] : datasets_) vocab_size = std::max(vocab_size, dataset->vocab_size());
  DM_REQUIRE(vocab_size <= config.model.vocab_size, ExitCode::usage,
             "--data has token ids up to {}, but --vocab-size is {}; give --vocab-size {} or more",
             vocab_size - 1, config.model.vocab_size, vocab_size);
  if (!config.eval.tasks.empty())
    tasks_.emplace(config.eval.tasks, *tokenizer_of(first()), config.model.vocab_size);
  if (!held_out_) return;
  DM_REQUIRE(held_out_->tokenizer_hash() == first().tokenizer_hash(), ExitCode::usage,
             "--eval-data {} was made with the tokenizer {} ({}), --data with {} ({}); prepare both with one",
             config.eval.eval_data, held_out_->tokenizer(), hex(held_out_->tokenizer_hash()),
             first().tokenizer(), hex(first().tokenizer_hash()));
  DM_REQUIRE(held_out_->vocab_size() <= config.model.vocab_size, ExitCode::usage,
             "--eval-data has token ids up to {}, but --vocab-size is {}; give --vocab-size {} or more",
             held_out_->vocab_size() - 1, config.model.vocab_size, held_out_->vocab_size());
}

std::unique_ptr<data::Loader> RunData::start(int64_t samples_consumed) const {
  return std::make_unique<data::Loader>(datasets_, config_.data, shape_, samples_consumed);
}

}  // namespace dm::train
