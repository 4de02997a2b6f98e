#pragma once
// Hopper's copy engine: whole tiles between global and shared memory by one thread, arrivals counted by
// barriers in shared memory. A barrier's phase flips when its arrivals and its bytes are complete; wait()
// names the parity of the phase that must have ended.

#include <cuda.h>

#include <cstdint>

namespace dm::kernels::cuda {

struct Mbarrier {
  uint32_t address;

  __device__ void init(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  /// Makes init() known to the copy engine; a barrier of the block must follow.
  static __device__ void fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
  __device__ void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
  }
  __device__ void arrive_expecting(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
                 : "memory");
  }
  __device__ void wait(uint32_t parity) const {
    asm volatile(
        "{ .reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again; }" ::"r"(address),
        "r"(parity)
        : "memory");
  }
};

/// A box of the tensor from (column, token, row) on; zeros outside of it.
__device__ inline void tma_load(uint32_t target, const CUtensorMap& tensor, int column, int token, int row,
                                Mbarrier arrival) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
      "%4}], [%5];" ::"r"(target),
      "l"(&tensor), "r"(column), "r"(token), "r"(row), "r"(arrival.address)
      : "memory");
}
/// The same of a tensor of four dims.
__device__ inline void tma_load(uint32_t target, const CUtensorMap& tensor, int column, int group, int token,
                                int row, Mbarrier arrival) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, "
      "%4, %5}], [%6];" ::"r"(target),
      "l"(&tensor), "r"(column), "r"(group), "r"(token), "r"(row), "r"(arrival.address)
      : "memory");
}
/// Asks for it, but into the L2 cache alone.
__device__ inline void tma_prefetch(const CUtensorMap& tensor, int column, int token, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(&tensor),
               "r"(column), "r"(token), "r"(row)
               : "memory");
}
/// What lies outside of the tensor is not written.
__device__ inline void tma_store(const CUtensorMap& tensor, int column, int token, int row, uint32_t source) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&tensor),
      "r"(column), "r"(token), "r"(row), "r"(source)
      : "memory");
}
__device__ inline void bulk_load(uint32_t target, const void* source, int bytes, Mbarrier arrival) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
      "l"(source), "r"(bytes), "r"(arrival.address)
      : "memory");
}
__device__ inline void bulk_store(void* target, uint32_t source, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(target), "r"(source),
               "r"(bytes)
               : "memory");
}
/// Closes a group of this thread's stores.
__device__ inline void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until all but the last kPending groups have read their shared memory ...
template <int kPending>
__device__ inline void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// ... or are complete.
__device__ inline void bulk_wait_all() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace dm::kernels::cuda
