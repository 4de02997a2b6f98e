#include "data/row_reader.h"

#include <algorithm>

#include "core/error.h"

namespace dm::data {
namespace {

Sampler make_sampler(const std::vector<WeightedDataset>& datasets, const LoaderConfig& config,
                     const Loader::Shape& shape) {
  DM_REQUIRE(shape.length > 0, ExitCode::usage, "rows of {} tokens; at least one is needed", shape.length);
  std::vector<Sampler::Source> sources;
  for (const auto& [dataset, weight] : datasets) {
    const int64_t samples = dataset->sample_count(shape.length);
    DM_REQUIRE(samples > 0, ExitCode::usage,
               "{}: its {} tokens are fewer than one sample of {} + 1; use shorter rows or more data",
               dataset->path(), dataset->token_count(), shape.length);
    sources.push_back({samples, dataset->fingerprint(), weight});
  }
  return Sampler(std::move(sources), config.order == "streams" ? Order::streams : Order::shuffled,
                 static_cast<uint64_t>(config.data_seed), shape.global_rows);
}

}  // namespace

RowReader::RowReader(std::vector<WeightedDataset> datasets, const LoaderConfig& config,
                     const Loader::Shape& shape)
    : datasets_(std::move(datasets)), shape_(shape), sampler_(make_sampler(datasets_, config, shape)) {
  DM_REQUIRE(shape.world > 0 && shape.rank >= 0 && shape.rank < shape.world, ExitCode::usage, "rank {} of {}",
             shape.rank, shape.world);
}

Batch RowReader::empty_batch(int64_t index) const {
  Batch batch;
  batch.index = index;
  const int64_t first = first_row(shape_.global_rows, shape_.rank, shape_.world);
  batch.rows = first_row(shape_.global_rows, shape_.rank + 1, shape_.world) - first;
  batch.first_sample = index * shape_.global_rows + first;
  batch.length = shape_.length;
  const auto rows = static_cast<size_t>(batch.rows), length = static_cast<size_t>(batch.length);
  batch.tokens.resize(rows * (length + 1));
  batch.seq_idx.resize(rows * length);
  batch.loss_mask.resize(rows * length);
  batch.sample_ids.resize(rows);
  batch.goes_on.resize(rows);
  return batch;
}

bool RowReader::goes_on(int64_t position) const {
  if (!sampler_.goes_on(position)) return false;
  if (!shape_.packed) return true;
  const Sample sample = sampler_.at(position);
  return datasets_[static_cast<size_t>(sample.dataset)]
      .dataset->document_starts(sample.index * shape_.length - 1, 2)
      .empty();
}

void RowReader::read(Batch& batch, int64_t row) const {
  const int64_t length = batch.length;
  const Sample sample = sampler_.at(batch.first_sample + row);
  const Dataset& dataset = *datasets_[static_cast<size_t>(sample.dataset)].dataset;
  const int64_t begin = sample.index * length;

  batch.sample_ids[static_cast<size_t>(row)] =
      static_cast<uint64_t>(sample.dataset) << 48 | static_cast<uint64_t>(sample.index);
  batch.goes_on[static_cast<size_t>(row)] = goes_on(batch.first_sample + row) ? 1 : 0;
  dataset.read_tokens(begin, length + 1, batch.tokens.data() + row * (length + 1));

  uint8_t* mask =
      batch.loss_mask.data() + row * length;  // [length]: of the targets, so from the second token on
  if (dataset.has_loss_mask())
    dataset.read_loss_mask(begin + 1, length, mask);
  else
    std::fill_n(mask, length, uint8_t{1});

  int32_t* seq_idx =
      batch.seq_idx.data() + row * length;  // [length]: of the inputs, so up to the last but one
  std::fill_n(seq_idx, length, 0);
  if (!shape_.packed && !shape_.mask_boundary_loss) return;
  int32_t document = 0;
  const std::vector<int64_t> starts = dataset.document_starts(begin, length + 1);
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : length;
    if (shape_.packed)
      std::fill(seq_idx + std::min(starts[i], length), seq_idx + std::min(end, length), ++document);
    if (shape_.mask_boundary_loss) mask[starts[i] - 1] = 0;
  }
}

}  // namespace dm::data
