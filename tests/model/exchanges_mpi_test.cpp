// What a pass is said to exchange, against the calls that it makes, on every layout.

#include <gtest/gtest.h>

#include <memory>

#include "core/counting_collectives.h"
#include "core/forwarding_collectives.h"
#include "model/exchanges.h"
#include "model/local_parameters.h"
#include "tests/model/layouts.h"

namespace dm::model {
namespace {

/// Of float64 weights on the CPU, where activations are of the weights' type.
Traffic predicted(const std::vector<Exchange>& exchanges, Exchange::Axis axis, int64_t ranks) {
  Traffic traffic;
  for (const Exchange& e : exchanges)
    if (e.axis == axis)
      traffic.add(e.operation,
                  e.count * size_bytes(e.element == Exchange::Element::number ? DType::i32 : DType::f64),
                  ranks, e.calls);
  return traffic;
}

Traffic counted_on(const OneRank& truth, const Layout& layout, Exchange::Axis axis, bool backward,
                   int64_t length) {
  Traffic on_tensor, on_context;
  const auto tensor = counted(std::make_unique<ForwardingCollectives>(*layout.tensor), on_tensor);
  const auto context = counted(std::make_unique<ForwardingCollectives>(*layout.context), on_context);
  Placement placement = layout.placement;
  placement.tensor = tensor.get(), placement.context = context.get();
  Parameters leaves;
  for (const LocalParameter& local : local_parameters(truth.config, placement))
    leaves.emplace(
        local.info.name,
        local_part(local, truth.parameters.at(local.info.name).detach()).set_requires_grad(backward));
  const LanguageModel model(truth.config, leaves, std::nullopt, placement);
  const TokenRange piece = layout.piece(length);
  const at::Tensor loss = model.loss_sum(truth.tokens.narrow(1, piece.begin, piece.count() + 1),
                                         truth.seq_idx.narrow(1, piece.begin, piece.count()),
                                         truth.mask.narrow(1, piece.begin, piece.count()));
  if (backward) loss.backward();
  return axis == Exchange::Axis::tensor ? on_tensor : on_context;
}

TEST(Exchanges, AreWhatIsSaid) {
  std::vector<NamedConfig> configs = layout_configs();
  configs.push_back(configs.front());
  configs.back().name += " recomputed";
  configs.back().config.recompute = "block", configs.back().config.recompute_layers = 1;
  for (const NamedConfig& c : configs) {
    if (!c.config.cutoffs.empty()) continue;  // what a cluster exchanges depends on the targets in it
    const OneRank truth(c.config);
    for (const Layout& layout : layouts())
      for (const bool backward : {true, false})
        for (const auto axis : {Exchange::Axis::tensor, Exchange::Axis::context}) {
          const PassSize size{truth.tokens.size(0), layout.piece(truth.seq_idx.size(1)).count()};
          const int64_t ranks = axis == Exchange::Axis::tensor ? layout.placement.tp : layout.placement.cp;
          EXPECT_EQ(counted_on(truth, layout, axis, backward, truth.seq_idx.size(1)),
                    predicted(exchanges(c.config, layout.placement, size, backward), axis, ranks))
              << layout.name << " " << c.name << (backward ? " with" : " without") << " backward, axis "
              << static_cast<int>(axis);
        }
  }
}

TEST(Exchanges, OfTheContextAxisDoNotGrowWithTheRows) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    for (const Layout& layout : layouts()) {
      if (layout.placement.cp > 6) continue;
      const auto at_length = [&](int64_t length) {
        return counted_on(truth, layout, Exchange::Axis::context, true, length);
      };
      EXPECT_EQ(at_length(truth.seq_idx.size(1)), at_length(6)) << layout.name << " " << c.name;
    }
  }
}

}  // namespace
}  // namespace dm::model
