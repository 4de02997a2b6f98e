#pragma once
// Small models for the tests: every letter, mixer and form of λ, with weights that no symmetry hides.

#include <string>
#include <vector>

#include "model/language_model.h"
#include "model/layers/layer.h"

namespace dm::model {

struct NamedConfig {
  std::string name;  // for messages
  ModelConfig config;
};

/// D 16, two heads a branch, V 11, a chunk of 8: `pattern` of the given mixer and λ.
ModelConfig small_config(const std::string& pattern, const std::string& mixer = "mamba2",
                         const std::string& lambda = "sigmoid_sum");
/// D with every form of λ that the mixer takes, and M, S, F, on both mixers: two layers of the letter each.
std::vector<NamedConfig> every_layer();

/// Initial values of `seed`, then everything that starts as a constant is moved off it.
Parameters random_parameters(const ModelConfig& config, at::ScalarType dtype, uint64_t seed = 1);
at::Tensor random_normal(std::vector<int64_t> shape, at::ScalarType dtype, uint64_t seed);
at::Tensor random_ids(int64_t batch, int64_t length, int64_t vocab, uint64_t seed);
/// seq_idx [batch, length]: documents of uneven lengths, other ones in each row.
at::Tensor documents(int64_t batch, int64_t length);
/// Rows 40, 41, .. of a run, beginning `position` tokens into the whole rows.
LanguageModel::TrainingRows training_rows(int64_t batch, int64_t position = 0);
at::Tensor one_document(int64_t batch, int64_t length);

/// ‖a − b‖ / ‖b‖; NaN stays NaN, so that EXPECT_LE refuses it.
double relative_error(const at::Tensor& a, const at::Tensor& b);
bool same_bits(const at::Tensor& a, const at::Tensor& b);

}  // namespace dm::model
