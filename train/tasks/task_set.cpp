#include "train/tasks/task_set.h"

#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "train/rows.h"

namespace dm::train {
namespace {

/// Tokens of a batch at most (one row may be longer): the logits of greedy matches are that many times V.
constexpr int64_t kTokensAtOnce = 2048;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

double standard_error(double accuracy, int64_t items) {
  return items > 1 ? std::sqrt(accuracy * (1 - accuracy) / static_cast<double>(items - 1)) : 0;
}

/// Bytes that a choice's likelihood is divided by.
double counted_bytes(const std::string& choice) {
  const auto first = std::find_if_not(choice.begin(), choice.end(), is_space);
  return static_cast<double>(std::max<std::ptrdiff_t>(1, choice.end() - first));
}

int64_t index_of_largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

/// By request, summed over ranks.
struct TaskSet::Sums {
  std::vector<double> nats;     // of the scored tokens
  std::vector<int64_t> misses;  // scored tokens that are not the most likely ones
};

TaskSet::TaskSet(const std::string& path, const data::Tokenizer& tokenizer, int64_t vocab_size)
    : items_(read_tasks(path)) {
  DM_REQUIRE(tokenizer.vocab_size() <= vocab_size, ExitCode::usage,
             "--tasks {}: the tokenizer has {} ids, the model {}; it was trained with another one", path,
             tokenizer.vocab_size(), vocab_size);
  for (const TaskItem& item : items_) {
    // White space that ends the context is part of the continuation's first word.
    const size_t words = static_cast<size_t>(
        std::find_if_not(item.context.rbegin(), item.context.rend(), is_space).base() - item.context.begin());
    const std::string context = item.context.substr(0, words), space = item.context.substr(words);
    std::vector<int32_t> context_ids;
    tokenizer.encode(context, context_ids);
    for (const std::string& continuation : item.continuations) {
      Request request{{}, static_cast<int64_t>(context_ids.size()), item.cloze};
      tokenizer.encode(context + space + continuation, request.ids);
      DM_REQUIRE(static_cast<int64_t>(request.ids.size()) > request.begin, ExitCode::bad_data,
                 "{}: '{}' of task '{}' has no token of its own behind its context", path, continuation,
                 item.task);
      if (request.begin == 0) {  // a document's first token follows the end of another
        DM_REQUIRE(tokenizer.eos_id() >= 0, ExitCode::usage,
                   "{}: an empty context needs a tokenizer with an end-of-text token", path);
        request.ids.insert(request.ids.begin(), static_cast<int32_t>(tokenizer.eos_id()));
        request.begin = 1;
      }
      requests_.push_back(std::move(request));
    }
  }
  by_length_.resize(requests_.size());
  std::iota(by_length_.begin(), by_length_.end(), 0);
  std::stable_sort(by_length_.begin(), by_length_.end(), [&](int64_t a, int64_t b) {
    return requests_[static_cast<size_t>(a)].length() > requests_[static_cast<size_t>(b)].length();
  });
}

TaskResults TaskSet::evaluate(const model::LanguageModel& model, int64_t batch, const Groups& groups) const {
  const c10::NoGradGuard no_gradients;
  Sums sums{std::vector<double>(requests_.size()), std::vector<int64_t>(requests_.size())};
  std::vector<int64_t> rows;  // of the next batch, its longest first
  const auto full = [&] {
    const auto more = static_cast<int64_t>(rows.size()) + 1;
    return more > batch || more * requests_[static_cast<size_t>(rows.front())].length() > kTokensAtOnce;
  };
  // Shares take turns, so that each gets long and short ones alike.
  for (auto i = static_cast<size_t>(groups.data_rank); i < by_length_.size();
       i += static_cast<size_t>(groups.data_ranks)) {
    if (!rows.empty() && full()) add_batch(sums, model, rows), rows.clear();
    rows.push_back(by_length_[i]);
  }
  if (!rows.empty()) add_batch(sums, model, rows);
  const auto count = static_cast<int64_t>(requests_.size());
  groups.replicas.all_reduce(sums.nats.data(), count, DType::f64, Reduce::sum);
  groups.replicas.all_reduce(sums.misses.data(), count, DType::i64, Reduce::sum);
  return results(sums);
}

void TaskSet::add_batch(Sums& sums, const model::LanguageModel& model,
                        const std::vector<int64_t>& requests) const {
  const auto rows = static_cast<int64_t>(requests.size());
  const int64_t length = requests_[static_cast<size_t>(requests.front())].length();
  Rows whole{at::zeros({rows, length + 1}, at::kLong), at::zeros({rows, length}, at::kInt),
             at::zeros({rows, length}, at::kByte)};
  bool cloze = false;
  for (int64_t b = 0; b < rows; ++b) {
    const Request& request = requests_[static_cast<size_t>(requests[static_cast<size_t>(b)])];
    std::copy(request.ids.begin(), request.ids.end(), whole.tokens[b].data_ptr<int64_t>());
    // The target at position t is token t + 1.
    whole.mask[b].narrow(0, request.begin - 1, request.length() - request.begin + 1).fill_(1);
    cloze |= request.cloze;
  }
  const Rows mine = whole.piece(model.placement()), there = mine.to(model.device());
  at::Tensor per_target;
  model.loss_sum(there.tokens, there.seq_idx, there.mask, &per_target);
  const at::Tensor counts = mine.mask.to(at::kBool);
  const at::Tensor nats =
      per_target.to(at::kCPU, at::kDouble).masked_fill(counts.logical_not(), 0).sum(1).contiguous();
  at::Tensor misses = at::zeros({rows}, at::kLong);
  if (cloze) {
    const int64_t piece = there.seq_idx.size(1);
    const at::Tensor greedy =
        model.logits(there.tokens.narrow(1, 0, piece), there.seq_idx).argmax(-1).to(at::kCPU);
    misses = greedy.ne(mine.tokens.narrow(1, 1, piece)).logical_and(counts).sum(1).contiguous();
  }
  for (int64_t b = 0; b < rows; ++b) {
    const auto request = static_cast<size_t>(requests[static_cast<size_t>(b)]);
    sums.nats[request] += nats.const_data_ptr<double>()[b];
    sums.misses[request] += misses.const_data_ptr<int64_t>()[b];
  }
}

TaskResults TaskSet::results(const Sums& sums) const {
  TaskResults results;
  size_t request = 0;
  for (const TaskItem& item : items_) {
    TaskScore& score = results.scores[item.task];
    std::vector<double> likelihoods, by_bytes;
    const size_t first = request;
    for (const std::string& continuation : item.continuations) {
      likelihoods.push_back(-sums.nats[request++]);
      by_bytes.push_back(likelihoods.back() / counted_bytes(continuation));
    }
    ++score.items;
    score.cloze = item.cloze;
    if (item.cloze) {
      score.correct += sums.misses[first] == 0 ? 1 : 0;
      score.nats += sums.nats[first];
    } else {
      score.correct += index_of_largest(likelihoods) == item.answer ? 1 : 0;
      score.correct_by_bytes += index_of_largest(by_bytes) == item.answer ? 1 : 0;
    }
    results.log_likelihoods.push_back(std::move(likelihoods));
  }
  return results;
}

double TaskScore::perplexity() const { return std::exp(nats / static_cast<double>(items)); }

Json TaskScore::to_json() const {
  Json json{{"items", items}, {"acc", accuracy()}, {"acc_stderr", standard_error(accuracy(), items)}};
  if (cloze) {
    json["perplexity"] = perplexity();
  } else {
    json["acc_norm"] = accuracy_by_bytes();
    json["acc_norm_stderr"] = standard_error(accuracy_by_bytes(), items);
  }
  return json;
}

std::string TaskScore::line(const std::string& task) const {
  const std::string more = cloze ? fmt::format("perplexity {:.3f}", perplexity())
                                 : fmt::format("{:.2f} % by bytes", 100 * accuracy_by_bytes());
  return fmt::format("{}: {:.2f} % right, {}, of {}", task, 100 * accuracy(), more, items);
}

Json TaskResults::to_json() const {
  Json json = Json::object();
  for (const auto& [task, score] : scores) json[task] = score.to_json();
  return json;
}

}  // namespace dm::train
