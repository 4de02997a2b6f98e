#pragma once
// All weights in one flat buffer and all gradients in another, so that one collective moves each and every
// rank owns one range of both. The model's parameters are leaf tensors that look into the buffers.
//
//   weights   | p0 ...... pad | p1 ..... pad | p2 ................ pad | ... zeros |     padded to world *
//   owned_count owned     |<-- rank 0 ------------>|<-- rank 1 ------------>|<-- rank 2 ------>|
//
// Where a parameter lies does not depend on the number of ranks; what a rank owns does. Each parameter starts
// on a 256-byte boundary or coarser, which vector loads of any backend are content with; the padding stays
// zero.

#include <cstdint>
#include <string>
#include <vector>

#include "core/collectives.h"
#include "model/language_model.h"

namespace dm::train {

/// A part of one parameter inside the range of one rank.
struct Slice {
  int64_t parameter;  // index into infos()
  int64_t begin;      // elements [begin, end) of the row-major parameter
  int64_t end;
  int64_t offset;  // of `begin` within the rank's range
  int64_t count() const { return end - begin; }
};

/// LibTorch's name of a type that models train in (f32, f64).
at::ScalarType scalar_type(DType dtype);

class FlatParameters {
 public:
  /// Weights and gradients are zero. `dtype` is f32 or f64 on the CPU, f32 on a GPU, where the group is of
  /// one rank. The group outlives this object.
  FlatParameters(std::vector<model::ParameterInfo> infos, DType dtype, Collectives& group,
                 at::Device device = at::kCPU);

  const std::vector<model::ParameterInfo>& infos() const { return infos_; }
  DType dtype() const { return dtype_; }
  /// The leaves, each with its gradient defined: backward() adds into the flat buffer.
  const model::Parameters& leaves() const { return leaves_; }

  int64_t rank() const { return group_.rank(); }
  int64_t owned_count() const { return owned_count_; }
  /// What rank `rank` owns, in logical order: parameter by parameter.
  std::vector<Slice> slices(int64_t rank) const;
  at::Device device() const { return weights_.device(); }
  /// The owned ranges of this rank, [owned_count()].
  at::Tensor owned_weights() const { return owned(weights_); }
  at::Tensor owned_gradients() const { return owned(gradients_); }

  /// Element `index` of a flat buffer or an owned range.
  void* at(void* base, int64_t index) const { return static_cast<char*>(base) + index * size_bytes(dtype_); }

  /// Fills all weights: a pure function of the seed, so nothing is exchanged.
  void initialise(const model::ModelConfig& config, uint64_t seed);

  void zero_gradients();
  /// Own gradients become the sum over all ranks, added in rank order; the others are spent.
  void reduce_gradients();
  /// Sum of squares of the owned gradients in float64, the same for any number of threads.
  double owned_gradient_squares() const;
  /// For the log after a step that was not finite: which of the owned gradients is the first that is not.
  std::string first_non_finite_gradient() const;
  /// Every rank's owned weights reach all ranks.
  void gather_weights();

 private:
  at::Tensor owned(const at::Tensor& flat) const {
    return flat.narrow(0, rank() * owned_count_, owned_count_);
  }

  std::vector<model::ParameterInfo> infos_;
  DType dtype_;
  Collectives& group_;
  std::vector<int64_t> offsets_;  // of each parameter in the flat buffers
  int64_t owned_count_ = 0;
  at::Tensor weights_, gradients_;  // [world * owned_count]
  model::Parameters leaves_;
};

}  // namespace dm::train
