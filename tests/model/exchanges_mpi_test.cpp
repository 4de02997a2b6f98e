// What a pass is said to exchange, against the calls that it makes, on every layout.

#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "core/error.h"
#include "model/exchanges.h"
#include "model/local_parameters.h"
#include "tests/model/layouts.h"

namespace dm::model {
namespace {

/// Elements by operation and type, over all calls, and how many calls there were.
using Counts = std::map<std::pair<Exchange::Operation, DType>, std::pair<int64_t, int64_t>>;

/// A group that keeps count of what its caller hands it.
class Counting final : public Collectives {
 public:
  explicit Counting(Collectives& group) : group_(group) {}
  int64_t rank() const override { return group_.rank(); }
  int64_t size() const override { return group_.size(); }
  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    add(Exchange::Operation::all_reduce, dtype, count);
    group_.all_reduce(data, count, dtype, op);
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    add(Exchange::Operation::reduce_scatter, dtype, count);
    return group_.reduce_scatter(input, output, count, dtype, op);
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    add(Exchange::Operation::all_gather, dtype, count);
    return group_.all_gather(input, output, count, dtype);
  }
  void broadcast(void*, int64_t, DType, int64_t) override {
    DM_FAIL(ExitCode::internal, "the model broadcasts");
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    add(Exchange::Operation::message, dtype, count);
    return group_.send(data, count, dtype, to);
  }
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override {
    return group_.receive(data, count, dtype, from);
  }
  void barrier() override { group_.barrier(); }
  std::unique_ptr<Collectives> duplicate() override {
    DM_FAIL(ExitCode::internal, "the model makes a group");
  }
  int64_t bytes_sent() const override { return group_.bytes_sent(); }

  Counts counts;

 private:
  void add(Exchange::Operation operation, DType dtype, int64_t count) {
    auto& [elements, calls] = counts[{operation, dtype}];
    elements += count, ++calls;
  }
  Collectives& group_;
};

Counts predicted(const std::vector<Exchange>& exchanges, Exchange::Axis axis) {
  Counts counts;
  for (const Exchange& e : exchanges) {
    if (e.axis != axis) continue;
    // On the CPU activations are of the weights' type.
    const DType dtype = e.element == Exchange::Element::number ? DType::i32 : DType::f64;
    auto& [elements, calls] = counts[{e.operation, dtype}];
    elements += e.count * e.calls, calls += e.calls;
  }
  return counts;
}

Counts counted(const OneRank& truth, const Layout& layout, Exchange::Axis axis, bool backward,
               int64_t length) {
  Counting tensor(*layout.tensor), context(*layout.context);
  Placement placement = layout.placement;
  placement.tensor = &tensor, placement.context = &context;
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
  return axis == Exchange::Axis::tensor ? tensor.counts : context.counts;
}

TEST(Exchanges, AreWhatIsSaid) {
  for (const NamedConfig& c : layout_configs()) {
    const OneRank truth(c.config);
    for (const Layout& layout : layouts())
      for (const bool backward : {true, false})
        for (const auto axis : {Exchange::Axis::tensor, Exchange::Axis::context}) {
          const PassSize size{truth.tokens.size(0), layout.piece(truth.seq_idx.size(1)).count()};
          EXPECT_EQ(counted(truth, layout, axis, backward, truth.seq_idx.size(1)),
                    predicted(exchanges(c.config, layout.placement, size, backward), axis))
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
        return counted(truth, layout, Exchange::Axis::context, true, length);
      };
      EXPECT_EQ(at_length(truth.seq_idx.size(1)), at_length(6)) << layout.name << " " << c.name;
    }
  }
}

}  // namespace
}  // namespace dm::model
