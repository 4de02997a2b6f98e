#include "kernels/simd/level.h"

#include <atomic>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace dm::kernels {
namespace {

std::atomic<CpuLevel>& current() {
  static std::atomic<CpuLevel> level{choose_cpu_level(std::getenv("DM_CPU_LEVEL"), best_cpu_level())};
  return level;
}

}  // namespace

const char* name(CpuLevel level) {
  switch (level) {
    case CpuLevel::baseline: return "baseline";
    case CpuLevel::v3: return "v3";
    case CpuLevel::v4: return "v4";
  }
  return "unknown";
}

CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return CpuLevel::v4;
  if (__builtin_cpu_supports("x86-64-v3")) return CpuLevel::v3;
  DM_REQUIRE(__builtin_cpu_supports("x86-64-v2"), ExitCode::usage,
             "this processor lacks SSE4.2 (x86-64-v2), which the program is compiled for; use a newer one");
#endif
  return CpuLevel::baseline;
}

CpuLevel choose_cpu_level(const char* wish, CpuLevel best) {
  if (wish == nullptr || *wish == '\0') return best;
  for (const CpuLevel level : {CpuLevel::baseline, CpuLevel::v3, CpuLevel::v4}) {
    if (std::string_view(wish) != name(level)) continue;
    DM_REQUIRE(level <= best, ExitCode::usage,
               "DM_CPU_LEVEL={}: this processor has levels up to {}; unset it or choose a lower one", wish,
               name(best));
    return level;
  }
  DM_FAIL(ExitCode::usage, "DM_CPU_LEVEL={}: unknown level; known are baseline, v3 and v4", wish);
}

CpuLevel cpu_level() { return current().load(std::memory_order_relaxed); }

void set_cpu_level(CpuLevel level) { current() = choose_cpu_level(name(level), best_cpu_level()); }

}  // namespace dm::kernels
