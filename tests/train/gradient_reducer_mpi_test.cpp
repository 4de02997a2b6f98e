// Buckets leave while the backward pass runs, in its order, and the sums are those of one exchange at its
// end.

#include "train/gradient_reducer.h"

#include <gtest/gtest.h>

#include "core/forwarding_collectives.h"
#include "tests/support/mpi_environment.h"
#include "tests/train/layer_parameters.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

constexpr int64_t kLayers = 5;

/// A parameter a layer, and one behind them.
std::vector<model::ParameterInfo> infos() {
  return layer_parameters(kLayers, [](int64_t depth) { return 100 + 3 * depth; });
}

/// Counts the exchanges that have been started.
class Counting final : public ForwardingCollectives {
 public:
  using ForwardingCollectives::ForwardingCollectives;
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    ++started;
    return ForwardingCollectives::reduce_scatter(input, output, count, dtype, op);
  }
  int64_t started = 0;
};

at::Tensor gradient_of(const FlatParameters& parameters, int64_t depth) {
  return parameters.leaves().at("p" + std::to_string(depth)).mutable_grad();
}

/// What rank `rank` finds for element i of a parameter: whole numbers, so that no sum rounds.
double value(int64_t rank, int64_t depth, int64_t i) {
  return static_cast<double>((i * 7 + depth * 5 + rank * 3) % 23 - 11);
}

void expect_sums(const FlatParameters& parameters, int64_t ranks, double factor) {
  for (const Slice& slice : parameters.slices(parameters.rank()))
    for (int64_t i = slice.begin; i < slice.end; ++i) {
      double sum = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) sum += value(rank, slice.parameter, i);
      ASSERT_EQ(parameters.owned_gradients()[slice.offset + i - slice.begin].item<double>(), factor * sum)
          << "parameter " << slice.parameter << " element " << i;
    }
}

void fill(const FlatParameters& parameters, int64_t depth) {
  at::Tensor gradient = gradient_of(parameters, depth);
  for (int64_t i = 0; i < gradient.numel(); ++i) gradient[i] += value(parameters.rank(), depth, i);
}

TEST(GradientReducer, BucketsLeaveWhenTheLastPassHasPassedThem) {
  const auto world = test::mpi().make_world_group();
  Counting group(*world);
  FlatParameters parameters(infos(), DType::f64, group, at::kCPU, /*bucket_bytes=*/1);
  ASSERT_EQ(parameters.buckets().size(), kLayers + 1u);
  GradientReducer reducer(parameters);
  for (int64_t step = 0; step < 2; ++step) {
    parameters.zero_gradients();
    group.started = 0;
    for (const bool last : {false, true}) {
      if (last) reducer.pass_begins(/*last=*/true);
      fill(parameters, kLayers);
      for (int64_t depth = kLayers - 1; depth >= 0; --depth) {
        reducer.passed(depth);
        EXPECT_EQ(group.started, last ? kLayers - depth : 0) << "after depth " << depth;
        // Written after the buckets of greater depth have left, which must not see it.
        fill(parameters, depth);
      }
    }
    reducer.finish();
    EXPECT_EQ(group.started, kLayers + 1);
    expect_sums(parameters, group.size(), 2);
    EXPECT_GE(reducer.exposed_ms(), 0);
  }
}

TEST(GradientReducer, ARankWithoutRowsTakesPart) {
  const auto group = test::mpi().make_world_group();
  FlatParameters parameters(infos(), DType::f64, *group, at::kCPU, 1);
  GradientReducer reducer(parameters);
  const bool works = group->rank() == 0;
  parameters.zero_gradients();
  if (works) {
    reducer.pass_begins(/*last=*/true);
    fill(parameters, kLayers);
    for (int64_t depth = kLayers - 1; depth >= 0; --depth) reducer.passed(depth), fill(parameters, depth);
  }
  reducer.finish();
  expect_sums(parameters, 1, 1);
}

TEST(GradientReducer, SumsOverTheOwnersOfOnePieceAsWell) {
  const auto world = test::mpi().make_world_group();
  const int64_t rank = world->rank(), size = world->size();
  if (size % 2 != 0) GTEST_SKIP() << "two groups of one size need an even number of ranks";
  const int64_t half = size / 2;
  const auto shard = test::mpi().make_group(rank / half), across = test::mpi().make_group(rank % half);
  FlatParameters parameters(infos(), DType::f64, *shard, at::kCPU, 1);
  GradientReducer reducer(parameters, across.get());
  parameters.zero_gradients();
  for (int64_t depth = 0; depth <= kLayers; ++depth) {
    at::Tensor gradient = gradient_of(parameters, depth);
    for (int64_t i = 0; i < gradient.numel(); ++i) gradient[i] += value(rank, depth, i);
  }
  reducer.finish();
  expect_sums(parameters, size, 1);
}

TEST(GradientReducer, BucketsOfAnySizeTrainTheSameModel) {
  const auto group = test::mpi().make_world_group();
  const test::SharedFolder folder(*group);
  RunConfig whole = test::tiny_run(folder.path(), "whole", 10),
            cut = test::tiny_run(folder.path(), "cut", 10);
  cut.train.bucket_mib = 1e-6;
  for (const RunConfig* config : {&whole, &cut}) {
    Counting counting(*group);
    EXPECT_EQ(train(*config, data_parallel(counting)), ExitCode::ok);
    EXPECT_EQ(counting.started > 10, config == &cut);
    group->barrier();
  }
  // The norm is added up in other pieces: a rounding of 1e-16, which ten steps in float64 leave below 1e-10.
  EXPECT_LE(test::relative_difference(test::final_weights(cut.train.run_dir),
                                      test::final_weights(whole.train.run_dir)),
            1e-10);
}

/// The model reports depths as parameter_infos() promises: when depth d is reported, no gradient of greater
/// depth changes any more, and at the end all are complete.
TEST(GradientReducer, ModelsReportDepthsWhoseGradientsAreComplete) {
  const auto group = make_single_process_collectives();
  for (const char* pattern : {"DMDF", "SSF", "MDFS"})
    for (const char* mixer : {"mamba2", "mamba1"}) {
      RunConfig config = test::tiny_run("/nowhere", "run", 5);
      config.model.pattern = pattern, config.model.mixer = mixer;
      config.model.tied = false;
      if (config.model.mixer == "mamba1") config.model.lambda = "sigmoid_sum";
      FlatParameters parameters(model::parameter_infos(config.model), DType::f64, *group);
      parameters.initialise(config.model, 5);
      model::LanguageModel model(config.model, parameters.leaves());
      std::map<std::string, at::Tensor> complete;
      std::vector<int64_t> reported;
      model.watch_backward([&](int64_t depth) {
        reported.push_back(depth);
        for (const auto& [info, shape, pieces] : parameters.parameters())
          if (info.depth > depth && !complete.contains(info.name))
            complete[info.name] = parameters.leaves().at(info.name).grad().clone();
      });
      const at::Tensor tokens = at::arange(26, at::kLong).mul(37).remainder(256).view({2, 13});
      model.loss_sum(tokens, at::zeros({2, 12}, at::kInt), at::ones({2, 12}, at::kByte)).backward();
      const auto layers = static_cast<int64_t>(std::string(pattern).size());
      ASSERT_EQ(reported.size(), static_cast<size_t>(layers)) << pattern;
      for (int64_t i = 0; i < layers; ++i) EXPECT_EQ(reported[static_cast<size_t>(i)], layers - 1 - i);
      for (const auto& [name, gradient] : complete) {
        EXPECT_TRUE(at::equal(gradient, parameters.leaves().at(name).grad())) << pattern << " " << name;
        EXPECT_GT(gradient.abs().max().item<double>(), 0) << pattern << " " << name;
      }
      size_t deeper = 0;
      for (const auto& [info, shape, pieces] : parameters.parameters()) deeper += info.depth > 0;
      EXPECT_EQ(complete.size(), deeper);
    }
}

}  // namespace
}  // namespace dm::train
