#include "model/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace dm::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the backward pass binds the layer from; the model it is of outlives that pass.
struct Place : torch::CustomClassHolder {
  LayerView view;
  const LayerKind& kind;
  Scope norm;
  kernels::Documents documents;
  Place(LayerView view, const LayerKind& kind, Scope norm, kernels::Documents documents)
      : view(std::move(view)), kind(kind), norm(std::move(norm)), documents(std::move(documents)) {}
};

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& u,
                            const std::optional<at::Tensor>& stream, const Layer& layer,
                            const c10::intrusive_ptr<Place>& place) {
    const at::Tensor h = stream.value_or(at::Tensor());
    context->saved_data["normed"] = h.defined();
    context->save_for_backward({h.defined() ? h : u});
    context->saved_data["place"] = c10::IValue::make_capsule(place);
    context->saved_data["dtype"] = u.scalar_type();
    return layer.forward(u, place->documents);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const auto capsule = context->saved_data["place"].toCapsule();
    Place& place = static_cast<Place&>(*capsule);
    const ModelConfig& config = place.view.config;
    at::Tensor u = saved[0].detach();
    if (context->saved_data["normed"].toBool())
      u = apply_norm(config, place.norm, u, context->saved_data["dtype"].toScalarType()).detach();
    u.requires_grad_();
    {
      const at::AutoGradMode with_gradients(true);
      LayerView view = place.view;
      view.gradients_only = true;
      const at::Tensor y = place.kind.bind(view)->forward(u, place.documents);
      torch::autograd::backward({y}, {grads[0]});
    }
    return {u.grad(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

int64_t recomputed_layers(const ModelConfig& config, int64_t layers) {
  if (config.recompute != "block") return 0;
  return config.recompute_layers > 0 ? std::min(config.recompute_layers, layers) : layers;
}

at::Tensor recomputed(const LayerView& view, const LayerKind& kind, const Layer& layer, const Scope& norm,
                      const at::Tensor& h, const at::Tensor& u, const kernels::Documents& documents) {
  return Recomputed::apply(u, h.defined() ? std::optional(h.detach()) : std::nullopt, layer,
                           c10::make_intrusive<Place>(view, kind, norm, documents));
}

}  // namespace dm::model
