// Every target once, by position, against the model asked row by row.

#include "train/evaluator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "tests/train/memory_dataset.h"
#include "tests/train/tiny_model.h"
#include "train/rows.h"

namespace dm::train {
namespace {

using test::MemoryDataset;
using test::TinyModel;

EvalConfig config(int64_t length, int64_t batch, int64_t rows = 0) {
  return {.eval_data = "memory", .eval_rows = rows, .eval_length = length, .eval_batch = batch};
}

/// nats of each target of one row, by asking for that row alone.
std::vector<double> row_nats(const TinyModel& tiny, const Rows& row) {
  at::Tensor per_target;
  tiny.model.loss_sum(row.tokens, row.seq_idx, row.mask, &per_target);
  const at::Tensor flat = per_target.detach().to(at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

TEST(Evaluator, PredictsEachTokenButTheFirstOnce) {
  const TinyModel tiny(1);
  const MemoryDataset dataset(61, 9);  // 60 targets: three rows of 17 and one of 9
  const EvalResult result = evaluate(tiny.model, dataset, config(17, 2), false, data_parallel(*tiny.group));
  EXPECT_EQ(result.rows, 4);
  EXPECT_EQ(result.tokens, 60);

  std::vector<double> expected(17);
  double sum = 0;
  for (int64_t row = 0; row < 4; ++row) {
    const std::vector<double> nats = row_nats(tiny, read_rows(dataset, row * 17, 1, row < 3 ? 17 : 9, false));
    for (size_t t = 0; t < nats.size(); ++t) expected[t] += nats[t], sum += nats[t];
  }
  // Batches of two rows and rows alone differ by the order of some sums in float64.
  for (size_t t = 0; t < 17; ++t) EXPECT_NEAR(result.nats_by_position[t], expected[t], 1e-10) << t;
  EXPECT_NEAR(result.nats, sum, 1e-10);
  EXPECT_NEAR(result.perplexity(), std::exp(sum / 60), 1e-9);
  for (int64_t t = 0; t < 17; ++t)
    EXPECT_EQ(result.tokens_by_position[static_cast<size_t>(t)], t < 9 ? 4 : 3) << t;
}

TEST(Evaluator, CountsBytesWithoutDocumentEndsAndOnlyWhereTheyAreKnown) {
  const TinyModel tiny(1);
  const MemoryDataset dataset(100, 9);
  const EvalResult result = evaluate(tiny.model, dataset, config(16, 4), false, data_parallel(*tiny.group));
  const auto ends = std::count(dataset.tokens().begin() + 1, dataset.tokens().end(), MemoryDataset::kEos);
  ASSERT_GT(ends, 2);
  EXPECT_EQ(result.bytes, 99 - ends);
  EXPECT_NEAR(result.bits_per_byte(), result.nats / std::log(2.0) / static_cast<double>(99 - ends), 1e-12);
  const EvalResult other = evaluate(tiny.model, MemoryDataset(100, 9, "bpe.json"), config(16, 4), false,
                                    data_parallel(*tiny.group));
  EXPECT_EQ(other.bytes, -1);
  EXPECT_TRUE(std::isnan(other.bits_per_byte()));
  EXPECT_FALSE(other.to_json().contains("bits_per_byte"));
  EXPECT_EQ(other.nats, result.nats);
}

TEST(Evaluator, MasksAreObeyed) {
  const TinyModel tiny(1);
  MemoryDataset dataset(61, 9);
  const EvalResult all = evaluate(tiny.model, dataset, config(17, 8), false, data_parallel(*tiny.group));
  const EvalResult no_boundaries =
      evaluate(tiny.model, dataset, config(17, 8), true, data_parallel(*tiny.group));
  EXPECT_EQ(no_boundaries.tokens, 60 - static_cast<int64_t>(dataset.document_starts(0, 61).size()));
  std::vector<uint8_t> mask(61, 0);
  mask[5] = mask[40] = 1;  // as targets: positions 4 of row 0 and 5 of row 2
  dataset.set_loss_mask(mask);
  const EvalResult two = evaluate(tiny.model, dataset, config(17, 8), false, data_parallel(*tiny.group));
  EXPECT_EQ(two.tokens, 2);
  EXPECT_EQ(two.tokens_by_position[4], 1);
  EXPECT_EQ(two.tokens_by_position[5], 1);
  EXPECT_LT(two.nats, all.nats);
  dataset.set_loss_mask(std::vector<uint8_t>(61, 0));
  EXPECT_TRUE(std::isnan(
      evaluate(tiny.model, dataset, config(17, 8), false, data_parallel(*tiny.group)).nats_per_token()));
}

TEST(Evaluator, BucketsAreByPowersOfTwoAndCoverAllPositions) {
  const TinyModel tiny(1);
  const MemoryDataset dataset(200, 9);
  const EvalResult result = evaluate(tiny.model, dataset, config(11, 8), false, data_parallel(*tiny.group));
  const auto buckets = result.buckets();
  const std::vector<std::pair<int64_t, int64_t>> expected{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 11}};
  ASSERT_EQ(buckets.size(), expected.size());
  int64_t tokens = 0;
  double nats = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(std::pair(buckets[i].begin, buckets[i].end), expected[i]);
    tokens += buckets[i].tokens, nats += buckets[i].nats_per_token * static_cast<double>(buckets[i].tokens);
  }
  EXPECT_EQ(tokens, result.tokens);
  EXPECT_NEAR(nats, result.nats, 1e-9);
  EXPECT_EQ(result.to_json(true)["nats_per_token_at"].size(), 11u);
}

TEST(Evaluator, RowsMayBeLimitedAndOddSizesWork) {
  const TinyModel tiny(1);
  const MemoryDataset dataset(61, 9);
  EXPECT_EQ(evaluate(tiny.model, dataset, config(17, 8, 2), false, data_parallel(*tiny.group)).tokens, 34);
  EXPECT_EQ(evaluate(tiny.model, dataset, config(17, 8, 99), false, data_parallel(*tiny.group)).tokens, 60);
  EXPECT_EQ(evaluate(tiny.model, dataset, config(1, 7), false, data_parallel(*tiny.group)).tokens, 60);
  EXPECT_EQ(evaluate(tiny.model, dataset, config(500, 7), false, data_parallel(*tiny.group)).tokens, 60);
  EXPECT_EQ(
      evaluate(tiny.model, MemoryDataset(2, 9), config(500, 7), false, data_parallel(*tiny.group)).tokens, 1);
  EXPECT_THROW(evaluate(tiny.model, MemoryDataset(1, 9), config(4, 7), false, data_parallel(*tiny.group)),
               Error);
}

TEST(Evaluator, DatasetOfAnotherTokenizerIsRefused) {
  auto small = test::tiny_model();
  small.vocab_size = 100;
  const TinyModel tiny(1, small);
  try {
    evaluate(tiny.model, MemoryDataset(61, 9), config(17, 8), false, data_parallel(*tiny.group));
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("vocab_size is 100"), std::string::npos) << error.what();
  }
}

TEST(Evaluator, LeavesNoGradients) {
  const TinyModel tiny(1);
  evaluate(tiny.model, MemoryDataset(61, 9), config(17, 8), false, data_parallel(*tiny.group));
  EXPECT_EQ(tiny.parameters.owned_gradient_squares(), 0);
}

}  // namespace
}  // namespace dm::train
