#include "model/init.h"

#include <ATen/Dispatch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "model/language_model.h"

namespace dm::model {
namespace {

constexpr double kStepMin = 1e-3;
constexpr double kStepMax = 1e-1;
constexpr double kStepFloor = 1e-4;
constexpr int64_t kBlock = int64_t{1} << 14;  // elements a task draws; no result depends on it

double bias_of_step(double unit) {
  const double step = std::max(kStepFloor, kStepMin * std::exp(unit * std::log(kStepMax / kStepMin)));
  return step + std::log(-std::expm1(-step));  // x with softplus(x) = step
}

}  // namespace

Init Init::linear(int64_t fan_in, double divisor) {
  return uniform(1 / (std::sqrt(static_cast<double>(fan_in)) * divisor));
}

double Init::operator()(const CounterRng& rng, uint64_t index) const {
  switch (kind) {
    case Kind::constant: return a;
    case Kind::uniform: return rng.uniform(index, -a, a);
    case Kind::normal: return a * rng.normal(index);
    case Kind::log_uniform: return std::log(rng.uniform(index, a, b));
    case Kind::log_column: return std::log(1.0 + static_cast<double>(index % static_cast<uint64_t>(a)));
    case Kind::step_bias: return bias_of_step(rng.uniform(index));
  }
  DM_FAIL(ExitCode::internal, "an initial distribution without a rule");
}

void initialise(const ModelConfig&, const ParameterInfo& info, uint64_t seed, int64_t begin,
                at::Tensor values) {
  const int64_t size = info.count();
  DM_CHECK(begin >= 0 && begin <= size && values.numel() <= size - begin, "{}: elements {} + {} of {}",
           info.name, begin, values.numel(), size);
  DM_CHECK(values.is_contiguous() && values.device().is_cpu() && values.is_floating_point(),
           "{}: initial values go to a contiguous floating tensor on the CPU", info.name);
  const CounterRng rng(seed, info.name);
  const int64_t count = values.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, values.scalar_type(), "initialise", [&] {
    scalar_t* const out = values.data_ptr<scalar_t>();
    parallel_for((count + kBlock - 1) / kBlock, [&](int64_t block) {
      const int64_t end = std::min(count, (block + 1) * kBlock);
      for (int64_t i = block * kBlock; i < end; ++i)
        out[i] = static_cast<scalar_t>(info.init(rng, static_cast<uint64_t>(begin + i)));
    });
  });
}

}  // namespace dm::model
