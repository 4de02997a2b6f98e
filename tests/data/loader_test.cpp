// The loader: order under random delays, packing, masks, resuming, shutdown, errors at the right batch.

#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "core/rng.h"
#include "data/bench/delayed_dataset.h"
#include "tests/data/folder.h"
#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kLength = 64;

class LoaderTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    dataset_ = open_dataset(make_dataset(
        "d", 300, [](int64_t d) { return d * 17 % 150; }, 5000));
  }

  static Loader::Shape shape(int64_t rows, int64_t rank = 0, int64_t world = 1) {
    Loader::Shape shape;
    shape.length = kLength;
    shape.global_rows = rows;
    shape.rank = rank;
    shape.world = world;
    return shape;
  }

  static bool same(const Batch& a, const Batch& b) {
    return a.index == b.index && a.rows == b.rows && a.tokens == b.tokens && a.seq_idx == b.seq_idx &&
           a.loss_mask == b.loss_mask && a.sample_ids == b.sample_ids && a.goes_on == b.goes_on;
  }

  std::shared_ptr<const Dataset> dataset_;
  LoaderConfig config_;
};

TEST_F(LoaderTest, BatchesHoldWhatTheDatasetHolds) {
  Loader loader({{dataset_, 1}}, config_, shape(6), 0);
  for (int64_t b = 0; b < 20; ++b) {
    const Batch batch = loader.next();
    EXPECT_EQ(batch.index, b);
    ASSERT_EQ(batch.rows, 6);
    for (int64_t row = 0; row < 6; ++row) {
      const auto sample = static_cast<int64_t>(batch.sample_ids[static_cast<size_t>(row)]);
      std::vector<int32_t> tokens(kLength + 1);
      dataset_->read_tokens(sample * kLength, kLength + 1, tokens.data());
      ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), batch.tokens.begin() + row * (kLength + 1)));
      int32_t document = 0;
      for (int64_t i = 0; i < kLength; ++i) {
        if (i > 0 && tokens[static_cast<size_t>(i - 1)] == 256) ++document;
        ASSERT_EQ(batch.seq_idx[static_cast<size_t>(row * kLength + i)], document)
            << "row " << row << " token " << i;
        ASSERT_EQ(batch.loss_mask[static_cast<size_t>(row * kLength + i)], 1);
      }
    }
  }
}

TEST_F(LoaderTest, UnpackedRowsAreOneDocumentAndBoundariesCanBeMasked) {
  Loader::Shape s = shape(4);
  s.packed = false;
  s.mask_boundary_loss = true;
  const Batch batch = Loader({{dataset_, 1}}, config_, s, 0).next();
  EXPECT_EQ(std::set<int32_t>(batch.seq_idx.begin(), batch.seq_idx.end()), std::set<int32_t>{0});
  for (int64_t row = 0; row < 4; ++row)
    for (int64_t i = 0; i < kLength;
         ++i)  // the target of input i is the token after it; it starts a document after an eos
      EXPECT_EQ(batch.loss_mask[static_cast<size_t>(row * kLength + i)],
                batch.tokens[static_cast<size_t>(row * (kLength + 1) + i)] != 256);
}

TEST_F(LoaderTest, RowsOfStreamsGoOnWithinADocument) {
  config_.order = "streams";
  for (const bool packed : {true, false}) {
    Loader::Shape s = shape(5);
    s.packed = packed;
    Loader loader({{dataset_, 1}}, config_, s, 0);
    Batch before;
    int64_t went_on = 0, began = 0;
    for (int64_t b = 0; b < 150; ++b) {  // more than a stretch
      Batch batch = loader.next();
      for (size_t row = 0; row < 5; ++row) {
        const bool follows = b > 0 && batch.sample_ids[row] == before.sample_ids[row] + 1;
        // The token before a row's first one is the last input of the batch before.
        const bool ended = follows && before.tokens[row * (kLength + 1) + kLength - 1] == 256;
        ASSERT_EQ(batch.goes_on[row], follows && !(packed && ended)) << "batch " << b << " row " << row;
        went_on += batch.goes_on[row], began += 1 - batch.goes_on[row];
      }
      before = std::move(batch);
    }
    EXPECT_GT(went_on, 0);
    EXPECT_GT(began, 5);
  }
  config_.order = "shuffled";
  EXPECT_EQ(Loader({{dataset_, 1}}, config_, shape(5), 0).next().goes_on, std::vector<uint8_t>(5, 0));
}

TEST_F(LoaderTest, RanksShareEachGlobalBatchWhateverTheirNumber) {
  Loader whole({{dataset_, 1}}, config_, shape(7), 0);
  for (int64_t b = 0; b < 5; ++b) {
    const Batch all = whole.next();
    for (const int64_t world : {2, 3, 7, 9}) {
      std::vector<int32_t> tokens;
      std::vector<uint64_t> ids;
      for (int64_t rank = 0; rank < world; ++rank) {
        const Batch part = Loader({{dataset_, 1}}, config_, shape(7, rank, world), b * 7).next();
        EXPECT_EQ(part.rows, first_row(7, rank + 1, world) - first_row(7, rank, world));
        EXPECT_EQ(part.first_sample, b * 7 + first_row(7, rank, world));
        tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
        ids.insert(ids.end(), part.sample_ids.begin(), part.sample_ids.end());
      }
      EXPECT_EQ(tokens, all.tokens);
      EXPECT_EQ(ids, all.sample_ids);
    }
  }
}

TEST_F(LoaderTest, EverySampleOnceAnEpoch) {
  const int64_t samples = dataset_->sample_count(kLength);
  Loader loader({{dataset_, 1}}, config_, shape(1), 0);
  EXPECT_EQ(loader.samples_per_epoch(), samples);
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::set<uint64_t> seen;
    for (int64_t i = 0; i < samples; ++i) seen.insert(loader.next().sample_ids[0]);
    EXPECT_EQ(static_cast<int64_t>(seen.size()), samples);
  }
}

TEST_F(LoaderTest, ResumesAtAnyBatch) {
  for (const char* order : {"shuffled", "streams"}) {
    config_.order = order;
    Loader straight({{dataset_, 2}, {dataset_, 1}}, config_, shape(6), 0);
    for (int64_t b = 0; b < 60; ++b) {
      const Batch expected = straight.next();
      Loader resumed({{dataset_, 2}, {dataset_, 1}}, config_, shape(6), b * 6);
      ASSERT_TRUE(same(resumed.next(), expected)) << order << " batch " << b;
    }
  }
}

// The same batches in the same order, whatever the reads take and however many threads there are.
TEST_F(LoaderTest, OrderSurvivesRandomDelays) {
  const CounterRng rng(5, "delays");
  std::atomic<uint64_t> draw{0};
  const auto slow = std::make_shared<DelayedDataset>(
      dataset_, [&] { return std::chrono::microseconds(rng.below(draw++, 3000)); });
  for (const int64_t threads : {1, 3, 24}) {
    for (const int64_t prefetch : {1, 2, 9}) {
      LoaderConfig config;
      config.reader_threads = threads;
      config.prefetch_batches = prefetch;
      Loader straight({{dataset_, 1}}, config_, shape(5), 0), delayed({{slow, 1}}, config, shape(5), 0);
      for (int64_t b = 0; b < 12; ++b)
        ASSERT_TRUE(same(straight.next(), delayed.next())) << threads << " threads, batch " << b;
    }
  }
}

TEST_F(LoaderTest, ReadsAheadAsFarAsAskedAndNoFarther) {
  // Long reads, so that those of threads that start late still meet the others'.
  const auto slow = std::make_shared<DelayedDataset>(dataset_, [] { return std::chrono::milliseconds(50); });
  config_.reader_threads = 16;
  config_.prefetch_batches = 3;
  Loader loader({{slow, 1}}, config_, shape(4), 0);
  const auto settled = [&](int64_t reads) {
    for (int waits = 0; slow->reads() < reads && waits < 2000; ++waits)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // for one too many to show
    return slow->reads();
  };
  EXPECT_EQ(settled(3 * 4 * 2), 3 * 4 * 2);  // tokens and documents of each row; nothing beyond
  EXPECT_GE(slow->most_in_flight(), 8);
  loader.next();
  EXPECT_EQ(settled(4 * 4 * 2), 4 * 4 * 2);
}

TEST_F(LoaderTest, ShutsDownWhileFullWhileEmptyAndWhileReading) {
  const auto slow = std::make_shared<DelayedDataset>(dataset_, [] { return std::chrono::milliseconds(50); });
  for (const int64_t wait_ms :
       {0, 20, 400}) {  // before the first read ends, in its middle, with the queue full
    config_.reader_threads = 8;
    config_.prefetch_batches = 2;
    const auto start = std::chrono::steady_clock::now();
    {
      const Loader loader({{slow, 1}}, config_, shape(4), 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
    }
    // One row's two reads of 50 ms; the rest is slack for a busy machine.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(wait_ms + 2000));
    EXPECT_EQ(slow->in_flight(), 0);
  }
}

TEST_F(LoaderTest, ErrorsComeAtTheirBatchAndStay) {
  const std::string folder = make_dataset("damaged", 300, [](int64_t) { return 500; });
  const ShardInfo info = read_dataset_info(folder).shards[0];
  flip(folder + "/" + shard_name(0, 1), info.offsets_bytes[0] + 2 * (3 * kBlockTokens + 5));  // block 3
  const auto damaged = open_dataset(folder);
  config_.order = "streams";
  Loader loader({{damaged, 1}}, config_, shape(1), 0);
  const int64_t per_block = kBlockTokens / kLength;
  for (int64_t b = 0; b < 3 * per_block - 1; ++b) ASSERT_EQ(loader.next().index, b);
  for (int i = 0; i < 3; ++i)
    EXPECT_THAT(refusal(ExitCode::bad_data, [&] { loader.next(); }),
                AllOf(HasSubstr("block 3"), HasSubstr("do not fit their checksum")));
}

TEST_F(LoaderTest, OfOneBatchsErrorsTheFirstRowsIsTold) {
  const std::string folder = make_dataset("damaged", 300, [](int64_t) { return 500; });
  const ShardInfo info = read_dataset_info(folder).shards[0];
  for (const int64_t block : {1, 5})
    flip(folder + "/" + shard_name(0, 1), info.offsets_bytes[0] + 2 * (block * kBlockTokens + 5));
  config_.order = "streams";
  config_.reader_threads = 1;  // the rows fail one after the other
  const int64_t rows = read_dataset_info(folder).token_count() / kLength;  // all of it in one batch
  Loader loader({{open_dataset(folder), 1}}, config_, shape(rows), 0);
  EXPECT_THAT(refusal(ExitCode::bad_data, [&] { loader.next(); }), HasSubstr("block 1,"));
}

TEST_F(LoaderTest, AStoredMaskIsThatOfTheTargets) {
  const auto tokenizer = open_tokenizer("bytes");
  {
    DatasetWriter writer(path("masked"), *tokenizer, int64_t{1} << 40);
    for (int32_t d = 0; d < 90; ++d) {  // prompts of d bytes 'p', answers of 30 other bytes
      const std::vector<int32_t> prompt(static_cast<size_t>(d), 'p'), answer(30, 'a' + d % 10);
      writer.append(prompt.data(), d, false);
      writer.append(answer.data(), 30, true);
      writer.end_document();
    }
    writer.finish();
  }
  Loader loader({{open_dataset(path("masked")), 1}}, config_, shape(4), 0);
  for (int b = 0; b < 10; ++b) {
    const Batch batch = loader.next();
    for (int64_t row = 0; row < 4; ++row)
      for (int64_t i = 0; i < kLength; ++i)
        ASSERT_EQ(batch.loss_mask[static_cast<size_t>(row * kLength + i)],
                  batch.tokens[static_cast<size_t>(row * (kLength + 1) + i + 1)] != 'p');
  }
}

TEST_F(LoaderTest, OpensByPathAndWeight) {
  const std::string a = make_dataset("a", 50, [](int64_t) { return 99; }),
                    b = make_dataset("b", 100, [](int64_t) { return 99; });
  config_.data = {a, b};
  auto datasets = open_datasets(config_, 99);  // without weights: by size, so that an epoch shows each once
  EXPECT_EQ(datasets[0].weight, 50);           // 5,000 tokens: 50 samples of 99 + 1
  EXPECT_EQ(datasets[1].weight, 101);
  config_.data = {a + ":0.25", b + ":3"};
  datasets = open_datasets(config_, 99);
  EXPECT_EQ(datasets[0].weight, 0.25);
  EXPECT_EQ(datasets[1].weight, 3);
  config_.data = {a + ":1", b};
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_datasets(config_, 99); }),
              HasSubstr("1 of 2 datasets have a weight"));
  config_.data = {a + ":0"};
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_datasets(config_, 99); }), HasSubstr("not above 0"));
  config_.data = {a + ":1x"};
  EXPECT_THAT(refusal(ExitCode::usage, [&] { open_datasets(config_, 99); }), HasSubstr("no such dataset"));
}

TEST_F(LoaderTest, RefusesWhatCannotBe) {
  EXPECT_THAT(refusal(ExitCode::usage,
                      [&] {
                        Loader({{dataset_, 1}}, config_, shape(4), 6);
                      }),
              HasSubstr("6 samples consumed do not make whole batches of 4 rows"));
  Loader::Shape s = shape(4);
  s.length = 1 << 20;
  EXPECT_THAT(refusal(ExitCode::usage,
                      [&] {
                        Loader({{dataset_, 1}}, config_, s, 0);
                      }),
              HasSubstr("fewer than one sample"));
}

TEST_F(LoaderTest, FingerprintKnowsLengthButNoRanks) {
  const Hash128 base = Loader({{dataset_, 1}}, config_, shape(6), 0).fingerprint();
  EXPECT_EQ(base, Loader({{dataset_, 1}}, config_, shape(6, 1, 3), 12).fingerprint());
  Loader::Shape longer = shape(6);
  longer.length = 65;
  EXPECT_NE(base, Loader({{dataset_, 1}}, config_, longer, 0).fingerprint());
  config_.data_seed = 2;
  EXPECT_NE(base, Loader({{dataset_, 1}}, config_, shape(6), 0).fingerprint());
}

}  // namespace
}  // namespace dm::data
