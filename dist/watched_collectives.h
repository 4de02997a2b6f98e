#pragma once
// A group that tells a watchdog when its rank is inside an exchange.

#include <memory>
#include <string>

#include "core/collectives.h"
#include "dist/activity.h"

namespace dm::dist {

/// Wraps a group; `activity` outlives what comes back. `duplicate()` of it is not watched: another thread
/// uses that.
std::unique_ptr<Collectives> watched(std::unique_ptr<Collectives> group, Activity& activity);

}  // namespace dm::dist
