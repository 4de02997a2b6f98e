// The store on several ranks: what any number of ranks saved in any pieces, any other number loads in any
// others.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoints/bench/save_bench.h"
#include "checkpoints/names.h"
#include "checkpoints/store.h"
#include "core/error.h"
#include "tests/checkpoints/sample_state.h"
#include "tests/support/mpi_environment.h"
#include "tests/support/process.h"

namespace dm::checkpoints {
namespace {

namespace fs = std::filesystem;
using test::SampleState;
using testing::HasSubstr;
using testing::IsEmpty;
using Split = SampleState::Split;

class StoreMpiTest : public testing::Test {
 protected:
  StoreMpiTest() {
    if (group_->rank() == 0) folder_ = std::make_unique<test::TemporaryFolder>();
    run_ = group_->gather_text(folder_ ? folder_->path() + "/run" : "")[0];
  }
  ~StoreMpiTest() override { group_->barrier(); }  // the folder goes when all are done with it

  std::string step(int64_t number) const { return run_ + "/checkpoints/" + step_name(number); }
  void save(Store& store, int64_t number) {
    const SampleState state(Split::ranges, group_->rank(), group_->size(), static_cast<uint64_t>(number),
                            true);
    store.save(number, state.pieces(), group_->rank() == 0 ? Json{{"seed", number}} : Json());
  }
  /// The same error must reach every rank; returns its message.
  template <class Work>
  std::string error_everywhere(ExitCode code, const Work& work) {
    std::string message;
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      message = error.what();
    }
    EXPECT_TRUE(group_->all_agree(!message.empty())) << "not every rank saw an error";
    return message;
  }

  std::unique_ptr<Collectives> group_ = test::mpi().make_world_group();
  std::unique_ptr<test::TemporaryFolder> folder_;  // of rank 0
  std::string run_;
};

TEST_F(StoreMpiTest, EveryWorldAndSplitSavesWhatEveryOtherLoads) {
  const int64_t world = group_->size(), rank = group_->rank();
  int64_t number = 0;
  for (int64_t savers = 1; savers <= world; ++savers) {
    const bool saves = rank < savers;
    const auto part = test::mpi().make_group(saves ? 0 : 1);
    for (const Split split : {Split::ranges, Split::columns, Split::whole})
      for (const int64_t ranks_per_file : {0, 1, 2}) {
        const std::string directory = step(++number);
        if (saves) {
          Store store(run_, {.keep_last = 1000, .keep_every = 0, .ranks_per_file = ranks_per_file}, *part);
          const SampleState state(split, rank, savers, static_cast<uint64_t>(number), true);
          store.save(number, state.pieces(), Json{{"seed", number}});
        }
        group_->barrier();
        for (int64_t loaders = 1; loaders <= world; ++loaders)
          for (const Split wanted : {Split::ranges, Split::columns, Split::whole}) {
            if (rank >= loaders) continue;
            SampleState state(wanted, rank, loaders, 0, false);
            load(directory, state.pieces());
            EXPECT_THAT(state.wrong(static_cast<uint64_t>(number)), IsEmpty()) << savers << " to " << loaders;
          }
        if (rank == 0) {
          EXPECT_THAT(verify(directory), IsEmpty());
          const int64_t files = ranks_per_file == 0 ? 1 : (savers + ranks_per_file - 1) / ranks_per_file;
          EXPECT_EQ(std::distance(fs::directory_iterator(directory), {}), files + 2);
        }
      }
  }
}

TEST_F(StoreMpiTest, NewestIsAgreedByAllRanksAndSharedBetweenThem) {
  Store store(run_, {.keep_last = 10, .keep_every = 0, .ranks_per_file = 1}, *group_);
  EXPECT_FALSE(store.newest());
  for (const int64_t number : {1, 2, 3}) save(store, number);
  if (group_->rank() == 0) {  // damage in the last rank's file: only the rank whose share it is sees it
    const std::string shard = step(3) + "/" + shard_name(group_->size() - 1, group_->size());
    std::string bytes = test::read_text(shard);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    test::write_text(shard, bytes);
    fs::remove(step(2) + "/COMMIT");
  }
  group_->barrier();
  const auto newest = store.newest();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 1);
  EXPECT_EQ(newest->meta["seed"], 1);
  EXPECT_TRUE(fs::exists(run_ + "/checkpoints/corrupt-step_000000003.0"));
  EXPECT_TRUE(fs::exists(run_ + "/checkpoints/corrupt-step_000000002.0"));
  EXPECT_EQ(group_->all_max(newest->step), 1);
}

TEST_F(StoreMpiTest, NoneThatVerifiesIsTheSameErrorOnEveryRank) {
  Store store(run_, {}, *group_);
  save(store, 1);
  if (group_->rank() == 0) test::write_text(step(1) + "/manifest.json", "{}");
  group_->barrier();
  EXPECT_THAT(error_everywhere(ExitCode::bad_data, [&] { store.newest(); }),
              HasSubstr("none of its checkpoints verifies (1 tried)"));
}

TEST_F(StoreMpiTest, AFailureOfOneRankIsTheVerdictOfAllAndLeavesNothing) {
  Store store(run_, {}, *group_);
  save(store, 1);
  const int64_t culprit = group_->size() - 1;
  const std::string message = error_everywhere(ExitCode::internal, [&] {
    SampleState state(Split::ranges, group_->rank(), group_->size(), 2, true);
    std::vector<Piece> pieces = state.pieces();
    if (group_->rank() == culprit) pieces.back().name = "a/b/c";
    store.save(2, pieces, {});
  });
  EXPECT_THAT(message, HasSubstr("'a/b/c' is no name of a tensor"));
  const std::string named = "rank " + std::to_string(culprit) + " on ";
  EXPECT_EQ(message.find(named) != std::string::npos, group_->rank() != culprit) << message;
  if (group_->rank() == 0) {
    EXPECT_EQ(std::distance(fs::directory_iterator(run_ + "/checkpoints"), {}), 1);
  }
  save(store, 2);  // and the next one works
  EXPECT_EQ(store.newest()->step, 2);
}

TEST_F(StoreMpiTest, TwoOwnersOfTheSameElementsAreABug) {
  if (group_->size() == 1) GTEST_SKIP() << "needs two ranks";
  Store store(run_, {}, *group_);
  float value = 1;
  const Piece piece{"w", DType::f32, {}, {}, &value};
  EXPECT_THAT(error_everywhere(ExitCode::internal, [&] { store.save(1, {piece}, {}); }),
              HasSubstr("w: pieces [] and [] overlap"));
}

TEST_F(StoreMpiTest, ASecondJobIsRefusedOnEveryRank) {
  Store store(run_, {}, *group_);
  EXPECT_THAT(error_everywhere(ExitCode::locked, [&] { Store second(run_, {}, *group_); }),
              HasSubstr("in use by process"));
}

TEST_F(StoreMpiTest, TheBenchSavesWhatItSaysAndLeavesNothing) {
  const SaveBenchConfig config{
      .save_dir = run_ + "/bench", .save_mib = 3, .tensor_mib = 0.7, .save_repetitions = 2};
  const Json result = bench_save(config, *group_);
  EXPECT_EQ(result["bytes_a_rank"], 3 << 20);
  EXPECT_EQ(result["save_seconds"].size(), 2u);
  EXPECT_GT(result["save_gb_s"].get<double>(), 0);
  EXPECT_GT(result["dd_gb_s"].get<double>(), 0);
  group_->barrier();
  EXPECT_FALSE(fs::exists(config.save_dir));
}

}  // namespace
}  // namespace dm::checkpoints
