// libFuzzer's entry points: fuzz --target=NAME [libFuzzer's own options] CORPUS...

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "tests/fuzz/targets.h"

namespace {

const dm::test::FuzzTarget* target = nullptr;

// Which refusal an input ends in counts as coverage. The validator of HDF5 runs in a child process, whose
// branches are seen by nobody, and libhdf5 is not instrumented at all: there it is the only guide.
__attribute__((section("__libfuzzer_extra_counters"))) uint8_t refusals[4096];

void count(std::string refusal) {
  refusal.erase(
      std::remove_if(refusal.begin(), refusal.end(), [](unsigned char c) { return std::isdigit(c); }),
      refusal.end());
  refusals[std::hash<std::string>()(refusal.substr(0, 160)) % sizeof refusals] = 1;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "--target=";
  for (int i = 1; i < *argc; ++i)
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) == 0)
      target = dm::test::find_fuzz_target((*argv)[i] + std::strlen(kOption));
  if (target != nullptr) return 0;
  std::fprintf(stderr, "fuzz --target=NAME, with NAME one of:");
  for (const auto& known : dm::test::fuzz_targets()) std::fprintf(stderr, " %s", known.name);
  std::fprintf(stderr, "\n");
  std::exit(64);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  count(target->refusal(std::string(reinterpret_cast<const char*>(data), size)));
  return 0;
}
