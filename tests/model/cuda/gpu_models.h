#pragma once
// Models of the tests on a GPU.

#include <cmath>
#include <string>

#include "tests/model/models.h"

namespace dm::model {

/// Leaves of the same values on the GPU; with `gradients` each has one, of zeros, to which passes add.
inline Parameters on_gpu(const Parameters& parameters, bool gradients) {
  Parameters moved;
  for (const auto& [name, tensor] : parameters) {
    at::Tensor leaf = tensor.detach().to(at::kCUDA, at::kFloat).requires_grad_(gradients);
    if (gradients) leaf.mutable_grad() = at::zeros_like(leaf);
    moved.emplace(name, leaf);
  }
  return moved;
}

/// Shapes that the fast kernels serve, two layers of `pattern`.
inline ModelConfig wide_config(const std::string& pattern, const std::string& lambda,
                               const std::string& mixer = "mamba2") {
  ModelConfig config = small_config(pattern, mixer, lambda);
  config.d_model = 256, config.d_state = 128, config.head_dim = 32, config.head_dim_plain = 64;
  config.vocab_size = 301;
  return config;
}

/// ||a - b|| / ||b|| over all parameters together.
inline double distance(const Parameters& a, const Parameters& b) {
  double difference = 0, size = 0;
  for (const auto& [name, tensor] : b) {
    difference += (a.at(name) - tensor).to(at::kDouble).square().sum().item<double>();
    size += tensor.to(at::kDouble).square().sum().item<double>();
  }
  return std::sqrt(difference / size);
}

}  // namespace dm::model
