#include "core/progress.h"

#include <atomic>

namespace dm {
namespace {
std::atomic<int64_t> count = 0;
}  // namespace

void made_progress() { count.fetch_add(1, std::memory_order_relaxed); }
int64_t progress_made() { return count.load(std::memory_order_relaxed); }

}  // namespace dm
