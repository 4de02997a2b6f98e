#include <gtest/gtest.h>

#include "tests/model/models.h"
#include "tests/support/refusal.h"

namespace dm::model {
namespace {

constexpr int64_t kBatch = 3, kLength = 21;

at::Tensor decode(Decoder& decoder, const at::Tensor& ids) {
  std::vector<at::Tensor> logits;
  for (int64_t t = 0; t < ids.size(1); ++t) logits.push_back(decoder.step(ids.select(1, t)));
  return at::stack(logits, 1);  // [B, L, V]
}

TEST(Decoder, EqualsTheFullForwardPass) {
  for (NamedConfig c : every_layer())
    for (const bool subln : {true, false}) {
      c.config.subln = subln;
      const at::Tensor ids = random_ids(kBatch, kLength, c.config.vocab_size, 51);
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        const LanguageModel model(c.config, random_parameters(c.config, dtype));
        Decoder decoder(model, kBatch);
        EXPECT_LE(relative_error(decode(decoder, ids), model.logits(ids, one_document(kBatch, kLength))),
                  dtype == at::kDouble ? 1e-13 : 1e-5)
            << c.name;
      }
    }
}

TEST(Decoder, AdaptiveSoftmax) {
  ModelConfig config = small_config("DM");
  config.cutoffs = {"3", "7"};
  const LanguageModel model(config, random_parameters(config, at::kDouble));
  const at::Tensor ids = random_ids(kBatch, kLength, config.vocab_size, 54);
  Decoder decoder(model, kBatch);
  EXPECT_LE(relative_error(decode(decoder, ids), model.logits(ids, one_document(kBatch, kLength))), 1e-13);
}

TEST(Decoder, OptionsOfTheModel) {
  ModelConfig config = small_config("DMSF", "mamba2", "token_head");
  config.n_groups = 2;
  config.norm_group = "group";
  config.norm = "layer";
  config.block_norm = "post";
  config.tied = false;
  config.dt_limit_max = 0.05;
  config.d_conv = 2;
  for (const int64_t width : {2, 1}) {
    config.d_conv = width;
    const LanguageModel model(config, random_parameters(config, at::kDouble));
    const at::Tensor ids = random_ids(kBatch, kLength, config.vocab_size, 52);
    Decoder decoder(model, kBatch);
    EXPECT_LE(relative_error(decode(decoder, ids), model.logits(ids, one_document(kBatch, kLength))), 1e-13)
        << "W " << width;
  }
}

TEST(Decoder, ResetForgets) {
  const ModelConfig config = small_config("DMSF");
  const LanguageModel model(config, random_parameters(config, at::kFloat));
  Decoder decoder(model, kBatch);
  const at::Tensor ids = random_ids(kBatch, kLength, config.vocab_size, 53);
  const at::Tensor first = decode(decoder, ids);
  EXPECT_FALSE(same_bits(decode(decoder, ids), first));
  decoder.reset();
  EXPECT_TRUE(same_bits(decode(decoder, ids), first));
}

TEST(Decoder, RowsAreIndependent) {
  const ModelConfig config = small_config("DS");
  const LanguageModel model(config, random_parameters(config, at::kDouble));
  const at::Tensor ids = random_ids(kBatch, kLength, config.vocab_size, 54);
  Decoder together(model, kBatch), alone(model, 1);
  const at::Tensor all = decode(together, ids);
  EXPECT_LE(relative_error(decode(alone, ids.narrow(0, 1, 1)), all.narrow(0, 1, 1)), 1e-13);
}

TEST(Decoder, ABatchOfAnotherSizeIsRefused) {
  const ModelConfig config = small_config("D");
  const LanguageModel model(config, random_parameters(config, at::kFloat));
  Decoder decoder(model, 2);
  EXPECT_NE(test::refusal(ExitCode::internal, [&] { decoder.step(at::zeros({3}, at::kLong)); }), "");
}

}  // namespace
}  // namespace dm::model
