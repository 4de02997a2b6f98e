#include "tests/e2e/small_run.h"

#include <algorithm>
#include <iterator>
#include <random>
#include <stdexcept>

namespace dm::test {

std::string sample_text(int documents, unsigned seed) {
  static const char* kWords[] = {"the",    "model", "reads",     "a",     "long",  "story",    "of",
                                 "rivers", "and",   "mountains", "while", "two",   "branches", "differ",
                                 "slowly", "under", "northern",  "light", "again", "today"};
  std::mt19937 random(seed);
  std::string text;
  for (int d = 0; d < documents; ++d) {
    const int words = 20 + static_cast<int>(random() % 60);
    for (int w = 0; w < words; ++w)
      text += std::string(kWords[random() % std::size(kWords)]) + (w % 11 == 10 ? ". " : " ");
    text += "\n\n";
  }
  return text;
}

void prepare_sample(const std::string& folder) {
  write_text(folder + "/text.txt", sample_text(600, 7));
  const Outcome outcome = run({diffmamba(), "prepare", "--input", folder + "/text.txt", "--output",
                               folder + "/data", "--documents", "blank-line", "--heldout", "0.1"});
  if (outcome.exit_code != 0) throw std::runtime_error("prepare failed: " + outcome.err);
}

std::vector<std::string> train_words(const std::string& folder, const std::string& name, int steps,
                                     const std::vector<std::string>& more) {
  std::vector<std::string> words = {diffmamba(),
                                    "train",
                                    "--run-dir",
                                    folder + "/" + name,
                                    "--data",
                                    folder + "/data/train",
                                    "--pattern",
                                    "DM",
                                    "--d-model",
                                    "32",
                                    "--d-state",
                                    "16",
                                    "--head-dim",
                                    "16",
                                    "--head-dim-plain",
                                    "32",
                                    "--vocab-size",
                                    "257",
                                    "--length",
                                    "64",
                                    "--global-batch",
                                    "6",
                                    "--micro-batch",
                                    "2",
                                    "--threads",
                                    "1",
                                    "--lr",
                                    "1e-2",
                                    "--warmup",
                                    "5",
                                    "--steps",
                                    std::to_string(steps),
                                    "--save-every",
                                    "5",
                                    "--log-every",
                                    "5",
                                    "--telemetry-every",
                                    "10",
                                    "--ledger",
                                    folder + "/" + name + ".ledger"};
  for (size_t i = 0; i < more.size(); ++i) {
    const auto known = std::find(words.begin(), words.end(), more[i]);
    const bool replaces = known != words.end() && i + 1 < more.size();
    if (replaces)
      *(known + 1) = more[++i];
    else
      words.push_back(more[i]);
  }
  return words;
}

std::vector<std::string> on_ranks(int ranks, std::vector<std::string> words) {
  return ranks == 1 ? words : mpirun(ranks, std::move(words));
}

}  // namespace dm::test
