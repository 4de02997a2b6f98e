// The order of samples: each once an epoch, whatever the number of ranks; mixtures that keep their weights.

#include "data/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/support/refusal.h"

namespace dm::data {
namespace {

using test::refusal;
using testing::HasSubstr;

Hash128 print(uint64_t n) { return {n, ~n}; }

TEST(Sampler, EachSampleOnceAnEpochAndAnotherOrderEachTime) {
  for (const int64_t samples : {1, 2, 3, 64, 65, 1000, 4097}) {
    const Sampler sampler({{samples, print(1), 1}}, Order::shuffled, 7, 4);
    std::vector<std::vector<int64_t>> epochs(3);
    for (int64_t p = 0; p < 3 * samples; ++p)
      epochs[static_cast<size_t>(p / samples)].push_back(sampler.at(p).index);
    for (const auto& epoch : epochs) {
      const std::set<int64_t> seen(epoch.begin(), epoch.end());
      EXPECT_EQ(static_cast<int64_t>(seen.size()), samples);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), samples - 1);
    }
    if (samples >= 64) {
      EXPECT_NE(epochs[0], epochs[1]);
      EXPECT_NE(epochs[1], epochs[2]);
    }
  }
}

TEST(Sampler, OrderFollowsSeedAndDataset) {
  const auto order = [](uint64_t seed, Hash128 fingerprint) {
    const Sampler sampler({{500, fingerprint, 1}}, Order::shuffled, seed, 1);
    std::vector<int64_t> indices;
    for (int64_t p = 0; p < 500; ++p) indices.push_back(sampler.at(p).index);
    return indices;
  };
  EXPECT_EQ(order(1, print(1)), order(1, print(1)));
  EXPECT_NE(order(1, print(1)), order(2, print(1)));
  EXPECT_NE(order(1, print(1)), order(1, print(2)));
}

// What is on disk of a run is one integer, so these values are part of the format: a change here breaks every
// resume.
TEST(Sampler, OrderIsPinned) {
  const Sampler one({{1000, print(42), 1}}, Order::shuffled, 1, 8);
  std::vector<int64_t> first;
  for (int64_t p = 0; p < 8; ++p) first.push_back(one.at(p).index);
  EXPECT_EQ(first, (std::vector<int64_t>{417, 907, 989, 503, 703, 735, 716, 581}));
  const Sampler two({{1000, print(42), 0.7}, {50, print(43), 0.3}}, Order::shuffled, 1, 8);
  std::vector<Sample> mixed;
  for (int64_t p = 0; p < 6; ++p) mixed.push_back(two.at(p));
  EXPECT_TRUE(mixed == (std::vector<Sample>{{0, 417}, {1, 43}, {0, 907}, {0, 989}, {0, 503}, {1, 36}}));
}

TEST(Sampler, ShufflingSpreadsNeighbours) {
  const int64_t samples = 10'000;
  const Sampler sampler({{samples, print(1), 1}}, Order::shuffled, 3, 1);
  double sum = 0;
  for (int64_t p = 0; p + 1 < samples; ++p)
    sum += static_cast<double>(std::abs(sampler.at(p + 1).index - sampler.at(p).index));
  // Independent uniform draws differ by samples / 3 on average, with a deviation of 0.24 samples / sqrt(n): 1
  // % is 4 of them.
  EXPECT_NEAR(sum / static_cast<double>(samples - 1), static_cast<double>(samples) / 3,
              0.01 * static_cast<double>(samples));
}

TEST(Sampler, MixtureKeepsItsWeightsAtEveryPrefix) {
  const std::vector<std::vector<double>> mixtures = {
      {1, 1}, {0.7, 0.3}, {3, 2, 1}, {0.9, 0.05, 0.03, 0.02}, {1e-3, 1}, {1, 1, 1, 1, 1, 1, 1}};
  for (const auto& weights : mixtures) {
    std::vector<Sampler::Source> sources;
    double sum = 0;
    for (const double weight : weights)
      sources.push_back({100 + 37 * static_cast<int64_t>(sources.size()), print(sources.size()), weight}),
          sum += weight;
    const Sampler sampler(sources, Order::shuffled, 5, 8);
    std::vector<int64_t> counts(weights.size());
    std::vector<std::map<int64_t, int64_t>> seen(weights.size());
    for (int64_t p = 0; p < 5000; ++p) {
      const Sample sample = sampler.at(p);
      const auto d = static_cast<size_t>(sample.dataset);
      // No sample again before every other one of its dataset: all have been seen the same number of times,
      // or once more.
      EXPECT_EQ(seen[d][sample.index]++, counts[d] / sources[d].samples);
      ++counts[d];
      for (size_t i = 0; i < weights.size();
           ++i)  // rounding: at most one turn for each dataset decided before
        ASSERT_LE(std::abs(static_cast<double>(counts[i]) - static_cast<double>(p + 1) * weights[i] / sum),
                  static_cast<double>(weights.size()))
            << "dataset " << i << " at " << p;
    }
  }
}

TEST(Sampler, FarPositionsCostTheSame) {
  const Sampler sampler({{int64_t{1} << 40, print(1), 0.5}, {12345, print(2), 0.5}}, Order::shuffled, 1,
                        1024);
  for (const int64_t p : {int64_t{1} << 50, int64_t{1} << 60}) {
    const Sample sample = sampler.at(p);
    EXPECT_LT(sample.index, sample.dataset == 0 ? int64_t{1} << 40 : 12345);
  }
}

TEST(Sampler, StreamsReadContiguousStretches) {
  for (const int64_t rows : {1, 3, 8, 17}) {
    const int64_t samples = 100;
    const Sampler sampler({{samples, print(1), 1}}, Order::streams, 9, rows);
    std::set<int64_t> all;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int64_t> stretch;
      for (int64_t batch = 0; batch < samples / rows; ++batch)
        stretch.push_back(sampler.at(batch * rows + row).index);
      for (size_t i = 1; i < stretch.size(); ++i) EXPECT_EQ(stretch[i], stretch[i - 1] + 1);
      int64_t length = samples / rows;
      if (sampler.at(length * rows + row).index != stretch[0]) ++length;  // one of the longer stretches
      EXPECT_EQ(sampler.at(length * rows + row).index, stretch[0]);       // then from its start again
      for (int64_t i = 0; i < length; ++i) EXPECT_TRUE(all.insert(sampler.at(i * rows + row).index).second);
    }
    EXPECT_EQ(static_cast<int64_t>(all.size()), samples);
  }
}

TEST(Sampler, StreamsGoOnUntilTheirStretchBeginsAgain) {
  for (const int64_t rows : {4, 7, 17, 100}) {  // of 100 rows, each has one sample
    const Sampler sampler({{75, print(1), 3}, {25, print(2), 1}}, Order::streams, 9, rows);
    for (int64_t position = 0; position < 60 * rows; ++position) {
      const Sample sample = sampler.at(position);
      const bool next = position >= rows && sampler.at(position - rows).index + 1 == sample.index;
      ASSERT_EQ(sampler.goes_on(position), next) << rows << " rows, position " << position;
    }
  }
  EXPECT_FALSE(Sampler({{10, print(1), 1}}, Order::shuffled, 9, 2).goes_on(7));
}

TEST(Sampler, StreamsGiveRowsToDatasetsByWeight) {
  const Sampler sampler({{40, print(1), 3}, {40, print(2), 1}}, Order::streams, 9, 8);
  std::map<int64_t, int64_t> rows;
  for (int64_t row = 0; row < 8; ++row) {
    ++rows[sampler.at(row).dataset];
    for (int64_t batch = 0; batch < 20; ++batch)
      EXPECT_EQ(sampler.at(batch * 8 + row).dataset, sampler.at(row).dataset);
  }
  EXPECT_EQ(rows[0], 6);
  EXPECT_EQ(rows[1], 2);
}

TEST(Sampler, FingerprintCoversEverything) {
  const Sampler base({{10, print(1), 1}, {10, print(2), 1}}, Order::shuffled, 1, 4);
  EXPECT_EQ(base.fingerprint(),
            Sampler({{10, print(1), 2}, {10, print(2), 2}}, Order::shuffled, 1, 4).fingerprint());
  EXPECT_EQ(base.fingerprint(),
            Sampler({{10, print(1), 1}, {10, print(2), 1}}, Order::shuffled, 1, 8).fingerprint());
  EXPECT_NE(base.fingerprint(),
            Sampler({{10, print(1), 1}, {10, print(2), 2}}, Order::shuffled, 1, 4).fingerprint());
  EXPECT_NE(base.fingerprint(),
            Sampler({{10, print(2), 1}, {10, print(1), 1}}, Order::shuffled, 1, 4).fingerprint());
  EXPECT_NE(base.fingerprint(),
            Sampler({{10, print(1), 1}, {10, print(2), 1}}, Order::shuffled, 2, 4).fingerprint());
  EXPECT_NE(base.fingerprint(),
            Sampler({{10, print(1), 1}, {10, print(2), 1}}, Order::streams, 1, 4).fingerprint());
  EXPECT_NE(Sampler({{10, print(1), 1}}, Order::streams, 1, 4).fingerprint(),
            Sampler({{10, print(1), 1}}, Order::streams, 1, 5).fingerprint());
}

TEST(Sampler, RefusesWhatCannotBe) {
  EXPECT_THAT(refusal(ExitCode::usage, [] { Sampler({}, Order::shuffled, 1, 1); }), HasSubstr("no dataset"));
  EXPECT_THAT(refusal(ExitCode::usage,
                      [] {
                        Sampler({{0, print(1), 1}}, Order::shuffled, 1, 1);
                      }),
              HasSubstr("shorter than one sample"));
  EXPECT_THAT(refusal(ExitCode::usage,
                      [] {
                        Sampler({{5, print(1), NAN}}, Order::shuffled, 1, 1);
                      }),
              HasSubstr("is not above 0"));
  EXPECT_THAT(refusal(ExitCode::usage,
                      [] {
                        Sampler({{5, print(1), 1}}, Order::streams, 1, 6);
                      }),
              HasSubstr("5 samples for its 6 rows"));
  EXPECT_THAT(refusal(ExitCode::usage,
                      [] {
                        Sampler({{50, print(1), 1000}, {50, print(2), 1}}, Order::streams, 1, 6);
                      }),
              HasSubstr("gives it none of the 6 rows"));
}

}  // namespace
}  // namespace dm::data
