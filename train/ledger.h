#pragma once
// The ledger: one line a step that pins down everything the step did, to prove that two runs are one.
//
//   12 400921fb54442d18 9a5c… (16 digits) 03f1… (32 digits)
//
// step; bits of the mean loss as float64; XXH3-64 of the global batch's sample ids in row order (u64le);
// XXH3-128 of the state after the step: weights, then each optimizer slot, parameter by parameter in forward
// order, little-endian, no padding; on several tensor ranks, XXH3-128 of their digests' texts. Neither the
// number of ranks nor of threads enters, beyond the rounding of the numbers themselves.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "train/groups.h"
#include "train/sharded_optimizer.h"
#include "train/step_log.h"

namespace dm::train {

struct LedgerLine {
  int64_t step = 0;
  double loss = 0;
  uint64_t samples = 0;
  Hash128 state;
  /// As on disk. Losses compare by their bits: a NaN equals itself, 0.0 does not equal -0.0.
  std::string text() const;
};

/// Throws ExitCode::bad_data naming `where`.
LedgerLine parse_ledger_line(std::string_view text, const std::string& where);
std::vector<LedgerLine> read_ledger(const std::string& path);

/// One history from ledgers of attempts in the order they ran: each replaces its predecessors' lines from its
/// first step on. ExitCode::bad_data when a step is missing between them.
std::vector<LedgerLine> stitch(const std::vector<std::vector<LedgerLine>>& attempts);

/// Where two histories differ first, in words; nullopt when they are equal line by line. `samples_only`
/// compares steps and sample ids alone: what must hold when the number of ranks changed and rounding may
/// differ.
std::optional<std::string> first_difference(const std::vector<LedgerLine>& expected,
                                            const std::vector<LedgerLine>& found, bool samples_only = false);

/// The file of a running training; writes on rank 0, does nothing without a path.
class Ledger {
 public:
  Ledger(const std::string& path, int64_t last_step, const Groups& groups);

  /// All ranks call it: the hashes are of all ranks' samples and state.
  void append(int64_t step, double loss, const std::vector<uint64_t>& sample_ids, FlatParameters& parameters,
              const ShardedOptimizer& optimizer);

 private:
  bool on_;
  Groups groups_;
  std::optional<StepLog> file_;
};

/// The digest of a ledger line, on rank 0; other ranks send their parts to it and get zero. The first ranks
/// of `group` (host memory) are those that the parameters are cut over.
Hash128 state_digest(FlatParameters& parameters, const ShardedOptimizer& optimizer, Collectives& group);

}  // namespace dm::train
