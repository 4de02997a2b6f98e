#pragma once
// The groups of ranks that a run talks through. A group is for one kind of memory (core/collectives.h).

#include <cstdint>
#include <functional>

#include "core/collectives.h"
#include "model/placement.h"
#include "train/axis_traffic.h"

namespace dm::train {

struct Groups {
  Collectives& all;       // every rank, host memory: votes, checkpoints, texts
  Collectives& replicas;  // ranks that hold the same weights as this one, host memory: decisions of a step
  Collectives&
      shards;  // of them those that share out the optimizer's state; memory of the device that trains
  // Those that own the same piece in other groups of `shards`, where replicas form several; device memory.
  Collectives* across = nullptr;
  int64_t data_rank = 0;  // which share of every batch this rank works on, and how many shares there are
  int64_t data_ranks = 1;
  model::Placement placement = {};  // within that share, with groups for device memory
  bool recordable = true;           // what they exchange in device memory can be part of a graph
  AxisTraffic* traffic = nullptr;   // what these groups count, where they do
  std::function<void(int64_t step)> step_done = [](int64_t) {};  // told of every step, for a watchdog
};

/// The layout that needs no more than one group: data parallel over all of `group`, on the CPU.
inline Groups data_parallel(Collectives& group) {
  return {.all = group,
          .replicas = group,
          .shards = group,
          .data_rank = group.rank(),
          .data_ranks = group.size()};
}

}  // namespace dm::train
