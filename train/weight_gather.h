#pragma once
// Brings updated weights to all ranks while the next forward pass already runs, which waits for a bucket
// where it comes to the bucket's layers: gradient_reducer.h the other way round.
//
//   model           update | layers of bucket 0 | of bucket 1 | of bucket 2 ...
//   communication          | 0 | 1 | 2 | ...
//
// On the CPU a gather is an open message until it is waited for. On a GPU all are queued behind the update on
// a stream of their own, each with a mark behind it that passes wait for, recorded as graphs or not. They are
// a graph themselves: queued one by one, with the copies that follow each, they took the host 3 ms of a step.
// Over MPI the host takes part in every exchange, so that there start() makes them all.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/collectives.h"
#include "kernels/device/stream.h"
#include "train/buckets.h"
#include "train/recorded_work.h"
#include "train/trace.h"

namespace dm::train {

class WeightGather {
 public:
  /// From what the ranks of `group` own, `owned` [owned_count], to all they hold, `all` [flat_count]. The
  /// group outlives this object.
  WeightGather(Collectives& group, std::vector<Bucket> buckets, DType dtype, at::Tensor owned,
               at::Tensor all);
  ~WeightGather();
  WeightGather(const WeightGather&) = delete;
  WeightGather& operator=(const WeightGather&) = delete;

  /// `arrived(begin, end)` is called whenever the weights of parameters of depths [begin, end) have come: on
  /// a GPU on the stream of the exchanges, and what it queues there is waited for with them. It queues the
  /// same each time that `version()` is the same.
  void on_arrival(std::function<void(int64_t begin, int64_t end)> arrived,
                  std::function<int64_t()> version = {}) {
    arrived_ = std::move(arrived), version_ = std::move(version);
  }

  /// On a GPU: what start() queues is recorded when it comes a second time, and replays are added to
  /// `traffic`, which outlives this object, where there is one. The group's exchanges can be recorded.
  void record(AxisTraffic* traffic) { recording_ = true, traffic_ = traffic; }

  /// What this rank owns is new. All ranks call it together.
  void start();
  /// What comes next on this thread, or on the current stream, may read parameters of this depth and less.
  void await(int64_t depth);
  /// The same of all parameters, and it may write to them and to what this rank owns.
  void settle();

  /// A step's passes begin; one of them does, behind those before it, for which the host has waited.
  void step_begins();
  void pass_begins();

  /// Milliseconds in which the last step's passes did nothing but wait for weights. On a GPU known once the
  /// model's stream has been waited for.
  double exposed_ms();
  /// The gathers that the step's passes have waited for, likewise; before the next start().
  void report(Trace& trace) const;

 private:
  struct Exchange {  // of one bucket
    explicit Exchange(bool on_gpu) : started(on_gpu), there(on_gpu), wanted(on_gpu) {}
    std::unique_ptr<Pending> pending;
    kernels::Mark started, there;  // on the side stream
    kernels::Mark wanted;          // on the model's stream
    Trace::Time host_started, host_wanted, host_there;
  };
  std::unique_ptr<Pending> gather(const Bucket& bucket) const;
  void arrive(size_t bucket) const;
  void begin_exchanges();
  void measure();

  Collectives& group_;
  const std::vector<Bucket> buckets_;
  const std::vector<std::pair<int64_t, int64_t>> depths_;  // of each bucket's parameters
  DType dtype_;
  at::Tensor owned_, all_;
  bool on_gpu_;
  bool alone_;  // both are the same memory
  std::function<void(int64_t, int64_t)> arrived_;
  std::function<int64_t()> version_;
  std::vector<Exchange> exchanges_;
  size_t next_ = 0;  // exchanges that this pass, or whatever else reads, has not waited for: next_ ..
  kernels::SideStream side_;
  bool recording_ = false;
  AxisTraffic* traffic_ = nullptr;
  std::optional<RecordedWork> queued_;  // as of recorded_version_
  int64_t recorded_version_ = 0;
  kernels::Mark updated_, released_;  // on the model's stream, around start()
  double start_ms_ = 0;               // of the host's time in the last start()
  bool fresh_ = false;                // no step has begun since start()
  bool awaited_ = false;              // the step's first pass has waited for what start() began
  bool in_step_ = false;              // the step is the first since start()
  bool unmeasured_ = false;
  double exposed_ms_ = 0;
};

}  // namespace dm::train
