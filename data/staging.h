#pragma once
// A folder that appears complete or not at all: it is filled under OUTPUT.tmp-XXXXXX and renamed.

#include <string>

#include "core/files.h"

namespace dm::data {

class Staging {
 public:
  /// Removes what dead processes left beside `output`, then makes a new temporary folder there. Its owner is
  /// who holds the lock on the file `.owner` in it: the kernel lets go of that whatever kills the process.
  explicit Staging(const std::string& output);
  /// Removes the temporary folder unless it was committed.
  ~Staging();

  const std::string& path() const { return path_; }
  /// Renames it to `output`, which must not exist (an empty folder may).
  void commit();

 private:
  std::string output_;
  std::string path_;
  File owner_;
};

}  // namespace dm::data
