#pragma once
// Evaluation tasks scored by log-likelihood, as the lm-evaluation-harness scores them: the likelihood of a
// continuation is that of its tokens behind the context's.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/tokenizer.h"
#include "model/language_model.h"
#include "train/groups.h"
#include "train/tasks/task_file.h"

namespace dm::train {

/// Of one task, over its items.
struct TaskScore {
  int64_t items = 0;
  bool cloze = false;
  /// Choices: items whose answer is the most likely one. Cloze: items whose target is, token by token, what
  /// the model holds most likely.
  int64_t correct = 0;
  int64_t correct_by_bytes = 0;  // choices: by likelihood over bytes, leading white space not counted
  double nats = 0;               // cloze: summed -log-likelihood of the targets

  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(items); }
  double accuracy_by_bytes() const {
    return static_cast<double>(correct_by_bytes) / static_cast<double>(items);
  }
  double perplexity() const;  // exp of the mean of nats

  /// {"items", "acc", "acc_norm"} or {"items", "acc", "perplexity"}, and each accuracy's standard error as
  /// "..._stderr".
  Json to_json() const;
  /// "piqa: 61.30 % right, 61.04 % by bytes, of 1838"
  std::string line(const std::string& task) const;
};

struct TaskResults {
  std::map<std::string, TaskScore> scores;
  std::vector<std::vector<double>>
      log_likelihoods;  // nats, of every continuation of every item, as in the file

  Json to_json() const;  // of the scores, by task
};

class TaskSet {
 public:
  /// Reads and encodes the items. ExitCode::usage or ::bad_data for a file that is none, and for one that the
  /// tokenizer or `vocab_size` does not fit.
  TaskSet(const std::string& path, const data::Tokenizer& tokenizer, int64_t vocab_size);

  /// `batch` rows at once at most. All ranks of `groups` call it together and get the same; each share of the
  /// data works on some of the continuations.
  TaskResults evaluate(const model::LanguageModel& model, int64_t batch, const Groups& groups) const;

 private:
  /// Tokens, of which those from `begin` on are scored.
  struct Request {
    std::vector<int32_t> ids;
    int64_t begin;
    bool cloze;
    int64_t length() const { return static_cast<int64_t>(ids.size()) - 1; }  // of the model's input
  };
  struct Sums;
  void add_batch(Sums& sums, const model::LanguageModel& model, const std::vector<int64_t>& requests) const;
  TaskResults results(const Sums& sums) const;

  std::vector<TaskItem> items_;
  std::vector<Request> requests_;   // continuation after continuation, item after item
  std::vector<int64_t> by_length_;  // their indices, longest first, so that neighbours need little padding
};

}  // namespace dm::train
