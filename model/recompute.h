#pragma once
// Layers of which nothing is kept for the backward pass: it makes them again.

#include "model/layers/layer.h"

namespace dm::model {

/// Layers, from the first, that `config` asks to be made again.
int64_t recomputed_layers(const ModelConfig& config, int64_t layers);

/// layer.forward(u, documents), of which the backward pass keeps the residual stream h, whose `norm` gives u
/// (undefined: it keeps u), and binds the layer of `view` anew.
at::Tensor recomputed(const LayerView& view, const LayerKind& kind, const Layer& layer, const Scope& norm,
                      const at::Tensor& h, const at::Tensor& u, const kernels::Documents& documents);

}  // namespace dm::model
