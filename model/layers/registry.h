#pragma once
// All layer letters.

#include <string>
#include <vector>

#include "model/layers/layer.h"

namespace dm::model {

const std::vector<const LayerKind*>& layer_kinds();
const LayerKind* find_layer_kind(char letter);  // nullptr when there is none
const LayerKind& layer_kind(char letter);

// One file each.
const LayerKind& plain_mixer_kind();
const LayerKind& differential_kind();
const LayerKind& diff_scan_kind();
const LayerKind& feed_forward_kind();

}  // namespace dm::model
