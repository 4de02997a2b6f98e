// Which recompute policy a run has that asks for none, by the memory of the card that is there.

#include <gtest/gtest.h>

#include <set>

#include "kernels/device/device.h"
#include "train/gpu_memory.h"
#include "train/plan/rank_memory.h"

namespace dm::train {
namespace {

TEST(GpuMemory, AutoIsTheFastestPolicyThatLeavesATenthOfTheCard) {
  const auto alone = make_single_process_collectives();
  const double room = 0.9 * static_cast<double>(kernels::cuda_devices().at(0).memory_bytes);
  model::ModelConfig config;
  model::apply_preset(config, "diffmamba2-130m");
  ASSERT_EQ(config.recompute, "auto");
  const RankParameters parameters(config, 1, 0);
  std::set<std::string> seen;
  for (int64_t rows = 1; !seen.contains("block"); rows += rows / 32 + 1) {
    const StepSize size{.rows = rows, .length = 2048, .micro_batch = rows, .activations = DType::bf16};
    const std::string chosen = chosen_recompute({config, {}, size, "micro-batch"}, *alone);
    seen.insert(chosen);
    for (const std::string policy : model::kRecomputePolicies) {
      model::ModelConfig with = config;
      with.recompute = policy;
      const double need = rank_memory(with, parameters, {}, size).total();
      if (policy != chosen) {
        EXPECT_GT(need, room) << policy << " for " << rows << " rows";
        continue;
      }
      if (policy != "block") EXPECT_LE(need, room) << rows << " rows";
      break;
    }
  }
  EXPECT_EQ(seen.size(), model::kRecomputePolicies.size());
  config.recompute = "scan";
  EXPECT_EQ(chosen_recompute({config, {}, {.rows = 1, .length = 1, .micro_batch = 1}, "micro-batch"}, *alone),
            "scan");
}

}  // namespace
}  // namespace dm::train
