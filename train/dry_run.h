#pragma once
// train --dry-run: does everything of a command fit together? Two steps of the same kind of model, made
// small, on made-up rows, on the ranks and the layout asked for. No data is read and nothing is written.

#include "train/groups.h"
#include "train/run_config.h"

namespace dm::train {

/// The run made small: each letter of the pattern once, narrow, few words, short rows, two rows a data rank.
/// Whatever sort of layer, norm, dropout or loss there is stays.
RunConfig shrunken(const RunConfig& config, int64_t data_ranks);

/// Refuses with ExitCode::internal if loss or gradient leave the finite numbers.
void dry_run(const RunConfig& config, const Groups& groups);

}  // namespace dm::train
