// Documents packed into one row do not see each other: changing every token of one moves nothing outside it,
// bit for bit.

#include <gtest/gtest.h>

#include "tests/model/models.h"

namespace dm::model {
namespace {

constexpr int64_t kLength = 45;

struct Trace {
  at::Tensor logits;
  std::vector<at::Tensor> hidden;  // embedding, then after each layer
};

Trace trace(const LanguageModel& model, const at::Tensor& ids, const at::Tensor& seq_idx) {
  Trace t;
  LanguageModel::Taps taps{{-1}, [&](int64_t, const at::Tensor& h) { t.hidden.push_back(h.detach()); }};
  for (int64_t i = 0; i < model.layers(); ++i) taps.layers.push_back(i);
  t.logits = model.logits(ids, seq_idx, &taps).detach();
  return t;
}

class Leak : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Leak, NothingLeavesADocument) {
  for (const NamedConfig& c : every_layer()) {
    const LanguageModel model(c.config, random_parameters(c.config, GetParam()));
    const at::Tensor ids = random_ids(2, kLength, c.config.vocab_size, 21), seq_idx = documents(2, kLength);
    const Trace before = trace(model, ids, seq_idx);
    for (int32_t document = 0; document <= seq_idx[0].max().item<int32_t>(); ++document) {
      const at::Tensor inside = seq_idx[0].eq(document);  // of row 0
      at::Tensor changed = ids.clone();
      changed[0] = at::where(inside, (ids[0] + 1) % c.config.vocab_size, ids[0]);
      const Trace after = trace(model, changed, seq_idx);
      const at::Tensor outside = inside.logical_not().nonzero().squeeze(1);
      const auto expect_same = [&](const at::Tensor& a, const at::Tensor& b, const std::string& what) {
        EXPECT_TRUE(same_bits(a[0].index_select(0, outside), b[0].index_select(0, outside)))
            << c.name << ", " << what << ", document " << document;
        EXPECT_TRUE(same_bits(a[1], b[1])) << c.name << ", " << what << ", the other row";
        EXPECT_FALSE(same_bits(a[0], b[0])) << c.name << ", " << what << ": the document itself did not move";
      };
      expect_same(after.logits, before.logits, "logits");
      for (size_t i = 0; i < before.hidden.size(); ++i)
        expect_same(after.hidden[i], before.hidden[i], "hidden " + std::to_string(i));
    }
  }
}

TEST_P(Leak, NotANumberStaysInItsDocument) {
  for (const NamedConfig& c : every_layer()) {
    Parameters parameters = random_parameters(c.config, GetParam());
    const at::Tensor ids = random_ids(1, kLength, c.config.vocab_size - 1, 22),
                     seq_idx = documents(1, kLength);
    at::Tensor poisoned = ids.clone();
    poisoned[0] = at::where(seq_idx[0].eq(3), c.config.vocab_size - 1, ids[0]);
    parameters.at("backbone.embeddings.weight")
        .detach()
        .select(0, c.config.vocab_size - 1)
        .fill_(std::nan(""));
    const at::Tensor hidden = LanguageModel(c.config, parameters).hidden(poisoned, seq_idx).detach();
    const at::Tensor inside = seq_idx[0].eq(3);
    EXPECT_TRUE(hidden[0].index_select(0, inside.nonzero().squeeze(1)).isnan().all().item<bool>()) << c.name;
    EXPECT_FALSE(
        hidden[0].index_select(0, inside.logical_not().nonzero().squeeze(1)).isnan().any().item<bool>())
        << c.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Leak, testing::Values(at::kDouble, at::kFloat),
                         [](const auto& info) { return std::string(at::toString(info.param)); });

}  // namespace
}  // namespace dm::model
