// Rows that go on from batch to batch: the pieces of a stream one after the other are the stream.

#include "model/row_states.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/models.h"

namespace dm::model {
namespace {

constexpr int64_t kRows = 2;
// Shorter than the convolution's window, a single token, longer than a chunk of the scan.
constexpr int64_t kPieces[] = {7, 1, 2, 1, 19, 15};
constexpr int64_t kLength = 45;
// The same sums in another order, in float64.
constexpr double kForward = 1e-12;

struct Stream {
  explicit Stream(const ModelConfig& config, at::Tensor numbers)
      : tokens(random_ids(kRows, kLength + 1, config.vocab_size, 31)),
        seq_idx(std::move(numbers)),
        mask(at::ones({kRows, kLength}, at::kByte)) {}
  at::Tensor tokens, seq_idx, mask;

  /// Whether the rows' documents go on at a token.
  at::Tensor goes_on(int64_t token) const {
    if (token == 0) return at::zeros({kRows}, at::kBool);
    return seq_idx.select(1, token).eq(seq_idx.select(1, token - 1));
  }
  /// Loss of every target [B, L] piece by piece; `backward` goes back through each. Without `carry` every
  /// piece begins anew.
  at::Tensor piecewise(const LanguageModel& model, RowStates& states, bool backward = false,
                       bool carry = true) const {
    std::vector<at::Tensor> losses;
    int64_t begin = 0;
    for (const int64_t length : kPieces) {
      std::vector<kernels::Carried> carried;
      states.enter(0, carry ? goes_on(begin) : goes_on(0), carried);
      const LanguageModel::TrainingRows rows{
          .seed = 5, .samples = at::arange(kRows, at::kLong), .position = 0, .carried = &carried};
      at::Tensor per_target;
      const at::Tensor loss =
          model.loss_sum(tokens.narrow(1, begin, length + 1), seq_idx.narrow(1, begin, length),
                         mask.narrow(1, begin, length), &per_target, &rows);
      if (backward) loss.backward();
      states.leave(0, kRows, carried);
      losses.push_back(per_target.detach());
      begin += length;
    }
    EXPECT_EQ(begin, kLength);
    return at::cat(losses, 1);
  }
};

std::vector<NamedConfig> configs() {
  std::vector<NamedConfig> all = every_layer();
  ModelConfig mixed = small_config("DMSF", "mamba2", "token_head");
  mixed.n_groups = 2;
  all.push_back({"DMSF G 2", mixed});
  mixed.packed = false;
  all.push_back({"DMSF unpacked", mixed});
  ModelConfig narrow = small_config("DM");
  narrow.d_conv = 1;
  all.push_back({"DM, W 1", narrow});
  return all;
}

TEST(RowStates, PiecesOfAStreamAreTheStream) {
  for (const NamedConfig& c : configs()) {
    const LanguageModel model(c.config, random_parameters(c.config, at::kDouble));
    for (const bool packed : {false, true}) {
      const Stream stream(c.config, packed ? documents(kRows, kLength) : one_document(kRows, kLength));
      at::Tensor whole;
      model.loss_sum(stream.tokens, stream.seq_idx, stream.mask, &whole);
      RowStates states(model, kRows);
      const at::Tensor pieces = stream.piecewise(model, states);
      if (!packed || c.config.packed) {
        EXPECT_LE(relative_error(pieces, whole), kForward) << c.name << " packed " << packed;
      }
      if (c.name == "F") continue;
      // And it is the state that makes them so.
      const at::Tensor anew = stream.piecewise(model, states, false, /*carry=*/false);
      EXPECT_GT(relative_error(anew, whole), 1e-4) << c.name << " packed " << packed;
    }
  }
}

TEST(RowStates, ResetIsTheBeginning) {
  const ModelConfig config = small_config("DMS");
  const LanguageModel model(config, random_parameters(config, at::kDouble));
  const Stream stream(config, one_document(kRows, kLength));
  RowStates states(model, kRows);
  const at::Tensor first = stream.piecewise(model, states);
  states.reset();
  for (const RowStates::Tensor& t : states.tensors()) EXPECT_EQ(t.values.abs().sum().item<double>(), 0);
  EXPECT_TRUE(same_bits(stream.piecewise(model, states), first));
}

/// Rows are independent: half of them at a time leaves what all at once leave.
TEST(RowStates, RowsMayGoInSeveralPasses) {
  const ModelConfig config = small_config("DMS", "mamba1", "scalar");
  const LanguageModel model(config, random_parameters(config, at::kDouble));
  const at::Tensor tokens = random_ids(kRows, 10, config.vocab_size, 3), seq_idx = one_document(kRows, 9),
                   mask = at::ones({kRows, 9}, at::kByte);
  RowStates together(model, kRows), apart(model, kRows);
  for (int64_t step = 0; step < 2; ++step) {
    const auto pass = [&](RowStates& states, int64_t first, int64_t count) {
      std::vector<kernels::Carried> carried;
      states.enter(first, at::full({count}, step > 0, at::kBool), carried);
      const LanguageModel::TrainingRows rows{.samples = at::arange(count, at::kLong), .carried = &carried};
      model.loss_sum(tokens.narrow(0, first, count), seq_idx.narrow(0, first, count),
                     mask.narrow(0, first, count), nullptr, &rows);
      states.leave(first, count, carried);
    };
    pass(together, 0, kRows);
    for (int64_t row = 0; row < kRows; ++row) pass(apart, row, 1);
  }
  const auto expected = together.tensors(), found = apart.tensors();
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_LE(relative_error(found[i].values, expected[i].values), kForward) << found[i].row.info.name;
}

TEST(RowStates, NotANumberStaysInItsDocument) {
  for (const NamedConfig& c : configs()) {
    if (c.name == "F" || !c.config.packed) continue;
    Parameters parameters = random_parameters(c.config, at::kDouble);
    const int64_t poison = c.config.vocab_size - 1;
    parameters.at("backbone.embeddings.weight").detach()[poison].fill_(std::nan(""));
    const LanguageModel model(c.config, parameters);
    RowStates states(model, kRows);
    const auto losses = [&](const at::Tensor& tokens, const at::Tensor& goes_on) {
      std::vector<kernels::Carried> carried;
      states.enter(0, goes_on, carried);
      const LanguageModel::TrainingRows rows{.samples = at::arange(kRows, at::kLong), .carried = &carried};
      const at::Tensor hidden = model.hidden(tokens, one_document(kRows, 9), nullptr, &rows);
      states.leave(0, kRows, carried);
      return hidden.detach();
    };
    const at::Tensor sound = random_ids(kRows, 9, poison, 3);
    losses(at::full({kRows, 9}, poison, at::kLong), at::zeros({kRows}, at::kBool));
    const at::Tensor goes_on = at::tensor({1, 0}).to(at::kBool);
    const at::Tensor found = losses(sound, goes_on);
    EXPECT_TRUE(found[0].isnan().all().item<bool>()) << c.name;
    RowStates fresh(model, kRows);
    std::swap(states, fresh);
    EXPECT_TRUE(same_bits(found[1], losses(sound, goes_on)[1])) << c.name;
  }
}

/// Layers that are made again in the backward pass begin where they began.
TEST(RowStates, RecomputedLayersGiveTheSameGradient) {
  for (const char* mixer : {"mamba2", "mamba1"}) {
    std::vector<Parameters> parameters;
    for (const char* recompute : {"conv", "block"}) {
      ModelConfig config = small_config("DMSF", mixer, "scalar");
      config.recompute = recompute;
      parameters.push_back(random_parameters(config, at::kDouble));
      const LanguageModel model(config, parameters.back());
      RowStates states(model, kRows);
      Stream(config, documents(kRows, kLength)).piecewise(model, states, /*backward=*/true);
    }
    for (const auto& [name, parameter] : parameters[0])
      EXPECT_TRUE(same_bits(parameters[1].at(name).grad(), parameter.grad())) << mixer << " " << name;
  }
}

}  // namespace
}  // namespace dm::model
