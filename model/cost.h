#pragma once
// What a model costs by counting: parameters, floating-point operations and bytes moved, per token and stage.
// The counts are those of the fused bf16 execution (docs/model.md derives them), a multiply-add being
// two operations.

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace dm::model {

/// One stage of one layer, per token. Zero operations where only the bytes matter.
struct StageCost {
  std::string stage;
  double forward_flops = 0;
  double backward_flops = 0;
  double forward_bytes = 0;
  double backward_bytes = 0;
  bool made_again = false;  // forward, in the backward pass too, unless --recompute is none

  StageCost& operator+=(const StageCost& other);
  StageCost& operator*=(double count);
};

/// Bytes a token that the backward pass of one layer on a GPU needs, its norm, stream and output aside.
struct LayerMemory {
  double kept = 0;               // from the forward pass on
  double kept_without_scan = 0;  // likewise, where the scan is computed again
  double working = 0;            // while it runs
  double made_again = 0;         // of that, what is kept with --recompute none
};

struct LayerCost {
  int64_t layer;
  char letter;
  int64_t parameters;
  std::vector<StageCost> stages;
  StageCost total() const;
};

struct ModelCost {
  int64_t parameters = 0;
  int64_t embedding_parameters = 0;  // embedding, final norm and an untied head
  std::vector<LayerCost> layers;
  StageCost head;              // LM head and cross-entropy
  double optimizer_bytes = 0;  // AdamW, for all parameters, once a step
  StageCost total() const;     // per token, all layers and the head
};

ModelCost model_cost(const ModelConfig& config);

/// The linear map [out, in] applied to a token: a GEMM with bf16 operands that reads its input and writes its
/// output.
StageCost linear_cost(const std::string& stage, int64_t in, int64_t out);
/// The residual add with the norms before and after it, one pass each way.
StageCost residual_cost(int64_t d_model);

}  // namespace dm::model
