#include "kernels/comm/tensor_axis.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "core/error.h"
#include "core/failpoint.h"
#include "kernels/check.h"
#include "kernels/comm/kept_group.h"
#include "kernels/comm/transport.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// [count, D] of every rank -> [T, D].
at::Tensor gathered(const at::Tensor& mine, int64_t tokens, Collectives& group) {
  const TokenShare share(tokens, group.size(), group.rank());
  const int64_t width = mine.size(1);
  at::Tensor padded = mine.contiguous();
  if (share.count < share.widest) {
    padded = at::zeros({share.widest, width}, mine.options());
    padded.narrow(0, 0, share.count).copy_(mine);
  }
  const at::Tensor all = all_gather(padded, group);  // [size, widest, D]
  if (tokens == group.size() * share.widest) return all.view({tokens, width});
  std::vector<at::Tensor> pieces;
  for (int64_t r = 0; r < group.size(); ++r)
    pieces.push_back(all[r].narrow(0, 0, TokenShare(tokens, group.size(), r).count));
  return at::cat(pieces, 0);
}

/// [T, D] of every rank -> this rank's [count, D] of their sum.
at::Tensor scattered(const at::Tensor& part, Collectives& group) {
  const int64_t tokens = part.size(0), width = part.size(1), size = group.size();
  const TokenShare share(tokens, size, group.rank());
  if (tokens == size * share.widest)
    return reduce_scatter(part.contiguous().view({size, share.widest, width}), group);
  const at::Tensor pieces = at::zeros({size, share.widest, width}, part.options());
  for (int64_t r = 0; r < size; ++r) {
    const TokenShare other(tokens, size, r);
    pieces[r].narrow(0, 0, other.count).copy_(part.narrow(0, other.begin, other.count));
  }
  return reduce_scatter(pieces, group).narrow(0, 0, share.count);
}

class GatherTokens : public torch::autograd::Function<GatherTokens> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& mine, int64_t tokens,
                            Collectives* group) {
    keep_group(*context, *group);
    return gathered(mine, tokens, *group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {scattered(grads[0], kept_group(*context)), at::Tensor(), at::Tensor()};
  }
};

class ScatterSum : public torch::autograd::Function<ScatterSum> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& part, Collectives* group) {
    keep_group(*context, *group);
    context->saved_data["tokens"] = part.size(0);
    return scattered(part, *group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {gathered(grads[0], context->saved_data["tokens"].toInt(), kept_group(*context)), at::Tensor()};
  }
};

class SumOverRanks : public torch::autograd::Function<SumOverRanks> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, Collectives* group) {
    keep_group(*context, *group);
    return summed(x, *group);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {summed(grads[0], kept_group(*context)), at::Tensor()};
  }

 private:
  static at::Tensor summed(const at::Tensor& x, Collectives& group) {
    at::Tensor sum = x.clone(at::MemoryFormat::Contiguous);
    if (!DM_FAULT("tensor.unsummed")) all_reduce(sum, group);
    return sum;
  }
};

}  // namespace

TokenShare::TokenShare(int64_t tokens, int64_t ranks, int64_t rank)
    : begin(rank * (tokens / ranks) + std::min(rank, tokens % ranks)),
      count(tokens / ranks + (rank < tokens % ranks ? 1 : 0)),
      widest((tokens + ranks - 1) / ranks) {}

at::Tensor gather_tokens(const at::Tensor& mine, int64_t tokens, Collectives& group) {
  const TokenShare share(tokens, group.size(), group.rank());
  DM_CHECK(mine.dim() == 2 && mine.size(0) == share.count, "gather_tokens: {}, expected {} of {} tokens",
           describe(mine), share.count, tokens);
  return GatherTokens::apply(mine, tokens, &group);
}

at::Tensor scatter_sum(const at::Tensor& part, Collectives& group) {
  DM_CHECK(part.dim() == 2, "scatter_sum: {}, expected [T, D]", describe(part));
  return ScatterSum::apply(part, &group);
}

at::Tensor sum_over_ranks(const at::Tensor& x, Collectives& group) { return SumOverRanks::apply(x, &group); }

}  // namespace dm::kernels
