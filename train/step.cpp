#include "train/step.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "train/recorded_work.h"

namespace dm::train {
namespace {

/// An array of the batch that a micro-step reads: of its rows of `width` from `first` on, the columns from
/// `column` on that `staged` has room for, brought to `to`.
template <class T>
void bring(const std::vector<T>& values, int64_t width, int64_t first, int64_t column, at::Tensor& staged,
           at::Tensor& to) {
  T* row = staged.data_ptr<T>();
  for (int64_t r = 0; r < staged.size(0); ++r, row += staged.size(1))
    std::copy_n(values.begin() + (first + r) * width + column, staged.size(1), row);
  if (!to.is_same(staged)) to.copy_(staged, /*non_blocking=*/true);
}

}  // namespace

struct BatchPasses::Micro {
  struct Array {
    at::Tensor staged;  // host memory, pinned where there is a GPU
    at::Tensor used;    // on the model's device
  };
  Array tokens, seq_idx, mask;  // [rows, L + 1], [rows, L], [rows, L]
  Array samples, goes_on;       // [rows, 1]
  std::vector<kernels::Carried> carried;
  RecordedWork work;

  Micro(int64_t rows, int64_t length, at::Device device, bool record)
      : tokens(array(rows, length + 1, at::kInt, device)),
        seq_idx(array(rows, length, at::kInt, device)),
        mask(array(rows, length, at::kByte, device)),
        samples(array(rows, 1, at::kLong, device)),
        goes_on(array(rows, 1, at::kByte, device)),
        work(record) {}

  static Array array(int64_t rows, int64_t width, at::ScalarType dtype, at::Device device) {
    const auto options = at::TensorOptions().dtype(dtype);
    if (device.is_cpu()) {
      const at::Tensor both = at::empty({rows, width}, options);
      return {both, both};
    }
    return {at::empty({rows, width}, options.pinned_memory(true)),
            at::empty({rows, width}, options.device(device))};
  }
};

BatchPasses::BatchPasses(model::LanguageModel& model, int64_t micro_batch, uint64_t seed, bool record)
    : model_(model), micro_batch_(micro_batch), seed_(seed), record_(record && !model.device().is_cpu()) {
  const at::Tensor& leaf = model.parameters().begin()->second;
  nats_ = at::zeros({}, leaf.options().dtype(at::kDouble).requires_grad(false));
}

void BatchPasses::reduce_with(GradientExchange& reducer) {
  DM_CHECK(micros_.empty(), "a reducer after passes were recorded without it");
  reducer_ = &reducer;
  model_.watch_backward([&reducer](int64_t depth) { reducer.passed(depth); });
}

void BatchPasses::gather_with(WeightGather& gather) {
  DM_CHECK(micros_.empty(), "weights on their way after passes were recorded that do not wait for them");
  gather_ = &gather;
  model_.watch_reads([&gather](int64_t depth) { gather.await(depth); });
}

BatchPasses::Micro& BatchPasses::micro(int64_t rows, int64_t length) {
  std::shared_ptr<Micro>& micro = micros_[rows];
  if (!micro) micro = std::make_shared<Micro>(rows, length, nats_.device(), record_);
  DM_CHECK(micro->seq_idx.used.size(1) == length, "rows of {} tokens after rows of {}", length,
           micro->seq_idx.used.size(1));
  return *micro;
}

void BatchPasses::pass(Micro& micro, int64_t first_token) {
  micro.work.run(traffic_, [&] {
    const model::LanguageModel::TrainingRows rows{seed_, micro.samples.used.squeeze(1), first_token,
                                                  states_ ? &micro.carried : nullptr};
    const at::Tensor nats =
        model_.loss_sum(micro.tokens.used.to(at::kLong), micro.seq_idx.used, micro.mask.used, nullptr, &rows);
    nats.backward();
    nats_.add_(nats.detach());
  });
}

LocalLoss BatchPasses::run(const data::Batch& batch) {
  const model::Placement& place = model_.placement();
  const model::TokenRange piece = model::context_piece(batch.length, place.cp, place.cp_rank);
  std::vector<int64_t> samples(static_cast<size_t>(batch.rows));
  std::iota(samples.begin(), samples.end(), batch.first_sample);
  nats_.zero_();
  if (gather_) gather_->step_begins();
  int64_t finished = 0;  // rounds of exchanges
  for (int64_t first = 0; first < batch.rows; first += micro_batch_) {
    // What the micro-step before still has to read is waited for before it is overwritten.
    if (first > 0 && !model_.device().is_cpu()) kernels::wait_for_gpu();
    Micro& micro = this->micro(std::min(micro_batch_, batch.rows - first), piece.count());
    bring(batch.tokens, batch.length + 1, first, piece.begin, micro.tokens.staged, micro.tokens.used);
    bring(batch.seq_idx, batch.length, first, piece.begin, micro.seq_idx.staged, micro.seq_idx.used);
    bring(batch.loss_mask, batch.length, first, piece.begin, micro.mask.staged, micro.mask.used);
    bring(samples, 1, first, 0, micro.samples.staged, micro.samples.used);
    if (states_) {
      bring(batch.goes_on, 1, first, 0, micro.goes_on.staged, micro.goes_on.used);
      states_->enter(first, micro.goes_on.used.squeeze(1).to(at::kBool), micro.carried);
    }
    if (gather_) gather_->pass_begins();
    if (reducer_) reducer_->pass_begins(/*last=*/first + micro_batch_ >= batch.rows);
    pass(micro, piece.begin);
    if (states_) states_->leave(first, micro.goes_on.used.size(0), micro.carried);
    if (reducer_ && reducer_->rounds() > 1) reducer_->finish(), ++finished;
  }
  // Before the GPU is waited for: the exchanges go on beside the pass. Ranks with fewer passes have none in
  // the last rounds.
  for (; reducer_ && finished < reducer_->rounds(); ++finished) reducer_->finish();
  double targets = 0;
  for (int64_t row = 0; row < batch.rows; ++row) {
    const auto begin = batch.loss_mask.begin() + row * batch.length + piece.begin;
    targets += static_cast<double>(
        std::count_if(begin, begin + piece.count(), [](uint8_t counts) { return counts != 0; }));
  }
  return {nats_.item<double>(), targets};
}

int64_t BatchPasses::graph_nodes() const {
  int64_t nodes = 0;
  for (const auto& [rows, micro] : micros_) nodes = std::max(nodes, micro->work.graph().nodes());
  return nodes;
}

}  // namespace dm::train
