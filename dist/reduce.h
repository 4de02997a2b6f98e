#pragma once
// The arithmetic of reductions: in rank order, whatever the transport does.

#include <cstdint>
#include <vector>

#include "core/collectives.h"

namespace dm::dist {

/// output[i] = pieces[0][i] op pieces[1][i] op ..., from left to right. Sums of bf16 run in f32 and are
/// rounded once (to nearest even), sums of integers wrap; max and min hand on a NaN. `output` may be one of
/// the pieces.
void reduce_pieces(Reduce op, DType dtype, const std::vector<const void*>& pieces, void* output,
                   int64_t count);

}  // namespace dm::dist
