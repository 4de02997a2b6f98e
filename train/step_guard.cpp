#include "train/step_guard.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"

namespace dm::train {
namespace {

/// A window flatter than this fraction of its mean says nothing about what is unusual: a run on one repeated
/// sample, or with a learning rate of 0, would see a spike in every rounding error.
constexpr double kFlattest = 1e-3;

bool is_spike(const std::deque<double>& window, double value, double sigma) {
  const auto count = static_cast<double>(window.size());
  double sum = 0, squares = 0;
  for (const double x : window) sum += x;
  const double mean = sum / count;
  for (const double x : window) squares += (x - mean) * (x - mean);
  const double deviation = std::max(std::sqrt(squares / (count - 1)), kFlattest * std::abs(mean));
  return value > mean + sigma * deviation;
}

void remember(std::deque<double>& window, double value, int64_t limit) {
  window.push_back(value);
  if (static_cast<int64_t>(window.size()) > limit) window.pop_front();
}

std::deque<double> read_window(const Json& state, const char* key, const std::string& where) {
  const Json list = required<Json>(state, key, where);
  DM_REQUIRE(
      list.is_array() && std::all_of(list.begin(), list.end(), [](const Json& x) { return x.is_number(); }),
      ExitCode::bad_data, "{}: '{}' is not a list of numbers", where, key);
  return list.get<std::deque<double>>();
}

}  // namespace

double StepFacts::gradient_norm() const { return std::sqrt(gradient_squares) / targets; }

StepFacts agree(const StepFacts& mine, Collectives& group) {
  std::array<double, kAgreedBytes / sizeof(double)> values{mine.nats,
                                                           mine.targets,
                                                           mine.gradient_squares,
                                                           mine.stop ? 1. : 0.,
                                                           mine.save_due ? 1. : 0.,
                                                           mine.time_up ? 1. : 0.,
                                                           mine.saving ? 1. : 0.};
  group.all_reduce(values.data(), values.size(), DType::f64, Reduce::sum);
  return {values[0], values[1], values[2], values[3] > 0, values[4] > 0, values[5] > 0, values[6] > 0};
}

const char* name(Verdict verdict) {
  switch (verdict) {
    case Verdict::update: return "update";
    case Verdict::not_finite: return "not finite";
    case Verdict::spike: return "spike";
    case Verdict::no_targets: return "no targets";
  }
  return "?";
}

StepGuard::StepGuard(double sigma, int64_t window) : sigma_(sigma), window_(window) {}

Verdict StepGuard::judge(const StepFacts& facts) {
  if (facts.targets == 0) return Verdict::no_targets;
  const double loss = facts.loss(), norm = facts.gradient_norm();
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    ++skipped_in_a_row_;
    return Verdict::not_finite;
  }
  const bool judged = sigma_ > 0 && static_cast<int64_t>(losses_.size()) >= std::max<int64_t>(2, window_ / 2);
  const bool spike = judged && (is_spike(losses_, loss, sigma_) || is_spike(norms_, norm, sigma_));
  remember(losses_, loss, window_);
  remember(norms_, norm, window_);
  skipped_in_a_row_ = spike ? skipped_in_a_row_ + 1 : 0;
  return spike ? Verdict::spike : Verdict::update;
}

Json StepGuard::state() const {
  return {{"losses", losses_}, {"norms", norms_}, {"skipped_in_a_row", skipped_in_a_row_}};
}

void StepGuard::restore(const Json& state, const std::string& where) {
  losses_ = read_window(state, "losses", where);
  norms_ = read_window(state, "norms", where);
  DM_REQUIRE(losses_.size() == norms_.size(), ExitCode::bad_data, "{}: {} losses but {} norms", where,
             losses_.size(), norms_.size());
  skipped_in_a_row_ = required<int64_t>(state, "skipped_in_a_row", where);
  while (static_cast<int64_t>(losses_.size()) > window_) losses_.pop_front(), norms_.pop_front();
}

}  // namespace dm::train
