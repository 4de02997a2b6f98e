// Recurrent decoding: every layer carries its convolution's last inputs and its scan's state.

#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "kernels/linear/linear.h"
#include "model/language_model.h"
#include "model/layers/registry.h"
#include "model/residual.h"

namespace dm::model {

struct Decoder::State {
  int64_t batch;
  std::vector<std::unique_ptr<Layer>> layers;  // bound once: both branches' weights stay side by side
  std::vector<DecodeState> states;
};

Decoder::Decoder(const LanguageModel& model, int64_t batch)
    : model_(model), state_(std::make_unique<State>()) {
  DM_CHECK(batch >= 1, "decoding a batch of {}", batch);
  DM_CHECK(model.placement().tp == 1 && model.placement().cp == 1, "decoding with a part of the model");
  const at::NoGradGuard no_gradients;
  state_->batch = batch;
  for (int64_t i = 0; i < model.layers(); ++i) state_->layers.push_back(model.kind(i).bind(model.layer(i)));
  reset();
}

Decoder::~Decoder() = default;

void Decoder::reset() {
  state_->states.clear();
  for (const auto& layer : state_->layers)
    state_->states.push_back(layer->new_state(state_->batch, model_.activations()));
}

at::Tensor Decoder::step(const at::Tensor& ids) {
  DM_CHECK(ids.dim() == 1 && ids.size(0) == state_->batch, "a step of {} tokens in a batch of {}",
           ids.numel(), state_->batch);
  const at::NoGradGuard no_gradients;
  Stream stream = model_.enter(ids);  // [B, D]
  for (size_t i = 0; i < state_->layers.size(); ++i) {
    const Layer& layer = *state_->layers[i];
    stream = model_.add(static_cast<int64_t>(i), stream, layer.step(stream.u, state_->states[i]),
                        layer.output_norm());
  }
  return kernels::linear(stream.u, model_.head());  // [B, V]
}

}  // namespace dm::model
