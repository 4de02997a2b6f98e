#pragma once
// The exit codes of `diffmamba`, from sysexits.h where it has one. SLURM scripts requeue on `lost` and
// `saved` only.

namespace dm {

enum class ExitCode : int {
  ok = 0,
  usage = 64,         // an option, a config or a layout that cannot be
  bad_data = 65,      // a dataset, checkpoint or model file that is damaged or does not fit
  internal = 70,      // a bug, or numerics that left the finite numbers
  lost = 71,          // a rank, device or network was lost, or the job hung: run again
  locked = 73,        // another job owns the run directory
  io = 74,            // the file system failed: full, broken, out of descriptors
  saved = 75,         // state saved after a signal: run again
  permission = 77,    // the file system refused
  repeated = 78,      // the same step failed three times: do not run again
  interrupted = 130,  // stopped by a signal with nothing to save and nothing left behind (128 + SIGINT, as
                      // shells say it)
};

inline constexpr ExitCode kAllExitCodes[] = {ExitCode::ok,       ExitCode::usage,      ExitCode::bad_data,
                                             ExitCode::internal, ExitCode::lost,       ExitCode::locked,
                                             ExitCode::io,       ExitCode::saved,      ExitCode::permission,
                                             ExitCode::repeated, ExitCode::interrupted};

/// One line that says what a code means, for --help and the docs.
const char* meaning(ExitCode code);

}  // namespace dm
