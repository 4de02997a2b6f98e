#pragma once
// Working memory of a task: per thread, kept between tasks, so that nothing is allocated while tokens are
// computed.

#include <cstdint>

namespace dm::kernels {

/// `bytes` of this thread's memory, aligned to 64, with arbitrary contents; the next call in this thread may
/// invalidate it.
void* scratch_bytes(int64_t bytes);

template <class T>
T* scratch(int64_t count) {
  return static_cast<T*>(scratch_bytes(count * static_cast<int64_t>(sizeof(T))));
}

/// With `on`, every scratch is handed out filled with NaN: for tests that nothing is read before it is
/// written.
void poison_scratch(bool on);

}  // namespace dm::kernels
