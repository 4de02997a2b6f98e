#include "kernels/vectors/vectors_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/device/cuda/tensor.h"
#include "kernels/vectors/cuda/vectors.cuh"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t length_of(const VectorPart& part) {
  return part.map == VectorMap::difference ? 2 : part.leaf.numel();
}

cuda::VectorRange range_of(const VectorPart& part) {
  return {.leaf = part.leaf.const_data_ptr<float>(),
          .other = nullptr,
          .gradient = nullptr,
          .count = part.leaf.numel(),
          .map = part.map,
          .factor = static_cast<float>(part.factor),
          .offset = static_cast<float>(part.offset)};
}

class Gather : public torch::autograd::Function<Gather> {
 public:
  /// `stand_in` requires a gradient where one is wanted of the leaves, which autograd does not see.
  static variable_list forward(AutogradContext* context, const at::Tensor& stand_in,
                               const std::vector<VectorParts>& vectors) {
    cuda::VectorRanges ranges{};
    variable_list results, leaves;
    std::vector<int64_t> places;
    std::vector<double> numbers;
    for (size_t v = 0; v < vectors.size(); ++v) {
      int64_t length = 0;
      for (const VectorPart& part : vectors[v]) length += length_of(part);
      results.push_back(at::empty({length}, stand_in.options()));
      float* to = results.back().data_ptr<float>();
      for (const VectorPart& part : vectors[v]) {
        cuda::VectorRange& range = ranges.of[ranges.count++] = range_of(part);
        range.other = to;
        to += length_of(part);
        leaves.push_back(part.leaf);
        places.insert(places.end(), {static_cast<int64_t>(v), static_cast<int64_t>(part.map)});
        numbers.insert(numbers.end(), {part.factor, part.offset});
      }
    }
    check_launch(cuda::gather_vectors(ranges, current_stream()), "gather_vectors");
    std::vector<at::Tensor> gradients;
    for (at::Tensor& leaf : leaves) gradients.push_back(leaf.grad().defined() ? leaf.grad() : at::Tensor());
    for (at::Tensor& leaf : leaves) leaf = leaf.detach();
    context->saved_data["leaves"] = std::vector<at::Tensor>(leaves);
    context->saved_data["gradients"] = gradients;
    context->saved_data["places"] = places;
    context->saved_data["numbers"] = numbers;
    context->set_materialize_grads(false);
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto leaves = context->saved_data["leaves"].toTensorVector();
    const auto gradients = context->saved_data["gradients"].toTensorVector();
    const auto places = context->saved_data["places"].toIntVector();
    const auto numbers = context->saved_data["numbers"].toDoubleVector();
    cuda::VectorRanges ranges{};
    std::vector<int64_t> used(grads.size(), 0);
    for (at::Tensor& grad : grads)
      if (grad.defined()) grad = grad.contiguous();
    for (size_t i = 0; i < leaves.size(); ++i) {
      const auto v = static_cast<size_t>(places[2 * i]);
      const VectorPart part{leaves[i], static_cast<VectorMap>(places[2 * i + 1]), numbers[2 * i],
                            numbers[2 * i + 1]};
      const int64_t begin = used[v];
      used[v] += length_of(part);
      if (!grads[v].defined() || !gradients[i].defined()) continue;
      cuda::VectorRange& range = ranges.of[ranges.count++] = range_of(part);
      range.other = gradients[i].mutable_data_ptr<float>();
      range.gradient = grads[v].const_data_ptr<float>() + begin;
    }
    check_launch(cuda::add_vector_gradients(ranges, current_stream()), "gather_vectors, backward");
    return {at::Tensor(), at::Tensor()};
  }
};

}  // namespace

std::vector<at::Tensor> gather_vectors_cuda(const std::vector<VectorParts>& vectors) {
  bool wanted = false;
  for (const VectorParts& parts : vectors)
    for (const VectorPart& part : parts) {
      DM_CHECK(part.leaf.scalar_type() == at::kFloat, "gather_vectors: a leaf is {}", describe(part.leaf));
      wanted = wanted || part.leaf.requires_grad();
    }
  const at::Tensor stand_in = vectors.front().front().leaf.detach().requires_grad_(wanted);
  return Gather::apply(stand_in, vectors);
}

}  // namespace dm::kernels
