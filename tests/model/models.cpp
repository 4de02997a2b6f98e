#include "tests/model/models.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

/// LibTorch's threads spin while they wait; models this small would do nothing else.
struct OneThread : testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const testing::Environment* const one_thread = testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace

ModelConfig small_config(const std::string& pattern, const std::string& mixer, const std::string& lambda) {
  ModelConfig c;
  c.pattern = pattern;
  c.mixer = mixer;
  c.lambda = lambda;
  c.d_model = 16;
  c.vocab_size = 11;
  c.d_state = 4;
  c.head_dim = 8;
  c.head_dim_plain = 16;
  c.chunk_size = 8;
  return c;
}

std::vector<NamedConfig> every_layer() {
  std::vector<NamedConfig> all;
  for (const std::string& mixer : std::vector<std::string>{"mamba2", "mamba1"}) {
    for (const std::string& lambda : lambda_form_names()) {
      const ModelConfig config = small_config("DD", mixer, lambda);
      try {
        validate(config);
      } catch (const Error&) {
        continue;  // by head on Mamba-1
      }
      all.push_back({"D " + mixer + " " + lambda, config});
    }
    for (const char* pattern : {"MM", "SS"})
      all.push_back({std::string(pattern, 1) + " " + mixer, small_config(pattern, mixer)});
  }
  all.push_back({"F", small_config("FF")});
  return all;
}

Parameters random_parameters(const ModelConfig& config, at::ScalarType dtype, uint64_t seed) {
  Parameters parameters;
  for (const ParameterInfo& info : parameter_infos(config)) {
    at::Tensor values = at::empty(info.shape, at::kDouble);
    initialise(config, info, seed, 0, values);
    const bool embedding = info.init.kind == Init::Kind::normal && info.decay;
    if (embedding) values *= 20;  // of the size that training gives it
    if (info.init.kind == Init::Kind::constant)
      values += 0.2 * random_normal(info.shape, at::kDouble, seed + info.name.size());
    parameters.emplace(info.name, values.to(dtype).set_requires_grad(true));
  }
  return parameters;
}

at::Tensor random_normal(std::vector<int64_t> shape, at::ScalarType dtype, uint64_t seed) {
  const at::Tensor values = at::empty(shape, at::kDouble);
  const CounterRng rng(seed, "test/normal");
  for (int64_t i = 0; i < values.numel(); ++i)
    values.data_ptr<double>()[i] = rng.normal(static_cast<uint64_t>(i));
  return values.to(dtype);
}

at::Tensor random_ids(int64_t batch, int64_t length, int64_t vocab, uint64_t seed) {
  const at::Tensor ids = at::empty({batch, length}, at::kLong);
  const CounterRng rng(seed, "test/ids");
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(rng.below(static_cast<uint64_t>(i), static_cast<uint64_t>(vocab)));
  return ids;
}

at::Tensor documents(int64_t batch, int64_t length) {
  const at::Tensor ids = at::empty({batch, length}, at::kInt);
  for (int64_t b = 0; b < batch; ++b) {
    int32_t document = 0;
    // Lengths 1, 2, 3, 4, .. from a start that differs by row: single tokens, and documents longer than a
    // chunk.
    for (int64_t t = 0, size = 1 + b, left = size; t < length; ++t, --left) {
      if (left == 0) ++document, left = ++size;
      ids.data_ptr<int32_t>()[b * length + t] = document;
    }
  }
  return ids;
}

LanguageModel::TrainingRows training_rows(int64_t batch, int64_t position) {
  return {5, at::arange(40, 40 + batch, at::kLong), position};
}

at::Tensor one_document(int64_t batch, int64_t length) { return at::zeros({batch, length}, at::kInt); }

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor truth = b.detach().to(at::kDouble);
  return (a.detach().to(at::kDouble) - truth).norm().item<double>() / truth.norm().item<double>();
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().contiguous(), y = b.detach().contiguous();
  return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
         (x.nbytes() == 0 ||
          std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0);  // of nothing there is no address
}

}  // namespace dm::model
