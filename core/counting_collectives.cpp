#include "core/counting_collectives.h"

#include <utility>

#include "core/forwarding_collectives.h"

namespace dm {
namespace {

class CountingCollectives final : public ForwardingCollectives {
 public:
  CountingCollectives(std::unique_ptr<Collectives> group, Traffic& traffic)
      : ForwardingCollectives(*group), group_(std::move(group)), traffic_(traffic) {}

  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    add(Operation::all_reduce, count, dtype);
    group_->all_reduce(data, count, dtype, op);
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    add(Operation::reduce_scatter, count, dtype);
    return group_->reduce_scatter(input, output, count, dtype, op);
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    add(Operation::all_gather, count, dtype);
    return group_->all_gather(input, output, count, dtype);
  }
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override {
    add(Operation::broadcast, count, dtype);
    group_->broadcast(data, count, dtype, root);
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    add(Operation::send, count, dtype);
    return group_->send(data, count, dtype, to);
  }

 private:
  void add(Operation operation, int64_t count, DType dtype) {
    traffic_.add(operation, count * size_bytes(dtype), size());
  }

  std::unique_ptr<Collectives> group_;
  Traffic& traffic_;
};

}  // namespace

std::unique_ptr<Collectives> counted(std::unique_ptr<Collectives> group, Traffic& traffic) {
  return std::make_unique<CountingCollectives>(std::move(group), traffic);
}

}  // namespace dm
