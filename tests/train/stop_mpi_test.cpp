// Signals. A program of its own: a stop request stays with its process, so that every later run stops after
// one step, which is what is wanted here and nowhere else.

#include <gtest/gtest.h>

#include <csignal>

#include "core/signals.h"
#include "tests/support/mpi_environment.h"
#include "tests/train/tiny_run.h"
#include "train/ledger.h"
#include "train/trainer.h"

namespace dm::train {
namespace {

TEST(Stop, OneRanksSignalStopsAllAndNothingIsLostAtAnyStep) {
  const auto group = test::mpi().make_world_group();
  const test::SharedFolder folder(*group);
  const RunConfig whole = test::tiny_run(folder.path(), "whole", 8),
                  stopped = test::tiny_run(folder.path(), "stopped", 8);
  ASSERT_EQ(train(whole, data_parallel(*group)), ExitCode::ok);

  install_signal_handlers();
  if (group->rank() == group->size() - 1) std::raise(SIGUSR1);
  for (int64_t step = 1; step <= 7; ++step) {
    EXPECT_EQ(train(stopped, data_parallel(*group)), ExitCode::saved) << "step " << step;
    group->barrier();
    EXPECT_EQ(read_ledger(stopped.train.ledger).size(), static_cast<size_t>(step));
    group->barrier();
  }
  EXPECT_EQ(train(stopped, data_parallel(*group)), ExitCode::ok);  // its last step: the run is complete
  EXPECT_EQ(train(stopped, data_parallel(*group)), ExitCode::ok);  // and stays so
  group->barrier();
  const auto difference =
      first_difference(read_ledger(whole.train.ledger), read_ledger(stopped.train.ledger));
  EXPECT_FALSE(difference) << *difference;
  EXPECT_EQ(test::metric(stopped.train.run_dir, "loss"), test::metric(whole.train.run_dir, "loss"));
}

}  // namespace
}  // namespace dm::train
