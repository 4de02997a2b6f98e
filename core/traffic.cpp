#include "core/traffic.h"

namespace dm {
namespace {

int64_t leaving(Operation operation, int64_t bytes, int64_t ranks) {
  switch (operation) {
    case Operation::all_reduce: return 2 * (ranks - 1) * bytes / ranks;
    case Operation::reduce_scatter:
    case Operation::all_gather: return (ranks - 1) * bytes;
    case Operation::broadcast:
    case Operation::send: return bytes;
  }
  return 0;
}

}  // namespace

const char* name(Operation operation) {
  switch (operation) {
    case Operation::all_reduce: return "all-reduce";
    case Operation::reduce_scatter: return "reduce-scatter";
    case Operation::all_gather: return "all-gather";
    case Operation::broadcast: return "broadcast";
    case Operation::send: return "send";
  }
  return "";
}

void Traffic::add(Operation operation, int64_t bytes, int64_t ranks, int64_t calls) {
  if (ranks == 1 || bytes == 0 || calls == 0) return;
  Count& count = counts_[operation];
  count.calls += calls;
  count.bytes += calls * bytes;
  count.sent += calls * leaving(operation, bytes, ranks);
}

Traffic& Traffic::operator+=(const Traffic& other) {
  for (const auto& [operation, more] : other.counts_) {
    Count& count = counts_[operation];
    count.calls += more.calls, count.bytes += more.bytes, count.sent += more.sent;
  }
  return *this;
}

Traffic Traffic::since(const Traffic& before) const {
  Traffic result = *this;
  for (const auto& [operation, less] : before.counts_) {
    Count& count = result.counts_[operation];
    count.calls -= less.calls, count.bytes -= less.bytes, count.sent -= less.sent;
  }
  std::erase_if(result.counts_, [](const auto& entry) { return entry.second == Count(); });
  return result;
}

Traffic::Count Traffic::count(Operation operation) const {
  const auto found = counts_.find(operation);
  return found == counts_.end() ? Count() : found->second;
}

int64_t Traffic::sent() const {
  int64_t sum = 0;
  for (const auto& [operation, count] : counts_) sum += count.sent;
  return sum;
}

}  // namespace dm
