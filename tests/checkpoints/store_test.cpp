// The store as one process sees it; several ranks are in store_mpi_test.cpp, faults in fault_test.cpp.

#include "checkpoints/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoints/lease.h"
#include "checkpoints/names.h"
#include "checkpoints/writer.h"
#include "core/error.h"
#include "tests/checkpoints/sample_state.h"
#include "tests/support/process.h"

namespace dm::checkpoints {
namespace {

namespace fs = std::filesystem;
using test::read_text;
using test::SampleState;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class StoreTest : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  const std::string run_ = folder_ / "run";
  std::unique_ptr<Collectives> group_ = make_single_process_collectives();
  StoreConfig config_;

  std::string step(int64_t number) const { return run_ + "/checkpoints/" + step_name(number); }
  void save(Store& store, int64_t number, bool large = false) {
    const SampleState state(SampleState::Split::ranges, 0, 1, static_cast<uint64_t>(number), true, large);
    store.save(number, state.pieces(), {{"seed", number}});
  }
  std::vector<std::string> names(const std::string& directory) const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(directory)) found.push_back(entry.path().filename());
    std::sort(found.begin(), found.end());
    return found;
  }
  template <class Work>
  std::string error(ExitCode code, const Work& work) {
    try {
      work();
    } catch (const Error& caught) {
      EXPECT_EQ(caught.code(), code) << caught.what();
      return caught.what();
    }
    ADD_FAILURE() << "nothing thrown";
    return "";
  }
};

TEST_F(StoreTest, WhatIsSavedIsLoaded) {
  for (const bool large : {false, true}) {
    Store store(run_, config_, *group_);
    const int64_t number = large ? 2 : 1;
    save(store, number, large);
    const auto summary = store.newest();
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->step, number);
    EXPECT_EQ(summary->directory, step(number));
    EXPECT_EQ(summary->meta, (Json{{"seed", number}}));
    ASSERT_EQ(summary->tensors.size(), test::sample_tensors(large).size());
    EXPECT_TRUE(std::is_sorted(summary->tensors.begin(), summary->tensors.end(),
                               [](auto& a, auto& b) { return a.name < b.name; }));
    EXPECT_THAT(verify(step(number)), IsEmpty());
    SampleState state(SampleState::Split::whole, 0, 1, 0, false, large);
    load(step(number), state.pieces());
    EXPECT_THAT(state.wrong(static_cast<uint64_t>(number)), IsEmpty());
    EXPECT_THAT(names(step(number)), ElementsAre("COMMIT", "manifest.json", "shard-00000-of-00001.h5"));
    EXPECT_EQ(read_text(run_ + "/latest"), step_name(number) + "\n");
  }
}

TEST_F(StoreTest, ARunWithoutCheckpointsHasNone) {
  Store store(run_, config_, *group_);
  EXPECT_FALSE(store.newest());
  EXPECT_THAT(list(run_), IsEmpty());
  EXPECT_THAT(list(folder_ / "nowhere"), IsEmpty());
}

TEST_F(StoreTest, TheSameStateGivesTheSameBytes) {
  Store store(run_, config_, *group_), other(folder_ / "other", config_, *group_);
  save(store, 7);
  save(other, 7);
  for (const char* file : {"COMMIT", "manifest.json", "shard-00000-of-00001.h5"})
    EXPECT_TRUE(read_text(step(7) + "/" + file) ==
                read_text(folder_ / "other/checkpoints/step_000000007/" + file))
        << file;
}

TEST_F(StoreTest, LoadsAnyBoxOfATensor) {
  Store store(run_, config_, *group_);
  const int64_t rows = 5000, columns = 1000;  // 19 MiB: rows cross the border of the chunks
  std::vector<float> whole(rows * columns);
  for (size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<float>(i % 9973);
  store.save(1, {{"w", DType::f32, {rows, columns}, {{0, 0}, {rows, columns}}, whole.data()}}, {});
  for (const Box& box : {Box{{4190, 17}, {10, 300}},
                         {{4194, 304}, {1, 1}},
                         {{0, 999}, {5000, 1}},
                         {{4100, 0}, {200, 1000}},
                         {{3, 3}, {0, 5}}}) {
    std::vector<float> part(static_cast<size_t>(box.count()), -1);
    load(step(1), {{"w", DType::f32, {rows, columns}, box, part.data()}});
    int64_t wrong = 0;
    for (int64_t i = 0; i < box.count(); ++i) {
      const int64_t row = box.offset[0] + i / box.shape[1], column = box.offset[1] + i % box.shape[1];
      wrong += !(part[static_cast<size_t>(i)] == whole[static_cast<size_t>(row * columns + column)]);
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST_F(StoreTest, ATensorThatDoesNotFitIsNamed) {
  Store store(run_, config_, *group_);
  save(store, 1);
  float value[64];
  const auto refusal = [&](Piece piece) {
    return error(ExitCode::bad_data, [&] { load(step(1), {piece}); });
  };
  EXPECT_THAT(refusal({"head.weight", DType::f32, {2}, {{0}, {2}}, value}),
              HasSubstr("holds no tensor 'head.weight' (it has 21)"));
  EXPECT_THAT(refusal({"counts", DType::f64, {13}, {{0}, {13}}, value}),
              HasSubstr("'counts' is stored as i64, wanted as f64"));
  EXPECT_THAT(refusal({"counts", DType::i64, {12}, {{0}, {12}}, value}),
              HasSubstr("has the shape [0:13], wanted is [0:12]"));
}

TEST_F(StoreTest, PiecesThatNoCheckpointCanHoldAreBugs) {
  Store store(run_, config_, *group_);
  float value[64] = {};
  const auto refusal = [&](const std::vector<Piece>& pieces) {
    return error(ExitCode::internal, [&] { store.save(1, pieces, {}); });
  };
  const Piece good{"w", DType::f32, {4, 4}, {{0, 0}, {4, 4}}, value};
  Piece half = good, outside = good, nameless = good, missing = good, other = good;
  half.box.shape = {2, 4};
  outside.box.offset = {1, 0};
  nameless.name = "../w";
  missing.data = nullptr;
  other.dtype = DType::i32;
  EXPECT_THAT(refusal({half}), HasSubstr("hold 8 of its 16 elements"));
  EXPECT_THAT(refusal({good, half}), HasSubstr("overlap"));
  EXPECT_THAT(refusal({outside}), HasSubstr("outside the tensor"));
  EXPECT_THAT(refusal({nameless}), HasSubstr("no name of a tensor"));
  EXPECT_THAT(refusal({missing}), HasSubstr("has no data"));
  EXPECT_THAT(refusal({half, other}), HasSubstr("disagree about its dtype or shape"));
  EXPECT_THAT(error(ExitCode::internal,
                    [&] {
                      store.save(1, {good}, {{"x", std::numeric_limits<double>::quiet_NaN()}});
                    }),
              HasSubstr("JSON cannot"));
  EXPECT_THAT(error(ExitCode::internal, [&] { store.save(-1, {good}, {}); }), HasSubstr("step -1"));
  EXPECT_THAT(names(run_ + "/checkpoints"), IsEmpty()) << "a refused save leaves nothing";
  save(store, 1);
}

TEST_F(StoreTest, RetentionKeepsTheLastAndEveryNth) {
  config_.keep_last = 2;
  config_.keep_every = 40;
  Store store(run_, config_, *group_);
  for (int64_t number = 10; number <= 100; number += 10) save(store, number);
  EXPECT_THAT(names(run_ + "/checkpoints"),
              ElementsAre(step_name(40), step_name(80), step_name(90), step_name(100)));
  EXPECT_THAT(list(run_), ElementsAre(step(100), step(90), step(80), step(40)));
}

TEST_F(StoreTest, AStepSavedAgainReplacesTheOldOneAtomically) {
  Store store(run_, config_, *group_);
  save(store, 5);
  const SampleState state(SampleState::Split::ranges, 0, 1, 77, true);
  store.save(5, state.pieces(), {{"seed", 77}});
  EXPECT_EQ(store.newest()->meta["seed"], 77);
  EXPECT_THAT(names(run_ + "/checkpoints"), ElementsAre(step_name(5)));
}

TEST_F(StoreTest, LeftoversOfKilledJobsGoAndNothingElse) {
  { Store store(run_, config_, *group_); }
  const std::string nonce = "0123456789abcdef";
  for (const auto& name : {temporary_name(3, nonce), trash_name(2, nonce)}) {
    fs::create_directories(run_ + "/checkpoints/" + name);
    test::write_text(run_ + "/checkpoints/" + name + "/shard-00000-of-00001.h5", "half");
  }
  test::write_text(run_ + "/checkpoints/.probe-3", "x");
  test::write_text(run_ + "/latest.tmp-123", "x");
  test::write_text(run_ + "/LOCK." + nonce, "x");
  for (const char* other : {"notes.txt", ".tmp-mine", "corrupt-step_000000001.0"})
    test::write_text(run_ + "/checkpoints/" + other, "x");
  // A link under a leftover's name: the link goes, what it points at stays.
  fs::create_directory(folder_ / "precious");
  test::write_text(folder_ / "precious/file", "x");
  fs::create_directory_symlink(folder_ / "precious", run_ + "/checkpoints/" + temporary_name(9, nonce));
  { Store store(run_, config_, *group_); }
  EXPECT_THAT(names(run_ + "/checkpoints"),
              ElementsAre(".tmp-mine", "corrupt-step_000000001.0", "notes.txt"));
  EXPECT_THAT(names(run_), ElementsAre("LOCK", "checkpoints"));
  EXPECT_EQ(read_text(folder_ / "precious/file"), "x");
}

TEST_F(StoreTest, TheNewestThatVerifiesIsUsedAndWhatDoesNotIsSetAside) {
  Store store(run_, config_, *group_);
  for (const int64_t number : {1, 2, 3}) save(store, number);
  for (const int64_t number : {2, 3}) {
    const std::string shard = step(number) + "/shard-00000-of-00001.h5";
    fs::resize_file(shard, fs::file_size(shard) - 1);
  }
  fs::create_directory(run_ + "/checkpoints/corrupt-step_000000003.0");  // from an earlier time
  test::write_text(run_ + "/latest", "step_000000003\n");
  EXPECT_EQ(store.newest()->step, 1);
  EXPECT_THAT(names(run_ + "/checkpoints"),
              ElementsAre("corrupt-step_000000002.0", "corrupt-step_000000003.0", "corrupt-step_000000003.1",
                          step_name(1)));
  save(store, 2);
  EXPECT_EQ(store.newest()->step, 2);
}

TEST_F(StoreTest, LatestIsAHintOnly) {
  Store store(run_, config_, *group_);
  save(store, 1);
  for (const char* garbage : {"", "step_000000009\n", "../../etc", "\xff\xfe"}) {
    test::write_text(run_ + "/latest", garbage);
    EXPECT_EQ(store.newest()->step, 1);
  }
}

TEST_F(StoreTest, WhenNoneVerifiesTheRunDoesNotStartOver) {
  Store store(run_, config_, *group_);
  save(store, 1);
  save(store, 2);
  test::write_text(step(1) + "/COMMIT", "");
  fs::remove(step(2) + "/manifest.json");
  const auto before = names(run_ + "/checkpoints");
  for (int again = 0; again < 2; ++again) {
    const std::string message = error(ExitCode::bad_data, [&] { store.newest(); });
    EXPECT_THAT(message, HasSubstr("none of its checkpoints verifies (2 tried)"));
    EXPECT_THAT(message, HasSubstr(step(2) + "/manifest.json: missing"));
    EXPECT_THAT(message, HasSubstr(step(1) + "/COMMIT"));
    EXPECT_EQ(names(run_ + "/checkpoints"), before) << "they stay where they are";
  }
  fs::rename(step(1), run_ + "/checkpoints/corrupt-step_000000001.0");
  fs::remove_all(step(2));
  EXPECT_THAT(error(ExitCode::bad_data, [&] { store.newest(); }),
              HasSubstr("set aside earlier: corrupt-step_000000001.0"));
}

TEST_F(StoreTest, ASecondJobIsRefusedAndChangesNothing) {
  Store store(run_, config_, *group_);
  save(store, 1);
  EXPECT_THAT(error(ExitCode::locked, [&] { Store second(run_, config_, *group_); }),
              HasSubstr(run_ + ": in use by process"));
  EXPECT_EQ(store.newest()->step, 1);
}

TEST_F(StoreTest, AJobThatLostItsLockCommitsNothing) {
  Store store(run_, config_, *group_);
  save(store, 1);
  Lease other = Lease::mine();
  test::write_text(run_ + "/LOCK", other.text());
  EXPECT_THAT(error(ExitCode::locked, [&] { save(store, 2); }), HasSubstr("no longer holds it"));
  EXPECT_THAT(names(run_ + "/checkpoints"), ElementsAre(step_name(1)));
}

TEST_F(StoreTest, APathThatIsNoDirectoryIsAnErrorAtStart) {
  test::write_text(folder_ / "file", "x");
  EXPECT_THAT(error(ExitCode::io, [&] { Store store(folder_ / "file", config_, *group_); }),
              HasSubstr(folder_ / "file"));
  EXPECT_THROW(Store("/proc/nowhere/run", config_, *group_), Error);
}

// The worked example of docs/formats.md. Where libhdf5 puts things is not pinned, it may change with its
// version; what we write is.
TEST_F(StoreTest, TheExampleOfTheFormatsPage) {
  Store store(run_, config_, *group_);
  float w[] = {0, 1, 2, 3, 4, 5}, moment[6] = {};
  double lambda = 0.8;
  const std::vector<int64_t> shape{2, 3};
  store.save(1000,
             {{"w", DType::f32, shape, {{0, 0}, {1, 2}}, w},
              {"w", DType::f32, shape, {{0, 2}, {1, 1}}, w + 2},
              {"w", DType::f32, shape, {{1, 0}, {1, 3}}, w + 3},
              {"lambda", DType::f64, {}, {}, &lambda},
              {"adamw.m/w", DType::f32, shape, {{0, 0}, {2, 3}}, moment}},
             {{"step", 1000}, {"samples", 64000}});

  const std::string page = read_text(DM_SOURCE_DIR "/docs/formats.md");
  const size_t chapter = page.find("## Checkpoints"), begin = page.find("```json\n", chapter) + 8;
  ASSERT_NE(chapter, std::string::npos);
  const auto without_places = [](const std::string& text) {
    Json json = Json::parse(text);
    for (Json& file : json["files"]) file.erase("size_bytes"), file.erase("metadata_xxh3_128");
    for (Json& tensor : json["tensors"])
      for (Json& piece : tensor["pieces"]) piece.erase("offset_bytes");
    return json;
  };
  EXPECT_EQ(without_places(page.substr(begin, page.find("```", begin) - begin)),
            without_places(read_text(step(1000) + "/manifest.json")));
}

TEST(RankFilesTest, OneFileAHostOrASetNumberOfRanks) {
  const std::vector<std::string> hosts{"a", "a", "b", "a", "b"};
  EXPECT_THAT(RankFiles::make(hosts, 0).file_of_rank, ElementsAre(0, 0, 1, 0, 1));
  EXPECT_EQ(RankFiles::make(hosts, 0).files, 2);
  EXPECT_THAT(RankFiles::make(hosts, 2).file_of_rank, ElementsAre(0, 0, 1, 2, 1));
  EXPECT_THAT(RankFiles::make(hosts, 1).file_of_rank, ElementsAre(0, 1, 2, 3, 4));
  const RankFiles files = RankFiles::make(hosts, 2);
  EXPECT_THAT(
      (std::vector<bool>{files.leads(0), files.leads(1), files.leads(2), files.leads(3), files.leads(4)}),
      ElementsAre(true, false, true, true, false));
}

}  // namespace
}  // namespace dm::checkpoints
