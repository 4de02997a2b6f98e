#include "tests/kernels/cuda/ssd_isolation.h"

#include <cstdio>
#include <cstring>

#include "tests/kernels/cuda/ssd_run.cuh"

namespace dm::test {
namespace {

using namespace kernels::cuda;
using Values = std::vector<float>;

SsdResults<float> results_of(const SsdProblem& problem, SsdPath path, cudaStream_t stream) {
  const SsdRun run(problem, path, stream);
  run.poison();
  run.pieces();
  return run.results();
}

/// The first part, of as many as `keeps` is asked for, that is to keep its bits and does not; -1: none.
template <class Keeps>
int64_t first_moved(const Values& one, const Values& other, int64_t parts, const Keeps& keeps) {
  const size_t width = one.size() / static_cast<size_t>(parts);
  for (int64_t i = 0; i < parts; ++i) {
    const size_t at = static_cast<size_t>(i) * width;
    if (keeps(i) && std::memcmp(&one[at], &other[at], width * sizeof(float)) != 0) return i;
  }
  return -1;
}

/// Compares what a change of document `id` of row 0 has left; false where more than that document moved, or
/// it did not.
bool apart(const SsdProblem& problem, int32_t id, const SsdResults<float>& before,
           const SsdResults<float>& after) {
  const SsdShape& s = problem.spec.shape;
  const int64_t tokens = s.rows * s.length;
  const bool first = id == problem.seq_idx[0], last = id == problem.seq_idx[size_t(s.length - 1)];
  const auto outside = [&](int64_t t) { return t >= s.length || problem.seq_idx[size_t(t)] != id; };
  struct Kept {
    const char* name;
    int64_t moved;
  };
  const Kept all[] = {
      {"y", first_moved(before.y, after.y, tokens, outside)},
      {"dx", first_moved(before.dx, after.dx, tokens, outside)},
      {"ddt", first_moved(before.ddt, after.ddt, tokens, outside)},
      {"db", first_moved(before.db, after.db, tokens, outside)},
      {"dc", first_moved(before.dc, after.dc, tokens, outside)},
      {"final_state", first_moved(before.final_state, after.final_state, s.rows,
                                  [&](int64_t row) { return row > 0 || !last; })},
      {"dinitial_state", first_moved(before.dinitial_state, after.dinitial_state, s.rows,
                                     [&](int64_t row) { return row > 0 || !first; })},
      {"passed",
       first_moved(before.passed, after.passed, s.rows, [&](int64_t row) { return row > 0 || !last; })},
      {"passed_back", first_moved(before.passed_back, after.passed_back, s.rows,
                                  [&](int64_t row) { return row > 0 || !first; })},
  };
  bool good = true;
  for (const Kept& kept : all)
    if (kept.moved >= 0) {
      std::printf("  %s %ld moved with document %d (!)", kept.name, long(kept.moved), int(id));
      good = false;
    }
  if (first_moved(before.y, after.y, tokens, [&](int64_t t) { return !outside(t); }) < 0) {
    std::printf("  document %d itself did not move (!)", int(id));
    good = false;
  }
  return good;
}

bool check_case(const SsdCase& spec, SsdPath path, cudaStream_t stream) {
  const SsdProblem problem(spec);
  const SsdResults<float> before = results_of(problem, path, stream);
  const int32_t first = problem.seq_idx[0], last = problem.seq_idx[size_t(spec.shape.length - 1)];
  std::printf("%-28s %-5s", spec.name.c_str(), path == SsdPath::kFast ? "fast" : "plain");
  bool good = last > first + 2;
  for (const int32_t id : {first, first + 1, (first + last) / 2, last - 1, last}) {
    SsdProblem changed = problem;
    changed.redraw_document(0, id);
    good = apart(problem, id, before, results_of(changed, path, stream)) && good;
  }
  std::printf("  %s\n", good ? "ok" : "NOT APART");
  std::fflush(stdout);
  return good;
}

}  // namespace

bool check_isolation(cudaStream_t stream) {
  bool good = true;
  for (const SsdShape& shape : {SsdShape{2, 300, 8, 32, 2, 128},
                                {2, 131, 4, 64, 2, 64},
                                {2, 310, 4, 128, 2, 256},
                                {2, 309, 6, 32, 3, 16},
                                {1, 2048, 4, 32, 2, 128},  // from here on in segments
                                {1, 1024, 2, 128, 1, 32},
                                {1, 1025, 4, 32, 2, 256}}) {
    SsdCase spec{"documents apart, L " + std::to_string(shape.length) + " P " +
                     std::to_string(shape.head_dim) + " N " + std::to_string(shape.state),
                 shape};
    spec.documents = static_cast<int>(shape.length / 11);
    spec.states = true;
    good = check_case(spec, SsdPath::kFast, stream) && good;
    if (shape.length < 300) good = check_case(spec, SsdPath::kPlain, stream) && good;
  }
  return good;
}

}  // namespace dm::test
