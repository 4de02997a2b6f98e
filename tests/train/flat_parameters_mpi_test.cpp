// The flat buffers over ranks: who owns what, and that no layout changes a bit where nothing rounds.

#include "train/flat_parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/support/mpi_environment.h"
#include "train/ledger.h"
#include "train/step_guard.h"

namespace dm::train {
namespace {

std::vector<model::ParameterInfo> infos() {
  std::vector<model::ParameterInfo> result;
  const auto add = [&](const char* name, std::vector<int64_t> shape, bool decay, int64_t depth) {
    result.emplace_back();
    result.back().name = name, result.back().shape = std::move(shape), result.back().decay = decay;
    result.back().depth = depth;
  };
  add("matrix", {37, 11}, true, 0);
  add("one", {1}, false, 0);
  add("conv", {13, 1, 4}, true, 1);
  add("scalar", {}, false, 2);
  add("long", {500}, false, 2);
  return result;
}

/// One bucket, three of them (one a layer), and two.
constexpr int64_t kBucketSizes[] = {kBucketBytes, 1, 2100};

/// Whole numbers, so that sums over ranks do not round: the same for every layout when `share` of `shares`
/// add up.
void add_gradients(const FlatParameters& parameters, int64_t share, int64_t shares) {
  for (size_t p = 0; p < parameters.parameters().size(); ++p) {
    at::Tensor gradient =
        parameters.leaves().at(parameters.parameters()[p].info.name).mutable_grad().view(-1);
    for (int64_t i = 0; i < gradient.numel(); ++i)
      if (i % shares == share)
        gradient[i] += static_cast<double>((i * 7 + static_cast<int64_t>(p) * 3) % 17 - 8);
  }
}

TEST(FlatParameters, RanksOwnEveryElementOnce) {
  const auto group = test::mpi().make_world_group();
  size_t expected_buckets[] = {1, 3, 2};
  for (size_t i = 0; i < 3; ++i) {
    const FlatParameters parameters(infos(), DType::f32, *group, at::kCPU, kBucketSizes[i]);
    EXPECT_EQ(parameters.buckets().size(), expected_buckets[i]);
    std::vector<int64_t> next(parameters.parameters().size(), 0);
    std::map<int64_t, int64_t> owned;  // by rank, elements
    for (const Bucket& bucket : parameters.buckets())
      for (int64_t rank = 0; rank < group->size(); ++rank)
        for (const Slice& slice : parameters.slices(bucket, rank)) {
          EXPECT_EQ(slice.begin, next[static_cast<size_t>(slice.parameter)]);
          EXPECT_LT(slice.begin, slice.end);
          EXPECT_GE(slice.offset, bucket.owned);
          EXPECT_LE(slice.offset + slice.count(), bucket.owned + bucket.piece);
          next[static_cast<size_t>(slice.parameter)] = slice.end;
          owned[rank] += slice.count();
        }
    for (size_t p = 0; p < next.size(); ++p) EXPECT_EQ(next[p], parameters.parameters()[p].count());
    for (int64_t rank = 0; rank < group->size(); ++rank) {
      for (const Slice& slice : parameters.slices(rank)) owned[rank] -= slice.count();
      EXPECT_EQ(owned[rank], 0) << "the slices of rank " << rank << " are not those of its buckets";
    }
  }
}

TEST(FlatParameters, LeavesLookIntoTheBuffersAtAlignedPlaces) {
  const auto group = test::mpi().make_world_group();
  const FlatParameters parameters(infos(), DType::f32, *group);
  for (const auto& [name, leaf] : parameters.leaves()) {
    EXPECT_TRUE(leaf.is_leaf() && leaf.requires_grad()) << name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(leaf.data_ptr()) % 64, 0u) << name;
    EXPECT_EQ(leaf.grad().sizes(), leaf.sizes()) << name;
  }
  // A backward pass adds into the buffer.
  const at::Tensor leaf = parameters.leaves().at("matrix");
  const void* gradient = leaf.grad().data_ptr();
  (leaf * 2).sum().backward();
  (leaf * 3).sum().backward();
  EXPECT_EQ(leaf.grad().data_ptr(), gradient);
  EXPECT_EQ(leaf.grad().sum().item<double>(), 5 * 37 * 11);
}

TEST(FlatParameters, ReplacedGradientIsNoticed) {
  const auto group = test::mpi().make_world_group();
  FlatParameters parameters(infos(), DType::f32, *group);
  at::Tensor leaf = parameters.leaves().at("long");
  leaf.mutable_grad() = at::ones({500});
  EXPECT_THROW(parameters.reduce_gradients(), std::exception);
}

/// Three updates from exact gradients on `group`; the digest of weights and moments, on every rank.
Hash128 digest_after_updates(Collectives& group, int64_t bucket_bytes, double* gradient_squares) {
  FlatParameters parameters(infos(), DType::f32, group, at::kCPU, bucket_bytes);
  ShardedOptimizer optimizer({}, parameters);
  for (int64_t update = 0; update < 3; ++update) {
    parameters.zero_gradients();
    add_gradients(parameters, group.rank(), group.size());
    parameters.reduce_gradients();
    *gradient_squares = group.all_sum(parameters.owned_gradient_squares());
    optimizer.update(0.01, 0.5);
  }
  Hash128 digest = state_digest(parameters, optimizer, group);
  group.broadcast(&digest.high, 1, DType::u64, 0);
  group.broadcast(&digest.low, 1, DType::u64, 0);
  return digest;
}

TEST(FlatParameters, NumberOfRanksChangesNoBitOfExactUpdates) {
  const auto world = test::mpi().make_world_group();
  const auto alone = make_single_process_collectives();
  double squares = 0, expected_squares = 0;
  const Hash128 expected = digest_after_updates(*alone, kBucketBytes, &expected_squares);
  for (const int64_t bucket_bytes : kBucketSizes) {
    EXPECT_EQ(digest_after_updates(*world, bucket_bytes, &squares), expected);
    EXPECT_EQ(squares, expected_squares);  // sums of small whole numbers are exact
  }
  EXPECT_GT(squares, 0);
}

TEST(FlatParameters, DigestSeesEveryElementOfWeightsAndMoments) {
  const auto group = test::mpi().make_world_group();
  FlatParameters parameters(infos(), DType::f32, *group);
  const ShardedOptimizer optimizer({}, parameters);
  const auto digest = [&] { return hex(state_digest(parameters, optimizer, *group)); };
  const std::string before = digest();
  for (int64_t rank = 0; rank < group->size(); ++rank)
    for (const Slice& slice : parameters.slices(rank))
      for (const at::Tensor& range : {parameters.owned_weights(), optimizer.slots()[0], optimizer.slots()[1]})
        for (const int64_t element : {int64_t{0}, slice.count() - 1}) {
          auto* value = static_cast<float*>(parameters.at(range.data_ptr(), slice.offset + element));
          if (group->rank() == rank) *value = 1;
          const bool seen = digest() != before;
          if (group->rank() == rank) *value = 0;
          // Rank 0 alone knows the digest.
          EXPECT_TRUE(seen || group->rank() != 0)
              << "rank " << rank << ", parameter " << slice.parameter << ", " << element;
        }
  EXPECT_EQ(digest(), before);
}

TEST(FlatParameters, WhatIsNotFiniteIsNamedOnTheRankWhereItBegan) {
  const auto group = test::mpi().make_world_group();
  FlatParameters parameters(infos(), DType::f32, *group);
  const auto poison = [&](const at::Tensor& t) {
    t.view(-1)[7].fill_(std::numeric_limits<double>::quiet_NaN());
  };
  const auto told = [&] { return group->gather_text(parameters.first_non_finite()); };
  const bool last = group->rank() == group->size() - 1;
  // It goes backwards through the layers: where it is found last, in "conv", it began.
  if (last)
    poison(parameters.leaves().at("matrix").mutable_grad()),
        poison(parameters.leaves().at("conv").mutable_grad());
  parameters.reduce_gradients();
  std::vector<std::string> expected(static_cast<size_t>(group->size()),
                                    "its own weights and gradient finite");
  expected.back() = "gradient of conv not finite";
  EXPECT_EQ(told(), expected);
  if (last) poison(parameters.leaves().at("long").detach());
  expected.back() = "weights of long not finite";
  EXPECT_EQ(told(), expected);
}

// ---- decisions ----

TEST(Agree, SumsNumbersAndSpreadsFlags) {
  const auto group = test::mpi().make_world_group();
  const auto n = static_cast<double>(group->size()), r = static_cast<double>(group->rank());
  const bool last = group->rank() == group->size() - 1;
  const StepFacts facts = agree({.nats = r + 1, .targets = 2, .gradient_squares = 3, .stop = last}, *group);
  EXPECT_EQ(facts.nats, n * (n + 1) / 2);
  EXPECT_EQ(facts.targets, 2 * n);
  EXPECT_EQ(facts.gradient_squares, 3 * n);
  EXPECT_TRUE(facts.stop);
  EXPECT_FALSE(facts.save_due || facts.time_up);
}

TEST(Agree, OneRanksNanSkipsTheStepOnAllRanks) {
  const auto group = test::mpi().make_world_group();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (int64_t bad = 0; bad < group->size(); ++bad) {
    StepGuard guard(6, 8);
    const double mine = group->rank() == bad ? nan : 1;
    const bool skipped = guard.judge(agree({.nats = mine, .targets = 5, .gradient_squares = 1}, *group)) ==
                             Verdict::not_finite &&
                         guard.judge(agree({.nats = 1, .targets = 5, .gradient_squares = mine}, *group)) ==
                             Verdict::not_finite;
    EXPECT_TRUE(group->all_agree(skipped)) << "NaN on rank " << bad;
    EXPECT_TRUE(group->all_agree(
        guard.judge(agree({.nats = 1, .targets = 5, .gradient_squares = 1}, *group)) == Verdict::update));
  }
}

}  // namespace
}  // namespace dm::train
