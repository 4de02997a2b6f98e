#pragma once
// Inputs of the scan drawn as a Mamba-2 mixer gives them, and the recurrence in float64 on the host: the
// truth for the CUDA kernels.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ssd/cuda/params.h"

namespace dm::test {

using kernels::cuda::Element;
using kernels::cuda::SsdShape;

struct SsdCase {
  std::string name;
  SsdShape shape;
  Element element = Element::kBFloat16;
  int documents = 1;     // packed into each row, of random lengths
  bool states = false;   // an initial state, and a gradient of the final one
  bool foreign = false;  // the initial state is of another document than the row's first token
  float decay = 0.f;     // if not 0: every a
  float step = 0.f;      // if not 0: every dt
  uint64_t seed = 1;
};

/// All values as floats on the host; x, b, c and dy already rounded to the element.
struct SsdProblem {
  SsdCase spec;
  std::vector<float> x, dt, a, b, c, d, initial_state, dy, dfinal_state;
  std::vector<int32_t> seq_idx, before;  // before: of the token before each row

  explicit SsdProblem(const SsdCase& spec);
  /// Other values, steps among them, for every token of a row's document.
  void redraw_document(int64_t row, int32_t id);
};

template <typename T>
struct SsdResults {
  std::vector<T> y, final_state, dx, ddt, da, db, dc, dd, dinitial_state;
  std::vector<T> passed, passed_back, decay;  // of the walks over states alone
};

SsdResults<double> recurrence(const SsdProblem& problem);

/// The name of each result and its relative L2 distance from the truth.
struct SsdError {
  const char* name;
  double value;
};
/// Relative L2 distances over everything added.
class SsdErrorPool {
 public:
  void add(const SsdResults<float>& got, const SsdResults<double>& truth);
  std::vector<SsdError> errors() const;

 private:
  static constexpr int kResults = 12;
  double difference_[kResults] = {}, norm_[kResults] = {};
};
std::vector<SsdError> errors(const SsdResults<float>& got, const SsdResults<double>& truth);

}  // namespace dm::test
