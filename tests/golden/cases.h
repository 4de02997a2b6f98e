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

/// What a file is computed in: float64 or float32 on the CPU, float32 on a GPU.
struct Arithmetic {
  Arithmetic(at::ScalarType dtype, at::Device device = at::kCPU) : dtype(dtype), device(device) {}  // NOLINT
  at::ScalarType dtype;
  at::Device device;
};

/// All comparisons of the file. Throws ExitCode::bad_data for what it does not know or does not
/// use, and for parameters that are not exactly those of the layer or model it describes.
std::vector<Comparison> run_case(const std::string& path, const Arithmetic& in);

}  // namespace dm::golden
