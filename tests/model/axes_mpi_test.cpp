// The model on several ranks against itself on one: initial weights, loss, hidden states, logits and every
// gradient, on every layout that as many ranks as there are can make of the tensor and the context axis.

#include <gmock/gmock.h>

#include <cmath>

#include "model/local_parameters.h"
#include "tests/model/layouts.h"

namespace dm::model {
namespace {

// The same sums in another order, in float64: a few hundred roundings of 1e-16 each.
constexpr double kForward = 1e-12;

TEST(Axes, InitialWeightsAreThoseOfOneRank) {
  for (const Layout& layout : layouts())
    for (const NamedConfig& c : layout_configs())
      for (const LocalParameter& local : local_parameters(c.config, layout.placement)) {
        const at::Tensor whole = at::empty(local.info.shape, at::kFloat),
                         mine = at::empty(local.shape, at::kFloat);
        initialise(c.config, local.info, 5, 0, whole);
        initialise(c.config, local, 5, mine);
        EXPECT_TRUE(same_bits(mine, local_part(local, whole)))
            << layout.name << " " << c.name << " " << local.info.name;
      }
}

TEST(Axes, LossAndGradientsAreThoseOfOneRank) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    for (const Layout& layout : layouts()) {
      const std::string what = layout.name + " " + c.name;
      const Placed placed(truth, layout);
      EXPECT_LE(relative_error(placed.loss(), truth.loss), kForward) << what;
      EXPECT_LE(relative_error(placed.per_target(), truth.per_target), kForward) << what;
      EXPECT_THAT(placed.wrong_gradients(), testing::IsEmpty()) << what;
    }
  }
}

TEST(Axes, HiddenStatesAndLogitsAreThoseOfOneRank) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    const Trace expected = truth.trace();
    for (const Layout& layout : layouts()) {
      const Trace mine = Placed(truth, layout).trace();
      ASSERT_EQ(mine.hidden.size(), expected.hidden.size());
      for (size_t i = 0; i < mine.hidden.size(); ++i)
        EXPECT_LE(relative_error(mine.hidden[i], layout.own(expected.hidden[i])), kForward)
            << layout.name << " " << c.name << " hidden " << i;
      EXPECT_LE(relative_error(mine.logits, layout.own(expected.logits)), kForward)
          << layout.name << " " << c.name;
    }
  }
}

TEST(Axes, StatisticsAreThoseOfOneRank) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    const at::Tensor ids = truth.tokens.narrow(1, 0, truth.seq_idx.size(1));
    const auto expected = LanguageModel(c.config, truth.parameters).difference_stats(ids, truth.seq_idx);
    for (const Layout& layout : layouts()) {
      const auto mine =
          Placed(truth, layout).model().difference_stats(layout.own(ids), layout.own(truth.seq_idx));
      ASSERT_EQ(mine.size(), expected.size());
      // Means over a piece's tokens: those of the row are the pieces' by their lengths.
      const double share =
          static_cast<double>(layout.piece(ids.size(1)).count()) / static_cast<double>(ids.size(1));
      for (size_t i = 0; i < mine.size(); ++i) {
        const auto same = [&](double a, double b, const char* what) {
          EXPECT_NEAR(layout.context->all_sum(a * share), b, 1e-11 * std::abs(b) + 1e-13)
              << layout.name << " " << c.name << " layer " << i << " " << what;
        };
        same(mine[i].lambda, expected[i].lambda, "lambda");
        same(mine[i].norm_1, expected[i].norm_1, "norm 1");
        same(mine[i].norm_2, expected[i].norm_2, "norm 2");
        same(mine[i].cosine, expected[i].cosine, "cosine");
      }
    }
  }
}

/// Tokens outside of document `document` of row 0, which change: everything of them must stay as it is.
TEST(Axes, NothingLeavesADocument) {
  for (const NamedConfig& c : layout_configs()) {
    if (!c.config.packed) continue;
    OneRank truth(c.config);
    for (const Layout& layout : layouts()) {
      const Placed placed(truth, layout);
      const at::Tensor tokens = truth.tokens.clone();
      const Trace before = placed.trace();
      const at::Tensor row = truth.seq_idx[0];
      for (int64_t document = 0; document <= row.max().item<int64_t>(); ++document) {
        const at::Tensor inside = row.eq(document);
        at::Tensor changed = truth.tokens[0].narrow(0, 0, row.size(0));
        changed.copy_(at::where(inside, (changed + 1) % c.config.vocab_size, changed));
        const Trace after = placed.trace();
        truth.tokens.copy_(tokens);
        const at::Tensor outside = layout.own(inside.unsqueeze(0))[0].logical_not().nonzero().squeeze(1);
        const auto same = [&](const at::Tensor& a, const at::Tensor& b) {
          return same_bits(a[0].index_select(0, outside), b[0].index_select(0, outside)) &&
                 same_bits(a[1], b[1]);
        };
        const std::string what = layout.name + " " + c.name + " document " + std::to_string(document);
        EXPECT_TRUE(same(after.logits, before.logits)) << what;
        for (size_t i = 0; i < before.hidden.size(); ++i)
          EXPECT_TRUE(same(after.hidden[i], before.hidden[i])) << what << " hidden " << i;
        const double moved = (after.logits - before.logits).abs().sum().item<double>();
        EXPECT_GT(layout.context->all_sum(moved), 0) << what << ": the document itself did not move";
      }
    }
  }
}

TEST(Axes, NotANumberStaysInItsDocument) {
  for (const NamedConfig& c : layout_configs()) {
    if (!c.config.packed) continue;
    OneRank truth(c.config);
    const at::Tensor inside = truth.seq_idx[0].eq(3);  // of row 0, and cut by some pieces
    at::Tensor row = truth.tokens[0].narrow(0, 0, inside.size(0));
    truth.tokens.copy_(at::where(truth.tokens.eq(299), 0, truth.tokens));
    row.copy_(at::where(inside, 299, row));
    truth.parameters.at("backbone.embeddings.weight").detach()[299].fill_(std::nan(""));
    for (const Layout& layout : layouts()) {
      const at::Tensor hidden = Placed(truth, layout).trace().hidden.back();
      const at::Tensor mine = layout.own(inside.unsqueeze(0))[0];
      EXPECT_TRUE(hidden[0].isnan().all(1).equal(mine)) << layout.name << " " << c.name;
      EXPECT_TRUE(hidden[0].isnan().any(1).equal(mine)) << layout.name << " " << c.name;
      EXPECT_FALSE(hidden[1].isnan().any().item<bool>()) << layout.name << " " << c.name;
    }
  }
}

}  // namespace
}  // namespace dm::model
