#pragma once
// Running a golden file through the model.

#include <string>
#include <vector>

#include "tests/golden/golden_file.h"

namespace dm::golden {

/// One compared quantity. Accepted only if error <= bound, which NaN is not.
struct Comparison {
  std::string quantity;  // "y", "grad/mixer_1.A_log"
  double error;          // ‖a − b‖
  double bound;
  double size;  // ‖b‖
  bool accepted() const { return error <= bound; }
};

/// All comparisons of the file in one dtype. Throws ExitCode::bad_data for what it does not know or does not
/// use, and for parameters that are not exactly those of the layer or model it describes.
std::vector<Comparison> run_case(const std::string& path, at::ScalarType dtype);

}  // namespace dm::golden
