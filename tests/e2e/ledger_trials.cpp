// Runs that are stopped by signal at a step, or whose mpirun is killed at a random moment, and then resumed:
// their ledgers must equal an uninterrupted run's, byte for byte.
//
//   ledger_trials --ranks N --stops COUNT --kills COUNT [--save-kills COUNT] [--seed S] [--results
//   FILE.jsonl]
//
// Prints one line a trial; exit 1 when any ledger differs. COUNT stops are spread evenly over steps 1 .. 30.
// Runs of
// --save-kills save at every step and are repeated until so many of the kills fell into a save.

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "tests/e2e/small_run.h"

using namespace dm::test;

namespace {
constexpr int kSteps = 30;
constexpr int kSaved = 75;

struct Options {
  int ranks = 1, stops = 8, kills = 5, save_kills = 0;
  unsigned seed = 1;
  std::string results;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], value = argv[i + 1];
    if (key == "--ranks")
      options.ranks = std::stoi(value);
    else if (key == "--stops")
      options.stops = std::stoi(value);
    else if (key == "--kills")
      options.kills = std::stoi(value);
    else if (key == "--save-kills")
      options.save_kills = std::stoi(value);
    else if (key == "--seed")
      options.seed = static_cast<unsigned>(std::stoul(value));
    else if (key == "--results")
      options.results = value;
    else
      throw std::invalid_argument("unknown option " + key);
  }
  return options;
}

int lines(const std::string& path) {
  const std::string text = read_text(path);
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

class Trials {
 public:
  explicit Trials(const Options& options) : options_(options), random_(options.seed) {
    prepare_sample(folder_.path());
    const auto start = std::chrono::steady_clock::now();
    const Outcome whole = run(command("whole"));
    whole_run_ms_ =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start)
            .count();
    if (whole.exit_code != 0) throw std::runtime_error("the uninterrupted run failed: " + whole.err);
    ledger_ = read_text(folder_ / "whole.ledger");
    if (lines(folder_ / "whole.ledger") != kSteps)
      throw std::runtime_error("the uninterrupted ledger lacks steps");
  }

  /// Sends SIGUSR1 once `step` steps are in the ledger.
  bool stop_at(int step) {
    const std::string name = fmt::format("stop{}", step);
    Process process(command(name));
    while (process.running() && lines(folder_ / (name + ".ledger")) < step)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.signal(SIGUSR1);
    const Outcome stopped = process.wait();
    // A signal after the last step may find the run already at its end.
    if (stopped.exit_code != kSaved && stopped.exit_code != 0)
      return report("stop", step, name, "first part: " + stopped.err);
    return resume_and_compare("stop", step, name);
  }

  /// kill -9 to mpirun (or the only process) at a random moment of a run's length.
  bool kill_at_random(int trial) {
    const std::string name = fmt::format("kill{}", trial);
    const auto delay = static_cast<int>(random_() % static_cast<unsigned>(whole_run_ms_));
    Process process(command(name));
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    process.signal(SIGKILL);
    process.wait();
    return resume_and_compare("kill", delay, name);
  }

  /// kill -9 likewise, in a run that is nearly always saving. What the kill fell into shows by what it left.
  bool kill_while_saving(int trial, bool& was_saving) {
    const std::string name = fmt::format("save-kill{}", trial);
    const std::vector<std::string> often = {"--save-every", "1"};
    Process process(command(name, often));
    while (process.running() && lines(folder_ / (name + ".ledger")) < 1)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto delay = static_cast<int>(random_() % kSavingMs);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    process.signal(SIGKILL);
    process.wait();
    was_saving = false;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / (name + "/checkpoints")))
      was_saving |= entry.path().filename().string().starts_with(".tmp-");
    return resume_and_compare(was_saving ? "save-kill" : "kill", delay, name, often);
  }

 private:
  static constexpr unsigned kSavingMs = 150;  // of the run, from its first step on

  std::vector<std::string> command(const std::string& name, const std::vector<std::string>& more = {}) const {
    return on_ranks(options_.ranks, train_words(folder_.path(), name, kSteps, more));
  }

  bool resume_and_compare(const char* kind, int at, const std::string& name,
                          const std::vector<std::string>& more = {}) {
    // Orphans of a killed mpirun hold the run's lock for some seconds: exit code 73 says to come again.
    Outcome resumed;
    for (int attempt = 0; attempt < 40; ++attempt) {
      resumed = run(command(name, more));
      if (resumed.exit_code != 73) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
    }
    if (resumed.exit_code != 0)
      return report(kind, at, name, fmt::format("resume exited {}: {}", resumed.exit_code, resumed.err));
    const bool same = read_text(folder_ / (name + ".ledger")) == ledger_;
    return report(kind, at, name, same ? "" : "the stitched ledger differs");
  }

  bool report(const char* kind, int at, const std::string& name, const std::string& problem) {
    fmt::print("{} ranks, {} at {}: {}\n", options_.ranks, kind, at,
               problem.empty() ? "ledger equal" : problem);
    std::fflush(stdout);
    if (!options_.results.empty()) {
      const char* revision = std::getenv("DM_REVISION");
      std::ofstream(options_.results, std::ios::app) << fmt::format(
          "{{\"test\": \"ledger\", \"ranks\": {}, \"kind\": \"{}\", \"at\": {}, \"seed\": {}, \"revision\": "
          "\"{}\", \"ok\": {}}}\n",
          options_.ranks, kind, at, options_.seed, revision ? revision : "", problem.empty());
    }
    std::filesystem::remove_all(folder_ / name);
    return problem.empty();
  }

  Options options_;
  std::mt19937 random_;
  TemporaryFolder folder_;
  std::string ledger_;
  int64_t whole_run_ms_ = 0;
};

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  Trials trials(options);
  int failures = 0;
  for (int i = 1; i <= options.stops; ++i)
    failures += !trials.stop_at(std::max(1, i * kSteps / options.stops));
  for (int i = 1; i <= options.kills; ++i) failures += !trials.kill_at_random(i);
  int total = options.stops + options.kills;
  for (int hits = 0, tries = 0; hits < options.save_kills; ++tries, ++total) {
    if (tries == 5 * options.save_kills) throw std::runtime_error("hardly a kill falls into a save");
    bool was_saving = false;
    failures += !trials.kill_while_saving(tries, was_saving);
    hits += was_saving;
  }
  fmt::print("{} of {} trials left the ledger of one run\n", total - failures, total);
  return total == 0 || failures != 0 ? 1 : 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "ledger_trials: {}\n", error.what());
  return 1;
}
