#include "train/evaluator.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/error.h"
#include "core/progress.h"
#include "data/loader.h"
#include "train/rows.h"

namespace dm::train {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Adds the targets of this rank's piece of some rows, all of one length, to the sums.
void add_rows(EvalResult& sums, const model::LanguageModel& model, const Rows& whole,
              const std::vector<int32_t>& bytes_of_ids) {
  const model::Placement& place = model.placement();
  const Rows rows = whole.piece(place), there = rows.to(model.device());
  at::Tensor per_target;
  model.loss_sum(there.tokens, there.seq_idx, there.mask, &per_target);
  const at::Tensor losses = per_target.to(at::kCPU, at::kDouble).contiguous();       // [B, L]
  const at::Tensor targets = rows.tokens.narrow(1, 1, losses.size(1)).contiguous();  // [B, L]
  const at::Tensor mask = rows.mask.contiguous();
  const int64_t length = std::max(whole.seq_idx.size(1), place.cp);
  const int64_t first = model::context_piece(length, place.cp, place.cp_rank).begin;
  const auto* loss = losses.const_data_ptr<double>();
  const auto* target = targets.const_data_ptr<int64_t>();
  const auto* counts = mask.const_data_ptr<uint8_t>();
  for (int64_t b = 0; b < losses.size(0); ++b)
    for (int64_t t = first; t < first + losses.size(1); ++t, ++loss, ++target, ++counts) {
      if (*counts == 0) continue;
      sums.nats_by_position[static_cast<size_t>(t)] += *loss;
      ++sums.tokens_by_position[static_cast<size_t>(t)];
      if (!bytes_of_ids.empty()) sums.bytes += bytes_of_ids[static_cast<size_t>(*target)];
    }
  if (place.cp_rank == 0) sums.rows += losses.size(0);
}

void add_ranks(EvalResult& sums, Collectives& group) {
  const auto length = static_cast<int64_t>(sums.nats_by_position.size());
  group.all_reduce(sums.nats_by_position.data(), length, DType::f64, Reduce::sum);
  group.all_reduce(sums.tokens_by_position.data(), length, DType::i64, Reduce::sum);
  int64_t counts[] = {sums.rows, sums.bytes};
  group.all_reduce(counts, 2, DType::i64, Reduce::sum);
  sums.rows = counts[0], sums.bytes = counts[1];
}

}  // namespace

EvalResult evaluate(const model::LanguageModel& model, const data::Dataset& dataset, const EvalConfig& config,
                    bool mask_boundary_loss, const Groups& groups) {
  const int64_t length = config.eval_length, targets = dataset.token_count() - 1;
  DM_CHECK(length > 0, "evaluation of rows of {} tokens", length);
  DM_REQUIRE(targets > 0, ExitCode::bad_data, "{}: too short to evaluate on: {} tokens", dataset.path(),
             dataset.token_count());
  DM_REQUIRE(
      dataset.vocab_size() <= model.config().vocab_size, ExitCode::usage,
      "{}: token ids up to {}, but the model's vocab_size is {}; it was prepared with another tokenizer",
      dataset.path(), dataset.vocab_size() - 1, model.config().vocab_size);
  const int64_t all_rows = (targets + length - 1) / length;
  const int64_t rows = config.eval_rows > 0 ? std::min(config.eval_rows, all_rows) : all_rows;

  const std::vector<int32_t>& bytes = dataset.bytes_of_ids();
  const c10::NoGradGuard no_gradients;
  EvalResult result{.bytes = 0,
                    .nats_by_position = std::vector<double>(static_cast<size_t>(length)),
                    .tokens_by_position = std::vector<int64_t>(static_cast<size_t>(length))};
  const int64_t end = data::first_row(rows, groups.data_rank + 1, groups.data_ranks);
  for (int64_t row = data::first_row(rows, groups.data_rank, groups.data_ranks); row < end;) {
    const int64_t full_rows = std::min({config.eval_batch, end - row, targets / length - row});
    if (full_rows > 0) {
      add_rows(result, model, read_rows(dataset, row * length, full_rows, length, mask_boundary_loss), bytes);
    } else {  // the dataset's last row, shorter than the others
      add_rows(result, model, read_rows(dataset, row * length, 1, targets - row * length, mask_boundary_loss),
               bytes);
    }
    row += std::max<int64_t>(full_rows, 1);
    made_progress();
  }
  add_ranks(result, groups.replicas);
  for (const double nats : result.nats_by_position) result.nats += nats;
  for (const int64_t tokens : result.tokens_by_position) result.tokens += tokens;
  if (bytes.empty()) result.bytes = -1;
  return result;
}

double EvalResult::nats_per_token() const { return tokens > 0 ? nats / static_cast<double>(tokens) : kNan; }
double EvalResult::perplexity() const { return std::exp(nats_per_token()); }
double EvalResult::bits_per_token() const { return nats_per_token() / std::numbers::ln2; }
double EvalResult::bits_per_byte() const {
  return bytes > 0 ? nats / std::numbers::ln2 / static_cast<double>(bytes) : kNan;
}

std::vector<EvalResult::Bucket> EvalResult::buckets() const {
  const auto length = static_cast<int64_t>(nats_by_position.size());
  std::vector<Bucket> result;
  for (int64_t begin = 0; begin < length; begin = std::max<int64_t>(1, 2 * begin)) {
    Bucket bucket{begin, std::min(std::max<int64_t>(1, 2 * begin), length), 0, 0};
    double sum = 0;
    for (int64_t t = bucket.begin; t < bucket.end; ++t) {
      sum += nats_by_position[static_cast<size_t>(t)];
      bucket.tokens += tokens_by_position[static_cast<size_t>(t)];
    }
    bucket.nats_per_token = bucket.tokens > 0 ? sum / static_cast<double>(bucket.tokens) : kNan;
    result.push_back(bucket);
  }
  return result;
}

Json EvalResult::to_json(bool positions) const {
  Json json{{"rows", rows},
            {"tokens", tokens},
            {"nats_per_token", nats_per_token()},
            {"perplexity", perplexity()},
            {"bits_per_token", bits_per_token()}};
  if (bytes >= 0) json["bytes"] = bytes, json["bits_per_byte"] = bits_per_byte();
  for (const Bucket& bucket : buckets())
    json["by_position"].push_back({{"begin", bucket.begin},
                                   {"end", bucket.end},
                                   {"tokens", bucket.tokens},
                                   {"nats_per_token", bucket.nats_per_token}});
  if (positions)
    for (size_t t = 0; t < nats_by_position.size(); ++t)
      json["nats_per_token_at"].push_back(
          tokens_by_position[t] > 0 ? nats_by_position[t] / static_cast<double>(tokens_by_position[t])
                                    : kNan);
  return json;
}

}  // namespace dm::train
