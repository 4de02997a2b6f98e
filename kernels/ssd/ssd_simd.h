#pragma once
// The tasks of kernels/ssd/ssd_cpu.h, compiled for each level.

#include "kernels/simd/dispatch.h"
#include "kernels/ssd/ssd_cpu.h"

namespace dm::kernels {

// clang-format off
DM_SIMD_DECLARE(
  template <class T>
  int64_t ssd_scratch_size(int64_t head_dim, int64_t d_state);  // elements, enough for any task

  template <class T>
  void ssd_states_task(const SsdInput<T>& in, const SsdOutput<T>& out, int64_t row, int64_t head, T* scratch);

  template <class T>
  void ssd_outputs_task(const SsdInput<T>& in, const SsdOutput<T>& out, int64_t piece, int64_t group, T* scratch);

  template <class T>
  void ssd_state_gradients_task(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                                const SsdInputGradient<T>& din, int64_t row, int64_t head, T* scratch);

  template <class T>
  void ssd_gradients_task(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                          const SsdInputGradient<T>& din, int64_t piece, int64_t group, T* scratch);

  template <class T>
  void ssd_step_task(T* state, const T* x, T dt, T a, const T* b, const T* c, T d, T* y, int64_t head_dim,
                     int64_t d_state);
)
// clang-format on

}  // namespace dm::kernels
