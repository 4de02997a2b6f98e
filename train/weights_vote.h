#pragma once
// Do all replicas still hold the same weights? Memory and devices err, silently; copies that were made equal
// tell whose.
//
// Every replica hashes its copy of the weights piece by piece, as the optimizer's state is cut over the
// ranks, and the master of the piece that it owns. Per piece the value that most copies and masters have is
// taken for right; where no value has most, that of the masters. So two replicas are enough: their copies and
// the owner's master are three.

#include <cstdint>
#include <string>
#include <vector>

#include "core/collectives.h"
#include "train/flat_parameters.h"

namespace dm::train {

struct WeightsBallot {
  std::vector<uint64_t> copies;  // hash of each piece of this replica's copy
  int64_t owned = 0;             // which piece it owns
  uint64_t master = 0;           // hash of what it updates that piece from
};

/// A replica whose copy, or master, of a piece is not the others'.
struct Outvoted {
  int64_t replica = 0, piece = 0;
  bool master = false;
  bool operator==(const Outvoted&) const = default;
};

/// By piece, copies first, replicas ascending. Empty: all agree.
std::vector<Outvoted> outvoted(const std::vector<WeightsBallot>& ballots);

/// All ranks of `replicas` (host memory) together, between two updates. Throws ExitCode::lost on every one of
/// them, naming ranks and hosts, when their weights are not the same.
void require_equal_weights(const FlatParameters& parameters, Collectives& replicas, int64_t step);

}  // namespace dm::train
