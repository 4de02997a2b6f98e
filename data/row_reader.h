#pragma once
// One row of a batch: the sample at a position of the run, with its documents and its loss mask.

#include <cstdint>
#include <vector>

#include "data/loader.h"
#include "data/sampler.h"

namespace dm::data {

class RowReader {
 public:
  RowReader(std::vector<WeightedDataset> datasets, const LoaderConfig& config, const Loader::Shape& shape);

  /// A batch of this rank with room for its rows and nothing read yet.
  Batch empty_batch(int64_t index) const;
  /// Fills row `row` (of this rank's) of a batch. Different rows may be filled by different threads.
  void read(Batch& batch, int64_t row) const;

  const Loader::Shape& shape() const { return shape_; }
  const Sampler& sampler() const { return sampler_; }
  const std::vector<WeightedDataset>& datasets() const { return datasets_; }

 private:
  /// Whether the row at a position of the run goes on with the document in which the batch before left it.
  bool goes_on(int64_t position) const;

  std::vector<WeightedDataset> datasets_;
  Loader::Shape shape_;
  Sampler sampler_;
};

}  // namespace dm::data
