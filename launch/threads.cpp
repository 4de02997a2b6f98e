#include "launch/threads.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>

#include "core/parallel.h"

namespace dm::launch {

int64_t use_threads(int64_t asked, int64_t local_world) {
  int64_t count = asked;
  if (count == 0) {
    // mpirun binds a rank to one core of those it was given; the cores to share are the host's, not the
    // binding's.
    cpu_set_t all;
    CPU_ZERO(&all);
    const bool known =
        sched_getaffinity(1, sizeof all, &all) == 0 || sched_getaffinity(0, sizeof all, &all) == 0;
    const int64_t cores = known ? CPU_COUNT(&all) : 1;
    count = std::max<int64_t>(1, cores / std::max<int64_t>(1, local_world));
  }
  set_threads(count);
  at::set_num_threads(static_cast<int>(count));
  return count;
}

}  // namespace dm::launch
