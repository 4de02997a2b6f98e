// A bit that flips in the weights of one replica is found before the next update, and its rank named. Row 73.

#include "train/weights_vote.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/forwarding_collectives.h"
#include "tests/support/mpi_environment.h"
#include "tests/support/refusal.h"
#include "tests/train/tiny_run.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

TEST(Outvoted, MostCopiesDecideAndTheMasterWhereNoneHasMost) {
  using Ballots = std::vector<WeightsBallot>;
  using Found = std::vector<Outvoted>;
  const Ballots sound{{{1, 2}, 0, 1}, {{1, 2}, 1, 2}};
  EXPECT_EQ(outvoted(sound), Found{});
  Ballots ballots = sound;
  ballots[0].copies[1] = 9;  // against the owner's copy and master
  EXPECT_EQ(outvoted(ballots), (Found{{0, 1, false}}));
  ballots = sound;
  ballots[1].copies[1] = 9;  // the owner's own copy
  EXPECT_EQ(outvoted(ballots), (Found{{1, 1, false}}));
  ballots = sound;
  ballots[0].master = 9;
  EXPECT_EQ(outvoted(ballots), (Found{{0, 0, true}}));
  ballots = sound;
  ballots[0].copies[0] = 8, ballots[1].copies[0] = 9;  // three words, of which the master's counts
  EXPECT_EQ(outvoted(ballots), (Found{{0, 0, false}, {1, 0, false}}));
  // Two replicas that each own everything: who errs cannot be said, that one does can.
  EXPECT_EQ(outvoted({{{1}, 0, 1}, {{2}, 0, 2}}).size(), 2u);
  // Most of three, of which none owns less than the whole.
  EXPECT_EQ(outvoted({{{1}, 0, 1}, {{2}, 0, 2}, {{1}, 0, 1}}), (Found{{1, 0, false}, {1, 0, true}}));
}

/// Flips one bit of a rank's weights after the update of step `after`: of its copy, or of what it updates
/// from.
class FlippedBit final : public ForwardingCollectives {
 public:
  enum class In { copy, master };
  FlippedBit(Collectives& inner, int64_t rank, int64_t after, In in)
      : ForwardingCollectives(inner), rank_(rank), after_(after), in_(in) {}
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    auto pending = ForwardingCollectives::all_gather(input, output, count, dtype);
    if (dtype != DType::f64 || ++updates_ != after_ || rank() != rank_)
      return pending;  // texts go the same way
    pending->wait();
    auto* bytes = static_cast<unsigned char*>(in_ == In::copy ? output : const_cast<void*>(input));
    bytes[8 * (count / 2)] ^= 4;
    return pending;
  }

 private:
  int64_t rank_, after_;
  In in_;
  int64_t updates_ = 0;
};

TEST(WeightsVote, Row73_AFlippedBitIsFoundBeforeTheNextUpdateAndItsRankNamed) {
  const auto group = test::mpi().make_world_group();
  const test::SharedFolder folder(*group);
  int run = 0;
  for (const auto in : {FlippedBit::In::copy, FlippedBit::In::master})
    for (int64_t rank = 0; rank < group->size(); ++rank) {
      RunConfig config = test::tiny_run(folder.path(), fmt::format("run{}", run++), 6);
      config.train.digest_every = 2;
      FlippedBit flipped(*group, rank, 3, in);
      if (group->size() == 1) {  // nobody to compare with, which a run on one rank survives
        EXPECT_EQ(train(config, data_parallel(flipped)), ExitCode::ok);
        continue;
      }
      const std::string message =
          test::refusal(ExitCode::lost, [&] { train(config, data_parallel(flipped)); });
      const std::string culprit = fmt::format("rank {} on", rank);
      EXPECT_NE(message.find("step 4: weights that must be equal"), std::string::npos) << message;
      EXPECT_NE(message.find(culprit), std::string::npos) << message;
      EXPECT_EQ(message.find("rank ", message.find(culprit) + 1), std::string::npos)
          << "others are named: " << message;
      EXPECT_NE(message.find(in == FlippedBit::In::copy ? "its copy" : "the weights that it updates"),
                std::string::npos);
      group->barrier();
    }
}

TEST(WeightsVote, ASoundRunIsLeftAlone) {
  const auto group = test::mpi().make_world_group();
  const test::SharedFolder folder(*group);
  RunConfig config = test::tiny_run(folder.path(), "run", 6);
  config.train.digest_every = 1;
  EXPECT_EQ(train(config, data_parallel(*group)), ExitCode::ok);
}

}  // namespace
}  // namespace dm::train
