#pragma once
// Which sample stands at which position of a run: a pure function in O(1) memory. World size never enters, so
// the state to resume is one integer, and a run may go on with another number of ranks.

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"

namespace dm::data {

enum class Order {
  shuffled,  // each epoch of a dataset is a new seeded permutation of its samples
  streams,   // row r of every batch reads one contiguous stretch of samples in order, again and again
};

struct Sample {
  int64_t dataset = 0;
  int64_t index = 0;
  bool operator==(const Sample&) const = default;
};

/// Position p is row p % global_rows of batch p / global_rows.
///
/// Several datasets share the positions (shuffled) or the rows (streams) in proportion to their weights,
/// spread evenly: of the first n, dataset d has its share of n up to a rounding of at most one for each
/// dataset. Each dataset walks its own sequence, epoch by epoch, and shows every sample once before it shows
/// one again. In `streams`, rows that share a dataset divide its samples into stretches whose sizes differ by
/// at most one.
class Sampler {
 public:
  struct Source {
    int64_t samples = 0;
    Hash128 fingerprint;
    double weight = 1;
  };

  /// Refuses (ExitCode::usage) a source without samples, a weight that is not positive, and in `streams` a
  /// source that gets no row, or fewer samples than rows.
  Sampler(std::vector<Source> sources, Order order, uint64_t seed, int64_t global_rows);

  Sample at(int64_t position) const;

  /// Whether the sample at a position is the one after that of the same row in the batch before: in
  /// `streams`, except where a row's stretch begins.
  bool goes_on(int64_t position) const;

  /// XXH3-128 of everything that determines at().
  Hash128 fingerprint() const;

 private:
  struct Turn {
    int64_t dataset;
    int64_t count;  // turns of this dataset before this one
  };
  Turn turn(int64_t n) const;
  struct Stretch {
    int64_t dataset, begin, end;  // samples [begin, end)
  };
  Stretch stretch(int64_t row) const;
  int64_t shuffled_index(const Source& source, int64_t n) const;

  std::vector<Source> sources_;
  Order order_;
  uint64_t seed_;
  int64_t global_rows_;
  std::vector<uint64_t> shares_;       // weights as whole numbers
  std::vector<uint64_t> shares_from_;  // their sums from each dataset to the last
  std::vector<int64_t> rows_;          // streams: rows of each dataset
};

}  // namespace dm::data
