// Snapshots in the memory of hosts, each of which is a folder here: every rank calls itself a host of its
// own, unless a test says otherwise. A lost host is one whose folder is gone.

#include "checkpoints/memory_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoints/names.h"
#include "tests/checkpoints/sample_state.h"
#include "tests/support/mpi_environment.h"
#include "tests/support/process.h"
#include "tests/support/refusal.h"

namespace dm::checkpoints {
namespace {

namespace fs = std::filesystem;
using test::SampleState;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using Split = SampleState::Split;

class MemoryStoreMpiTest : public testing::Test {
 protected:
  MemoryStoreMpiTest() {
    if (group_->rank() == 0) folder_ = std::make_unique<test::TemporaryFolder>();
    const std::string folder = group_->gather_text(folder_ ? folder_->path() : "")[0];
    run_ = folder + "/run", memory_ = folder + "/memory";
    on_rank_0([&] { fs::create_directories(run_), fs::create_directories(memory_); });
  }
  ~MemoryStoreMpiTest() override { group_->barrier(); }

  void on_rank_0(const std::function<void()>& work) {
    group_->barrier();
    if (group_->rank() == 0) work();
    group_->barrier();
  }
  static std::string host(int64_t number) { return "host" + std::to_string(number); }
  std::unique_ptr<MemoryStore> open(const std::string& name = "") {
    return std::make_unique<MemoryStore>(run_, memory_, *group_, name.empty() ? host(group_->rank()) : name);
  }
  void save(MemoryStore& store, int64_t step) {
    const SampleState state(Split::ranges, group_->rank(), group_->size(), static_cast<uint64_t>(step), true);
    // What clocks say differs from rank to rank.
    store.save(step, state.pieces(),
               Json{{"seed", step}, {"seconds", 0.1 * static_cast<double>(group_->rank())}});
  }
  /// What the state would be on any split: names of tensors that are not those of `step`.
  std::vector<std::string> wrong_after_loading(MemoryStore& store, const Summary& from, Split split) {
    SampleState state(split, group_->rank(), group_->size(), 0, false);
    store.load(from, state.pieces());
    return state.wrong(static_cast<uint64_t>(from.step));
  }
  /// The folder of a host's snapshots.
  std::string of_host(int64_t number) const {
    return memory_ + "/" + memory_name(test::read_text(run_ + "/" + kMemoryName), host(number));
  }
  std::string snapshot(int64_t number, int64_t step) const { return of_host(number) + "/" + step_name(step); }
  bool several() const { return group_->size() > 1; }

  std::unique_ptr<Collectives> group_ = test::mpi().make_world_group();
  std::unique_ptr<test::TemporaryFolder> folder_;  // of rank 0
  std::string run_, memory_;
};

TEST_F(MemoryStoreMpiTest, TheNewestIsLoadedInAnyPieces) {
  {
    const auto store = open();
    EXPECT_FALSE(store->newest());
    store->begin_anew();
    save(*store, 10);
    save(*store, 20);
  }
  for (const Split split : {Split::ranges, Split::columns, Split::whole}) {
    const auto store = open();
    const auto newest = store->newest();
    ASSERT_TRUE(newest);
    EXPECT_EQ(newest->step, 20);
    EXPECT_EQ(newest->meta, (Json{{"seed", 20}, {"seconds", 0.0}}));
    EXPECT_THAT(wrong_after_loading(*store, *newest, split), IsEmpty());
  }
  EXPECT_FALSE(fs::exists(snapshot(group_->rank(), 10))) << "the one before takes memory for nothing";
}

TEST_F(MemoryStoreMpiTest, AnyOneHostMayBeLost) {
  for (int64_t lost = 0; lost < group_->size(); ++lost) {
    const int64_t step = 100 + lost;
    {
      const auto store = open();
      store->begin_anew();
      save(*store, step);
    }
    on_rank_0([&] { EXPECT_GT(fs::remove_all(of_host(lost)), 0u); });
    const auto store = open();
    const auto newest = store->newest();
    EXPECT_EQ(newest.has_value(), several());
    if (newest) EXPECT_THAT(wrong_after_loading(*store, *newest, Split::ranges), IsEmpty()) << lost;
  }
}

TEST_F(MemoryStoreMpiTest, WithTwoOfThreeLostThereIsNone) {
  if (group_->size() != 3) GTEST_SKIP() << "needs three ranks";
  {
    const auto store = open();
    store->begin_anew();
    save(*store, 1);
  }
  on_rank_0([&] { fs::remove_all(of_host(0)), fs::remove_all(of_host(1)); });
  EXPECT_FALSE(open()->newest());
}

TEST_F(MemoryStoreMpiTest, FewerHostsGoOn) {
  if (group_->size() != 3) GTEST_SKIP() << "needs three ranks";
  {
    const auto store = open();
    store->begin_anew();
    save(*store, 1);
  }
  on_rank_0([&] { fs::remove_all(of_host(2)); });
  const auto store = open(host(group_->rank() / 2));  // two ranks on the first, one on the second
  const auto newest = store->newest();
  ASSERT_TRUE(newest);
  EXPECT_THAT(wrong_after_loading(*store, *newest, Split::ranges), IsEmpty());
  save(*store, 2);
  EXPECT_EQ(store->newest()->step, 2);
}

TEST_F(MemoryStoreMpiTest, WhatIsHalfWrittenIsNotUsed) {
  {
    const auto store = open();
    store->begin_anew();
    save(*store, 1);
  }
  const std::string mine = of_host(group_->rank());
  // A save that was killed before its commit, on all hosts; one that had the name, but not the bytes.
  fs::copy(mine + "/" + step_name(1), mine + "/" + temporary_name(2, "0123456789abcdef"));
  fs::copy(mine + "/" + step_name(1), mine + "/" + step_name(3));
  fs::resize_file(mine + "/" + step_name(3) + "/" + kManifestName, 100);
  group_->barrier();
  const auto store = open();
  EXPECT_FALSE(fs::exists(mine + "/" + temporary_name(2, "0123456789abcdef")));
  ASSERT_TRUE(store->newest());
  EXPECT_EQ(store->newest()->step, 1);
  // A file that is short on one host is fetched from another.
  on_rank_0([&] { fs::resize_file(snapshot(0, 1) + "/" + shard_name(0, group_->size()), 1000); });
  const auto again = open();
  const auto newest = again->newest();
  EXPECT_EQ(newest.has_value(), several());
  if (newest) EXPECT_THAT(wrong_after_loading(*again, *newest, Split::ranges), IsEmpty());
}

TEST_F(MemoryStoreMpiTest, AFlippedBitIsFoundOnAllRanks) {
  const auto store = open();
  store->begin_anew();
  save(*store, 1);
  on_rank_0([&] {
    const std::string path = snapshot(0, 1) + "/" + shard_name(0, group_->size());
    std::string bytes = test::read_text(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    test::write_text(path, bytes);
  });
  const auto newest = store->newest();
  ASSERT_TRUE(newest);
  SampleState state(Split::ranges, group_->rank(), group_->size(), 0, false);
  EXPECT_THAT(test::refusal(ExitCode::bad_data, [&] { store->load(*newest, state.pieces()); }),
              HasSubstr("do not fit their hash"));
}

TEST_F(MemoryStoreMpiTest, AFailedSaveLeavesTheOneBefore) {
  const auto store = open();
  store->begin_anew();
  save(*store, 1);
  const int64_t culprit = group_->size() - 1;
  const std::string message = test::refusal(ExitCode::internal, [&] {
    SampleState state(Split::ranges, group_->rank(), group_->size(), 2, true);
    std::vector<Piece> pieces = state.pieces();
    if (group_->rank() == culprit) pieces.back().name = "a/b/c";
    store->save(2, pieces, {});
  });
  EXPECT_THAT(message, HasSubstr("is no name of a tensor"));
  EXPECT_EQ(store->newest()->step, 1);
}

TEST_F(MemoryStoreMpiTest, ARunThatWentOnWithoutThemForgetsThem) {
  const auto store = open();
  store->begin_anew();
  save(*store, 1);
  const std::string mine = of_host(group_->rank());
  group_->barrier();
  store->begin_anew();
  EXPECT_FALSE(store->newest());
  EXPECT_FALSE(fs::exists(mine));
  save(*store, 2);
  const std::string orphan = of_host(group_->rank());
  on_rank_0([&] { forget_snapshots(run_); });
  EXPECT_TRUE(fs::exists(orphan));
  EXPECT_FALSE(open()->newest());
  EXPECT_FALSE(fs::exists(orphan)) << "takes memory until the host starts again";
}

TEST_F(MemoryStoreMpiTest, NothingIsLeftAtTheEnd) {
  const auto store = open();
  store->begin_anew();
  save(*store, 1);
  store->remove();
  group_->barrier();
  EXPECT_TRUE(fs::is_empty(memory_));
  EXPECT_TRUE(fs::is_empty(run_));
}

TEST_F(MemoryStoreMpiTest, RoomIsCountedForTwoSnapshotsOfTwoHosts) {
  const auto store = open();
  const int64_t last = group_->size() - 1;
  // The last rank has 3000 bytes, the others 1000; the host behind the last holds both.
  const int64_t most = several() ? 2 * (3000 + 1000) : 2 * 3000;
  EXPECT_EQ(store->require_room(group_->rank() == last ? 3000 : 1000), most);
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { store->require_room(int64_t{1} << 60); }),
              AllOf(HasSubstr("--memory-snapshot-every"), HasSubstr("--memory-dir"), HasSubstr("GiB")));
  EXPECT_THAT(test::refusal(ExitCode::usage, [&] { MemoryStore(run_, memory_ + "/none", *group_, host(0)); }),
              HasSubstr("--memory-dir"));
}

}  // namespace
}  // namespace dm::checkpoints
