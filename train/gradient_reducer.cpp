#include "train/gradient_reducer.h"

#include "core/error.h"

namespace dm::train {

GradientReducer::GradientReducer(FlatParameters& parameters, Collectives* across)
    : parameters_(parameters),
      across_(across),
      on_gpu_(!parameters.device().is_cpu()),
      alone_(parameters.group().size() == 1 && across == nullptr),
      left_(parameters.buckets().size()),
      side_(on_gpu_),
      pass_begin_(on_gpu_),
      pass_end_(on_gpu_),
      all_summed_(on_gpu_) {
  for (size_t i = 0; i < parameters.buckets().size(); ++i) exchanges_.emplace_back(on_gpu_);
}

void GradientReducer::pass_begins(bool last) {
  if (!last) return;
  last_pass_ = true;
  host_pass_begin_ = Trace::now();
  pass_begin_.set();
}

void GradientReducer::passed(int64_t depth) {
  if (on_gpu_ ? alone_ : !last_pass_) return;
  // A GPU's marks are part of a recorded pass, which may be the step's last or not: they are always set.
  for (size_t i = exchanges_.size(); i-- > 0;) {
    if (parameters_.buckets()[i].depth != depth + 1) continue;
    if (on_gpu_)
      exchanges_[i].complete.set();
    else
      start(i);
  }
}

void GradientReducer::start(size_t bucket) {
  DM_CHECK(bucket + 1 == left_, "bucket {} leaves when {} are left", bucket, left_);
  left_ = bucket;
  Exchange& exchange = exchanges_[bucket];
  exchange.host_started = Trace::now();
  exchange.started.set();
  exchange.pending = parameters_.reduce(parameters_.buckets()[bucket]);
}

void GradientReducer::await(size_t bucket) {
  exchanges_[bucket].pending->wait();
  if (across_ == nullptr) return;
  const Bucket& which = parameters_.buckets()[bucket];
  across_->all_reduce(parameters_.at(parameters_.owned_gradients().data_ptr(), which.owned), which.piece,
                      parameters_.dtype(), Reduce::sum);
}

void GradientReducer::finish() {
  parameters_.check_gradients();
  if (on_gpu_) {
    finish_on_gpu();
  } else {
    if (!last_pass_) host_pass_begin_ = Trace::now();
    host_pass_end_ = Trace::now();
    while (left_ > 0) start(left_ - 1);
    for (size_t i = exchanges_.size(); i-- > 0;) {
      await(i);
      exchanges_[i].host_summed = Trace::now();
    }
    host_exposed_ms_ = Trace::ms(host_pass_end_, Trace::now());
  }
  for (Exchange& exchange : exchanges_) exchange.pending.reset();
  left_ = exchanges_.size();
  last_pass_ = false;
}

void GradientReducer::finish_on_gpu() {
  if (!last_pass_) pass_begin_.set();
  pass_end_.set();
  if (alone_) return;
  side_.run([&] {
    for (size_t i = exchanges_.size(); i-- > 0;) {
      const Bucket& bucket = parameters_.buckets()[i];
      // Without a pass in this step the marks are those of an earlier one.
      (last_pass_ && bucket.depth > 0 ? exchanges_[i].complete : pass_end_).wait();
      start(i);
      await(i);
      exchanges_[i].summed.set();
    }
  });
  exchanges_.front().summed.wait();
  all_summed_.set();
}

double GradientReducer::exposed_ms() const {
  if (alone_) return 0;
  return on_gpu_ ? all_summed_.ms_since(pass_end_) : host_exposed_ms_;
}

void GradientReducer::report(Trace& trace) const {
  if (on_gpu_)
    trace.gpu("model", "last forward and backward", pass_begin_, pass_end_);
  else
    trace.host("model", "last forward and backward", host_pass_begin_, host_pass_end_);
  if (alone_) return;
  for (size_t i = exchanges_.size(); i-- > 0;) {
    const Exchange& exchange = exchanges_[i];
    const std::string name = fmt::format("reduce-scatter {}", i);
    if (on_gpu_)
      trace.gpu("communication", name, exchange.started, exchange.summed);
    else
      trace.host("communication", name, exchange.host_started, exchange.host_summed);
  }
}

}  // namespace dm::train
