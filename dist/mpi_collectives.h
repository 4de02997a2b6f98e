#pragma once
// core/collectives.h over MPI. Only dist/environment.cpp includes this: callers get a Collectives.
//
// Arrays travel as bytes between pairs of ranks, in messages of at most `message_limit_bytes`; MPI adds
// nothing up. reduce_scatter exchanges the pieces and each rank adds its own ones in rank order (reduce.h);
// all_reduce does that and gathers, or, when that is less than a handful of packets, gathers everything and
// adds it all. Both give the same bits.

#include <mpi.h>

#include <vector>

#include "core/collectives.h"

namespace dm::dist {

class MpiCollectives final : public Collectives {
 public:
  /// Takes ownership of the communicator.
  MpiCollectives(MPI_Comm comm, int64_t message_limit_bytes);
  ~MpiCollectives() override;

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override;
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override;
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override;
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override;
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override;
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override;
  void barrier() override;
  std::unique_ptr<Collectives> duplicate() override;

 private:
  struct Transfer;
  /// Elements [bounds[r], bounds[r + 1]) of an array belong to rank r.
  using Bounds = std::vector<int64_t>;

  std::unique_ptr<Pending> reduce_ranges(const void* input, void* output, const Bounds& bounds, DType dtype,
                                         Reduce op);
  std::unique_ptr<Pending> gather_ranges(void* data, const Bounds& bounds, DType dtype);
  void post_send(Transfer& transfer, const void* data, int64_t size_bytes, int64_t to, int tag);
  void post_receive(Transfer& transfer, void* data, int64_t size_bytes, int64_t from, int tag);

  MPI_Comm comm_;
  int64_t message_limit_bytes_;
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

}  // namespace dm::dist
