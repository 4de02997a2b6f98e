#pragma once
// Calls from ordinary code into the namespaces of kernels/simd/level.h.

#include "kernels/simd/level.h"

/// Declares the same function in the namespace of every level: DM_SIMD_DECLARE(template <class T>
/// ScanTasks<T> scan_tasks();)
#define DM_SIMD_DECLARE(...) \
  namespace baseline {       \
  __VA_ARGS__                \
  }                          \
  namespace v3 {             \
  __VA_ARGS__                \
  }                          \
  namespace v4 {             \
  __VA_ARGS__                \
  }

/// Calls a function so declared at the level in use: DM_SIMD_CALL(scan_tasks<float>)()
#if defined(__x86_64__)
#define DM_SIMD_CALL(...)                                                        \
  (::dm::kernels::cpu_level() == ::dm::kernels::CpuLevel::v4   ? v4::__VA_ARGS__ \
   : ::dm::kernels::cpu_level() == ::dm::kernels::CpuLevel::v3 ? v3::__VA_ARGS__ \
                                                               : baseline::__VA_ARGS__)
#else
#define DM_SIMD_CALL(...) (baseline::__VA_ARGS__)
#endif
