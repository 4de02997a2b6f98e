#include "model/exchanges.h"

#include <algorithm>

#include "kernels/comm/context_axis.h"
#include "kernels/comm/tensor_axis.h"
#include "model/layers/registry.h"
#include "model/recompute.h"

namespace dm::model {
namespace {

using Axis = Exchange::Axis;
using Element = Exchange::Element;

void add_messages(std::vector<Exchange>& to, Element element, int64_t count, int64_t calls) {
  if (count > 0 && calls > 0) to.push_back({Axis::context, Operation::send, element, count, calls});
}

}  // namespace

void add_sum_over_ranks(std::vector<Exchange>& to, int64_t count, bool backward, Element element) {
  to.push_back({Axis::tensor, Operation::all_reduce, element, count, backward ? 2 : 1});
}

void add_tokens_before(std::vector<Exchange>& to, const Placement& p, int64_t count, bool backward) {
  const int64_t calls = (p.cp_rank + 1 < p.cp ? 1 : 0) + (backward && p.cp_rank > 0 ? 1 : 0);
  add_messages(to, Element::activation, count, calls);
}

void add_state_before(std::vector<Exchange>& to, const Placement& p, int64_t count, Element element,
                      bool backward) {
  int64_t calls = kernels::context_messages(p.cp, p.cp_rank);
  if (backward) calls += kernels::context_messages(p.cp, p.cp - 1 - p.cp_rank);
  add_messages(to, element, count, calls);
}

std::vector<Exchange> exchanges(const ModelConfig& config, const Placement& p, const PassSize& size,
                                bool backward) {
  std::vector<Exchange> all;
  const std::string letters = layer_letters(config);
  const auto layers = static_cast<int64_t>(letters.size());
  if (p.cp > 1) {  // the documents before the piece, once for all layers
    const int64_t before = std::max<int64_t>(config.d_conv - 1, 1);
    add_messages(all, Element::number, size.rows * before, p.cp_rank + 1 < p.cp ? 1 : 0);
  }
  const int64_t again = backward ? recomputed_layers(config, layers) : 0;
  for (int64_t i = 0; i < layers; ++i) {
    const LayerKind& kind = layer_kind(letters[static_cast<size_t>(i)]);
    const auto append = [&](const std::vector<Exchange>& inside) {
      all.insert(all.end(), inside.begin(), inside.end());
    };
    append(kind.exchanges(config, p, size, backward));
    if (i < again) append(kind.exchanges(config, p, size, false));  // its forward pass once more
  }
  if (p.tp == 1) return all;
  const int64_t count = kernels::TokenShare(size.tokens(), p.tp, p.tp_rank).widest * config.d_model;
  const auto add = [&](Operation operation, Element element, int64_t calls) {
    all.push_back({Axis::tensor, operation, element, count, calls});
  };
  // Tokens are gathered before each layer and before the head, and scattered after the embedding and each
  // layer; the backward pass does the opposite.
  add(Operation::reduce_scatter, Element::weight, 1);
  add(Operation::reduce_scatter, Element::activation, layers);
  add(Operation::all_gather, Element::activation, layers + 1);
  if (backward) {
    add(Operation::all_gather, Element::weight, 1);
    add(Operation::all_gather, Element::activation, layers);
    add(Operation::reduce_scatter, Element::activation, layers + 1);
  }
  // Of an adaptive softmax this is the head's; what its clusters exchange depends on the targets.
  all.push_back({Axis::tensor, Operation::all_gather, Element::weight, 3 * size.tokens(), 1});
  return all;
}

}  // namespace dm::model
