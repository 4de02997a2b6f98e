#pragma once
// Where one rank stands on the tensor and the context axis. A placement changes what is exchanged, never what
// is computed (docs/parallelism.md).

#include <cstdint>
#include <vector>

#include "core/collectives.h"
#include "model/config.h"

namespace dm::model {

/// A rank's place. The tp ranks of a tensor group share the work on the same tokens: heads, channels and
/// vocabulary are dealt out to them, and between the layers the tokens. The cp ranks of a context group hold
/// consecutive pieces of the same rows.
struct Placement {
  int64_t tp = 1, tp_rank = 0;
  int64_t cp = 1, cp_rank = 0;
  Collectives* tensor = nullptr;   // needed where tp > 1; outlives what is placed
  Collectives* context = nullptr;  // needed where cp > 1, likewise
};

/// Refuses (ExitCode::usage) a tp that some layer cannot be dealt out to, naming the layer and the legal
/// values, and a cp larger than the `length` of a row (0: not known yet).
void check_placement(const ModelConfig& config, int64_t tp, int64_t cp, int64_t length = 0);
/// The values of tp that check_placement() takes, ascending.
std::vector<int64_t> legal_tensor_sizes(const ModelConfig& config);

struct TokenRange {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};
/// The tokens of a row of `length` that context rank `rank` of `cp` holds: consecutive pieces, sizes equal or
/// one apart, the longer ones first. The model takes any pieces of a token or more; these are what everybody
/// uses.
TokenRange context_piece(int64_t length, int64_t cp, int64_t rank);

}  // namespace dm::model
