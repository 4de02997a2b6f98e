#pragma once
// How far a long pass over bytes is: rewritten in place on a terminal, a log line every ten seconds
// elsewhere.

#include <chrono>
#include <cstdint>
#include <string>

namespace dm::data {

/// "1.4 of 5.1 GB, 212 MB/s, 17 s left" (without the total: "1.4 GB, 212 MB/s").
std::string progress_text(int64_t done_bytes, int64_t total_bytes, double seconds);

class Progress {
 public:
  /// `what` begins each line; total_bytes -1: unknown.
  Progress(std::string what, int64_t total_bytes);
  ~Progress();  // ends the terminal's line

  /// Cheap to call often.
  void update(int64_t done_bytes);

 private:
  std::string what_;
  int64_t total_bytes_;
  bool terminal_;
  bool line_open_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace dm::data
