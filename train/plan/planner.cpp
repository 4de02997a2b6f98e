#include "train/plan/planner.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "model/placement.h"
#include "train/plan/rank_memory.h"

namespace dm::train {
namespace {

Json count_json(const Traffic& traffic) {
  Json json = Json::object();
  for (const auto& [operation, count] : traffic.counts())
    json[name(operation)] = {{"calls", count.calls}, {"bytes", count.bytes}, {"sent", count.sent}};
  return json;
}

/// Over fewer tokens than these a pass does not fill a GPU: rather a slower policy than that.
constexpr int64_t kFullPass = 16384;

/// Numbers that divide `number`, ascending.
std::vector<int64_t> divisors_of(int64_t number) {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= number; ++d)
    if (number % d == 0) all.push_back(d);
  return all;
}

}  // namespace

std::string Plan::options() const {
  std::string text = fmt::format("--dp {}", place.dp);
  if (place.cp > 1) text += fmt::format(" --cp {}", place.cp);
  if (place.tp > 1) text += fmt::format(" --tp {}", place.tp);
  if (place.shard < place.replicas()) text += fmt::format(" --dp-shard {}", place.shard);
  if (size.zero > 1) text += fmt::format(" --zero {}", size.zero);
  text += fmt::format(" --micro-batch {} --recompute {}", size.micro_batch, model.recompute);
  if (model.recompute == "block" && model.recompute_layers > 0)
    text += fmt::format(" --recompute-layers {}", model.recompute_layers);
  return text;
}

Json Plan::json() const {
  Json parts = Json::object(), exchanged = Json::object();
  for (const model::MemoryPart& part : memory.parts) parts[part.name] = part.bytes;
  for (const auto& [axis, traffic_of] : traffic.axes()) exchanged[axis] = count_json(*traffic_of);
  return {{"gpus", place.world()},
          {"layout", {{"dp", place.dp}, {"cp", place.cp}, {"tp", place.tp}, {"dp_shard", place.shard}}},
          {"rank", {{"dp", place.dp_rank}, {"cp", place.cp_rank}, {"tp", place.tp_rank}}},
          {"zero", size.zero},
          {"rows", size.rows},
          {"length", size.length},
          {"micro_batch", size.micro_batch},
          {"recompute", model.recompute},
          {"recompute_layers", model.recompute_layers},
          {"options", options()},
          {"memory_bytes", memory.total()},
          {"memory_parts", parts},
          {"fits", fits},
          {"traffic", exchanged},
          {"step_seconds", time.total()},
          {"seconds",
           {{"compute", time.compute},
            {"tensor", time.tensor},
            {"context", time.context},
            {"contention", time.contention},
            {"reduce_exposed", time.reduce_exposed},
            {"reduce_hidden", time.reduce_hidden},
            {"gather_exposed", time.gather_exposed},
            {"gather_hidden", time.gather_hidden},
            {"control", time.control}}},
          {"tokens_per_second", tokens_per_second()},
          {"tokens_per_second_per_gpu", tokens_per_second_per_gpu()},
          {"efficiency", efficiency()}};
}

Planner::Planner(PlanTask task) : task_(std::move(task)) {
  model::ModelConfig cheapest = task_.model;
  cheapest.recompute = "none";
  alone_ = step_time_alone(cheapest, task_.cluster, task_.size);
}

const RankParameters& Planner::parameters(int64_t tp) {
  const auto found = widest_.find(tp);
  if (found != widest_.end()) return found->second.parameters;
  std::optional<Widest> widest;
  for (int64_t rank = 0; rank < tp; ++rank) {
    RankParameters mine(task_.model, tp, rank);
    if (!widest || mine.share > widest->parameters.share) widest = {rank, std::move(mine)};
  }
  return widest_.emplace(tp, std::move(*widest)).first->second.parameters;
}

Plan Planner::made(const RankPlace& layout, const model::ModelConfig& model, const StepSize& size) {
  const RankParameters& held = parameters(layout.tp);
  RankPlace place = layout;
  place.dp_rank = place.dp - 1;  // which has a row more where they do not divide
  place.tp_rank = widest_.at(place.tp).rank;
  place.cp_rank = place.cp / 2;  // with a neighbour on either side
  Plan plan{.model = model,
            .size = size,
            .place = place,
            .memory = rank_memory(model, held, place, size),
            .fits = false,
            .traffic = step_traffic(model, held, place, size),
            .time = step_time(model, held, task_.cluster, place, size),
            .alone = alone_};
  plan.fits = plan.memory.total() <= task_.cluster.usable_bytes();
  return plan;
}

Plan Planner::plan(int64_t dp, int64_t cp, int64_t tp, int64_t shard) {
  const int64_t node = task_.cluster.gpus_per_node;
  model::check_placement(task_.model, tp, cp, task_.size.length);
  DM_REQUIRE(node % tp == 0 || node >= dp * cp * tp, ExitCode::usage,
             "--tp {}: its ranks must share a node, and a node has {} GPUs", tp, node);
  DM_REQUIRE(dp <= task_.size.rows, ExitCode::usage,
             "--dp {}: a batch of {} rows has none for some of so many; give more rows or fewer ranks", dp,
             task_.size.rows);
  const int64_t replicas = dp * cp;
  DM_REQUIRE(shard == 0 || replicas % shard == 0, ExitCode::usage,
             "--dp-shard {} does not divide the {} ranks of dp x cp", shard, replicas);
  const RankPlace layout{.dp = dp, .cp = cp, .tp = tp, .shard = shard == 0 ? replicas : shard};
  std::optional<Plan> plan;
  for (const model::ModelConfig& model : candidates())
    if (plan = made(layout, model, task_.size); plan->fits) break;
  return *std::move(plan);
}

std::vector<model::ModelConfig> Planner::candidates() const {
  if (task_.model.recompute != "auto") return {task_.model};
  std::vector<model::ModelConfig> all;
  for (const char* policy : model::kRecomputePolicies) {
    all.push_back(task_.model);
    all.back().recompute = policy;
  }
  return all;
}

std::optional<Plan> Planner::fitting(const RankPlace& place, int64_t least_tokens) {
  const int64_t rows =
      std::min(task_.size.micro_batch, own_rows({.dp = place.dp, .dp_rank = place.dp - 1}, task_.size));
  for (model::ModelConfig model : candidates()) {
    if (task_.model.recompute == "auto") model.recompute_layers = 0;
    for (int64_t at_once = rows; at_once >= 1; at_once = at_once > 1 ? (at_once + 1) / 2 : 0) {
      if (at_once < rows && at_once * task_.size.length / place.cp < least_tokens) break;
      StepSize size = task_.size;
      size.micro_batch = at_once;
      Plan plan = made(place, model, size);
      if (plan.fits) return plan;
    }
  }
  return std::nullopt;
}

void Planner::add_fitting(std::vector<Plan>& plans, const RankPlace& place) {
  std::optional<Plan> plan = fitting(place, kFullPass);
  if (!plan) plan = fitting(place, 0);
  if (plan) plans.push_back(*std::move(plan));
}

std::vector<Plan> Planner::best(int64_t gpus) {
  std::vector<Plan> plans;
  const int64_t node = std::min(task_.cluster.gpus_per_node, gpus);
  for (const int64_t tp : model::legal_tensor_sizes(task_.model)) {
    if (node % tp != 0 || gpus % tp != 0) continue;
    for (const int64_t cp : divisors_of(gpus / tp)) {
      const int64_t dp = gpus / tp / cp;
      if (cp > task_.size.length || dp > task_.size.rows) continue;
      RankPlace place{.dp = dp, .cp = cp, .tp = tp, .shard = dp * cp};
      add_fitting(plans, place);
      const int64_t inside = node / tp;
      if (inside <= 1 || inside >= place.replicas() || place.replicas() % inside != 0) continue;
      place.shard = inside;
      add_fitting(plans, place);
    }
  }
  std::sort(plans.begin(), plans.end(),
            [](const Plan& a, const Plan& b) { return a.time.total() < b.time.total(); });
  return plans;
}

}  // namespace dm::train
