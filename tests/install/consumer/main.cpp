// Says how many parameters a preset has, and how many tokens a dataset: one thing of the model's, one of the
// data's.

#include <cstdio>

#include "core/error.h"
#include "data/dataset.h"
#include "model/cost.h"

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  try {
    dm::model::ModelConfig config;
    dm::model::apply_preset(config, argv[1]);
    const auto dataset = dm::data::open_dataset(argv[2]);
    std::printf("%lld %lld\n", static_cast<long long>(dm::model::model_cost(config).parameters),
                static_cast<long long>(dataset->token_count()));
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
