#include "train/weight_gather.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "core/log.h"

namespace dm::train {

WeightGather::WeightGather(Collectives& group, std::vector<Bucket> buckets, DType dtype, at::Tensor owned,
                           at::Tensor all)
    : group_(group),
      buckets_(std::move(buckets)),
      depths_(depths(buckets_)),
      dtype_(dtype),
      owned_(std::move(owned)),
      all_(std::move(all)),
      on_gpu_(!all_.is_cpu()),
      alone_(group.size() == 1),
      side_(on_gpu_ && !alone_),
      updated_(on_gpu_ && !alone_),
      released_(on_gpu_ && !alone_) {
  if (alone_) return;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    exchanges_.emplace_back(on_gpu_);
    exchanges_.back().there.set();  // a recorded pass waits for it before anything was gathered, too
  }
}

WeightGather::~WeightGather() {
  if (alone_ || !on_gpu_) return;
  // What is under way writes to memory that goes to whoever asks for some next.
  try {
    exchanges_.back().there.wait();
  } catch (const std::exception& error) {
    log_error("weights that nobody waited for: {}", error.what());
  }
}

std::unique_ptr<Pending> WeightGather::gather(const Bucket& bucket) const {
  const auto at = [&](const at::Tensor& array, int64_t index) {
    return static_cast<char*>(array.data_ptr()) + index * size_bytes(dtype_);
  };
  return group_.all_gather(at(owned_, bucket.owned), at(all_, bucket.begin), bucket.piece, dtype_);
}

void WeightGather::arrive(size_t bucket) const {
  if (arrived_) arrived_(depths_[bucket].first, depths_[bucket].second);
}

void WeightGather::start() {
  if (alone_) {
    if (arrived_) arrived_(0, std::numeric_limits<int64_t>::max());
    return;
  }
  settle();
  const auto begin = Trace::now();
  updated_.set();
  side_.run([&] {
    updated_.wait();
    if (!on_gpu_ || !recording_) return begin_exchanges();
    const int64_t version = version_ ? version_() : 0;
    if (!queued_ || version != recorded_version_)
      queued_.emplace(/*record=*/true), recorded_version_ = version;
    queued_->run(traffic_, [this] { begin_exchanges(); });
  });
  released_.set();
  start_ms_ = Trace::ms(begin, Trace::now());
  next_ = 0;
  fresh_ = true;
}

void WeightGather::begin_exchanges() {
  for (size_t i = 0; i < exchanges_.size(); ++i) {
    Exchange& exchange = exchanges_[i];
    exchange.host_started = Trace::now();
    exchange.started.set();
    exchange.pending = gather(buckets_[i]);
    if (!on_gpu_) continue;
    exchange.pending->wait();
    exchange.pending.reset();
    arrive(i);
    exchange.there.set();
  }
}

void WeightGather::await(int64_t depth) {
  for (; next_ < exchanges_.size() && buckets_[next_].depth <= depth; ++next_) {
    Exchange& exchange = exchanges_[next_];
    if (on_gpu_) {
      exchange.wanted.set();
      exchange.there.wait();
    } else if (exchange.pending) {
      exchange.host_wanted = Trace::now();
      exchange.pending->wait();
      exchange.pending.reset();
      arrive(next_);
      exchange.host_there = Trace::now();
      exposed_ms_ += Trace::ms(exchange.host_wanted, exchange.host_there);
    }
  }
}

void WeightGather::settle() {
  if (alone_) return;
  if (on_gpu_)
    exchanges_.back().there.wait();  // the others come before it
  else
    await(std::numeric_limits<int64_t>::max());
}

void WeightGather::step_begins() {
  in_step_ = std::exchange(fresh_, false);
  awaited_ = unmeasured_ = false;
  exposed_ms_ = in_step_ && !on_gpu_ ? start_ms_ : 0;
}

void WeightGather::pass_begins() {
  measure();  // before the next pass sets the marks anew
  next_ = 0;
  if (in_step_ && !awaited_) awaited_ = true, unmeasured_ = on_gpu_;
}

void WeightGather::measure() {
  if (!std::exchange(unmeasured_, false)) return;
  exposed_ms_ = released_.ms_since(updated_);
  for (const Exchange& exchange : exchanges_)
    exposed_ms_ += std::max(0.0, exchange.there.ms_since(exchange.wanted));
}

double WeightGather::exposed_ms() {
  measure();
  return exposed_ms_;
}

void WeightGather::report(Trace& trace) const {
  if (!awaited_) return;
  Trace::Time before;
  for (size_t i = 0; i < exchanges_.size(); ++i) {
    const Exchange& exchange = exchanges_[i];
    const std::string name = fmt::format("all-gather {}", i), wait = fmt::format("waits for weights {}", i);
    if (on_gpu_) {
      trace.gpu("communication", name, exchange.started, exchange.there);
      // Later passes have set the mark anew.
      if (exchange.there.ms_since(exchange.wanted) > 0)
        trace.gpu("model", wait, exchange.wanted, exchange.there);
    } else {
      // All are under way at once: each is shown from where the one before it has come.
      trace.host("communication", name, std::max(exchange.host_started, before), exchange.host_there);
      trace.host("model", wait, exchange.host_wanted, exchange.host_there);
      before = exchange.host_there;
    }
  }
}

}  // namespace dm::train
