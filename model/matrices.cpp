#include "model/matrices.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"

namespace dm::model {

const kernels::Weight& Matrices::stacked(const std::vector<std::string>& names, int64_t dim) {
  const auto [position, added] = entries_.try_emplace(fmt::format("{}", fmt::join(names, " ")));
  Entry& entry = position->second;
  if (!added) return entry.weight;
  entry.names = names, entry.dim = dim, entry.depth = 0;
  for (const std::string& name : names)
    if (const auto found = depths_.find(name); found != depths_.end())
      entry.depth = std::max(entry.depth, found->second);
  int64_t extent[2] = {0, 0};
  for (const std::string& name : names) {
    const at::Tensor& leaf = parameters_.at(name);
    extent[dim] += leaf.size(dim), extent[1 - dim] = leaf.size(1 - dim);
  }
  const at::Tensor& first = parameters_.at(names.front());
  // A single parameter of the right dtype is taken as it is.
  const bool as_it_is = names.size() == 1 && first.scalar_type() == dtype_;
  entry.weight.value =
      as_it_is ? first.detach() : at::empty({extent[0], extent[1]}, first.options().dtype(dtype_)).detach();
  int64_t offset = 0;
  for (const std::string& name : names) {
    const at::Tensor& leaf = parameters_.at(name);
    if (leaf.grad().defined())
      entry.weight.parts.push_back({leaf.grad(), dim == 0 ? offset : 0, dim == 1 ? offset : 0});
    offset += leaf.size(dim);
  }
  std::vector<kernels::MatrixCopy> copies;
  add_copies(entry, copies);
  kernels::copy_matrices(copies);
  return entry.weight;
}

void Matrices::add_copies(const Entry& entry, std::vector<kernels::MatrixCopy>& copies) const {
  int64_t offset = 0;
  for (const std::string& name : entry.names) {
    const at::Tensor& leaf = parameters_.at(name);
    const at::Tensor block = entry.weight.value.narrow(entry.dim, offset, leaf.size(entry.dim));
    if (block.data_ptr() != leaf.data_ptr()) copies.push_back({leaf.detach(), block});
    offset += leaf.size(entry.dim);
  }
}

void Matrices::refresh(int64_t begin, int64_t end) {
  std::vector<kernels::MatrixCopy> copies;
  for (const auto& [key, entry] : entries_)
    if (begin <= entry.depth && entry.depth < end) add_copies(entry, copies);
  kernels::copy_matrices(copies);
}

}  // namespace dm::model
