#pragma once
// What a rank hands to its tensor and context groups in one pass over the model: every call, counted. A plan
// adds up bytes from it; a test holds it to the calls that are made.

#include <cstdint>
#include <vector>

#include "core/traffic.h"
#include "model/config.h"
#include "model/placement.h"

namespace dm::model {

struct Exchange {
  enum class Axis { tensor, context };
  /// What travels: the type of the activations; that of the weights, in which sums are taken and the stream
  /// is kept; or 32-bit numbers of documents.
  enum class Element { activation, weight, number };

  Axis axis;
  Operation operation;
  Element element;
  int64_t count;      // elements of a call, as core/collectives.h counts them; of a message what is sent
  int64_t calls = 1;  // of the pass, by this rank
};

/// Tokens of a pass, as this rank has them.
struct PassSize {
  int64_t rows, length;  // B, and L of the rank's piece
  int64_t tokens() const { return rows * length; }
};

/// Of one loss_sum() and, with `backward`, its backward pass, layers that it makes again included. What
/// SharedGradients exchanges once a step is not in it, nor are the blocks told apart in which the
/// cross-entropy gathers.
std::vector<Exchange> exchanges(const ModelConfig& config, const Placement& placement, const PassSize& size,
                                bool backward);

/// The same exchange forward and, with `backward`, in the backward pass.
void add_sum_over_ranks(std::vector<Exchange>& to, int64_t count, bool backward,
                        Exchange::Element element = Exchange::Element::weight);
/// A window of `channels` for each row before a piece, and a scan's state with its decay.
void add_tokens_before(std::vector<Exchange>& to, const Placement& placement, int64_t count, bool backward);
void add_state_before(std::vector<Exchange>& to, const Placement& placement, int64_t count,
                      Exchange::Element element, bool backward);

}  // namespace dm::model
