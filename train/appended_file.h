#pragma once
// A file that grows by whole pieces as a run goes on: logs, for which a full disk is no reason to end it.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/files.h"

namespace dm::train {

class AppendedFile {
 public:
  /// Opens or creates `path` and cuts it to its first `kept_bytes`.
  AppendedFile(const std::string& path, int64_t kept_bytes);

  /// Hands the piece to the operating system, whole or not at all. When that fails it is reported once, and
  /// pieces are lost until it works again.
  void append(std::string_view piece);

 private:
  File file_;
  int64_t size_bytes_ = 0;
  bool failing_ = false;
};

}  // namespace dm::train
