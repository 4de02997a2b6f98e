// Rows that go on from batch to batch, on every layout against one rank.

#include "model/row_states.h"

#include <gtest/gtest.h>

#include "core/counting_collectives.h"
#include "core/forwarding_collectives.h"
#include "tests/model/layouts.h"

namespace dm::model {
namespace {

// The last of eight context ranks has the tokens of a window and no more.
constexpr int64_t kRows = 2, kLength = 26, kBatches = 3;
// The same sums in another order, in float64.
constexpr double kForward = 1e-12;

/// One of each kind of state and of cut; what a λ does to it is no matter of the rows.
std::vector<NamedConfig> configs() {
  std::vector<NamedConfig> chosen;
  for (const char* name : {"diffmamba2 token_head", "mamba2 G 4", "diffmamba1 sigmoid_sum", "diffs6 mamba2",
                           "diffs6 mamba1", "dropout, post LayerNorm", "DM unpacked, W 1"})
    for (const NamedConfig& c : layout_configs())
      if (c.name == name) chosen.push_back(c);
  EXPECT_EQ(chosen.size(), 7u);
  return chosen;
}

struct Rows {
  explicit Rows(const ModelConfig& config)
      : tokens(random_ids(kRows, kBatches * kLength + 1, config.vocab_size, 17)),
        seq_idx(documents(kRows, kBatches * kLength)) {}
  at::Tensor tokens, seq_idx;

  at::Tensor goes_on(int64_t batch) const {
    const int64_t begin = batch * kLength;
    if (batch == 0) return at::zeros({kRows}, at::kBool);
    return seq_idx.select(1, begin).eq(seq_idx.select(1, begin - 1));
  }
  /// Loss of every target of the last batch that is of `piece`.
  at::Tensor last_loss(const LanguageModel& model, RowStates& states, TokenRange piece) const {
    at::Tensor per_target;
    std::vector<kernels::Carried> carried;
    for (int64_t batch = 0; batch < kBatches; ++batch) {
      const int64_t begin = batch * kLength + piece.begin;
      states.enter(0, goes_on(batch), carried);
      const LanguageModel::TrainingRows rows{.seed = 5,
                                             .samples = at::arange(kRows, at::kLong) + batch * kRows,
                                             .position = piece.begin,
                                             .carried = &carried};
      const at::Tensor loss =
          model.loss_sum(tokens.narrow(1, begin, piece.count() + 1), seq_idx.narrow(1, begin, piece.count()),
                         at::ones({kRows, piece.count()}, at::kByte), &per_target, &rows);
      loss.backward();
      states.leave(0, kRows, carried);
      for (const kernels::Carried& layer : carried)  // no graph of a step holds on to that of the one before
        if (layer.before.window.defined()) {
          EXPECT_FALSE(layer.before.window.requires_grad());
        }
    }
    return per_target.detach();
  }
};

TEST(RowStates, OfEveryLayoutAreThoseOfOneRank) {
  for (const NamedConfig& c : configs()) {
    const Parameters whole = random_parameters(c.config, at::kDouble);
    const LanguageModel alone(c.config, whole);
    const Rows rows(c.config);
    RowStates expected(alone, kRows);
    const at::Tensor loss = rows.last_loss(alone, expected, {0, kLength});

    for (const Layout& layout : layouts()) {
      const std::string what = layout.name + " " + c.name;
      Traffic counted_calls;
      Placement placement = layout.placement;
      const auto context = counted(std::make_unique<ForwardingCollectives>(*layout.context), counted_calls);
      placement.context = context.get();
      Parameters leaves;
      for (const LocalParameter& local : local_parameters(c.config, placement))
        leaves.emplace(local.info.name,
                       local_part(local, whole.at(local.info.name).detach()).set_requires_grad(true));
      const LanguageModel model(c.config, leaves, std::nullopt, placement);
      RowStates states(model, kRows);
      const TokenRange piece = layout.piece(kLength);
      EXPECT_LE(relative_error(rows.last_loss(model, states, piece), layout.own(loss)), kForward) << what;

      Traffic planned;
      std::vector<Exchange> exchanges =
          model::exchanges(c.config, placement, {kRows, piece.count()}, /*backward=*/true);
      for (const Exchange& e : exchanges_of_rows(c.config, placement, kRows)) exchanges.push_back(e);
      for (const Exchange& e : exchanges) {
        const bool number = e.element == Exchange::Element::number;
        if (e.axis == Exchange::Axis::context)
          planned.add(e.operation, e.count * size_bytes(number ? DType::i32 : DType::f64), placement.cp,
                      kBatches * e.calls);
      }
      EXPECT_EQ(counted_calls, planned) << what;

      if (placement.cp_rank > 0) continue;
      const auto all = expected.tensors();
      for (const RowStates::Tensor& mine : states.tensors()) {
        const auto same_name = [&](const RowStates::Tensor& t) {
          return t.row.info.name == mine.row.info.name;
        };
        const auto found = std::find_if(all.begin(), all.end(), same_name);
        ASSERT_NE(found, all.end()) << what << " " << mine.row.info.name;
        for (const ParameterPiece& part : mine.row.pieces) {
          const int64_t width = part.count() / part.shape[0];
          EXPECT_LE(relative_error(mine.values.narrow(1, part.offset / width, part.shape[0]),
                                   found->values.narrow(1, part.begin[0], part.shape[0])),
                    kForward)
              << what << " " << mine.row.info.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace dm::model
