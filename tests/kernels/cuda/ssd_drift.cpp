#include "tests/kernels/cuda/ssd_drift.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tests/kernels/cuda/ssd_run.cuh"

namespace dm::test {
namespace {

using kernels::cuda::SsdPath;

constexpr int64_t kEnd = 1024;  // tokens that the errors at the end are of
// What a result may be off, however long the row: as three roundings to bfloat16, 1.66e-3 each, of the
// states' inputs, of the states and of what is made of them, and a tenth more. The plain kernels multiply a
// state by a factor near one at every token, which float32 holds to 3e-8.
constexpr double kRoundings = 1.1 * 1.73 * 1.66e-3;
constexpr double kFactor = 3e-8;

/// Relative L2 distance over elements [begin, end).
double distance(const std::vector<float>& got, const std::vector<double>& truth, size_t begin, size_t end) {
  double difference = 0, norm = 0;
  for (size_t i = begin; i < end; ++i) {
    difference += (got[i] - truth[i]) * (got[i] - truth[i]);
    norm += truth[i] * truth[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace

bool report_drift(cudaStream_t stream) {
  struct Decay {
    const char* name;
    float a, step;  // 0: drawn as a mixer has them
  };
  bool good = true;
  for (const Decay& decay :
       {Decay{"as a model's", 0, 0}, Decay{"a Δ = -1e-7, nothing is forgotten", -1e-5f, 1e-2f}})
    for (const SsdShape& shape : {SsdShape{1, 1024, 8, 32, 2, 128}, SsdShape{1, 8192, 8, 32, 2, 128},
                                  SsdShape{1, 65536, 8, 32, 2, 128},
                                  SsdShape{1, 1 << 20, 2, 32, 1, 8}}) {  // what the host can hold of them
      SsdCase spec{"drift", shape};
      spec.decay = decay.a, spec.step = decay.step;
      spec.states = true;
      const SsdProblem problem(spec);
      const SsdResults<double> truth = recurrence(problem);
      for (const SsdPath path : {SsdPath::kFast, SsdPath::kPlain}) {
        const SsdRun run(problem, path, stream);
        run.poison();
        run.forward();
        run.backward();
        const SsdResults<float> got = run.results();
        // What has come the whole way: forwards to the end, the gradient to the beginning.
        const auto end = static_cast<size_t>(kEnd * shape.heads * shape.head_dim);
        const double state = distance(got.final_state, truth.final_state, 0, got.final_state.size()),
                     y = distance(got.y, truth.y, got.y.size() - end, got.y.size()),
                     dstate =
                         distance(got.dinitial_state, truth.dinitial_state, 0, got.dinitial_state.size()),
                     dx = distance(got.dx, truth.dx, 0, end);
        const double bar =
            path == SsdPath::kFast ? kRoundings : std::max(kRoundings, kFactor * double(shape.length));
        const bool one = std::max({state, y, dstate, dx}) <= bar;
        good = good && one;
        std::printf(
            "%s, %ld tokens, states kept in %s: final state %.2e, last y %.2e, dS0 %.2e, first dx %.2e%s\n",
            decay.name, long(shape.length), path == SsdPath::kFast ? "bf16" : "f32", state, y, dstate, dx,
            one ? "" : "  WRONG");
        std::fflush(stdout);
      }
    }
  return good;
}

}  // namespace dm::test
