#pragma once
// `diffmamba report`: runs as one HTML file that needs nothing else, neither network nor other files.

#include <string>
#include <vector>

#include "core/json.h"
#include "train/monitor/run_history.h"

namespace dm::train {

/// What the page draws. A run's steps are gathered into at most `points` spans of equal numbers of steps; a
/// column has their mean, and the least and greatest value where a span is more than a step.
Json report_data(const std::vector<RunHistory>& runs, int64_t points = 500);

/// The page around it.
std::string report_html(const Json& data);

}  // namespace dm::train
