#pragma once
// The one interface through which ranks exchange arrays. dist/ implements it over MPI (and NCCL on GPUs);
// everything else sees only this, so a test can hand in a group of one.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace dm {

enum class Reduce { sum, max, min };

/// An operation in flight. After wait() the caller's arrays may be used again; the destructor waits too.
///
/// Which memory a group works on is its maker's choice. One for host memory keeps the host waiting. One for
/// the memory of a GPU works in the order of streams, as kernels do: an operation joins the stream that is
/// current when it is called, and wait() makes the stream that is current then wait for it, not the host. An
/// operation that shall run beside others is called on a stream of its own (kernels/device/stream.h).
class Pending {
 public:
  virtual ~Pending() = default;
  virtual void wait() = 0;
};

/// A group of ranks that call the same operations in the same order. Counts are elements, 64-bit, split as
/// the transport needs. Reductions add in rank order whatever the transport does, so that a run repeats bit
/// for bit at the same size.
class Collectives {
 public:
  virtual ~Collectives() = default;

  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;

  /// In place over all ranks.
  virtual void all_reduce(void* data, int64_t count, DType dtype, Reduce op) = 0;
  /// `input` has size() * count elements; rank r receives the reduction of piece r in `output` (count
  /// elements). `output` may be piece rank() of `input`.
  virtual std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                                  Reduce op) = 0;
  /// `output` has size() * count elements; piece r is rank r's `input`. `input` may be piece rank() of
  /// `output`.
  virtual std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count,
                                              DType dtype) = 0;
  virtual void broadcast(void* data, int64_t count, DType dtype, int64_t root) = 0;
  virtual std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) = 0;
  virtual std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) = 0;
  virtual void barrier() = 0;
  /// A group of the same ranks with traffic of its own, for another thread. All ranks call it together.
  virtual std::unique_ptr<Collectives> duplicate() = 0;

  // Helpers on top of the above.
  double all_sum(double value);
  double all_max(double value);
  int64_t all_max(int64_t value);
  bool all_agree(bool value);                                     // true when it is true on every rank
  std::vector<std::string> gather_text(const std::string& text);  // every rank's text, on every rank
};

/// The group of one: every operation is a copy or nothing.
std::unique_ptr<Collectives> make_single_process_collectives();

}  // namespace dm
