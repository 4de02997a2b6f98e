#pragma once
// State dicts that torch.save wrote: a zip of tensors' bytes and a pickle that names them. The pickle is read
// by a machine that knows what a state dict needs and nothing else, so it can call nothing.

#include <string>

#include "checkpoints/safetensors.h"

namespace dm::checkpoints {

/// Throws ExitCode::bad_data naming file and reason: no such zip, entries that are packed or lie outside the
/// file, opcodes and globals other than those of a dict of contiguous tensors, tensors beyond their storage.
ForeignTensors open_torch_state_dict(const std::string& path);

}  // namespace dm::checkpoints
