#pragma once
// A small training state with everything that is awkward: scalars, an empty tensor, odd sizes, three dims,
// several dtypes, optimizer slots, a tensor of more than one chunk on request. Values are a pure function of
// (seed, name, element).

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "checkpoints/state.h"

namespace dm::test {

class SampleState {
 public:
  enum class Split {
    ranges,   // a flat range of all elements, ranks of almost equal size (ZeRO)
    columns,  // of the last dim, cut between ranks (tensor parallel)
    whole,    // everything on rank 0
  };

  /// Pieces of rank `rank` of `world` with memory of their own: the values, or 0xee bytes to be overwritten.
  SampleState(Split split, int64_t rank, int64_t world, uint64_t seed, bool filled, bool large = false);

  const std::vector<checkpoints::Piece>& pieces() const { return pieces_; }
  /// Names of pieces that are not, bit for bit, what seed gives.
  std::vector<std::string> wrong(uint64_t seed) const;

 private:
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, checkpoints::Box box,
           uint64_t seed, bool filled);
  std::vector<checkpoints::Piece> pieces_;
  std::deque<std::vector<std::byte>> memory_;
};

struct SampleTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
};
std::vector<SampleTensor> sample_tensors(bool large = false);

}  // namespace dm::test
