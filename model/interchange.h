#pragma once
// Models as other programs store them: which config.json stands for which ModelConfig, and under which name a
// parameter is stored. Knows shapes and names, no files.
//
//   mamba2       transformers' Mamba2ForCausalLM             M layers on Mamba-2
//   mamba        transformers' MambaForCausalLM              M layers on Mamba-1
//   diffmamba2   the published Diff-Mamba-2 (model_type mamba2, diffmamba true)
//   state-spaces the original mamba and mamba2 models: read only
//   diffmamba    every other model of this program, its options as they are

#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/config.h"

namespace dm::model {

using Shapes = std::map<std::string, std::vector<int64_t>>;

/// The layout that `config` is stored in: "mamba2", "mamba", "diffmamba2" or "diffmamba".
std::string interchange_layout(const ModelConfig& config);
/// config.json, without token ids. `eos_id` < 0: the model has none.
OrderedJson interchange_config(const ModelConfig& config, int64_t eos_id);

/// Values that JSON lacks, as some programs write them all the same (Infinity), become text.
std::string with_quoted_infinities(const std::string& json);

/// The model that `json` (config.json) and the stored tensors are; ExitCode::bad_data naming `where` and what
/// this version does not know or what contradicts the shapes.
ModelConfig config_from_interchange(const Json& json, const Shapes& shapes, const std::string& where);

/// "M*36D*12" from one letter a layer.
std::string compact_pattern(const std::string& letters);

/// The name under which `stored` has the parameter `name`.
std::string stored_name(const std::string& name, const Shapes& stored);

}  // namespace dm::model
