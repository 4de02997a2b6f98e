#pragma once
// Layouts for a number of GPUs: what each needs and how long its steps take, and the best of them. Nothing is
// measured and nobody asked: model, cluster and numbers of ranks say it all.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/memory.h"
#include "train/plan/step_time.h"

namespace dm::train {

/// What is to be trained, whatever the layout.
struct PlanTask {
  model::ModelConfig model;
  Cluster cluster;
  StepSize size;  // the micro-batch at most
};

struct Plan {
  model::ModelConfig model;  // with a recompute policy, never auto
  StepSize size;             // with its micro-batch
  RankPlace place;           // of the busiest rank
  model::MemoryNeed memory;
  bool fits;  // into the memory of the cluster's GPUs
  AxisTraffic traffic;
  StepTime time;
  double alone;  // seconds of the step on one GPU with memory enough for the cheapest policy

  int64_t tokens() const { return size.rows * size.length; }
  double tokens_per_second() const { return static_cast<double>(tokens()) / time.total(); }
  double tokens_per_second_per_gpu() const {
    return tokens_per_second() / static_cast<double>(place.world());
  }
  /// Of what as many GPUs would do that need not exchange anything.
  double efficiency() const { return alone / static_cast<double>(place.world()) / time.total(); }
  /// As `diffmamba train` takes it: "--dp 64 --dp-shard 8 --micro-batch 8 --recompute conv".
  std::string options() const;
  Json json() const;
};

class Planner {
 public:
  explicit Planner(PlanTask task);

  /// Of a layout as it is given, and the policy, where it is not auto; refuses (ExitCode::usage) what cannot
  /// be, as training would. `shard` 0: all of dp x cp.
  Plan plan(int64_t dp, int64_t cp, int64_t tp, int64_t shard);
  /// All legal layouts of so many GPUs that fit, each with the fastest policy (the task's, where it is not
  /// auto) and the largest micro-batch that let it; the fastest first. Empty where none fits.
  std::vector<Plan> best(int64_t gpus);

 private:
  const RankParameters& parameters(int64_t tp);
  Plan made(const RankPlace& place, const model::ModelConfig& model, const StepSize& size);
  /// The task's model with each policy that it leaves open, the fastest first.
  std::vector<model::ModelConfig> candidates() const;
  /// Of the candidates the first that fits, with as many rows at once as let it: all of the rank's, or so
  /// many that they have `least_tokens`.
  std::optional<Plan> fitting(const RankPlace& place, int64_t least_tokens);
  void add_fitting(std::vector<Plan>& plans, const RankPlace& place);

  PlanTask task_;
  double alone_;
  struct Widest {
    int64_t rank;
    RankParameters parameters;
  };
  std::map<int64_t, Widest> widest_;  // by tp: the rank that holds most
};

}  // namespace dm::train
