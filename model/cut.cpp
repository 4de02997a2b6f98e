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

void append(Cut& cut, const std::vector<Run>& units, int64_t width, int64_t offset) {
  cut.ranks.resize(units.size());
  for (size_t rank = 0; rank < units.size(); ++rank)
    if (!units[rank].empty())
      cut.ranks[rank].push_back({offset + units[rank].begin * width, offset + units[rank].end * width});
}

Cut cut_along(int64_t dim, const std::vector<Run>& units, int64_t width) {
  Cut cut;
  cut.dim = dim;
  append(cut, units, width, 0);
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

Cut on_first(int64_t extent, int64_t tp) {
  Cut cut;
  cut.ranks.resize(static_cast<size_t>(tp));
  cut.ranks[0].push_back({0, extent});
  return cut;
}

}  // namespace dm::model
