#include "train/bench/floor.h"

#include <gtest/gtest.h>

#include "kernels/device/card_rates.h"

namespace dm::train {
namespace {

StepBenchConfig on_gpu() {
  StepBenchConfig config;
  config.device = "cuda";
  return config;
}

TEST(BenchRatesTest, AreTheCards) {
  const BenchRates rates = bench_rates(on_gpu(), "NVIDIA H200");
  EXPECT_EQ(rates.tflops, kernels::kH200.product_tflops);
  EXPECT_EQ(rates.terabytes, kernels::kH200.copy_terabytes);
  EXPECT_EQ(rates.peak_tflops, kernels::kH200.peak_bf16_tflops);
  EXPECT_TRUE(rates.known());
  EXPECT_EQ(rates.missing, "");
}

TEST(BenchRatesTest, WhatIsToldGoesFirst) {
  StepBenchConfig config = on_gpu();
  config.terabytes = 2.5;
  const BenchRates rates = bench_rates(config, "NVIDIA H200");
  EXPECT_EQ(rates.tflops, kernels::kH200.product_tflops);
  EXPECT_EQ(rates.terabytes, 2.5);
}

TEST(BenchRatesTest, OfAnUnknownCardNothingIsKnown) {
  const BenchRates rates = bench_rates(on_gpu(), "NVIDIA H20");
  EXPECT_FALSE(rates.known());
  EXPECT_EQ(rates.missing,
            "what NVIDIA H20 reaches has not been measured for this program: give --tflops, --terabytes, "
            "--peak-tflops");
}

TEST(BenchRatesTest, ProductsInFloat32HaveNoMeasuredRate) {
  StepBenchConfig config = on_gpu();
  config.compute = "f32";
  const BenchRates rates = bench_rates(config, "NVIDIA H200");
  EXPECT_FALSE(rates.known());
  EXPECT_EQ(rates.peak_tflops, kernels::kH200.peak_float_tflops);
  EXPECT_EQ(rates.missing,
            "what NVIDIA H200 reaches in float32 has not been measured for this program: give --tflops");
}

TEST(FloorTest, EveryStageTakesTheLongerOfItsTimes) {
  model::ModelConfig model;
  model::apply_preset(model, "diffmamba2-130m");
  StepBenchConfig config = on_gpu();
  config.rows = 2, config.length = 1024;
  // With arithmetic for nothing the bytes are left, with memory for nothing the operations.
  const model::ModelCost cost = model::model_cost(model);
  const model::StageCost total = cost.total();
  const double flops = total.forward_flops + total.backward_flops,
               bytes = total.forward_bytes + total.backward_bytes;
  EXPECT_NEAR(floor_tokens_per_second(model, config, {100, 1e9, 0, ""}), 100e12 / flops,
              1e-6 * 100e12 / flops);
  const double by_bytes = 3e12 / (bytes + cost.optimizer_bytes / 2048);
  EXPECT_NEAR(floor_tokens_per_second(model, config, {1e9, 3, 0, ""}), by_bytes, 1e-6 * by_bytes);
}

}  // namespace
}  // namespace dm::train
