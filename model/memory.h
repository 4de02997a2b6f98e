#pragma once
// What training a model needs of a GPU's memory, by counting: no GPU is asked. The high-water mark of
// the allocator is printed beside it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/local_parameters.h"

namespace dm::model {

struct MemoryPart {
  std::string name;
  double bytes;
};

struct MemoryNeed {
  std::vector<MemoryPart> parts;
  double total() const;
  /// "9.4 GiB: weights 1.4, gradients 1.4, ...".
  std::string text() const;
};

/// What of a model one of several ranks has.
struct HeldPart {
  const std::vector<LocalParameter>& parameters;
  double share;           // of the layers' elements
  int64_t tp = 1;         // ranks that share the tokens between layers
  int64_t owners;         // ranks that the optimizer's state of the parameters is cut over
  int64_t gradients = 0;  // elements of their buffers, where these do not hold all of them
  double carried = 0;     // bytes of what rows hand on from step to step
};
/// Of a step of such a rank over `rows` rows at once, `length` tokens of each, with activations of two bytes
/// or of four.
MemoryNeed training_memory(const ModelConfig& config, const HeldPart& part, int64_t rows, int64_t length,
                           int64_t activation_bytes);

/// The first of the changes that cost the least speed with which `bytes` are enough: "--recompute scan",
/// "--recompute block", "--micro-batch 4 --recompute block"; says so when even one row is too much.
/// `need(changed, rows)` are the bytes of a step over so many rows at once, whose option `rows_option` names.
std::string fitting_options(const ModelConfig& config, int64_t rows,
                            const std::function<double(const ModelConfig&, int64_t)>& need, double bytes,
                            const std::string& rows_option);

}  // namespace dm::model
