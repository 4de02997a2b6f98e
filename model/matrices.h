#pragma once
// The weight matrices of a model as products take them, where that is not how the optimizer holds them: in
// the dtype of the activations, and several stacked so that one product serves them all.

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/linear/weight.h"
#include "kernels/matrix_copy/matrix_copy.h"
#include "model/language_model.h"

namespace dm::model {

class Matrices {
 public:
  /// `dtype` is that of the activations, `depths` of ParameterInfo, 0 where there is none; the parameters
  /// outlive this object.
  Matrices(const Parameters& parameters, at::ScalarType dtype, std::map<std::string, int64_t> depths = {})
      : parameters_(parameters), dtype_(dtype), depths_(std::move(depths)) {}

  /// The named parameters below each other (dim 0) or beside each other (dim 1), as they were at the last
  /// refresh(). Their gradients are added to the parameters' own, where those are defined.
  const kernels::Weight& stacked(const std::vector<std::string>& names, int64_t dim);

  /// Copies the parameters again whose depths are in [begin, end), with what they are stacked with, which has
  /// none greater; on the current stream, in place, so that captured graphs see the new values.
  void refresh(int64_t begin, int64_t end);
  int64_t count() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    kernels::Weight weight;
    std::vector<std::string> names;
    int64_t dim;
    int64_t depth;  // the greatest of its parameters
  };
  /// What refresh() copies for an entry.
  void add_copies(const Entry& entry, std::vector<kernels::MatrixCopy>& copies) const;

  const Parameters& parameters_;
  at::ScalarType dtype_;
  const std::map<std::string, int64_t> depths_;  // by the parameter's name
  std::map<std::string, Entry> entries_;         // by the names, joined
};

}  // namespace dm::model
