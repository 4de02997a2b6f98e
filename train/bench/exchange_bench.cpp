#include "train/bench/exchange_bench.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"
#include "kernels/device/gpu.h"
#include "train/stopwatch.h"

namespace dm::train {

Json bench_exchange(const ExchangeBenchConfig& config, bool on_gpu, const Groups& groups) {
  Collectives& group = groups.shards;
  const int64_t ranks = group.size();
  DM_REQUIRE(ranks > 1, ExitCode::usage,
             "bench exchange: one rank exchanges nothing; start it with mpirun -n 2");
  const auto elements = [&](double mib) {  // a multiple of what every rank gets
    return std::max<int64_t>(1, static_cast<int64_t>(mib * (1 << 18)) / ranks) * ranks;
  };
  const int64_t count = elements(config.exchange_mib);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(on_gpu ? at::kCUDA : at::kCPU);
  const at::Tensor all = at::ones({count}, options), owned = at::empty({count / ranks}, options);
  float* const whole = all.data_ptr<float>();
  float* const mine = owned.data_ptr<float>();

  const auto in_pieces = [&](int64_t piece, const auto& operation) {
    std::vector<std::unique_ptr<Pending>> pending;
    for (int64_t begin = 0; begin < count; begin += piece) {
      const int64_t each = std::min(piece, count - begin) / ranks;
      pending.push_back(operation(whole + begin, mine + begin / ranks, each));
    }
    for (const auto& one : pending) one->wait();
  };
  const auto scatter = [&](float* from, float* to, int64_t each) {
    return group.reduce_scatter(from, to, each, DType::f32, Reduce::sum);
  };
  const auto gather = [&](float* to, float* from, int64_t each) {
    return group.all_gather(from, to, each, DType::f32);
  };
  const auto timed = [&](const std::function<void()>& work) {
    std::vector<double> seconds;
    for (int64_t i = -2; i < config.exchange_repetitions; ++i) {
      if (on_gpu) kernels::wait_for_gpu();
      groups.all.barrier();
      const Stopwatch time;
      work();
      if (on_gpu) kernels::wait_for_gpu();
      const double slowest = groups.all.all_max(time.seconds());
      if (i >= 0) seconds.push_back(slowest);
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    const double bytes =
        4.0 * static_cast<double>(count) * static_cast<double>(ranks - 1) / static_cast<double>(ranks);
    return Json{{"ms", median * 1e3}, {"bus_gb_s", bytes / median * 1e-9}};
  };
  const int64_t piece = elements(config.piece_mib);
  return {{"ranks", ranks},
          {"mib", static_cast<double>(count) / (1 << 18)},
          {"reduce_scatter_buckets", timed([&] { in_pieces(piece, scatter); })},
          {"reduce_scatter_whole", timed([&] { in_pieces(count, scatter); })},
          {"all_gather_buckets", timed([&] { in_pieces(piece, gather); })},
          {"all_gather_whole", timed([&] { in_pieces(count, gather); })}};
}

}  // namespace dm::train
