// What is counted of an exchange, and that a counting group changes nothing else.

#include "core/traffic.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/counting_collectives.h"

namespace dm {
namespace {

TEST(TrafficTest, WhatLeavesARank) {
  Traffic traffic;
  traffic.add(Operation::reduce_scatter, 40, 4, 3);
  traffic.add(Operation::all_gather, 40, 4);
  traffic.add(Operation::all_reduce, 10, 3);
  traffic.add(Operation::all_reduce, 1, 3);
  traffic.add(Operation::send, 7, 5);
  EXPECT_EQ(traffic.count(Operation::reduce_scatter), (Traffic::Count{3, 120, 360}));
  EXPECT_EQ(traffic.count(Operation::all_gather), (Traffic::Count{1, 40, 120}));
  EXPECT_EQ(traffic.count(Operation::all_reduce), (Traffic::Count{2, 11, 13 + 1}));
  EXPECT_EQ(traffic.count(Operation::send), (Traffic::Count{1, 7, 7}));
  EXPECT_EQ(traffic.count(Operation::broadcast), Traffic::Count());
  EXPECT_EQ(traffic.sent(), 360 + 120 + 14 + 7);
}

TEST(TrafficTest, ARankAloneExchangesNothing) {
  Traffic traffic;
  traffic.add(Operation::all_reduce, 1000, 1);
  traffic.add(Operation::all_gather, 0, 8);
  EXPECT_EQ(traffic, Traffic());
}

TEST(TrafficTest, ADifferenceIsWhatCameBetween) {
  Traffic traffic;
  traffic.add(Operation::all_gather, 8, 2);
  const Traffic before = traffic;
  EXPECT_EQ(traffic.since(before), Traffic());
  traffic.add(Operation::send, 8, 2);
  Traffic more;
  more.add(Operation::send, 8, 2);
  EXPECT_EQ(traffic.since(before), more);
  Traffic sum = before;
  sum += more;
  EXPECT_EQ(sum, traffic);
}

/// Records what it is called with, as rank 0 of three.
class Recording final : public Collectives {
 public:
  explicit Recording(std::vector<std::string>& calls) : calls_(calls) {}
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 3; }
  void all_reduce(void*, int64_t count, DType, Reduce) override { called("all-reduce", count); }
  std::unique_ptr<Pending> reduce_scatter(const void*, void*, int64_t count, DType, Reduce) override {
    return called("reduce-scatter", count);
  }
  std::unique_ptr<Pending> all_gather(const void*, void*, int64_t count, DType) override {
    return called("all-gather", count);
  }
  void broadcast(void*, int64_t count, DType, int64_t) override { called("broadcast", count); }
  std::unique_ptr<Pending> send(const void*, int64_t count, DType, int64_t) override {
    return called("send", count);
  }
  std::unique_ptr<Pending> receive(void*, int64_t count, DType, int64_t) override {
    return called("receive", count);
  }
  void barrier() override { called("barrier", 0); }
  std::unique_ptr<Collectives> duplicate() override { return std::make_unique<Recording>(calls_); }

 private:
  std::unique_ptr<Pending> called(const std::string& name, int64_t count) {
    calls_.push_back(name + " " + std::to_string(count));
    return nullptr;
  }
  std::vector<std::string>& calls_;
};

TEST(CountingCollectivesTest, CountsWhatItHandsOn) {
  std::vector<std::string> calls;
  Traffic traffic;
  const auto group = counted(std::make_unique<Recording>(calls), traffic);
  double values[3];
  group->all_reduce(values, 3, DType::f64, Reduce::sum);
  group->reduce_scatter(values, values, 1, DType::f64, Reduce::max);
  group->all_gather(values, values, 1, DType::f32);
  group->broadcast(values, 2, DType::i64, 0);
  group->send(values, 3, DType::bf16, 1);
  group->receive(values, 3, DType::bf16, 1);
  group->barrier();
  group->duplicate()->all_reduce(values, 1, DType::f64, Reduce::sum);  // of another thread
  EXPECT_EQ(calls,
            (std::vector<std::string>{"all-reduce 3", "reduce-scatter 1", "all-gather 1", "broadcast 2",
                                      "send 3", "receive 3", "barrier 0", "all-reduce 1"}));
  Traffic expected;
  expected.add(Operation::all_reduce, 24, 3);
  expected.add(Operation::reduce_scatter, 8, 3);
  expected.add(Operation::all_gather, 4, 3);
  expected.add(Operation::broadcast, 16, 3);
  expected.add(Operation::send, 6, 3);
  EXPECT_EQ(traffic, expected);
  EXPECT_EQ(group->size(), 3);
}

}  // namespace
}  // namespace dm
