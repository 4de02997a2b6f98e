#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "kernels/device/gpu.h"
#include "launch/command.h"
#include "launch/ranks.h"
#include "launch/run_groups.h"
#include "launch/threads.h"
#include "model/config.h"
#include "train/parity.h"

namespace dm::launch {
namespace {

struct NamedLayout {
  std::string name;
  dist::LayoutConfig layout;
  int64_t ranks() const { return layout.dp * layout.cp * layout.tp; }
};

/// "dp2tp4": axes in any order, those left out 1.
NamedLayout parse_layout(const std::string& name) {
  NamedLayout result{name, {}};
  dist::LayoutConfig& layout = result.layout;
  layout.dp = 1;
  std::string seen;
  for (size_t at = 0; at < name.size();) {
    const std::string axis = name.substr(at, 2);
    size_t end = at += axis.size();
    while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end]))) ++end;
    int64_t* size = axis == "dp"   ? &layout.dp
                    : axis == "cp" ? &layout.cp
                    : axis == "tp" ? &layout.tp
                                   : nullptr;
    const std::string digits = name.substr(at, end - at);
    DM_REQUIRE(
        size != nullptr && !digits.empty() && digits.size() <= 6 && digits != "0" &&
            seen.find(axis) == std::string::npos,
        ExitCode::usage,
        "--layouts {}: not a layout; say how many ranks each axis has, as in dp2, tp4, cp2 or dp2cp2tp2",
        name);
    *size = std::stoll(digits);
    seen += axis + " ";
    at = end;
  }
  DM_REQUIRE(!seen.empty(), ExitCode::usage, "--layouts: an empty name between commas");
  return result;
}

std::vector<NamedLayout> parse_layouts(const std::string& list) {
  std::vector<NamedLayout> layouts;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    layouts.push_back(parse_layout(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return layouts;
}

std::string cell(const train::Distance& distance) {
  return fmt::format("{:>9.1e} {:>8.3f} {:<44}", distance.relative, distance.over_bound, distance.tensor);
}

void print_too_far(const char* what, const train::Distance& distance) {
  constexpr size_t kShown = 8;
  const size_t count = distance.too_far.size(), shown = std::min(count, kShown);
  if (count == 0) return;
  fmt::print(
      "  {} too far: {}", what,
      fmt::join(distance.too_far.begin(), distance.too_far.begin() + static_cast<int64_t>(shown), ", "));
  fmt::print("{}\n", count > shown ? fmt::format(" and {} more", count - shown) : "");
}

class ParityCommand final : public Command {
 public:
  ParityCommand() {
    model_.preset = "diffmamba2-parity";
    model::apply_preset(model_, model_.preset);
    table_.add("parity", config_);
    table_.add("model", model_);
  }

  const char* name() const override { return "parity"; }
  const char* summary() const override { return "the same steps on several layouts, compared with one rank"; }
  const char* description() const override {
    return "Trains the same model on the same rows on each layout and on one rank in float64, and compares "
           "initial "
           "weights (bit for\nbit), loss, every gradient and the weights after --steps steps. Start it with "
           "the "
           "ranks of the largest layout:\n\n"
           "  mpirun -n 8 diffmamba parity --layouts dp8,tp8,cp8,dp2tp2cp2 --preset diffmamba2-parity\n\n"
           "A distance is given as ||a - b|| / ||b|| and as a share of what is allowed; beyond 1 the command "
           "ends "
           "with 70.\nSo it does where a rank exchanges other bytes than `diffmamba plan` predicts.";
  }
  bool takes_ranks() const override { return true; }
  void apply_presets() override {
    if (!model_.preset.empty()) model::apply_preset(model_, model_.preset);
  }

  ExitCode run(const Invocation& invocation) override {
    return run_with_ranks(invocation, [&](dist::Environment& environment) {
      const std::vector<NamedLayout> layouts = parse_layouts(config_.layouts);
      check(layouts, environment.world());
      use_threads(config_.threads, environment.local_world());
      return config_.leak ? look_for_leaks(environment, layouts) : compare(environment, layouts);
    });
  }

 private:
  bool on_gpu() const { return config_.device == "cuda"; }

  void check(const std::vector<NamedLayout>& layouts, int64_t world) const {
    model::validate(model_);
    DM_REQUIRE(!on_gpu() || config_.dtype != "f64", ExitCode::usage,
               "--dtype f64: GPUs work in f32 or bf16 here; give one of them, or --device cpu");
    DM_REQUIRE(on_gpu() || config_.dtype != "bf16", ExitCode::usage,
               "--dtype bf16 is for GPUs; give --device cuda, or f32");
    for (const NamedLayout& layout : layouts) {
      DM_REQUIRE(layout.ranks() <= world, ExitCode::usage,
                 "--layouts {}: needs {} ranks, but {} were started; mpirun -n {}", layout.name,
                 layout.ranks(), world, layout.ranks());
      model::check_placement(model_, layout.layout.tp, layout.layout.cp, config_.length);
    }
  }

  ExitCode compare(dist::Environment& environment, const std::vector<NamedLayout>& layouts) const {
    const auto world = environment.make_world_group();
    const bool leads = environment.rank() == 0;
    train::ParityRun truth, alone;
    if (leads) {
      const auto one = make_single_process_collectives();
      const train::Groups groups = train::data_parallel(*one);
      truth = train::run_parity_steps(model_, config_, "f64", at::kCPU, groups);
      if (on_gpu()) kernels::use_gpu(environment.local_rank());
      alone = config_.dtype == "f64" ? truth
                                     : train::run_parity_steps(model_, config_, config_.dtype,
                                                               at::Device(config_.device), groups);
      fmt::print("{}\n{} rows of {} tokens, {} steps, {}; loss {:.6f}, gradients clipped by {:.3g}\n\n",
                 model_.preset, config_.rows, config_.length, config_.steps, config_.dtype, truth.loss,
                 truth.clip);
      fmt::print("{:<12} {:>5} {:<8} {:>9} {:<64} {:<64} {:>12}\n", "layout", "ranks", "initial", "loss",
                 "worst gradient: relative, of bound", "worst weight: relative, of bound", "MB sent");
    }
    bool all_fit = true, as_planned = true;
    for (const NamedLayout& layout : layouts) {
      world->barrier();  // what one layout still sends never meets the next one
      RunGroups ranks(environment, with_comm(layout.layout), on_gpu(), layout.ranks());
      if (!ranks.takes_part()) continue;
      const train::Groups groups = ranks.groups();
      const train::ParityRun run =
          train::run_parity_steps(model_, config_, config_.dtype, at::Device(config_.device), groups);
      const double megabytes = groups.all.all_sum(static_cast<double>(run.traffic.sent())) / 1e6;
      const std::vector<std::string> not_planned = groups.all.gather_text(run.not_planned);
      if (!leads) continue;
      const train::ParityVerdict verdict = train::compare_parity(truth, alone, run, config_.dtype);
      all_fit &= verdict.fits();
      fmt::print("{:<12} {:>5} {:<8} {:>9.1e} {} {} {:>12.3f} {}\n", layout.name, layout.ranks(),
                 verdict.same_initial ? "the same" : "DIFFERS", verdict.loss.relative,
                 cell(verdict.gradients), cell(verdict.weights), megabytes, verdict.fits() ? "" : "TOO FAR");
      if (!verdict.same_initial) fmt::print("  initial weights differ in {}\n", verdict.first_different);
      print_too_far("gradients", verdict.gradients);
      print_too_far("weights", verdict.weights);
      for (size_t rank = 0; rank < not_planned.size(); ++rank) {
        if (not_planned[rank].empty()) continue;
        fmt::print("  NOT AS PLANNED: rank {} exchanged, {}\n", rank, not_planned[rank]);
        as_planned = false;
      }
      std::fflush(stdout);
    }
    all_fit = world->all_agree(all_fit);
    DM_REQUIRE(all_fit, ExitCode::internal,
               "layouts compute something else than one rank: see the lines that say TOO FAR or DIFFERS");
    as_planned = world->all_agree(as_planned);
    DM_REQUIRE(
        as_planned, ExitCode::internal,
        "ranks exchange other bytes than `diffmamba plan` counts: see the lines that say NOT AS PLANNED");
    return ExitCode::ok;
  }

  ExitCode look_for_leaks(dist::Environment& environment, const std::vector<NamedLayout>& layouts) const {
    DM_REQUIRE(model_.packed, ExitCode::usage,
               "--leak changes one document of a packed row; give --packed true");
    const auto world = environment.make_world_group();
    bool tight = true;
    for (const NamedLayout& layout : layouts) {
      world->barrier();
      RunGroups ranks(environment, with_comm(layout.layout), on_gpu(), layout.ranks());
      if (!ranks.takes_part()) continue;
      const std::string leak =
          train::find_leak(model_, config_, config_.dtype, at::Device(config_.device), ranks.groups());
      tight &= leak.empty();
      if (environment.rank() == 0)
        fmt::print("{:<12} {}\n", layout.name,
                   leak.empty() ? "no hidden state and no logit outside the changed document moved" : leak);
    }
    tight = world->all_agree(tight);
    DM_REQUIRE(tight, ExitCode::internal, "documents see each other: see the lines above");
    return ExitCode::ok;
  }

  dist::LayoutConfig with_comm(dist::LayoutConfig layout) const {
    layout.comm = config_.comm;
    return layout;
  }

  train::ParityConfig config_;
  model::ModelConfig model_;
};

}  // namespace

std::unique_ptr<Command> make_parity_command() { return std::make_unique<ParityCommand>(); }

}  // namespace dm::launch
