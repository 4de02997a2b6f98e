#pragma once
// Which elements of the model's parameters a rank holds. Every layer letter and mixer says in its own file
// how its parameters are cut (model/cut.h); this is what comes of it.

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "model/placement.h"

namespace dm::model {

struct DeclaredParameter;

/// A box of a logical parameter inside a rank's tensor, where it is contiguous and row-major. Any two pieces,
/// of one rank or of two, hold the same elements or none in common.
struct ParameterPiece {
  std::vector<int64_t> begin, shape;  // of the box, in the logical parameter
  int64_t offset;                     // of its first element in the local tensor
  int64_t places;  // pieces that hold these elements, over all tensor ranks (a rank may have several)
  bool counted;    // whether it is the first of them: the one that norms count and checkpoints store
  int64_t count() const;
};

/// What a rank holds of a parameter.
struct LocalParameter {
  ParameterInfo info;          // the logical parameter
  std::vector<int64_t> shape;  // of the local tensor: the pieces one after the other, then zeros
  std::vector<ParameterPiece> pieces;
  int64_t count() const;  // elements of the local tensor, padding included
  bool whole() const;     // the local tensor is the logical one
};

/// The parameters this rank holds anything of, in forward order; with tp = 1 all of them, whole. Only tp and
/// tp_rank matter: context ranks hold the same.
std::vector<LocalParameter> local_parameters(const ModelConfig& config, const Placement& placement);

/// What a rank holds of tensors that are declared and cut as parameters are, without those of which it holds
/// nothing.
std::vector<LocalParameter> local_parts(const std::vector<DeclaredParameter>& declared,
                                        const Placement& placement);

/// Parameters that a rank holds whole, each alone.
std::vector<LocalParameter> whole_parameters(const std::vector<ParameterInfo>& infos);

/// Initial values of the elements that `values` (the local tensor: any float dtype, contiguous, CPU) holds,
/// bit for bit those of initialise(); zero in the padding.
void initialise(const ModelConfig& config, const LocalParameter& local, uint64_t seed, at::Tensor values);

/// The local tensor of a whole one, and back: `whole` gets the elements of all pieces. On one device.
at::Tensor local_part(const LocalParameter& local, const at::Tensor& whole);
void copy_to_whole(const LocalParameter& local, const at::Tensor& values, at::Tensor whole);

/// After a backward pass each place of an element that has several holds a part of its gradient: those of a
/// layer's shared B and C rows and of λ by heads or channels, those of the residual stream's norms by tokens.
/// This adds the parts up, in rank order, in one exchange; every place then has the whole gradient.
class SharedGradients {
 public:
  SharedGradients(const ModelConfig& config, const Placement& placement)
      : SharedGradients(config, placement, 0, std::numeric_limits<int64_t>::max()) {}
  /// Of the parameters of depth [begin, end) alone.
  SharedGradients(const ModelConfig& config, const Placement& placement, int64_t begin, int64_t end);
  /// Elements of one exchange, the same on all tensor ranks; 0 with tp = 1, and then nothing is exchanged.
  int64_t count() const { return count_; }
  /// Of them those of the parameters of each depth, up to the last depth that has any.
  const std::vector<int64_t>& count_by_depth() const { return count_by_depth_; }
  /// `gradients`: every local parameter's, by name, contiguous, of one dtype and device. They are partial
  /// before and whole after.
  void sum(const std::map<std::string, at::Tensor>& gradients) const;

 private:
  struct Block {
    std::string name;
    int64_t offset, count;  // in the local tensor
    int64_t slot;           // in the exchanged buffer
  };
  Collectives* tensor_;
  int64_t count_ = 0;
  std::vector<int64_t> count_by_depth_;
  std::vector<Block> blocks_;
};

}  // namespace dm::model
