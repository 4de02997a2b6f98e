// Parity finds mistakes: each is made on purpose, and what it spoils must be among the tensors that are
// named. The sources that hold the mistakes are compiled for this test with DM_FAILPOINTS; what goes wrong
// between ranks of the data axis is a group that leaves something out.

#include <gmock/gmock.h>

#include <cstdlib>

#include "core/forwarding_collectives.h"
#include "model/local_parameters.h"
#include "tests/train/layout.h"
#include "train/buckets.h"
#include "train/parity.h"

namespace dm::train {
namespace {

using testing::HasSubstr;
using testing::Matcher;

ParityConfig short_steps(bool streams = false) {
  ParityConfig config;
  config.rows = 5, config.length = 29, config.steps = 2, config.streams = streams;
  return config;
}

model::ModelConfig small_model(const std::string& lambda) {
  model::ModelConfig config;
  model::apply_preset(config, "diffmamba2-parity");
  config.lambda = lambda;
  return config;
}

ParityVerdict verdict_of(const model::ModelConfig& model, const Groups& groups, bool streams = false) {
  const auto one = make_single_process_collectives();
  const ParityConfig config = short_steps(streams);
  const ParityRun layout = run_parity_steps(model, config, "f64", at::kCPU, groups);
  if (groups.all.rank() != 0) return {};
  const ParityRun truth = run_parity_steps(model, config, "f64", at::kCPU, data_parallel(*one));
  return compare_parity(truth, truth, layout, "f64");
}

/// Arms a failpoint for its lifetime, on this rank.
class Armed {
 public:
  explicit Armed(const std::string& name) { ::setenv("DM_FAILPOINT", (name + "=fault").c_str(), 1); }
  ~Armed() { ::unsetenv("DM_FAILPOINT"); }
};

struct Fault {
  const char* name;
  int64_t cp, tp;
  const char* lambda;
  const char* tensor;  // whose gradient is wrong then, among others unless it is `alone`
  bool alone = false;
  bool streams = false;
};
constexpr Fault kFaults[] = {
    // A sum over the tensor axis, and the width of a norm that spans ranks.
    {"tensor.unsummed", 1, 4, "scalar", "backbone.layers.0.mixer_1.in_proj.weight"},
    {"norm.width", 1, 4, "scalar", "backbone.layers.0.mixer_2.in_proj.weight"},
    // Parts of a gradient that several tensor ranks have: the stream's norms, shared B and C; and λ alone.
    {"gradients.unsummed", 2, 2, "scalar", "backbone.layers.0.norm.weight"},
    {"gradients.unsummed", 1, 4, "scalar", "backbone.layers.0.mixer_1.conv1d.weight"},
    {"gradients.lambda", 1, 4, "scalar", "lambda_", true},
    {"gradients.lambda", 1, 4, "sigmoid_sum", "lambda_", true},
    // What crosses a cut of the rows.
    {"context.halo", 4, 1, "scalar", "backbone.layers.0.mixer_1.conv1d.weight"},
    {"context.state", 2, 2, "scalar", "backbone.layers.0.mixer_2.A_log"},
    // What the last rank hands to the first for the next step.
    {"context.rows", 2, 2, "scalar", "backbone.layers.0.mixer_1.in_proj.weight", false, true},
};

TEST(ParityFaults, EachNamesATensorThatItSpoils) {
  for (const Fault& fault : kFaults) {
    test::Layout layout(fault.cp, fault.tp);
    const model::ModelConfig model = small_model(fault.lambda);
    const ParityVerdict sound = verdict_of(model, layout.groups(), fault.streams);
    ParityVerdict found;
    {
      const Armed armed(fault.name);
      found = verdict_of(model, layout.groups(), fault.streams);
    }
    if (layout.all().rank() != 0) continue;
    EXPECT_TRUE(sound.fits()) << layout.name() << ": " << sound.gradients.tensor << " "
                              << sound.gradients.over_bound;
    EXPECT_FALSE(found.gradients.fits()) << fault.name;
    const Matcher<std::string> spoilt = HasSubstr(fault.tensor);
    EXPECT_THAT(found.gradients.too_far, testing::Contains(spoilt)) << fault.name;
    if (fault.alone) {
      EXPECT_THAT(found.gradients.too_far, testing::Each(spoilt)) << fault.name;
    }
    EXPECT_TRUE(found.same_initial) << fault.name;
  }
}

/// Leaves one parameter out of the sums over the data axis: of its elements a rank keeps its own gradient.
class WithoutOne final : public ForwardingCollectives {
 public:
  WithoutOne(Collectives& group, const model::ModelConfig& model, const std::string& name)
      : ForwardingCollectives(group) {
    const auto parameters = model::whole_parameters(model::parameter_infos(model));
    const FlatLayout layout = flat_layout(parameters, size_bytes(DType::f64), group.size(),
                                          /*bucket_bytes=*/1);  // as parity has it
    buckets_ = layout.buckets;
    for (size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i].info.name == name) begin_ = layout.offsets[i], end_ = begin_ + parameters[i].count();
    EXPECT_GT(end_, begin_) << name;
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    // A step's buckets leave last to first.
    const Bucket& bucket = buckets_[buckets_.size() - 1 - left_++ % buckets_.size()];
    EXPECT_EQ(count, bucket.piece);
    const auto* const mine = static_cast<const double*>(input) + rank() * count;
    const std::vector<double> own(mine, mine + count);
    std::unique_ptr<Pending> pending = ForwardingCollectives::reduce_scatter(input, output, count, dtype, op);
    pending->wait();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t element = bucket.begin + rank() * count + i;
      if (element >= begin_ && element < end_) static_cast<double*>(output)[i] = own[static_cast<size_t>(i)];
    }
    return pending;
  }

 private:
  std::vector<Bucket> buckets_;
  size_t left_ = 0;
  int64_t begin_ = 0, end_ = 0;
};

TEST(ParityFaults, ASkippedReductionIsNamed) {
  test::Layout layout(1, 1);
  const Groups groups = layout.groups();
  const model::ModelConfig model = small_model("scalar");
  for (const char* name : {"backbone.embeddings.weight", "backbone.layers.0.mixer_2.in_proj.weight",
                           "backbone.layers.0.lambda_theta"}) {
    WithoutOne faulty(groups.shards, model, name);
    const ParityVerdict found = verdict_of(model, {.all = groups.all,
                                                   .replicas = groups.replicas,
                                                   .shards = faulty,
                                                   .data_rank = groups.data_rank,
                                                   .data_ranks = groups.data_ranks});
    if (layout.all().rank() != 0) continue;
    EXPECT_FALSE(found.gradients.fits()) << name;
    EXPECT_EQ(found.gradients.tensor, name);
    EXPECT_THAT(found.gradients.too_far, testing::ElementsAre(name));
    EXPECT_TRUE(found.loss.fits()) << name;
  }
}

}  // namespace
}  // namespace dm::train
