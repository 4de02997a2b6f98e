// Weights that come late on a GPU, beside passes that are recorded as graphs: on one GPU, which is the first
// rank of a pair whose other rank owns weights that never change.

#include <ATen/ATen.h>
#include <ATen/cuda/Sleep.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "core/counting_collectives.h"
#include "core/error.h"
#include "kernels/device/gpu.h"
#include "kernels/device/stream.h"
#include "tests/model/cuda/gpu_models.h"
#include "train/made_up_rows.h"
#include "train/step_runner.h"

namespace dm::train {
namespace {

constexpr int64_t kRows = 4, kMicroBatch = 2, kLength = 75, kSteps = 5;

struct Done final : Pending {
  void wait() override {}
};

/// Works in the order of the current stream, as groups for the memory of GPUs do; what this rank brings
/// arrives `cycles` of the GPU's clock after it has been sent.
class Pretended final : public Collectives {
 public:
  Pretended(int64_t cycles, int64_t lost) : cycles_(cycles), lost_(lost) {}
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 2; }
  void all_reduce(void*, int64_t, DType, Reduce) override {}
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce) override {
    copy(input, output, count, dtype);
    return std::make_unique<Done>();
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    if (cycles_ > 0) at::cuda::sleep(cycles_);
    if (gathers++ != lost_) copy(input, output, count, dtype);
    return std::make_unique<Done>();
  }
  void broadcast(void*, int64_t, DType, int64_t) override {}
  std::unique_ptr<Pending> send(const void*, int64_t, DType, int64_t) override {
    return std::make_unique<Done>();
  }
  std::unique_ptr<Pending> receive(void*, int64_t, DType, int64_t) override {
    return std::make_unique<Done>();
  }
  void barrier() override {}
  std::unique_ptr<Collectives> duplicate() override { return std::make_unique<Pretended>(cycles_, lost_); }

  int64_t gathers = 0;

 private:
  static void copy(const void* input, void* output, int64_t count, DType dtype) {
    DM_CHECK(dtype == DType::f32, "{} weights", name(dtype));
    const auto options = at::dtype(at::kFloat).device(at::kCUDA);
    at::from_blob(output, {count}, options).copy_(at::from_blob(const_cast<void*>(input), {count}, options));
  }
  int64_t cycles_, lost_;
};

struct Outcome {
  std::vector<double> nats;
  at::Tensor weights;  // of the leaves, on the CPU
  double exposed_ms = 0;
  int64_t graph_nodes = 0;
};

Outcome trained(const model::ModelConfig& config, at::ScalarType activations, int64_t cycles, bool record,
                int64_t zero = 1, int64_t lost = -1) {
  const auto alone = make_single_process_collectives();
  Pretended pair(cycles, lost);
  StepRunner runner(config, {},
                    {.activations = activations,
                     .device = at::kCUDA,
                     .bucket_bytes = 1,
                     .micro_batch = kMicroBatch,
                     .record = record,
                     .global_rows = kRows,
                     .zero = zero},
                    {.all = *alone, .replicas = *alone, .shards = pair});
  runner.parameters().initialise(config, 7);
  runner.weights_changed();
  Outcome outcome;
  for (int64_t step = 0; step < kSteps; ++step) {
    runner.accumulate(made_up_rows(config, /*seed=*/3, kLength, step * kRows, kRows));
    outcome.nats.push_back(runner.local().nats);
    outcome.exposed_ms = runner.exposed_ms();
    // The first step's passes are called and the second's recorded: both read weights that are on their way.
    runner.update(1e-2, runner.agree());
  }
  // Once they are called and once recorded.
  EXPECT_EQ(pair.gathers, (record ? 2 : kSteps) * static_cast<int64_t>(runner.parameters().buckets().size()));
  outcome.weights = runner.parameters().weights().cpu();
  outcome.graph_nodes = runner.passes().graph_nodes();
  return outcome;
}

/// Some milliseconds for each bucket: far longer than a layer takes.
constexpr int64_t kLate = 4'000'000;

TEST(WeightGatherCuda, LateWeightsChangeNoBit) {
  for (const at::ScalarType activations : {at::kFloat, at::kBFloat16})
    for (const bool tied : {true, false})
      for (const int64_t zero : {1, 2}) {
        model::ModelConfig config = model::wide_config("DMSF", "scalar");
        config.tied = tied;
        if (!tied) config.recompute = "block";
        const std::string what = fmt::format("{} tied {} zero {}", at::toString(activations), tied, zero);
        const Outcome prompt = trained(config, activations, 0, false, zero);
        for (const bool record : {false, true}) {
          const Outcome late = trained(config, activations, kLate, record, zero);
          EXPECT_EQ(late.nats, prompt.nats) << what;
          EXPECT_TRUE(at::equal(late.weights, prompt.weights)) << what;
          EXPECT_EQ(late.graph_nodes > 0, record) << what;
          fmt::print("{}, {}: waited {:.2f} ms, {:.2f} where weights are prompt\n", what,
                     record ? "recorded" : "called", late.exposed_ms, prompt.exposed_ms);
          EXPECT_GT(late.exposed_ms, 1) << what;
          EXPECT_LT(prompt.exposed_ms, late.exposed_ms) << what;
        }
      }
}

/// What the test above would find if a wait were left out or a copy of a matrix not renewed.
TEST(WeightGatherCuda, WhatDoesNotComeShows) {
  const model::ModelConfig config = model::wide_config("DMSF", "scalar");
  const Outcome sound = trained(config, at::kBFloat16, 0, true);
  const auto buckets = static_cast<int64_t>(model::layer_letters(config).size()) + 1;
  for (int64_t lost = 0; lost < buckets; ++lost)
    EXPECT_NE(trained(config, at::kBFloat16, 0, true, 1, lost).nats[1], sound.nats[1]) << lost;
}

TEST(WeightGatherCuda, GathersAreRecordedAnewWhereArrivalBringsMore) {
  const auto options = at::dtype(at::kFloat).device(at::kCUDA);
  const at::Tensor owned = at::zeros({5}, options), all = at::zeros({10}, options);
  const at::Tensor first = at::zeros_like(all), second = at::zeros_like(all);
  auto made = std::make_unique<Pretended>(/*cycles=*/0, /*lost=*/-1);
  const Pretended& pair = *made;
  AxisTraffic traffic;
  const auto group = counted(std::move(made), traffic.data);
  WeightGather gather(*group, {{.piece = 5}}, DType::f32, owned, all);
  int64_t copies = 1;
  gather.on_arrival(
      [&](int64_t, int64_t) {
        first.copy_(all);
        if (copies == 2) second.copy_(all);
      },
      [&] { return copies; });
  gather.record(&traffic);
  for (int step = 1; step <= 8; ++step) {
    if (step == 5) copies = 2;
    owned.fill_(step);
    gather.start();
    gather.settle();
    EXPECT_EQ(first[4].item<float>(), static_cast<float>(step));
    EXPECT_EQ(second[4].item<float>(), static_cast<float>(step < 5 ? 0 : step));
  }
  EXPECT_EQ(pair.gathers, 4);  // called and recorded, twice
  EXPECT_EQ(traffic.data.sent(), 8 * 5 * int64_t{sizeof(float)});
}

TEST(WeightGatherCuda, ARecordedWaitIsForTheMarkAsLastSet) {
  const auto options = at::dtype(at::kFloat).device(at::kCUDA);
  const at::Tensor source = at::zeros({1}, options), seen = at::zeros({1}, options);
  kernels::SideStream side(true);
  kernels::Mark ready(true), there(true), wanted(true);
  there.set();
  seen.copy_(source);  // whatever is loaded at a first use is loaded now
  kernels::wait_for_gpu();
  kernels::Graph graph(true);
  for (int step = 1; step <= 6; ++step) {
    const bool late = step != 4;  // then it waits for what came long ago
    if (late) {
      ready.set();
      side.run([&] {
        ready.wait();
        at::cuda::sleep(10 * kLate);  // also where another program shares the GPU
        source.fill_(step);
        there.set();
      });
    }
    graph.run([&] {
      wanted.set();
      there.wait();
      seen.copy_(source);
    });
    EXPECT_EQ(seen.item<float>(), static_cast<float>(late ? step : step - 1)) << step;
    // The second run is the one that records, for which it waits until the GPU has nothing left to do.
    EXPECT_EQ(there.ms_since(wanted) > 0, late && step != 2) << step;
  }
  EXPECT_GT(graph.nodes(), 0);
}

}  // namespace
}  // namespace dm::train
