#pragma once
// Batches for one rank, read ahead by a pool of threads and delivered in order. What position p of a run is
// depends on nothing but (datasets, weights, seed, order, global batch, p): the state to resume is one
// integer, samples consumed.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/fields.h"
#include "core/hash.h"
#include "data/dataset.h"

namespace dm::data {

struct LoaderConfig {
  std::vector<std::string> data;   // "PATH" or "PATH:WEIGHT"
  std::string hdf5_name;           // name of the dataset inside a user's own HDF5 file
  int64_t eos_id = -1;             // of a user's own HDF5 file: splits it into documents
  std::string order = "shuffled";  // shuffled | streams
  int64_t data_seed = 1;
  std::string data_check = "touched";
  int64_t reader_threads = 4;
  int64_t prefetch_batches = 8;  // batches read ahead

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("data", self.data,
      "datasets to read, PATH or PATH:WEIGHT, comma-separated; without weights, in proportion to their size");
    v("hdf5_name", self.hdf5_name, "name of a 1-D integer dataset inside your own HDF5 file");
    v("eos_id", self.eos_id, "token that ends a document in your own HDF5 file; -1: the file is one document",
      Range{-1, 4294967295.0});
    v("order", self.order,
      "order of samples: shuffled, or streams (each batch row reads one contiguous stretch, and the model's "
      "state goes on with it from step to step)",
      Choices{{"shuffled", "streams"}});
    v("data_seed", self.data_seed, "seed of the order of samples", Range{0, 9.0e18});
    v("data_check", self.data_check, "compare the checksums of the blocks a sample touches, or not",
      Choices{{"touched", "off"}}, Affects::speed);
    v("reader_threads", self.reader_threads, "threads that read samples ahead, per rank", Range{1, 1024},
      Affects::speed);
    v("prefetch_batches", self.prefetch_batches, "batches read ahead, per rank", Range{1, 65536},
      Affects::speed);
  }
};

/// The rows of one global batch that belong to this rank, row-major.
struct Batch {
  int64_t index = 0;            // of the global batch since the start of the run
  int64_t rows = 0;             // this rank's rows
  int64_t first_sample = 0;     // number of the first of them, counted over the run and all ranks
  int64_t length = 0;           // L
  std::vector<int32_t> tokens;  // [rows, L + 1]: inputs are the first L, targets the last L
  std::vector<int32_t>
      seq_idx;  // [rows, L]: document number within the row, from 0; constant when not packed
  std::vector<uint8_t> loss_mask;    // [rows, L]: 1 where the target counts
  std::vector<uint64_t> sample_ids;  // [rows]: dataset number << 48 | sample number
  std::vector<uint8_t> goes_on;  // [rows]: 1 where a row goes on with the document that the same row of the
                                 // batch before ended in
  double wait_ms = 0;            // how long next() waited for it
};

/// Opens what `config.data` names. Either every entry has a weight or none has; then the weights are the
/// numbers of samples of `length`, so that an epoch shows each dataset once.
struct WeightedDataset {
  std::shared_ptr<const Dataset> dataset;
  double weight = 1;
};
std::vector<WeightedDataset> open_datasets(const LoaderConfig& config, int64_t length);

/// Where a rank's rows of a global batch of `global_rows` start: floor(global_rows * rank / world).
inline int64_t first_row(int64_t global_rows, int64_t rank, int64_t world) {
  return global_rows * rank / world;
}

class Loader {
 public:
  /// Packing: with packed = false seq_idx is constant (documents in one row see each other).
  struct Shape {
    int64_t length = 0;       // L
    int64_t global_rows = 0;  // rows of one global batch over all ranks
    int64_t rank = 0;
    int64_t world = 1;
    bool packed = true;
    bool mask_boundary_loss = false;  // no loss for a document's first token
  };

  /// Reading starts at once, from sample `samples_consumed` (a multiple of global_rows).
  Loader(const LoaderConfig& config, const Shape& shape, int64_t samples_consumed);
  /// The same over datasets that are open already (`config.data` is not read): for tests and benchmarks.
  Loader(std::vector<WeightedDataset> datasets, const LoaderConfig& config, const Shape& shape,
         int64_t samples_consumed);
  ~Loader();  // stops the readers; returns within one read

  /// The next batch of this rank. What a reader threw for one of its rows is thrown here, at that batch and
  /// from then on.
  Batch next();

  /// One hash over everything that determines the samples: fingerprints, weights, seed, order (not the world
  /// size).
  Hash128 fingerprint() const;
  int64_t vocab_size() const;  // the largest of the datasets'
  const Dataset& dataset(int64_t index) const;
  int64_t samples_per_epoch() const;  // of the first dataset when there are several

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::data
