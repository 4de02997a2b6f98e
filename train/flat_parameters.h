#pragma once
// All weights in one flat buffer and all gradients in another, cut into buckets that travel as one and of
// which every rank owns a piece. The model's parameters are leaf tensors that look into the buffers.
//
//   weights  | p0 ... pad | p1 . pad | p2 .......... pad | p3 ... pad | ... zeros |
//            |<------------- bucket 0 ------------------>|<------ bucket 1 ------>|
//            |<- rank 0 -->|<- rank 1 -->|<- rank 2 ---->|<-rank 0|rank 1|rank 2->|
//
//   owned    | piece of bucket 0 | piece of bucket 1 |     one array, the optimizer's
//
// Buckets follow the layers (ParameterInfo::depth), so that the gradients of one are complete when the
// backward pass has left its layers. Each parameter starts on a 256-byte boundary or coarser, which vector
// loads of any backend are content with; the padding stays zero.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/collectives.h"
#include "model/local_parameters.h"
#include "train/buckets.h"
#include "train/weight_gather.h"

namespace dm::train {

/// A part of one parameter inside what one rank owns.
struct Slice {
  int64_t parameter;  // index into parameters()
  int64_t begin;      // elements [begin, end) of the row-major local tensor
  int64_t end;
  int64_t offset;  // of `begin` within the rank's owned array
  int64_t count() const { return end - begin; }
};

/// LibTorch's name of a type that models train in (f32, f64).
at::ScalarType scalar_type(DType dtype);

class FlatParameters {
 public:
  /// Weights and gradients are zero. `dtype` is f32 or f64 on the CPU, f32 on a GPU. Weights and the
  /// optimizer's state are cut over the ranks of `group`, which moves memory of `device` and outlives this
  /// object.
  /// At ZeRO stage 2 (`zero`) gradients are not all there at once: see scattered().
  FlatParameters(std::vector<model::LocalParameter> parameters, DType dtype, Collectives& group,
                 at::Device device = at::kCPU, int64_t bucket_bytes = kBucketBytes, int64_t zero = 1);

  /// The same of parameters that are held whole.
  FlatParameters(const std::vector<model::ParameterInfo>& infos, DType dtype, Collectives& group,
                 at::Device device = at::kCPU, int64_t bucket_bytes = kBucketBytes, int64_t zero = 1)
      : FlatParameters(model::whole_parameters(infos), dtype, group, device, bucket_bytes, zero) {}

  /// What the ranks of the group hold, each of them the same.
  const std::vector<model::LocalParameter>& parameters() const { return parameters_; }
  DType dtype() const { return dtype_; }
  /// The leaves, each with its gradient defined: backward() adds into the flat buffer. Their values are those
  /// of weights() now; who keeps them and reads later, while weights may be on their way, goes by gather().
  const model::Parameters& leaves() const { return gather_->settle(), leaves_; }

  Collectives& group() const { return group_; }
  int64_t rank() const { return group_.rank(); }
  at::Device device() const { return weights_.device(); }
  const std::vector<Bucket>& buckets() const { return layout_.buckets; }
  int64_t owned_count() const { return layout_.owned_count; }
  /// What rank `rank` owns, in the order of its owned array.
  std::vector<Slice> slices(int64_t rank) const;
  /// The same of one bucket: over all ranks in turn, the bucket's parameters in logical order.
  std::vector<Slice> slices(const Bucket& bucket, int64_t rank) const;
  /// All that this rank holds, [flat]: on every rank the same, since the last gather_weights() is waited for.
  const at::Tensor& weights() const { return gather_->settle(), weights_; }
  /// What this rank owns, [owned_count()]. Whoever writes to it calls settle() before.
  const at::Tensor& owned_weights() const { return owned_weights_; }
  const at::Tensor& owned_gradients() const { return owned_gradients_; }
  /// Buckets share the memory of their gradients: what reduce() brings of one has to be taken in before the
  /// next one's is, and before a pass writes the third bucket after it.
  bool scattered() const { return scattered_; }

  /// Element `index` of a flat buffer or an owned array.
  void* at(void* base, int64_t index) const { return static_cast<char*>(base) + index * size_bytes(dtype_); }

  /// Fills all weights: a pure function of the seed, so nothing is exchanged.
  void initialise(const model::ModelConfig& config, uint64_t seed);

  void zero_gradients();
  /// Starts to sum a bucket's gradients over the group, in rank order; the result is the owned piece, or what
  /// take_in() adds to it. The buffer keeps this rank's own.
  std::unique_ptr<Pending> reduce(const Bucket& bucket);
  /// Where they are scattered: adds what reduce() brought to the owned piece, and clears the bucket's
  /// gradients.
  void take_in(const Bucket& bucket);
  /// All buckets, from the last to the first, and waits. (GradientReducer does it during the backward pass.)
  void reduce_gradients();
  /// Throws ExitCode::internal where a backward pass replaced a leaf's gradient instead of adding to it: the
  /// flat buffer would be left behind, unseen.
  void check_gradients() const;
  /// Sum of squares in float64 of the owned gradients that count here (model::ParameterPiece), the same for
  /// any number of threads.
  double owned_gradient_squares() const;
  /// For the log after a step that was not finite, of this rank's own rows alone: the first tensor in forward
  /// order whose weights are not finite, else the first in backward order whose gradient is not, the layer
  /// where it began.
  std::string first_non_finite() const;
  /// Every rank's owned weights begin to reach all ranks.
  void gather_weights() { gather_->start(); }
  /// The last gather_weights() is over, on a GPU for what the current stream is given from here on.
  void settle() const { gather_->settle(); }
  WeightGather& gather() { return *gather_; }
  const WeightGather& gather() const { return *gather_; }

 private:
  void allocate(at::Device device);
  void find_counted();

  std::vector<model::LocalParameter> parameters_;
  DType dtype_;
  Collectives& group_;
  FlatLayout layout_;
  bool scattered_;
  std::vector<int64_t> gradient_offsets_;             // of each parameter in the buffer of gradients
  std::vector<std::pair<int64_t, int64_t>> counted_;  // ranges of the owned array whose gradients count here
  at::Tensor weights_, gradients_;                    // [flat_count], [gradient_count]
  at::Tensor arrived_;                                // scattered: what reduce() brings of a bucket
  at::Tensor owned_weights_, owned_gradients_;        // [owned_count]; alone, the flat buffers themselves
  model::Parameters leaves_;
  std::unique_ptr<WeightGather> gather_;
};

}  // namespace dm::train
