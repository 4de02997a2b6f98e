// Ranks on two hosts for real: network namespaces of one machine, each with its own address and host name,
// that reach each other over TCP alone. Skipped by name where they may not be made.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/e2e/small_run.h"

namespace dm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TwoHosts : public testing::Test {
 protected:
  void SetUp() override {
    const Outcome up = run({DM_HOSTS_SCRIPT, "up", prefix_, "2", "slots=2"});
    if (up.exit_code != 0) GTEST_SKIP() << "network namespaces need root and CAP_NET_ADMIN: " << up.err;
    write_text(folder_ / "hosts", up.out);
    prepare_sample(folder_.path());
  }
  void TearDown() override { run({DM_HOSTS_SCRIPT, "down", prefix_, "2"}); }

  /// Four ranks of the command, two a host, started from the first.
  Outcome on_both(std::vector<std::string> words) const {
    std::vector<std::string> all = {DM_HOSTS_SCRIPT, "run",        prefix_,           "0",
                                    "mpirun",        "--hostfile", folder_ / "hosts", "--mca"};
    for (const char* word : {"plm_rsh_agent", DM_HOSTS_SCRIPT, "--mca", "btl_tcp_if_include", "eth0", "--mca",
                             "oob_tcp_if_include", "eth0", "-n", "4"})
      all.emplace_back(word);
    all.insert(all.end(), words.begin(), words.end());
    return run(all, {{"DM_HOSTS", prefix_}});
  }

  // Short: interfaces have names of 15 letters at most.
  const std::string prefix_ = "dm" + std::to_string(getpid() % 100000);
  TemporaryFolder folder_;
};

TEST_F(TwoHosts, TrainWhatOneHostTrains) {
  const Outcome both = on_both(train_words(folder_.path(), "both", 12));
  ASSERT_EQ(both.exit_code, 0) << both.err;
  EXPECT_THAT(both.out + both.err,
              AllOf(HasSubstr("rank 1 on " + prefix_ + "0"), HasSubstr("rank 2 on " + prefix_ + "1")));
  ASSERT_EQ(run(mpirun(4, train_words(folder_.path(), "one", 12))).exit_code, 0);
  // The same ranks on the same samples: where they run changes no bit.
  EXPECT_EQ(read_text(folder_ / "both.ledger"), read_text(folder_ / "one.ledger"));
  EXPECT_EQ(run({diffmamba(), "verify", folder_ / "both"}).exit_code, 0);
}

TEST_F(TwoHosts, ATensorGroupMayNotCrossThem) {
  const Outcome outcome = on_both(train_words(folder_.path(), "run", 12, {"--tp", "4"}));
  EXPECT_EQ(outcome.exit_code, 64);
  EXPECT_THAT(outcome.out + outcome.err, AllOf(HasSubstr("must share a host"), HasSubstr("legal: 1, 2")));
}

}  // namespace
}  // namespace dm::test
