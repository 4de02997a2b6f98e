#pragma once
// What a rank needs of its GPU's memory and what it stores, predicted from sizes alone, as step_traffic.h
// predicts what it exchanges.

#include <cstdint>

#include "model/memory.h"
#include "train/plan/step_traffic.h"

namespace dm::train {

/// `parameters` are those of the rank's tp and tp_rank.
model::MemoryNeed rank_memory(const model::ModelConfig& model, const RankParameters& parameters,
                              const RankPlace& place, const StepSize& size);

/// Bytes that the rank puts into a checkpoint or snapshot: weights, moments, what rows carry.
int64_t stored_bytes(const model::ModelConfig& model, const RankParameters& parameters,
                     const RankPlace& place, const StepSize& size);

/// What snapshots take at most in the memory of a node, of all ranks of a layout (`place` without its ranks)
/// so many a node: checkpoints::snapshot_room().
int64_t snapshot_bytes(const model::ModelConfig& model, RankPlace place, const StepSize& size,
                       int64_t ranks_per_node);

}  // namespace dm::train
