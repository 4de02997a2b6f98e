// Rows that go on from step to step on a GPU, through the passes of training: recorded or not they come to
// what the CPU computes in float64, and stored they go on bit for bit.

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/model/cuda/gpu_models.h"
#include "train/made_up_rows.h"
#include "train/step.h"
#include "train/stream_state.h"

namespace dm::train {
namespace {

using model::ModelConfig;
using model::NamedConfig;
using model::Parameters;

// Two passes a step, of two rows and of one; pieces that end within a chunk of the scan.
constexpr int64_t kRows = 3, kMicroBatch = 2, kLength = 75, kSteps = 6;

class Streams {
 public:
  Streams(const ModelConfig& config, const Parameters& leaves, at::ScalarType activations, bool record = true)
      : config_(config),
        leaves_(leaves),
        model_(config_, leaves_, activations),
        group_(make_single_process_collectives()),
        states_(model_, kRows, data_parallel(*group_)),
        passes_(model_, kMicroBatch, /*seed=*/5, record) {
    passes_.carry(states_.rows());
  }

  /// The loss of steps [begin, end), whose gradients are added up.
  std::vector<double> run(int64_t begin = 0, int64_t end = kSteps, bool anew = false) {
    std::vector<double> nats;
    for (int64_t step = begin; step < end; ++step) {
      if (anew) states_.rows().reset();
      nats.push_back(passes_.run(made_up_rows(config_, /*seed=*/3, kLength, step * kRows, kRows)).nats);
    }
    return nats;
  }
  Parameters gradients() const {
    Parameters all;
    for (const auto& [name, leaf] : leaves_) all.emplace(name, leaf.grad().cpu());
    return all;
  }
  /// By name, as checkpoints hold them.
  Parameters carried() {
    Parameters all;
    for (const model::RowStates::Tensor& t : states_.rows().tensors())
      all.emplace(t.row.info.name, t.values.cpu().contiguous());
    return all;
  }
  StreamState& states() { return states_; }
  int64_t graph_nodes() const { return passes_.graph_nodes(); }

 private:
  ModelConfig config_;
  Parameters leaves_;
  model::LanguageModel model_;
  std::unique_ptr<Collectives> group_;
  StreamState states_;
  BatchPasses passes_;
};

void expect_same(const Parameters& found, const Parameters& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (const auto& [name, tensor] : expected)
    EXPECT_TRUE(model::same_bits(found.at(name), tensor)) << what << ": " << name;
}

/// Every kind of state: both mixers, scans beside each other, groups; through the fast scan and the plain.
std::vector<NamedConfig> configs() {
  std::vector<NamedConfig> all;
  for (const char* mixer : {"mamba2", "mamba1"}) {
    all.push_back({fmt::format("small {}", mixer), model::small_config("DMSF", mixer, "scalar")});
    all.push_back({fmt::format("wide {}", mixer), model::wide_config("DMS", "sigmoid_sum", mixer)});
  }
  ModelConfig groups = model::wide_config("DM", "token_head");
  groups.n_groups = 2;
  all.push_back({"wide, two groups", groups});
  groups.packed = false;
  all.push_back({"wide, unpacked", groups});
  groups.state_dtype = "f32";
  all.push_back({"wide, states in float32", groups});
  return all;
}

TEST(StreamsCuda, AreThoseOfTheCpu) {
  for (const NamedConfig& c : configs()) {
    const Parameters parameters = model::random_parameters(c.config, at::kDouble);
    Streams truth(c.config, parameters, at::kDouble);
    const std::vector<double> expected = truth.run();
    for (const at::ScalarType activations : {at::kFloat, at::kBFloat16}) {
      const bool exact = activations == at::kFloat;
      if (!exact && c.name.starts_with("small")) continue;  // too few channels for roundings to level out
      Streams streams(c.config, model::on_gpu(parameters, true), activations);
      const std::vector<double> found = streams.run();
      EXPECT_GT(streams.graph_nodes(), 0);
      const std::string what = fmt::format("{}, {}", c.name, exact ? "f32" : "bf16");
      double loss = 0, state = 0;
      for (size_t i = 0; i < expected.size(); ++i)
        loss = std::max(loss, std::abs(found[i] / expected[i] - 1));
      const Parameters states = truth.carried(), carried = streams.carried();
      ASSERT_EQ(carried.size(), states.size()) << what;
      for (const auto& [name, tensor] : states)
        state = std::max(state, model::relative_error(carried.at(name), tensor));
      const double gradient = model::distance(streams.gradients(), truth.gradients());
      fmt::print("{}: loss {:.1e}, states {:.1e}, gradients {:.1e}\n", what, loss, state, gradient);
      // As of a step by itself: float32's rounding, and some twenty of 2^-9 that differ in sign.
      EXPECT_LE(loss, exact ? 1e-5 : 1e-2) << what;
      EXPECT_LE(state, exact ? 2e-5 : 3e-2) << what;
      EXPECT_LE(gradient, exact ? 2e-5 : 3e-2) << what;
    }
  }
}

TEST(StreamsCuda, NothingCarriedIsSomethingElse) {
  for (const NamedConfig& c : configs()) {
    const Parameters leaves = model::on_gpu(model::random_parameters(c.config, at::kFloat), true);
    Streams streams(c.config, leaves, at::kFloat);
    const std::vector<double> carried = streams.run(), anew = streams.run(0, kSteps, /*anew=*/true);
    EXPECT_EQ(anew[0], carried[0]) << c.name;
    for (size_t step = 1; step < carried.size(); ++step)
      EXPECT_GT(std::abs(anew[step] / carried[step] - 1), 2e-5) << c.name << ", step " << step;
  }
}

TEST(StreamsCuda, RecordingAndRecomputingChangeNoBit) {
  for (const char* mixer : {"mamba2", "mamba1"})
    for (const at::ScalarType activations : {at::kBFloat16, at::kFloat}) {
      ModelConfig config = model::wide_config("DMS", "scalar", mixer);
      const Parameters parameters = model::random_parameters(config, at::kFloat);
      Streams plain(config, model::on_gpu(parameters, true), activations, /*record=*/false);
      const std::vector<double> nats = plain.run();
      for (const char* policy : {"none", "conv", "scan", "block"}) {
        config.recompute = policy;
        const std::string what = fmt::format("{} {} {}", mixer, at::toString(activations), policy);
        Streams recorded(config, model::on_gpu(parameters, true), activations);
        EXPECT_EQ(recorded.run(), nats) << what;
        EXPECT_GT(recorded.graph_nodes(), 0);
        expect_same(recorded.gradients(), plain.gradients(), what);
        expect_same(recorded.carried(), plain.carried(), what);
      }
    }
}

TEST(StreamsCuda, GoOnFromWhatWasStoredBitForBit) {
  constexpr int64_t kStop = 3;
  for (const NamedConfig& c : configs())
    for (const at::ScalarType activations : {at::kBFloat16, at::kFloat}) {
      const Parameters leaves = model::on_gpu(model::random_parameters(c.config, at::kFloat), true);
      Streams whole(c.config, leaves, activations), first(c.config, leaves, activations),
          second(c.config, leaves, activations);
      const std::vector<double> expected = whole.run();
      first.run(0, kStop);
      const StreamState::Copy stored = first.states().copy();
      second.states().load([&](const std::vector<checkpoints::Piece>& wanted) {
        ASSERT_EQ(wanted.size(), stored.pieces.size());
        for (size_t i = 0; i < wanted.size(); ++i) {
          ASSERT_EQ(wanted[i].name, stored.pieces[i].name);
          std::memcpy(wanted[i].data, stored.pieces[i].data, static_cast<size_t>(wanted[i].size_bytes()));
        }
      });
      EXPECT_EQ(second.run(kStop), std::vector<double>(expected.begin() + kStop, expected.end())) << c.name;
      expect_same(second.carried(), whole.carried(), c.name);
    }
}

}  // namespace
}  // namespace dm::train
