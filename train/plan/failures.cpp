#include "train/plan/failures.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "train/bench/quantile.h"

namespace dm::train {
namespace {

struct Run {
  double trained = 0;  // seconds
  int64_t failures = 0;
};

/// What is kept at a place while training advances from `from` for `worked` seconds at 1 / `slowed`.
void keep_newest(double& kept, const SavePlace& place, double from, double worked, double slowed) {
  if (worked < place.latency) return;
  const double newest = std::floor((from + (worked - place.latency) / slowed) / place.every) * place.every;
  if (newest > from) kept = newest;
}

Run run_once(const FailureModel& model, double seconds, uint64_t seed) {
  const CounterRng rng(seed, "failures");
  const auto cost = [](const SavePlace& place) { return place.blocked / place.every; };
  const double slowed = 1 + cost(model.disk) + (model.memory ? cost(*model.memory) : 0);
  Run run;
  double clock = 0, from = 0, on_disk = 0, in_memory = 0, restart = 0;
  while (true) {
    const uint64_t draw = 2 * static_cast<uint64_t>(run.failures);
    const double failure = clock - model.mttf * std::log1p(-rng.uniform(draw));
    const double worked = std::max(0.0, std::min(failure, seconds) - clock - restart);
    if (failure >= seconds) {
      run.trained = from + worked / slowed;
      return run;
    }
    keep_newest(on_disk, model.disk, from, worked, slowed);
    if (model.memory) keep_newest(in_memory, *model.memory, from, worked, slowed);
    if (rng.uniform(draw + 1) < model.several_nodes) in_memory = 0;
    const bool memory = in_memory > on_disk;
    from = memory ? in_memory : on_disk;
    restart = memory ? model.memory->restart : model.disk.restart;
    clock = failure;
    ++run.failures;
  }
}

}  // namespace

double expected_goodput(double mttf, const SavePlace& place) {
  const double length = place.every + place.blocked;
  const double fails = -std::expm1(-length / mttf);
  return place.every / (fails * mttf * std::exp((place.restart + length + place.latency) / mttf));
}

double best_interval(double mttf, SavePlace place) {
  // Golden sections: the goodput rises to one maximum and falls.
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double low = std::max(place.latency - place.blocked, 1e-6 * mttf), high = std::max(10 * mttf, 2 * low);
  const auto goodput = [&](double every) {
    place.every = every;
    return expected_goodput(mttf, place);
  };
  while (high - low > 1e-6 * high) {
    const double left = high - ratio * (high - low), right = low + ratio * (high - low);
    if (goodput(left) > goodput(right))
      high = right;
    else
      low = left;
  }
  return (low + high) / 2;
}

double young_interval(double mttf, double blocked) { return std::sqrt(2 * blocked * mttf); }

double daly_interval(double mttf, double blocked) {
  if (blocked >= 2 * mttf) return mttf;
  const double share = blocked / (2 * mttf);
  return std::sqrt(2 * blocked * mttf) * (1 + std::sqrt(share) / 3 + share / 9) - blocked;
}

Goodput simulate(const FailureModel& model, double seconds, int64_t runs) {
  std::vector<double> shares;
  Goodput result;
  for (int64_t i = 0; i < runs; ++i) {
    const Run run = run_once(model, seconds, static_cast<uint64_t>(i));
    shares.push_back(run.trained / seconds);
    result.mean += shares.back() / static_cast<double>(runs);
    result.failures += static_cast<double>(run.failures) / static_cast<double>(runs);
  }
  double squares = 0;
  for (const double share : shares) squares += (share - result.mean) * (share - result.mean);
  result.standard_error = std::sqrt(squares / static_cast<double>(std::max<int64_t>(1, runs - 1) * runs));
  std::sort(shares.begin(), shares.end());
  result.low = quantile(shares, 0.05), result.high = quantile(shares, 0.95);
  return result;
}

}  // namespace dm::train
