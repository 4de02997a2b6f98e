#pragma once
// A group that keeps count of what its caller hands it.

#include <memory>

#include "core/collectives.h"
#include "core/traffic.h"

namespace dm {

/// Adds to `traffic`, which outlives what comes back. `duplicate()` of it is not counted: another thread uses
/// that. Calls that are recorded in a graph are counted when they are recorded, not when it is replayed.
std::unique_ptr<Collectives> counted(std::unique_ptr<Collectives> group, Traffic& traffic);

}  // namespace dm
