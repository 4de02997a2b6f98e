#include "train/scattered_gradients.h"

#include <utility>

namespace dm::train {

ScatteredGradients::ScatteredGradients(FlatParameters& parameters, Collectives* across, int64_t rounds,
                                       std::function<void(size_t bucket)> complete)
    : parameters_(parameters),
      across_(across),
      rounds_(rounds),
      complete_(std::move(complete)),
      on_gpu_(!parameters.device().is_cpu()),
      side_(on_gpu_),
      left_(on_gpu_),
      settled_(on_gpu_),
      pass_begin_(on_gpu_) {
  for (int64_t round = 0; round < rounds_; ++round)
    waits_.push_back({kernels::Mark(on_gpu_), kernels::Mark(on_gpu_)});
}

void ScatteredGradients::pass_begins(bool /*last*/) {
  in_pass_ = true;
  host_pass_begin_ = Trace::now();
  pass_begin_.set();
}

void ScatteredGradients::passed(int64_t depth) {
  for (size_t i = parameters_.buckets().size(); i-- > 0;)
    if (bucket(i).depth == depth + 1) complete_(i), leave(i);
  if (depth == 0) settle();  // a recorded pass ends with all its streams joined
}

/// The bucket before it has to be taken in: what arrives has room for one, and it has had the time in which
/// this one was computed.
void ScatteredGradients::leave(size_t index) {
  settle();
  left_.set();
  side_.run([&] {
    left_.wait();
    pending_ = parameters_.reduce(bucket(index));
    if (on_gpu_) take_in(index);
  });
  under_way_ = index;
}

void ScatteredGradients::settle() {
  if (!under_way_) return;
  if (on_gpu_)
    settled_.wait();
  else
    take_in(*under_way_);
  under_way_.reset();
}

void ScatteredGradients::take_in(size_t index) {
  pending_->wait();
  pending_.reset();
  parameters_.take_in(bucket(index));
  settled_.set();
}

void ScatteredGradients::finish() {
  parameters_.check_gradients();
  const auto end = Trace::now();
  Wait& wait = waits_[static_cast<size_t>(round_)];
  if (!in_pass_) host_pass_begin_ = end, pass_begin_.set();
  wait.pass_end.set();
  // A pass takes all but the first bucket with it, whether it was called or replayed.
  if (in_pass_) complete_(0);
  for (size_t i = in_pass_ ? 1 : parameters_.buckets().size(); i-- > 0;) leave(i);
  settle();
  in_pass_ = false;
  const bool last = ++round_ == rounds_;
  if (last && across_ != nullptr)
    across_->all_reduce(parameters_.owned_gradients().data_ptr(), parameters_.owned_count(),
                        parameters_.dtype(), Reduce::sum);
  wait.summed.set();
  host_pass_end_ = end, host_summed_ = Trace::now();
  host_exposed_ms_ += Trace::ms(end, host_summed_);
  if (!last) return;
  round_ = 0;
  host_step_exposed_ms_ = std::exchange(host_exposed_ms_, 0);
}

double ScatteredGradients::exposed_ms() const {
  if (!on_gpu_) return host_step_exposed_ms_;
  double ms = 0;
  for (const Wait& wait : waits_) ms += wait.summed.ms_since(wait.pass_end);
  return ms;
}

void ScatteredGradients::report(Trace& trace) const {
  if (on_gpu_) {
    const Wait& last = waits_.back();
    trace.gpu("model", "last forward and backward", pass_begin_, last.pass_end);
    trace.gpu("communication", "last sums of gradients", last.pass_end, last.summed);
  } else {
    trace.host("model", "last forward and backward", host_pass_begin_, host_pass_end_);
    trace.host("communication", "last sums of gradients", host_pass_end_, host_summed_);
  }
}

}  // namespace dm::train
