#pragma once
// What an attempt died of, kept in RUN/failures.json (docs/formats.md) for the attempts after it, so that a
// step which fails again and again is told from one that failed once: a job that is requeued by its exit code
// would otherwise fail there forever.

#include <cstdint>
#include <exception>
#include <string>

namespace dm::train {

class Failures {
 public:
  /// Reads what earlier attempts left; `speaks` (rank 0) reports it. A damaged file counts as none.
  Failures(const std::string& run_directory, bool speaks);

  /// This attempt fails in `step`: writes that down. The third failure in a row of the same step throws
  /// ExitCode::repeated with what it died of. Failures of the file system (full, refused), of the lock, and
  /// stops by signals say nothing about the step and are not counted. Any rank may call it; ranks that fail
  /// together write the same.
  void add(int64_t step, const std::exception& error);

  /// `step` was done: what failed there or before is forgotten. Rank 0 calls it after every step; it looks at
  /// the disk only where there is something to forget.
  void passed(int64_t step);

 private:
  std::string path_;
  int64_t step_ = 0;   // that failed last; 0: none
  int64_t times_ = 0;  // in a row
};

}  // namespace dm::train
