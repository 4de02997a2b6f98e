#pragma once
// Held-out loss: every target of a dataset exactly once, whatever the number of ranks.

#include <cstdint>
#include <string>
#include <vector>

#include "core/fields.h"
#include "core/json.h"
#include "data/dataset.h"
#include "model/language_model.h"
#include "train/groups.h"

namespace dm::train {

struct EvalConfig {
  std::string eval_data;    // dataset, "" for none
  int64_t eval_rows = 0;    // rows to evaluate
  int64_t eval_length = 0;  // L of a row
  int64_t eval_batch = 8;   // rows per rank and forward pass
  std::string tasks;        // file of tasks/task_file.h, "" for none
  int64_t tasks_every = 0;  // steps

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("eval_data", self.eval_data, "held-out dataset to evaluate on; its first rows, in order",
      Affects::output);
    v("eval_rows", self.eval_rows, "rows to evaluate; 0: all of the dataset", Range{0, 1e15},
      Affects::output);
    v("eval_length", self.eval_length, "tokens a row when evaluating; 0: as in training", Range{0, 1e9},
      Affects::output);
    v("eval_batch", self.eval_batch, "rows per rank and forward pass when evaluating", Range{1, 1e9},
      Affects::output);
    v("tasks", self.tasks,
      "JSONL file of multiple-choice and cloze items, scored by log-likelihood; see launch/get_tasks",
      Affects::output);
    v("tasks_every", self.tasks_every, "steps between two passes over the tasks; 0: only at the end",
      Range{0, 1e12}, Affects::output);
  }
};

struct EvalResult {
  int64_t rows = 0;
  int64_t tokens = 0;  // counted targets
  int64_t bytes = -1;  // of text among the counted targets; -1 when the tokenizer does not say
  double nats = 0;     // summed over the counted targets

  std::vector<double> nats_by_position;  // [L] summed over rows: target t of a row has t + 1 tokens before it
  std::vector<int64_t> tokens_by_position;  // [L]

  double nats_per_token() const;  // NaN without tokens
  double perplexity() const;      // exp of it
  double bits_per_token() const;
  double bits_per_byte() const;  // NaN when bytes is unknown

  /// Mean nats of the positions [begin, end): 0, 1, 2-3, 4-7, ... up to L.
  struct Bucket {
    int64_t begin, end;
    int64_t tokens;
    double nats_per_token;
  };
  std::vector<Bucket> buckets() const;

  /// All of the above; `positions` adds the mean nats of every position.
  Json to_json(bool positions = false) const;
};

/// Rows of `config.eval_length` (> 0) tokens from the dataset's start, the last one shorter: together they
/// predict each token but the first once. Each data rank takes a contiguous share of the rows; all ranks get
/// the same result. Targets that the dataset's loss mask leaves out do not count; mask_boundary_loss leaves
/// out each document's first token as well. Documents see each other unless the model's config says `packed`.
EvalResult evaluate(const model::LanguageModel& model, const data::Dataset& dataset, const EvalConfig& config,
                    bool mask_boundary_loss, const Groups& groups);

}  // namespace dm::train
