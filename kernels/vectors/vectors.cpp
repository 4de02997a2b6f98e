#include "kernels/vectors/vectors.h"

#include <ATen/ATen.h>

#include <set>

#include "kernels/vectors/vectors_cuda.h"

namespace dm::kernels {
namespace {

at::Tensor mapped(const VectorPart& part) {
  const at::Tensor x = part.leaf.reshape({-1});
  switch (part.map) {
    case VectorMap::negative_exp: return -x.exp();
    case VectorMap::scaled: return part.factor == 1 ? x : x * part.factor;
    case VectorMap::difference: {
      const at::Tensor second = -(at::sigmoid(x.sum()).reshape({1}) + part.offset);
      const at::Tensor both = at::cat({at::ones_like(second), second});
      return part.factor == 1 ? both : both * part.factor;
    }
    default: return x;
  }
}

/// Whether one launch serves them: leaves on a GPU, each once, that have gradients to add to or need none.
bool in_one_launch(const std::vector<VectorParts>& vectors) {
  size_t count = 0;
  std::set<const void*> seen;
  for (const VectorParts& parts : vectors)
    for (const VectorPart& part : parts) {
      const at::Tensor& leaf = part.leaf;
      if (!leaf.is_cuda() || !leaf.is_contiguous()) return false;
      const bool wanted = at::GradMode::is_enabled() && leaf.requires_grad();
      // A leaf that two branches share would be added to by two thread blocks at once.
      if (wanted && !seen.insert(leaf.const_data_ptr()).second) return false;
      if (wanted && !(leaf.is_leaf() && leaf.grad().defined() && leaf.grad().is_contiguous())) return false;
      ++count;
    }
  return count > 0 && count <= kMostVectorParts;
}

}  // namespace

std::vector<at::Tensor> gather_vectors(const std::vector<VectorParts>& vectors) {
  if (in_one_launch(vectors)) return gather_vectors_cuda(vectors);
  std::vector<at::Tensor> results;
  for (const VectorParts& parts : vectors) {
    std::vector<at::Tensor> pieces;
    for (const VectorPart& part : parts) pieces.push_back(mapped(part));
    results.push_back(pieces.size() == 1 ? pieces[0] : at::cat(pieces));
  }
  return results;
}

}  // namespace dm::kernels
