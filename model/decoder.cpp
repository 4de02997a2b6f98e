// Recurrent decoding: every layer carries its convolution's last inputs and its scan's state.

#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "kernels/device/gpu.h"
#include "model/language_model.h"
#include "model/layers/registry.h"
#include "model/residual.h"

namespace dm::model {

struct Decoder::State {
  int64_t batch;
  std::vector<std::unique_ptr<Layer>> layers;  // bound once: both branches' weights stay side by side
  std::vector<std::optional<at::Tensor>> output_norms;
  std::vector<DecodeState> states;
  kernels::Weight head;
  at::Tensor ids, logits;  // of a step on the GPU, where its graph reads and leaves them
  kernels::DecodeChain chain;
  kernels::Graph graph{/*record=*/true};

  at::Tensor run(const LanguageModel& model, const at::Tensor& ids) {
    StepStream stream = model.step_enter(ids, chain);  // [B, D]
    for (size_t i = 0; i < layers.size(); ++i) {
      const at::Tensor y = layers[i]->step(stream, states[i]);  // [B, D]
      stream = model.step_add(static_cast<int64_t>(i), stream, y, output_norms[i]);
    }
    return model.logits_of(stream.product(head));  // [B, V]
  }
};

Decoder::Decoder(const LanguageModel& model, int64_t batch)
    : model_(model), state_(std::make_unique<State>()) {
  DM_CHECK(batch >= 1, "decoding a batch of {}", batch);
  DM_CHECK(model.placement().tp == 1 && model.placement().cp == 1, "decoding with a part of the model");
  const at::NoGradGuard no_gradients;
  state_->batch = batch;
  state_->head = model.logit_rows();
  for (int64_t i = 0; i < model.layers(); ++i) {
    state_->layers.push_back(model.kind(i).bind(model.layer(i)));
    state_->output_norms.push_back(state_->layers.back()->output_norm());
    state_->states.push_back(state_->layers.back()->new_state(batch, model.activations()));
  }
  if (model.device().is_cuda()) state_->ids = at::empty({batch}, at::dtype(at::kLong).device(model.device()));
}

Decoder::~Decoder() = default;

void Decoder::reset() {
  for (DecodeState& state : state_->states) {
    if (state.window.defined()) state.window.zero_();
    for (at::Tensor& tensor : state.states) tensor.zero_();
  }
}

int64_t Decoder::state_bytes() const {
  int64_t bytes = 0;
  for (const DecodeState& state : state_->states) {
    if (state.window.defined()) bytes += static_cast<int64_t>(state.window.nbytes());
    for (const at::Tensor& tensor : state.states) bytes += static_cast<int64_t>(tensor.nbytes());
  }
  return bytes;
}

int64_t Decoder::graph_nodes() const { return state_->graph.nodes(); }

at::Tensor Decoder::step(const at::Tensor& ids) {
  DM_CHECK(ids.dim() == 1 && ids.size(0) == state_->batch, "a step of {} tokens in a batch of {}",
           ids.numel(), state_->batch);
  const at::NoGradGuard no_gradients;
  if (!state_->ids.defined()) return state_->run(model_, ids);
  state_->ids.copy_(ids);
  state_->graph.run([&] { state_->logits = state_->run(model_, state_->ids); });
  return state_->logits;
}

}  // namespace dm::model
