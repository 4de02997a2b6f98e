#pragma once
// dp x cp x tp over the first ranks of a test under mpirun, tp fastest, on the CPU.

#include <memory>
#include <string>

#include "core/counting_collectives.h"
#include "tests/support/mpi_environment.h"
#include "train/groups.h"

namespace dm::test {

class Layout {
 public:
  /// All ranks of the test call it together; the data axis has what cp and tp leave. `shard` as --dp-shard.
  Layout(int64_t cp, int64_t tp, int64_t shard = 0) : cp_(cp), tp_(tp) {
    const int64_t rank = mpi().rank();
    tp_rank_ = rank % tp, cp_rank_ = rank / tp % cp, dp_rank_ = rank / tp / cp;
    all_ = counted(mpi().make_world_group(), traffic_.control);
    replicas_ = mpi().make_group(tp_rank_);
    const int64_t replica = replicas_->rank(), owners = shard > 0 ? shard : replicas_->size();
    shards_ = counted(mpi().make_group(replica / owners * tp + tp_rank_), traffic_.data);
    if (owners < replicas_->size())
      across_ = counted(mpi().make_group(replica % owners * tp + tp_rank_), traffic_.data);
    tensor_ = counted(mpi().make_group(rank / tp), traffic_.tensor);
    context_ = counted(mpi().make_group(dp_rank_ * tp + tp_rank_), traffic_.context);
  }
  train::Groups groups() {
    return {.all = *all_,
            .replicas = *replicas_,
            .shards = *shards_,
            .across = across_.get(),
            .data_rank = dp_rank_,
            .data_ranks = all_->size() / cp_ / tp_,
            .placement = {.tp = tp_,
                          .tp_rank = tp_rank_,
                          .cp = cp_,
                          .cp_rank = cp_rank_,
                          .tensor = tensor_.get(),
                          .context = context_.get()},
            .traffic = &traffic_};
  }
  Collectives& all() const { return *all_; }
  std::string name() const { return "cp" + std::to_string(cp_) + "tp" + std::to_string(tp_); }

 private:
  int64_t cp_, tp_, tp_rank_, cp_rank_, dp_rank_;
  train::AxisTraffic traffic_;
  std::unique_ptr<Collectives> all_, replicas_, shards_, across_, tensor_, context_;
};

}  // namespace dm::test
