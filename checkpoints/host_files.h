#pragma once
// Files that lie on one host and are wanted on another: what a shared file system would do for them.

#include <cstdint>
#include <optional>
#include <string>

#include "core/collectives.h"

namespace dm::checkpoints {

struct Transfer {
  std::string path;  // on this host
  int64_t size_bytes = 0;
  int64_t rank = 0;  // at the other end
};

/// Sends one file, receives another, both at once where both are asked for; the other ends call it too. What
/// is received appears under its name when it is complete. Returns what went wrong here, "" for nothing: a
/// rank whose disk fails goes through with the exchange, so that the others are not left waiting, and a vote
/// then tells them.
std::string exchange_files(const std::optional<Transfer>& send, const std::optional<Transfer>& receive,
                           Collectives& group);

}  // namespace dm::checkpoints
