#pragma once
// The groups of ranks of one run, made of a layout: who talks to whom, over what, and on which GPU.

#include <functional>
#include <memory>
#include <vector>

#include "dist/environment.h"
#include "dist/layout.h"
#include "train/groups.h"

namespace dm::launch {

/// Takes the GPU of this rank (by its place on its host) and makes the groups. All ranks call it together;
/// refuses before anything else is allocated.
class RunGroups {
 public:
  /// What every group goes through on its way to its users, to be watched or counted.
  using Wrap = std::function<std::unique_ptr<Collectives>(std::unique_ptr<Collectives>)>;

  /// `ranks` > 0: of the first so many ranks alone; the others call it too and have nothing to do with it.
  RunGroups(dist::Environment& environment, const dist::LayoutConfig& layout, bool on_gpu, int64_t ranks = 0,
            Wrap wrap = nullptr);

  bool takes_part() const { return environment_.rank() < ranks_; }

  const dist::Mesh& mesh() const { return mesh_; }
  train::Groups groups();
  /// Says on rank 0 where every rank stands (the first of them where they are many; the log has all).
  void print_mapping() const;

 private:
  void check_tensor_groups() const;
  void stand_aside();
  void use_gpu(const dist::LayoutConfig& layout);
  std::unique_ptr<Collectives> host_group(int64_t color);
  std::unique_ptr<Collectives> device_group(int64_t color, Traffic& traffic);
  /// `group`, counted, inside what the caller wraps every group in.
  std::unique_ptr<Collectives> wrapped(std::unique_ptr<Collectives> group, Traffic& traffic) const;

  dist::Environment& environment_;
  const int64_t ranks_;
  const Wrap wrap_;
  dist::Mesh mesh_;
  bool on_gpu_, over_nccl_;
  dist::LayoutConfig layout_;
  int64_t gpu_ = -1;
  train::AxisTraffic traffic_;
  std::unique_ptr<Collectives> all_, replicas_, shards_, across_, tensor_, context_;
};

}  // namespace dm::launch
