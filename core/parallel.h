#pragma once
// Our own worker threads for CPU kernels. What is computed never depends on how many there are: a task is one
// index, and no result is shared between tasks.

#include <cstdint>
#include <functional>

namespace dm {

/// Threads used by parallel_for, the caller included. Set once at start (default: the cores this process may
/// run on).
void set_threads(int64_t count);
int64_t threads();

/// Calls task(i) for every i in [0, count), spread over the threads; returns when all are done. The first
/// exception thrown by a task is rethrown here after the others have ended; indices not begun by then are
/// left out. A call from inside a task, or while another thread's call is running, runs in the caller's
/// thread alone. A forked child may call it.
void parallel_for(int64_t count, const std::function<void(int64_t)>& task);

}  // namespace dm
