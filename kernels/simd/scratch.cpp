#include "kernels/simd/scratch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace dm::kernels {
namespace {

std::atomic<bool> poisoned{false};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
thread_local std::unique_ptr<void, Free> memory;
thread_local int64_t held_bytes = 0;

}  // namespace

void* scratch_bytes(int64_t bytes) {
  if (bytes > held_bytes) {
    memory.reset();
    held_bytes = 0;
    const int64_t rounded = (bytes + 63) / 64 * 64;
    memory.reset(std::aligned_alloc(64, static_cast<size_t>(rounded)));
    DM_REQUIRE(memory, ExitCode::internal, "{} bytes of working memory for a CPU operation cannot be had",
               rounded);
    held_bytes = rounded;
  }
  // All bits set is a NaN in every floating format.
  if (poisoned.load(std::memory_order_relaxed))
    std::memset(memory.get(), 0xff, static_cast<size_t>(held_bytes));
  return memory.get();
}

void poison_scratch(bool on) { poisoned = on; }

}  // namespace dm::kernels
