#include "train/gpu_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu.h"
#include "train/plan/rank_memory.h"

namespace dm::train {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kUsable =
    0.95;  // of the card: the driver, cuBLAS and the allocator's rounding take the rest
constexpr double kOfItsOwnAccord = 0.9;  // where nobody has asked for a policy; evaluations need a little too

double card_bytes() { return static_cast<double>(kernels::cuda_devices().at(0).memory_bytes); }

model::MemoryNeed need_of(const GpuMemoryPlan& plan, const model::ModelConfig& model, int64_t rows) {
  StepSize size = plan.size;
  size.micro_batch = rows;
  return rank_memory(model, RankParameters(model, plan.place.tp, plan.place.tp_rank), plan.place, size);
}

model::MemoryNeed need_of(const GpuMemoryPlan& plan) {
  return need_of(plan, plan.model, plan.size.micro_batch);
}

std::string advice(const GpuMemoryPlan& plan) {
  const int64_t rows = std::min(plan.size.micro_batch, own_rows(plan.place, plan.size));
  const auto need = [&](const model::ModelConfig& changed, int64_t fewer) {
    return need_of(plan, changed, fewer).total();
  };
  return model::fitting_options(plan.model, rows, need, kUsable * card_bytes(), plan.rows_option);
}

}  // namespace

std::string chosen_recompute(const GpuMemoryPlan& plan, Collectives& all) {
  if (plan.model.recompute != "auto") return plan.model.recompute;
  const auto fits = [&](const char* policy) {
    model::ModelConfig changed = plan.model;
    changed.recompute = policy;
    return need_of(plan, changed, plan.size.micro_batch).total() <= kOfItsOwnAccord * card_bytes();
  };
  const auto& policies = model::kRecomputePolicies;
  size_t mine = 0;
  while (mine + 1 < policies.size() && !fits(policies[mine])) ++mine;
  const std::string chosen = policies.at(static_cast<size_t>(all.all_max(static_cast<int64_t>(mine))));
  log_info("--recompute auto: {}", chosen);
  return chosen;
}

void announce_memory(const GpuMemoryPlan& plan) {
  const model::MemoryNeed need = need_of(plan);
  if (need.total() <= kUsable * card_bytes())
    log_info("GPU memory: predicted {} (of {:.1f} GiB)", need.text(), card_bytes() / kGiB);
  else
    log_warn("GPU memory: predicted {}, but the card has {:.1f} GiB; should fit: {}", need.text(),
             card_bytes() / kGiB, advice(plan));
}

void with_memory_advice(const GpuMemoryPlan& plan, const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::OutOfMemoryError&) {
    DM_FAIL(ExitCode::usage,
            "the GPU's memory ran out: tensors held {:.1f} GiB of {:.1f}; predicted need {}; should fit: {}",
            static_cast<double>(kernels::gpu_memory().used_bytes) / kGiB, card_bytes() / kGiB,
            need_of(plan).text(), advice(plan));
  }
}

}  // namespace dm::train
