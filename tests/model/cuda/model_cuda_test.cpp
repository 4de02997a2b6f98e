// The model on a GPU: decoding, and what the recompute policies change (nothing).

#include <ATen/core/grad_mode.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/device/gpu.h"
#include "tests/model/cuda/gpu_models.h"

namespace dm::model {
namespace {

at::Tensor decode(Decoder& decoder, const at::Tensor& ids) {
  std::vector<at::Tensor> logits;
  for (int64_t t = 0; t < ids.size(1); ++t)
    logits.push_back(decoder.step(ids.select(1, t)).cpu().to(at::kFloat));
  return at::stack(logits, 1);
}

void expect_decoding(const std::string& name, const ModelConfig& config, int64_t batch) {
  const at::Tensor ids = random_ids(batch, 9, config.vocab_size, 61);
  const Parameters parameters = random_parameters(config, at::kFloat);
  const LanguageModel model(config, parameters);
  const at::Tensor expected = model.logits(ids, one_document(batch, 9));
  for (const at::ScalarType activations : {at::kFloat, at::kBFloat16}) {
    const LanguageModel placed(config, on_gpu(parameters, false), activations);
    Decoder decoder(placed, batch);
    const at::Tensor first = decode(decoder, ids);  // its third step is the graph's second
    // Two layers with some ten roundings of 2^-9 each, which differ in sign; the golden files' bound in
    // float32.
    EXPECT_LE(relative_error(first, expected), activations == at::kFloat ? 2e-5 : 3e-2)
        << name << " " << at::toString(activations) << ", batch " << batch;
    decoder.reset();
    EXPECT_TRUE(same_bits(decode(decoder, ids), first)) << name << " after a reset";
    EXPECT_GT(decoder.graph_nodes(), 0);
  }
}

TEST(DecoderCuda, EqualsTheForwardPassOnTheCpu) {
  for (const NamedConfig& c : every_layer()) expect_decoding(c.name, c.config, 3);
  for (const char* pattern : {"DD", "MM", "DF", "SM"})
    for (const char* lambda : {"sigmoid_sum", "token_head"})
      for (const int64_t batch : {1, 8, 9})
        expect_decoding(fmt::format("{} {}", pattern, lambda), wide_config(pattern, lambda), batch);
}

/// Every gradient after two passes over the same rows.
Parameters gradients(const ModelConfig& config, const Parameters& parameters, at::ScalarType activations,
                     bool record) {
  const Parameters leaves = on_gpu(parameters, true);
  const LanguageModel model(config, leaves, activations);
  const at::Tensor tokens = random_ids(2, 131, config.vocab_size, 62).to(at::kCUDA),
                   seq_idx = documents(2, 130).to(at::kCUDA),
                   mask = at::ones({2, 130}, at::kByte).to(at::kCUDA);
  kernels::Graph graph(record);
  for (int i = 0; i < 2; ++i) graph.run([&] { model.loss_sum(tokens, seq_idx, mask).backward(); });
  Parameters result;
  for (const auto& [name, leaf] : leaves) result.emplace(name, leaf.grad().cpu());
  return result;
}

TEST(RecomputeCuda, ChangesNoBit) {
  for (const char* pattern : {"DDD", "MSF", "DMD"})
    for (const at::ScalarType activations : {at::kBFloat16, at::kFloat}) {
      // A sigmoid of 256 draws is saturated now and then, and its gradient zero.
      ModelConfig config = wide_config(pattern, "scalar");
      const Parameters parameters = random_parameters(config, at::kFloat);
      const Parameters expected = gradients(config, parameters, activations, false);
      for (const auto& [policy, layers] :
           std::vector<std::pair<std::string, int64_t>>{{"none", 0}, {"scan", 0}, {"block", 2}, {"block", 0}})
        for (const bool record : {false, true}) {
          config.recompute = policy, config.recompute_layers = layers;
          for (const auto& [name, gradient] : gradients(config, parameters, activations, record)) {
            EXPECT_GT(gradient.norm().item<double>(), 0) << name;
            EXPECT_TRUE(same_bits(gradient, expected.at(name)))
                << pattern << ", " << policy << " " << layers << ": " << name << " off by "
                << relative_error(gradient, expected.at(name));
          }
        }
    }
}

// What is held in bfloat16 by choice moves the gradients by its rounding, and does move them.
TEST(PrecisionCuda, EveryChoiceStaysNearFloat32) {
  ModelConfig config = wide_config("DMD", "scalar");
  const Parameters parameters = random_parameters(config, at::kFloat);
  const Parameters exact = gradients(config, parameters, at::kFloat, false),
                   usual = gradients(config, parameters, at::kBFloat16, false);
  const double usual_distance = distance(usual, exact);
  fmt::print("gradients, bf16 against fp32: {:.2e}", usual_distance);
  EXPECT_LE(usual_distance, 2e-2);  // some twenty roundings of 2^-9, which differ in sign
  for (const auto& [residual, state] :
       std::vector<std::pair<std::string, std::string>>{{"bf16", "bf16"}, {"f32", "f32"}}) {
    config.residual_dtype = residual, config.state_dtype = state;
    const Parameters chosen = gradients(config, parameters, at::kBFloat16, false);
    fmt::print(", residual {} state {}: {:.2e}", residual, state, distance(chosen, exact));
    EXPECT_LE(distance(chosen, exact), 3e-2) << residual << " " << state;
    EXPECT_GT(distance(chosen, usual), 0) << residual << " " << state;
  }
  fmt::print("\n");
}

}  // namespace
}  // namespace dm::model
