#include "kernels/cross_entropy/split_cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "kernels/check.h"
#include "kernels/comm/transport.h"
#include "kernels/linear/linear_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What a rank's logits [n, count] tell the others: their maximum, the sum of exponentials below it, and the
/// target's where it is one of them. [3, n]
at::Tensor local_statistics(const at::Tensor& logits, const at::Tensor& column, const at::Tensor& mine) {
  if (logits.size(1) == 0) {  // nothing but padding
    const at::Tensor none = at::zeros({3, logits.size(0)}, logits.options());
    none[0].fill_(-std::numeric_limits<double>::infinity());
    return none;
  }
  const at::Tensor top = logits.amax(1);
  const at::Tensor sum = (logits - top.unsqueeze(1)).exp_().sum(1);
  const at::Tensor target = logits.gather(1, column.unsqueeze(1)).squeeze(1);
  return at::stack({top, sum, at::where(mine, target, at::zeros_like(target))});
}

struct Loss {
  at::Tensor nll;  // [n]
  at::Tensor log;  // [n]: log Σ_v exp(logits[v]), over the whole vocabulary
};
/// From all ranks' statistics [size, 3, n], in rank order.
Loss combined(const at::Tensor& all) {
  const at::Tensor top = all.select(1, 0), sum = all.select(1, 1), target = all.select(1, 2);
  const at::Tensor highest = top.amax(0);
  const at::Tensor log = highest + (sum * (top - highest).exp()).sum(0).log();
  return {log - target.sum(0), log};
}

int64_t block_rows(const at::Tensor& h, const VocabularyShare& share) {
  const int64_t widest = (share.vocabulary + share.group->size() - 1) / share.group->size();
  const auto element = static_cast<int64_t>(h.element_size());
  if (!h.is_cuda()) return cross_entropy_block_rows(widest, element);
  return std::max<int64_t>(128, (int64_t{256} << 20) / (widest * 4) / 128 * 128);
}

class SplitLoss : public torch::autograd::Function<SplitLoss> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& h, const at::Tensor& value,
                               const Weight* weight, const at::Tensor& targets, const at::Tensor& mask,
                               const VocabularyShare* share, bool gradient) {
    const at::ScalarType wide = parameter_dtype(h);
    const int64_t tokens = h.size(0), block = block_rows(h, *share);
    const Weight words = in_use(*weight, value, share->count);
    const at::Tensor column = targets - share->begin;
    const at::Tensor mine = column.ge(0).logical_and(column.lt(share->count));
    const at::Tensor inside = column.clamp(0, std::max<int64_t>(share->count - 1, 0));
    const at::Tensor counts = mask.to(at::kBool);
    const at::Tensor nll = at::empty({tokens}, h.options().dtype(wide));
    at::Tensor dh = gradient ? at::empty(h.sizes(), h.options()) : at::Tensor();
    const bool whole = gradient && weight->parts.empty();
    at::Tensor dvalue = whole ? at::zeros(value.sizes(), value.options()) : at::Tensor();
    for (int64_t begin = 0; begin < tokens; begin += block) {
      const int64_t end = std::min(tokens, begin + block);
      const auto rows = [&](const at::Tensor& of) { return of.slice(0, begin, end); };
      at::Tensor logits = at::mm(rows(h), words.value.t()).to(wide);  // [n, count]
      const Loss loss =
          combined(all_gather(local_statistics(logits, rows(inside), rows(mine)), *share->group));
      rows(nll).copy_(loss.nll.masked_fill(rows(counts).logical_not(), 0));
      if (!gradient) continue;
      // softmax - onehot(target), 0 where the token does not count.
      logits.sub_(loss.log.unsqueeze(1)).exp_();
      if (share->count > 0)
        logits.scatter_add_(1, rows(inside).unsqueeze(1), rows(mine).to(wide).neg().unsqueeze(1));
      const at::Tensor dlogits =
          logits.masked_fill_(rows(counts).logical_not().unsqueeze(1), 0).to(h.scalar_type());
      at::Tensor dh_rows = rows(dh);
      at::mm_out(dh_rows, dlogits, words.value);
      if (whole)
        dvalue.narrow(0, 0, share->count).addmm_(dlogits.t(), rows(h));
      else if (share->count > 0)
        add_weight_gradient(dlogits, rows(h), words);
    }
    context->save_for_backward({dh, dvalue});
    context->saved_data["scaled"] = weight->parts.empty();
    context->mark_non_differentiable({nll});
    return {nll.to(at::kDouble).sum().to(wide), nll};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    DM_CHECK(saved[0].defined(),
             "split_cross_entropy: a gradient is asked for that the forward pass was not told of");
    const bool scaled = context->saved_data["scaled"].toBool();
    const auto times = [&](const at::Tensor& t) {
      return scaled && t.defined() ? (t * grads[0]).to(t.scalar_type()) : t;
    };
    return {times(saved[0]), times(saved[1]), at::Tensor(), at::Tensor(),
            at::Tensor(),    at::Tensor(),    at::Tensor()};
  }

 private:
  /// The rows that are words, and where their gradient goes.
  static Weight in_use(const Weight& weight, const at::Tensor& value, int64_t count) {
    Weight words(value.narrow(0, 0, count));
    for (const Weight::Part& part : weight.parts)
      words.parts.push_back({part.gradient.narrow(0, 0, count), part.row, part.column});
    return words;
  }
};

}  // namespace

CrossEntropy split_cross_entropy(const at::Tensor& h, const Weight& weight, const at::Tensor& targets,
                                 const at::Tensor& mask, const VocabularyShare& share) {
  DM_CHECK_FLOATING("split_cross_entropy", h);
  DM_CHECK_SHAPE("split_cross_entropy", h, h.scalar_type(), -1, -1);
  DM_CHECK_SHAPE("split_cross_entropy", weight.value, h.scalar_type(), -1, h.size(1));
  DM_CHECK_SHAPE("split_cross_entropy", targets, at::kLong, h.size(0));
  DM_CHECK_SHAPE("split_cross_entropy", mask, at::kByte, h.size(0));
  DM_CHECK(share.count >= 0 && share.count <= weight.value.size(0) && weight.parts.size() <= 1,
           "split_cross_entropy: {} words of weight {}", share.count, describe(weight.value));
  if (!h.is_cuda()) {
    const at::Tensor outside = targets.lt(0).logical_or(targets.ge(share.vocabulary)).logical_and(mask);
    DM_CHECK(!outside.any().item<bool>(), "split_cross_entropy: a target that counts is not in [0, {})",
             share.vocabulary);
  }
  const bool gradient = at::GradMode::is_enabled() &&
                        (h.requires_grad() || weight.value.requires_grad() || !weight.parts.empty());
  const variable_list out =
      SplitLoss::apply(h.contiguous(), weight.value, &weight, targets, mask, &share, gradient);
  return {out[0], out[1]};
}

}  // namespace dm::kernels
