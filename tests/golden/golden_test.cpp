// Every golden file of a folder through the model, in float64 and float32.
//
//   golden_test [--golden DIR]      (or DM_GOLDEN_DIR; by default the files beside the sources)
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
bool report(const std::string& path, at::ScalarType dtype) {
  const std::string name = std::filesystem::path(path).stem();
  const char* type = dtype == at::kDouble ? "float64" : "float32";
  try {
    const std::vector<Comparison> comparisons = run_case(path, dtype);
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

std::string directory_of(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--golden") return argv[2];
  DM_REQUIRE(argc == 1, ExitCode::usage, "usage: golden_test [--golden DIR]");
  const char* variable = std::getenv("DM_GOLDEN_DIR");
  return variable ? variable : DM_GOLDEN_FILES;
}

int run(int argc, char** argv) {
  at::set_num_threads(1);  // LibTorch's threads spin while they wait; layers this small would do nothing else
  const std::vector<std::string> paths = golden_files(directory_of(argc, argv));
  fmt::print("{:<32} {:<8} {:>4}  {:<46} {:>10} {:>10}\n", "file", "dtype", "n", "nearest its bound", "error",
             "bound");
  int failed = 0;
  for (const std::string& path : paths)
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) failed += report(path, dtype) ? 0 : 1;
  fmt::print("{} file(s), float64 and float32: {}\n", paths.size(),
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
