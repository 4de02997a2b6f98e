// A program that ends badly on purpose: `abort_helper HOW [CODE [RANK [ANOTHER]]]`.
//   abort CODE RANK   that rank calls Environment::abort(CODE) while the others sit in a barrier
//   unwind            the last rank throws past its Environment while the others sit in a barrier
//   end CODE RANK ANOTHER   every rank ends with CODE, that rank with ANOTHER, or not at all (0); each prints
//   whether
//                     they all_end_with the same, and exits with 0
//   start             only starts and ends, and exits with the Error's code when that is refused

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "dist/environment.h"

namespace {
int run(int argc, char** argv) {
  dm::dist::Environment mpi(argc, argv);
  const auto group = mpi.make_world_group();
  if (std::strcmp(argv[1], "abort") == 0) {
    if (mpi.rank() == std::atoi(argv[3])) mpi.abort(std::atoi(argv[2]));
    group->barrier();
  }
  if (std::strcmp(argv[1], "unwind") == 0) {
    if (mpi.rank() == mpi.world() - 1) DM_FAIL(dm::ExitCode::bad_data, "thrown on purpose");
    group->barrier();
  }
  if (std::strcmp(argv[1], "end") == 0) {
    const int code = std::atoi(argv[mpi.rank() == std::atoi(argv[3]) ? 4 : 2]);
    if (code != 0) std::printf("%s\n", mpi.all_end_with(code) ? "together" : "apart");
  }
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const dm::Error& error) {
    std::fprintf(stderr, "%s\n", describe(error).c_str());
    return static_cast<int>(error.code());
  }
}
