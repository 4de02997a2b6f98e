#include "train/bench/ops_bench.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "model/cost.h"
#include "tests/support/refusal.h"

namespace dm::train {
namespace {

using testing::ElementsAre;

model::ModelConfig small(const std::string& mixer, const std::string& pattern) {
  model::ModelConfig config;
  config.mixer = mixer, config.pattern = pattern, config.d_model = 32, config.d_state = 16;
  config.head_dim = 16, config.head_dim_plain = 32, config.vocab_size = 61;
  return config;
}

StepBenchConfig few() {
  StepBenchConfig config;
  config.rows = 2, config.length = 33, config.document_tokens = 10, config.repetitions = 1;
  config.tflops = 790, config.terabytes = 3;
  return config;
}

std::vector<std::string> names(const OpsBenchResult& result) {
  std::vector<std::string> list;
  for (const OperationTime& operation : result.operations) list.push_back(operation.name);
  return list;
}

TEST(OpsBenchTest, TimesEveryOperationBesideItsStage) {
  for (const char* pattern : {"D", "FM", "S"}) {
    const OpsBenchResult mamba2 = bench_ops(small("mamba2", pattern), few()),
                         mamba1 = bench_ops(small("mamba1", pattern), few());
    EXPECT_THAT(names(mamba2), ElementsAre("embedding", "residual+norm", "in_proj", "conv", "ssd",
                                           "gated_norm", "out_proj", "head"));
    EXPECT_THAT(names(mamba1), ElementsAre("embedding", "residual+norm", "in_proj", "conv", "selective_scan",
                                           "out_proj", "head"));
    for (const OpsBenchResult* result : {&mamba2, &mamba1})
      for (const OperationTime& operation : result->operations) {
        EXPECT_GT(operation.forward_us, 0) << operation.name;
        // Only the embedding is no stage of the cost model.
        EXPECT_EQ(operation.floor_forward_us > 0, operation.name != "embedding") << operation.name;
      }
    EXPECT_EQ(mamba2.tokens, 66);
  }
}

TEST(OpsBenchTest, FloorsAreThoseOfTheCostModel) {
  const model::ModelConfig config = small("mamba2", "D");
  const OpsBenchResult result = bench_ops(config, few());
  const model::StageCost head = model::model_cost(config).head;
  const double us = 66 * std::max(head.forward_flops / 790, head.forward_bytes / 3.0) / 1e6;
  EXPECT_DOUBLE_EQ(result.operations.back().floor_forward_us, us);
}

TEST(OpsBenchTest, WithoutRatesThereAreNoFloors) {
  StepBenchConfig config = few();
  config.terabytes = 0;
  const Json json = bench_ops(small("mamba2", "D"), config).json();
  EXPECT_THAT(json["missing"].get<std::string>(), testing::HasSubstr("give --terabytes"));
  for (const Json& operation : json["operations"]) EXPECT_FALSE(operation.contains("percent_of_floor"));
}

TEST(OpsBenchTest, RefusesAModelWithoutAMixer) {
  EXPECT_EQ(test::refusal(ExitCode::usage, [] { bench_ops(small("mamba2", "F*2"), few()); }),
            "--pattern F*2: no layer with a mixer to time");
}

TEST(OpsBenchTest, WhatOnlyAGpuDoesIsRefusedOnTheCpu) {
  StepBenchConfig config = few();
  config.compute = "bf16";
  EXPECT_EQ(test::refusal(ExitCode::usage, [&] { bench_ops(small("mamba2", "D"), config); }),
            "--compute bf16: on the CPU activations are f32");
  config.compute = "auto", config.profile = true;
  EXPECT_EQ(test::refusal(ExitCode::usage, [&] { bench_ops(small("mamba2", "D"), config); }),
            "--profile: the kernels it lists are a GPU's; give --device cuda");
}

}  // namespace
}  // namespace dm::train
