#include "dist/watched_collectives.h"

#include <utility>

#include "core/forwarding_collectives.h"

namespace dm::dist {
namespace {

class WatchedPending final : public Pending {
 public:
  WatchedPending(std::unique_ptr<Pending> inner, Activity& activity, const char* name)
      : inner_(std::move(inner)), activity_(activity), name_(name) {}
  ~WatchedPending() override {
    const Activity::Inside inside(activity_, name_);
    inner_.reset();
  }
  void wait() override {
    const Activity::Inside inside(activity_, name_);
    inner_->wait();
  }

 private:
  std::unique_ptr<Pending> inner_;
  Activity& activity_;
  const char* name_;
};

class WatchedCollectives final : public ForwardingCollectives {
 public:
  WatchedCollectives(std::unique_ptr<Collectives> group, Activity& activity)
      : ForwardingCollectives(*group), group_(std::move(group)), activity_(activity) {}

  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    const Activity::Inside inside(activity_, "all-reduce");
    group_->all_reduce(data, count, dtype, op);
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    return watched("reduce-scatter", [&] { return group_->reduce_scatter(input, output, count, dtype, op); });
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    return watched("all-gather", [&] { return group_->all_gather(input, output, count, dtype); });
  }
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override {
    const Activity::Inside inside(activity_, "broadcast");
    group_->broadcast(data, count, dtype, root);
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    return watched("send", [&] { return group_->send(data, count, dtype, to); });
  }
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override {
    return watched("receive", [&] { return group_->receive(data, count, dtype, from); });
  }
  void barrier() override {
    const Activity::Inside inside(activity_, "barrier");
    group_->barrier();
  }

 private:
  template <class Begin>
  std::unique_ptr<Pending> watched(const char* name, const Begin& begin) {
    std::unique_ptr<Pending> pending;
    {
      const Activity::Inside inside(activity_, name);
      pending = begin();
    }
    return std::make_unique<WatchedPending>(std::move(pending), activity_, name);
  }

  std::unique_ptr<Collectives> group_;
  Activity& activity_;
};

}  // namespace

std::unique_ptr<Collectives> watched(std::unique_ptr<Collectives> group, Activity& activity) {
  return std::make_unique<WatchedCollectives>(std::move(group), activity);
}

}  // namespace dm::dist
