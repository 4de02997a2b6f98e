#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "core/numbers.h"
#include "launch/command.h"
#include "launch/plan_failures.h"
#include "model/config.h"
#include "model/cost.h"
#include "train/plan/planner.h"
#include "train/plan/rank_memory.h"
#include "train/plan/sensitivity.h"
#include "train/run_config.h"

namespace dm::launch {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct PlanOptions {
  std::vector<std::string> gpus = {"8"};
  std::string cluster;
  int64_t tokens_per_gpu = 0;
  bool as_given = false;
  int64_t alternatives = 3;
  bool json = false;
  bool print_cluster = false;
  bool sensitivity = false;
  bool failures = false;
  int64_t failure_runs = 200;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("gpus", self.gpus, "numbers of GPUs to plan for, comma-separated");
    v("cluster", self.cluster,
      "INI file that describes the cluster, as recipes/clusters/ has; none: nodes of eight H100");
    v("tokens_per_gpu", self.tokens_per_gpu,
      "tokens of a step for each GPU, so that the batch grows with them; 0: --global-batch rows for all",
      Range{0, 1e12});
    v("as_given", self.as_given, "plan the one layout and micro-batch of the options instead of the best");
    v("alternatives", self.alternatives, "layouts to show beside the best of each number", Range{0, 1000});
    v("json", self.json, "print JSON");
    v("sensitivity", self.sensitivity,
      "show also what becomes of the best layouts when an assumption about the cluster is wrong");
    v("failures", self.failures,
      "show also how much of the time remains as training when GPUs fail, for the ways to go on after that; "
      "the "
      "cluster's file says how often they fail");
    v("failure_runs", self.failure_runs, "runs that are simulated for each of them", Range{1, 1e6});
    v("print_cluster", self.print_cluster, "print the cluster as an INI file to edit, and nothing else");
  }
};

std::vector<int64_t> parse_gpus(const std::vector<std::string>& texts) {
  std::vector<int64_t> numbers;
  for (const std::string& text : texts) {
    numbers.push_back(parse_integer(text, "--gpus"));
    DM_REQUIRE(numbers.back() >= 1 && numbers.back() <= 1'000'000, ExitCode::usage,
               "--gpus {}: legal: 1 to 1000000", text);
  }
  DM_REQUIRE(!numbers.empty(), ExitCode::usage, "--gpus names no number of GPUs");
  return numbers;
}

void print_head() {
  fmt::print("{:>7}  {:<62} {:>6} {:>9} {:>11} {:>9} {:>10}\n", "GPUs", "options", "GiB", "step ms",
             "tokens/s", "a GPU", "efficiency");
}

void print_line(const train::Plan& plan) {
  fmt::print("{:>7}  {:<62} {:>6.1f} {:>9.1f} {:>11.4g} {:>9.0f} {:>9.1f}%{}\n", plan.place.world(),
             plan.options(), plan.memory.total() / kGiB, plan.time.total() * 1e3, plan.tokens_per_second(),
             plan.tokens_per_second_per_gpu(), 100 * plan.efficiency(), plan.fits ? "" : "  does not fit");
}

void print_details(const train::Plan& plan, int64_t snapshot_bytes) {
  fmt::print("\nThe busiest rank of {} (dp {}, cp {}, tp {}) on {} GPUs\n", plan.options(),
             plan.place.dp_rank, plan.place.cp_rank, plan.place.tp_rank, plan.place.world());
  fmt::print("  memory      {}\n", plan.memory.text());
  if (snapshot_bytes > 0)
    fmt::print(
        "  snapshots   {:.1f} GiB at most in the memory of a node: two of its ranks and of the node before\n",
        static_cast<double>(snapshot_bytes) / kGiB);
  const train::StepTime& t = plan.time;
  fmt::print(
      "  step        {:.1f} ms: computes {:.1f}; waits for tensor exchanges {:.1f}, context {:.1f}, sums of "
      "gradients {:.1f} ({:.1f} more beside the last pass), weights {:.1f} ({:.1f} more beside the first "
      "pass), the decision {:.2f}; exchanges beside passes slow them by {:.1f}\n",
      t.total() * 1e3, t.compute * 1e3, t.tensor * 1e3, t.context * 1e3, t.reduce_exposed * 1e3,
      t.reduce_hidden * 1e3, t.gather_exposed * 1e3, t.gather_hidden * 1e3, t.control * 1e3,
      t.contention * 1e3);
  for (const auto& [axis, traffic] : plan.traffic.axes())
    for (const auto& [operation, count] : traffic->counts())
      fmt::print("  {:<11} {:<14} {:>6} calls {:>15} bytes {:>15} sent\n", axis, name(operation), count.calls,
                 count.bytes, count.sent);
}

/// Efficiencies, and the throughput of a GPU of the last plan as a share of one of the first.
void print_sensitivity(const std::vector<train::Plan>& plans, const train::Cluster& cluster) {
  fmt::print("\n{:<60}", "efficiency if");
  for (const train::Plan& plan : plans) fmt::print(" {:>9}", plan.place.world());
  fmt::print("  last of first\n");
  for (const train::Variation& variation : train::sensitivity(plans, cluster)) {
    const train::Plan &first = variation.plans.front(), &last = variation.plans.back();
    fmt::print("{:<60}", variation.what);
    for (const train::Plan& plan : variation.plans) fmt::print(" {:>8.2f}%", 100 * plan.efficiency());
    fmt::print("       {:>6.2f}%\n",
               100 * last.tokens_per_second_per_gpu() / first.tokens_per_second_per_gpu());
  }
}

void print_assumptions(const train::Cluster& c) {
  fmt::print(
      "\nAssumed: {} at {:.0f} TFLOP/s and {:.1f} TB/s, its kernels at the shares of these floors that the "
      "cluster's file says, whatever the micro-batch;\n"
      "{} GPUs a node; {:.0f} GB/s a GPU inside a node and {:.0f} GB/s a GPU between nodes; {:.0f} us an "
      "exchange, {:.1f} us from GPU to GPU, {:.0f} us from node to node;\n"
      "buckets of gradients leave as soon as they are complete, those of weights after the update one behind "
      "the other, and the first forward pass waits for each where it reads it; each second of exchange "
      "beside a pass costs it {:.1f} s;\n"
      "tensor and context exchanges are uncovered; data is never waited for, nothing is saved or evaluated, "
      "and no rank lags. --print-cluster writes the numbers to edit.\n",
      c.gpu, c.tflops, c.terabytes, c.gpus_per_node, c.link_gbs, c.network_gbs, c.operation_us, c.link_us,
      c.network_us, c.contention);
}

class PlanCommand final : public Command {
 public:
  PlanCommand() {
    table_ = config_.table();
    table_.add("plan", options_);
  }

  const char* name() const override { return "plan"; }
  const char* summary() const override {
    return "parameters, memory, traffic and step time of a layout, and the best layout for N GPUs";
  }
  const char* description() const override {
    return "Takes the options of `diffmamba train`, so that a run's --config can be planned, and needs "
           "neither "
           "GPU nor mpirun:\n\n"
           "  diffmamba plan --preset diffmamba2-1.3b --length 2048 --tokens-per-gpu 65536 --gpus 8,128,1024 "
           "--cluster recipes/clusters/h100-400g.ini\n\n"
           "Of each number of GPUs it shows the fastest layouts that fit, with the largest micro-batch (up "
           "to "
           "--micro-batch) and the cheapest recomputation that let them; efficiency is against GPUs that "
           "exchange nothing. Bytes are those of one rank and step; `diffmamba parity` holds them to what is "
           "exchanged.";
  }
  void apply_presets() override {
    if (!config_.model.preset.empty()) model::apply_preset(config_.model, config_.model.preset);
  }

  ExitCode run(const Invocation&) override {
    const train::Cluster cluster =
        options_.cluster.empty() ? train::Cluster() : train::Cluster::read(options_.cluster);
    if (options_.print_cluster) {
      fmt::print("{}", cluster.ini());
      return ExitCode::ok;
    }
    model::validate(config_.model);
    std::vector<train::Plan> plans, best;
    for (const int64_t gpus : parse_gpus(options_.gpus)) {
      const std::vector<train::Plan> some = plans_for(gpus, cluster);
      best.push_back(some.front());
      plans.insert(plans.end(), some.begin(), some.end());
    }
    options_.json ? print_json(plans, best, cluster) : print_tables(plans, best, cluster);
    return ExitCode::ok;
  }

 private:
  int64_t rows_for(int64_t gpus) const {
    if (options_.tokens_per_gpu == 0) return config_.train.global_batch;
    const int64_t rows = gpus * options_.tokens_per_gpu / config_.train.length;
    DM_REQUIRE(rows >= 1, ExitCode::usage, "--tokens-per-gpu {}: no row of --length {} on {} GPUs",
               options_.tokens_per_gpu, config_.train.length, gpus);
    return rows;
  }

  std::vector<train::Plan> plans_for(int64_t gpus, const train::Cluster& cluster) const {
    const train::TrainConfig& run = config_.train;
    train::Planner planner({config_.model,
                            cluster,
                            {.rows = rows_for(gpus),
                             .length = run.length,
                             .micro_batch = run.micro_batch,
                             .weights = DType::f32,
                             .activations = run.compute == "f32" ? DType::f32 : DType::bf16,
                             .bucket_bytes = train::bucket_bytes(run),
                             .streams = config_.data.order == "streams",
                             .zero = config_.layout.zero}});
    if (options_.as_given) {
      const dist::Mesh mesh = dist::make_mesh(config_.layout, gpus, std::min(gpus, cluster.gpus_per_node));
      return {planner.plan(mesh.size(dist::Axis::dp), mesh.size(dist::Axis::cp), mesh.size(dist::Axis::tp),
                           config_.layout.dp_shard)};
    }
    std::vector<train::Plan> plans = planner.best(gpus);
    DM_REQUIRE(
        !plans.empty(), ExitCode::usage,
        "no layout of {} GPUs holds the model and has a row for every rank: {} rows of {} tokens, {:.1f} "
        "GiB a GPU; give more GPUs, rows, or a smaller --length, or see --as-given for what is missing",
        gpus, rows_for(gpus), run.length, cluster.usable_bytes() / kGiB);
    plans.resize(std::min(plans.size(), static_cast<size_t>(options_.alternatives) + 1));
    return plans;
  }

  /// 0 where the run takes no snapshots in memory.
  int64_t snapshot_bytes(const train::Plan& plan, const train::Cluster& cluster) const {
    if (config_.checkpoint.memory_snapshot_every == 0) return 0;
    return train::snapshot_bytes(plan.model, plan.place, plan.size, cluster.gpus_per_node);
  }

  void print_tables(const std::vector<train::Plan>& plans, const std::vector<train::Plan>& best,
                    const train::Cluster& cluster) const {
    fmt::print("{}: {} parameters; rows of {} tokens\n\n",
               config_.model.preset.empty() ? config_.model.pattern : config_.model.preset,
               model::parameter_count(config_.model), config_.train.length);
    print_head();
    for (const train::Plan& plan : plans) print_line(plan);
    for (const train::Plan& plan : best) print_details(plan, snapshot_bytes(plan, cluster));
    if (options_.sensitivity) print_sensitivity(best, cluster);
    if (options_.failures)
      for (const train::Plan& plan : best) print_failures(plan, cluster, options_.failure_runs);
    print_assumptions(cluster);
  }

  void print_json(const std::vector<train::Plan>& plans, const std::vector<train::Plan>& best,
                  train::Cluster cluster) const {
    Json json = cluster.table().to_json();
    json["parameters"] = model::parameter_count(config_.model);
    for (const train::Plan& plan : plans) {
      json["plans"].push_back(plan.json());
      if (const int64_t bytes = snapshot_bytes(plan, cluster); bytes > 0)
        json["plans"].back()["snapshot_bytes_a_node"] = bytes;
    }
    if (options_.failures)
      for (const train::Plan& plan : best)
        json["goodput"].push_back(failures_json(plan, cluster, options_.failure_runs));
    fmt::print("{}\n", json.dump(2));
  }

  PlanOptions options_;
  train::RunConfig config_;
};

}  // namespace

std::unique_ptr<Command> make_plan_command() { return std::make_unique<PlanCommand>(); }

}  // namespace dm::launch
