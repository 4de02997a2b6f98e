#include "kernels/ssd/ssd_cpu.h"

#include "core/parallel.h"
#include "kernels/simd/scratch.h"
#include "kernels/ssd/ssd_simd.h"

namespace dm::kernels {
namespace {

/// Calls task(i, j, scratch) for all i < rows, j < columns, spread over the threads.
template <class T, class Task>
void for_all(int64_t rows, int64_t columns, int64_t head_dim, int64_t d_state, const Task& task) {
  const int64_t elements = DM_SIMD_CALL(ssd_scratch_size<T>)(head_dim, d_state);
  parallel_for(rows * columns, [&](int64_t i) { task(i / columns, i % columns, scratch<T>(elements)); });
}

}  // namespace

int64_t ssd_slot_size(int64_t head_dim, int64_t d_state) {
  const auto padded = [](int64_t extent) { return (extent + 15) / 16 * 16; };
  return padded(head_dim) * padded(d_state);
}

template <class T>
void ssd_final_state(const SsdInput<T>& in, const SsdOutput<T>& out) {
  for_all<T>(in.batch, in.heads, in.head_dim, in.d_state, [&](int64_t row, int64_t head, T* scratch) {
    DM_SIMD_CALL(ssd_states_task<T>)(in, out, row, head, scratch);
  });
}

template <class T>
void ssd_forward(const SsdInput<T>& in, const SsdOutput<T>& out) {
  ssd_final_state(in, out);
  for_all<T>(in.rows[in.batch], in.groups, in.head_dim, in.d_state,
             [&](int64_t piece, int64_t group, T* scratch) {
               DM_SIMD_CALL(ssd_outputs_task<T>)(in, out, piece, group, scratch);
             });
}

template <class T>
void ssd_initial_gradient(const SsdInput<T>& in, const SsdOutputGradient<T>& dout,
                          const SsdInputGradient<T>& din) {
  for_all<T>(in.batch, in.heads, in.head_dim, in.d_state, [&](int64_t row, int64_t head, T* scratch) {
    DM_SIMD_CALL(ssd_state_gradients_task<T>)(in, dout, din, row, head, scratch);
  });
}

template <class T>
void ssd_backward(const SsdInput<T>& in, const SsdOutputGradient<T>& dout, const SsdInputGradient<T>& din) {
  ssd_initial_gradient(in, dout, din);
  for_all<T>(in.rows[in.batch], in.groups, in.head_dim, in.d_state,
             [&](int64_t piece, int64_t group, T* scratch) {
               DM_SIMD_CALL(ssd_gradients_task<T>)(in, dout, din, piece, group, scratch);
             });
}

template <class T>
void ssd_step_head(T* state, const T* x, T dt, T a, const T* b, const T* c, T d, T* y, int64_t head_dim,
                   int64_t d_state) {
  DM_SIMD_CALL(ssd_step_task<T>)(state, x, dt, a, b, c, d, y, head_dim, d_state);
}

#define DM_INSTANTIATE(T)                                                                                  \
  template void ssd_final_state(const SsdInput<T>&, const SsdOutput<T>&);                                  \
  template void ssd_initial_gradient(const SsdInput<T>&, const SsdOutputGradient<T>&,                      \
                                     const SsdInputGradient<T>&);                                          \
  template void ssd_forward(const SsdInput<T>&, const SsdOutput<T>&);                                      \
  template void ssd_backward(const SsdInput<T>&, const SsdOutputGradient<T>&, const SsdInputGradient<T>&); \
  template void ssd_step_head(T*, const T*, T, T, const T*, const T*, T, T*, int64_t, int64_t);
DM_INSTANTIATE(float)
DM_INSTANTIATE(double)
#undef DM_INSTANTIATE

}  // namespace dm::kernels
