// Saving beside training: what is written is the state at the moment of start(), whatever happens meanwhile,
// and what became of it reaches finish().

#include "train/saver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <memory>

#include "core/error.h"
#include "core/forwarding_collectives.h"
#include "tests/support/refusal.h"
#include "tests/train/tiny_model.h"

namespace dm::train {
namespace {

using testing::HasSubstr;

/// A group whose exchanges wait, or fail, once asked to: the store's saves do nothing without them.
class Gate final : public ForwardingCollectives {
 public:
  using ForwardingCollectives::ForwardingCollectives;
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    if (open_.valid()) open_.wait();
    DM_REQUIRE(!broken, ExitCode::io, "no space left");
    return ForwardingCollectives::all_gather(input, output, count, dtype);
  }
  void close() { gate_ = {}, open_ = gate_.get_future().share(); }
  void open() { gate_.set_value(); }
  bool broken = false;

 private:
  std::promise<void> gate_;
  std::shared_future<void> open_;
};

class SaverTest : public testing::Test {
 protected:
  SaverTest()
      : folder_(std::filesystem::temp_directory_path() / fmt::format("dm-saver-{}", getpid())),
        gate_(*model_.group),
        store_(folder_, {}, gate_),
        optimizer_({}, model_.parameters),
        saver_(store_, model_.parameters, optimizer_) {}
  ~SaverTest() override { std::filesystem::remove_all(folder_); }

  /// The newest checkpoint's tensors, filled into a state of their own.
  std::vector<double> saved_weights() {
    const test::TinyModel other(99);
    FlatParameters parameters(other.parameters.parameters(), DType::f64, *other.group);
    const ShardedOptimizer optimizer({}, parameters);
    HostState state(parameters, optimizer, HostState::OnCpu::the_arrays);
    checkpoints::load(store_.newest()->directory, state.pieces(HostState::Purpose::fill));
    return values(parameters.owned_weights());
  }
  static std::vector<double> values(const at::Tensor& t) {
    return {t.data_ptr<double>(), t.data_ptr<double>() + t.numel()};
  }

  std::string folder_;
  test::TinyModel model_{7};
  Gate gate_;
  checkpoints::Store store_;
  ShardedOptimizer optimizer_;
  Saver saver_;
};

TEST_F(SaverTest, WritesTheStateOfTheMomentItWasStarted) {
  const std::vector<double> before = values(model_.parameters.owned_weights());
  gate_.close();
  saver_.start(3, Json::object());
  EXPECT_TRUE(saver_.in_flight());
  EXPECT_TRUE(saver_.writing());
  saver_.hold_updates();
  model_.parameters.initialise(test::tiny_model(), 8);  // training goes on
  gate_.open();
  const Saver::Outcome outcome = saver_.finish();
  EXPECT_FALSE(saver_.in_flight());
  EXPECT_EQ(outcome.step, 3);
  EXPECT_EQ(outcome.bytes, 3 * model_.parameters.owned_count() * 8);  // weights and two moments
  EXPECT_EQ(saved_weights(), before);

  saver_.start(4, Json::object());  // the same memory again
  saver_.finish();
  EXPECT_EQ(saved_weights(), values(model_.parameters.owned_weights()));
}

TEST_F(SaverTest, AFailureReachesWhoAsksAndTheNextSaveIsFree) {
  gate_.broken = true;
  saver_.start(3, Json::object());
  EXPECT_THAT(test::refusal(ExitCode::io, [&] { saver_.finish(); }), HasSubstr("no space left"));
  EXPECT_FALSE(saver_.in_flight());
  gate_.broken = false;
  saver_.start(4, Json::object());
  EXPECT_EQ(saver_.finish().step, 4);
  EXPECT_EQ(store_.newest()->step, 4);
}

TEST_F(SaverTest, WhatIsInFlightAtTheEndIsCommitted) {
  {
    Saver short_lived(store_, model_.parameters, optimizer_);
    short_lived.start(5, Json::object());
  }
  EXPECT_EQ(store_.newest()->step, 5);
}

}  // namespace
}  // namespace dm::train
