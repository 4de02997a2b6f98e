// Which elements each tensor rank holds, and which layouts are refused.

#include <gmock/gmock.h>

#include <algorithm>

#include "model/local_parameters.h"
#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

ModelConfig config_of(const std::string& pattern, const std::string& mixer = "mamba2") {
  ModelConfig c = small_config(pattern, mixer, mixer == "mamba2" ? "token_head" : "exp_diff");
  c.d_model = 48, c.vocab_size = 300, c.head_dim = c.head_dim_plain = 4, c.n_groups = 2, c.tied = false;
  return c;
}

int64_t elements(const at::Tensor& t, int64_t value) { return t.eq(value).sum().item<int64_t>(); }

TEST(PlacementTest, EveryElementCountsOnceAndStandsInItsPlaces) {
  for (const ModelConfig& c : {config_of("DMSF"), config_of("DMSF", "mamba1")})
    for (const int64_t tp : {1, 2, 3, 4, 6, 8, 12, 24}) {
      std::map<std::string, at::Tensor> counted, held, places;
      for (const ParameterInfo& info : parameter_infos(c))
        for (auto* const of : {&counted, &held, &places}) (*of)[info.name] = at::zeros(info.shape, at::kLong);
      for (int64_t rank = 0; rank < tp; ++rank)
        for (const LocalParameter& local : local_parameters(c, {.tp = tp, .tp_rank = rank}))
          for (const ParameterPiece& piece : local.pieces) {
            const auto box = [&](at::Tensor whole) {
              for (size_t d = 0; d < piece.shape.size(); ++d)
                whole = whole.narrow(static_cast<int64_t>(d), piece.begin[d], piece.shape[d]);
              return whole;
            };
            box(held[local.info.name]) += 1;
            box(counted[local.info.name]) += piece.counted ? 1 : 0;
            box(places[local.info.name]).fill_(piece.places);
            EXPECT_LE(piece.offset + piece.count(), local.count());
          }
      for (const ParameterInfo& info : parameter_infos(c)) {
        EXPECT_EQ(elements(counted[info.name], 1), info.count()) << info.name << " tp " << tp;
        EXPECT_TRUE(held[info.name].equal(places[info.name])) << info.name << " tp " << tp;
      }
    }
}

TEST(PlacementTest, TwoRanksHaveABranchEach) {
  const ModelConfig c = config_of("D");
  for (int64_t rank = 0; rank < 2; ++rank)
    for (const LocalParameter& local : local_parameters(c, {.tp = 2, .tp_rank = rank})) {
      const std::string& name = local.info.name;
      EXPECT_THAT(name, testing::Not(testing::HasSubstr(rank == 0 ? "mixer_2" : "mixer_1")));
      EXPECT_FALSE(rank == 0 && name.find("lambda") != std::string::npos) << name;
      if (name.find("mixer_") == std::string::npos) continue;
      EXPECT_TRUE(local.whole()) << name;
      for (const ParameterPiece& piece : local.pieces) EXPECT_EQ(piece.places, 1) << name;
    }
}

TEST(PlacementTest, HalvesAndWholesFitTogether) {
  const ModelConfig c = config_of("DMSF");
  for (const int64_t tp : {1, 3, 8})
    for (int64_t rank = 0; rank < tp; ++rank)
      for (const LocalParameter& local : local_parameters(c, {.tp = tp, .tp_rank = rank})) {
        const at::Tensor whole = random_normal(local.info.shape, at::kFloat, 3);
        const at::Tensor mine = local_part(local, whole);
        EXPECT_EQ(mine.sizes().vec(), local.shape);
        at::Tensor back = at::zeros_like(whole);
        copy_to_whole(local, mine, back);
        int64_t held = 0;
        for (const ParameterPiece& piece : local.pieces) held += piece.count();
        EXPECT_LE(elements(back.ne(0).to(at::kLong), 1), held) << local.info.name;
        EXPECT_TRUE(same_bits(local_part(local, back), mine)) << local.info.name;
      }
}

TEST(PlacementTest, VocabularyIsPaddedInMemoryOnly) {
  const ModelConfig c = config_of("F");
  int64_t words = 0;
  for (int64_t rank = 0; rank < 8; ++rank) {
    const LocalParameter embedding = local_parameters(c, {.tp = 8, .tp_rank = rank}).front();
    EXPECT_EQ(embedding.shape, (std::vector<int64_t>{64, 48}));
    for (const ParameterPiece& piece : embedding.pieces) words += piece.shape[0];
  }
  EXPECT_EQ(words, 300);
}

TEST(PlacementTest, IllegalLayoutsAreRefusedWithTheLegalOnes) {
  const auto refusal = [](const ModelConfig& c, int64_t tp, int64_t cp, int64_t length) {
    return test::refusal(ExitCode::usage, [&] { check_placement(c, tp, cp, length); });
  };
  EXPECT_EQ(
      refusal(config_of("DMSF"), 16, 1, 0),
      "tp 16: the 24 heads of both branches of layer D (differential) do not divide into so many parts; "
      "legal for this model: 1, 2, 3, 4, 6, 8, 12, 24");
  EXPECT_THAT(refusal(config_of("DF", "mamba1"), 5, 1, 0),
              testing::HasSubstr("96 channels of both branches"));
  EXPECT_THAT(refusal(config_of("F"), 7, 1, 0), testing::HasSubstr("192 channels of layer F"));
  EXPECT_EQ(refusal(config_of("F"), 1, 9, 8), "cp 9: a row of 8 tokens has no piece for each; legal: 1 to 8");
  EXPECT_EQ(refusal(config_of("F"), 0, 1, 8), "tp 0 and cp 1: both must be at least 1");
  check_placement(config_of("DMSF"), 24, 8, 8);
}

TEST(PlacementTest, PiecesOfARowAreConsecutiveAndAlmostEqual) {
  for (int64_t length = 1; length <= 12; ++length)
    for (int64_t cp = 1; cp <= length; ++cp) {
      int64_t end = 0;
      for (int64_t rank = 0; rank < cp; ++rank) {
        const TokenRange range = context_piece(length, cp, rank);
        EXPECT_EQ(range.begin, end);
        EXPECT_GE(range.count(), length / cp);
        EXPECT_LE(range.count(), (length + cp - 1) / cp);
        end = range.end;
      }
      EXPECT_EQ(end, length);
    }
}

}  // namespace
}  // namespace dm::model
