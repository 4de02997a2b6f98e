#include "model/cut.h"

#include <algorithm>

#include "core/error.h"

namespace dm::model {

std::vector<Run> deal(int64_t units, int64_t branches, int64_t branch, int64_t tp) {
  DM_CHECK(branches * units % tp == 0, "{} branches of {} units in {} equal parts", branches, units, tp);
  const int64_t part = branches * units / tp;
  std::vector<Run> runs;
  for (int64_t rank = 0; rank < tp; ++rank) {
    const int64_t begin = std::clamp<int64_t>(rank * part - branch * units, 0, units);
    const int64_t end = std::clamp<int64_t>((rank + 1) * part - branch * units, 0, units);
    runs.push_back({begin, end});
  }
  return runs;
}

Cut cut_along(int64_t dim, const std::vector<Run>& units, int64_t width) {
  Cut cut;
  cut.dim = dim;
  for (const Run& run : units) {
    cut.ranks.emplace_back();
    if (!run.empty()) cut.ranks.back().push_back({run.begin * width, run.end * width});
  }
  return cut;
}

Cut where_any(const std::vector<Run>& units, int64_t extent) {
  Cut cut;
  for (const Run& run : units) {
    cut.ranks.emplace_back();
    if (!run.empty()) cut.ranks.back().push_back({0, extent});
  }
  return cut;
}

}  // namespace dm::model
