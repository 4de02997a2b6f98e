// Every golden file of a folder through the model, in float64 and float32.
//
//   golden_test [--golden DIR] [--device cuda]
//
// DIR may stand in DM_GOLDEN_DIR; by default it is the files beside the sources. On a GPU float32 alone.
//
// Prints a line a file and dtype: the quantity nearest its bound, its error, the bound. Exits 1 when anything
// is beyond its bound, not a number, unknown, unused, or when there is no file.

#include <ATen/Parallel.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>

#include "core/error.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu.h"
#include "tests/golden/cases.h"

namespace dm::golden {
namespace {

std::vector<std::string> golden_files(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().extension() == ".h5") paths.push_back(entry.path());
  DM_REQUIRE(!error, ExitCode::usage, "{}: {}", directory, error.message());
  DM_REQUIRE(!paths.empty(), ExitCode::usage, "{}: no golden file (*.h5); make some with generate.py",
             directory);
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// How near its bound, NaN counting as beyond it.
double strain(const Comparison& c) {
  return c.error <= c.bound ? (c.bound > 0 ? c.error / c.bound : 0) : HUGE_VAL;
}

/// Prints the file's line and every failure; true when all is accepted.
bool report(const std::string& path, const Arithmetic& in) {
  const std::string name = std::filesystem::path(path).stem();
  const char* type = in.dtype == at::kDouble ? "float64" : "float32";
  try {
    const std::vector<Comparison> comparisons = run_case(path, in);
    const auto worst = std::max_element(comparisons.begin(), comparisons.end(),
                                        [](const auto& a, const auto& b) { return strain(a) < strain(b); });
    const bool good =
        std::all_of(comparisons.begin(), comparisons.end(), [](const auto& c) { return c.accepted(); });
    fmt::print("{:<32} {:<8} {:>4}  {:<46} {:>10.2e} {:>10.2e}  {}\n", name, type, comparisons.size(),
               worst->quantity, worst->error, worst->bound, good ? "ok" : "FAILED");
    for (const Comparison& c : comparisons)
      if (!c.accepted())
        fmt::print("    {}: off by {:.3e} of {:.3e}, accepted {:.3e}\n", c.quantity, c.error, c.size,
                   c.bound);
    return good;
  } catch (const std::exception& error) {
    fmt::print("{:<32} {:<8}  FAILED: {}\n", name, type, error.what());
    return false;
  }
}

struct Wish {
  std::string directory;
  std::vector<Arithmetic> arithmetics = {at::kDouble, at::kFloat};
};

Wish parse(int argc, char** argv) {
  const char* variable = std::getenv("DM_GOLDEN_DIR");
  Wish wish{.directory = variable ? variable : DM_GOLDEN_FILES};
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    DM_REQUIRE((option == "--golden" && !value.empty()) || (option == "--device" && value == "cuda"),
               ExitCode::usage, "usage: golden_test [--golden DIR] [--device cuda]");
    if (option == "--golden") wish.directory = value;
    if (option == "--device") wish.arithmetics = {{at::kFloat, at::kCUDA}};
  }
  return wish;
}

int run(int argc, char** argv) {
  at::set_num_threads(1);  // LibTorch's threads spin while they wait; layers this small would do nothing else
  const Wish wish = parse(argc, argv);
  const std::vector<std::string> paths = golden_files(wish.directory);
  if (wish.arithmetics.front().device.is_cuda()) {
    if (kernels::cuda_devices().empty()) {
      fmt::print("skipped: {}\n", kernels::cuda_status());
      return 77;  // what ctest takes for skipped
    }
    kernels::use_gpu(0);
  }
  fmt::print("{:<32} {:<8} {:>4}  {:<46} {:>10} {:>10}\n", "file", "dtype", "n", "nearest its bound", "error",
             "bound");
  int failed = 0;
  for (const std::string& path : paths)
    for (const Arithmetic& in : wish.arithmetics) failed += report(path, in) ? 0 : 1;
  fmt::print("{} file(s), {}: {}\n", paths.size(),
             wish.arithmetics.size() == 2 ? "float64 and float32" : "float32 on the GPU",
             failed == 0 ? "all accepted" : fmt::format("{} FAILED", failed));
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dm::golden

int main(int argc, char** argv) {
  try {
    return dm::golden::run(argc, argv);
  } catch (const dm::Error& error) {
    fmt::print(stderr, "{}\n", dm::describe(error));
    return static_cast<int>(error.code());
  }
}
