#include "dist/mpi_collectives.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "core/log.h"
#include "dist/mpi_check.h"
#include "dist/reduce.h"

namespace dm::dist {
namespace {
// Ranks call collectives in one order and MPI keeps the order of messages between two ranks, so one tag
// serves them all; send and receive have another, because only two ranks take part in them.
constexpr int kCollectiveTag = 1;
constexpr int kPairTag = 2;
// Below this an all_reduce is bound by latency: one MPI_Allgather instead of two exchanges.
constexpr int64_t kGatherBelowBytes = 16 << 10;

std::byte* at(void* data, int64_t offset_bytes) { return static_cast<std::byte*>(data) + offset_bytes; }
const std::byte* at(const void* data, int64_t offset_bytes) {
  return static_cast<const std::byte*>(data) + offset_bytes;
}
}  // namespace

/// Messages in flight, the memory they arrive in, and what is to be done when they have.
struct MpiCollectives::Transfer final : Pending {
  std::vector<MPI_Request> requests;
  std::unique_ptr<std::byte[]> received;
  std::function<void()> finish;

  void wait() override {
    auto open = std::exchange(requests, {});
    const auto then = std::exchange(finish, {});
    if (!open.empty()) DM_MPI(MPI_Waitall(static_cast<int>(open.size()), open.data(), MPI_STATUSES_IGNORE));
    if (then) then();
    received.reset();
  }

  ~Transfer() override {
    try {
      wait();
    } catch (const std::exception& error) {
      log_error("an exchange that nobody waited for failed: {}", error.what());
    }
  }
};

MpiCollectives::MpiCollectives(MPI_Comm comm, int64_t message_limit_bytes)
    : comm_(comm), message_limit_bytes_(message_limit_bytes) {
  DM_CHECK(message_limit_bytes >= 1 && message_limit_bytes <= INT32_MAX,
           "messages of {} bytes: MPI counts in int", message_limit_bytes);
  DM_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  int rank = 0, size = 1;
  DM_MPI(MPI_Comm_rank(comm_, &rank));
  DM_MPI(MPI_Comm_size(comm_, &size));
  rank_ = rank;
  size_ = size;
}

MpiCollectives::~MpiCollectives() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Comm_free(&comm_);
}

void MpiCollectives::post_send(Transfer& transfer, const void* data, int64_t size_bytes, int64_t to,
                               int tag) {
  for (int64_t begin = 0; begin < size_bytes; begin += message_limit_bytes_) {
    const auto length = static_cast<int>(std::min(message_limit_bytes_, size_bytes - begin));
    MPI_Request request;
    DM_MPI(MPI_Isend(at(data, begin), length, MPI_BYTE, static_cast<int>(to), tag, comm_, &request));
    transfer.requests.push_back(request);
  }
}

void MpiCollectives::post_receive(Transfer& transfer, void* data, int64_t size_bytes, int64_t from, int tag) {
  for (int64_t begin = 0; begin < size_bytes; begin += message_limit_bytes_) {
    const auto length = static_cast<int>(std::min(message_limit_bytes_, size_bytes - begin));
    MPI_Request request;
    DM_MPI(MPI_Irecv(at(data, begin), length, MPI_BYTE, static_cast<int>(from), tag, comm_, &request));
    transfer.requests.push_back(request);
  }
}

std::unique_ptr<Pending> MpiCollectives::reduce_ranges(const void* input, void* output, const Bounds& bounds,
                                                       DType dtype, Reduce op) {
  const int64_t element = size_bytes(dtype);
  const int64_t count = bounds[rank_ + 1] - bounds[rank_];
  const int64_t piece_bytes = count * element;
  auto transfer = std::make_unique<Transfer>();
  transfer->received =
      std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(piece_bytes * (size_ - 1)));

  std::vector<const void*> pieces;  // in rank order
  std::byte* free_slot = transfer->received.get();
  for (int64_t r = 0; r < size_; ++r) {
    if (r == rank_) {
      pieces.push_back(at(input, bounds[r] * element));
      continue;
    }
    post_receive(*transfer, free_slot, piece_bytes, r, kCollectiveTag);
    pieces.push_back(free_slot);
    free_slot += piece_bytes;
  }
  for (int64_t step = 1; step < size_; ++step) {  // everyone starts at another rank, so that none is overrun
    const int64_t r = (rank_ + step) % size_;
    post_send(*transfer, at(input, bounds[r] * element), (bounds[r + 1] - bounds[r]) * element, r,
              kCollectiveTag);
  }
  transfer->finish = [=, pieces = std::move(pieces)] { reduce_pieces(op, dtype, pieces, output, count); };
  return transfer;
}

std::unique_ptr<Pending> MpiCollectives::gather_ranges(void* data, const Bounds& bounds, DType dtype) {
  const int64_t element = size_bytes(dtype);
  const auto bytes_of = [&](int64_t r) { return (bounds[r + 1] - bounds[r]) * element; };
  auto transfer = std::make_unique<Transfer>();
  for (int64_t r = 0; r < size_; ++r)
    if (r != rank_) post_receive(*transfer, at(data, bounds[r] * element), bytes_of(r), r, kCollectiveTag);
  for (int64_t step = 1; step < size_; ++step)
    post_send(*transfer, at(data, bounds[rank_] * element), bytes_of(rank_), (rank_ + step) % size_,
              kCollectiveTag);
  return transfer;
}

void MpiCollectives::all_reduce(void* data, int64_t count, DType dtype, Reduce op) {
  const int64_t bytes = count * size_bytes(dtype);
  if (size_ == 1 || count == 0) return;
  if (bytes * size_ <= std::min(kGatherBelowBytes, message_limit_bytes_)) {
    std::vector<std::byte> all(static_cast<size_t>(bytes * size_));
    DM_MPI(MPI_Allgather(data, static_cast<int>(bytes), MPI_BYTE, all.data(), static_cast<int>(bytes),
                         MPI_BYTE, comm_));
    std::vector<const void*> pieces;
    for (int64_t r = 0; r < size_; ++r) pieces.push_back(all.data() + r * bytes);
    reduce_pieces(op, dtype, pieces, data, count);
    return;
  }
  Bounds bounds;
  for (int64_t r = 0; r <= size_; ++r)  // equal shares; the first count % size ranks take one element more
    bounds.push_back(count / size_ * r + std::min(r, count % size_));
  reduce_ranges(data, at(data, bounds[rank_] * size_bytes(dtype)), bounds, dtype, op)->wait();
  gather_ranges(data, bounds, dtype)->wait();
}

std::unique_ptr<Pending> MpiCollectives::reduce_scatter(const void* input, void* output, int64_t count,
                                                        DType dtype, Reduce op) {
  Bounds bounds;
  for (int64_t r = 0; r <= size_; ++r) bounds.push_back(r * count);
  return reduce_ranges(input, output, bounds, dtype, op);
}

std::unique_ptr<Pending> MpiCollectives::all_gather(const void* input, void* output, int64_t count,
                                                    DType dtype) {
  const int64_t piece_bytes = count * size_bytes(dtype);
  Bounds bounds;
  for (int64_t r = 0; r <= size_; ++r) bounds.push_back(r * count);
  std::byte* mine = at(output, rank_ * piece_bytes);
  if (mine != input && piece_bytes > 0) std::memcpy(mine, input, static_cast<size_t>(piece_bytes));
  return gather_ranges(output, bounds, dtype);
}

void MpiCollectives::broadcast(void* data, int64_t count, DType dtype, int64_t root) {
  const int64_t bytes = count * size_bytes(dtype);
  for (int64_t begin = 0; begin < bytes; begin += message_limit_bytes_) {
    const auto length = static_cast<int>(std::min(message_limit_bytes_, bytes - begin));
    DM_MPI(MPI_Bcast(at(data, begin), length, MPI_BYTE, static_cast<int>(root), comm_));
  }
}

std::unique_ptr<Pending> MpiCollectives::send(const void* data, int64_t count, DType dtype, int64_t to) {
  auto transfer = std::make_unique<Transfer>();
  post_send(*transfer, data, count * size_bytes(dtype), to, kPairTag);
  return transfer;
}

std::unique_ptr<Pending> MpiCollectives::receive(void* data, int64_t count, DType dtype, int64_t from) {
  auto transfer = std::make_unique<Transfer>();
  post_receive(*transfer, data, count * size_bytes(dtype), from, kPairTag);
  return transfer;
}

void MpiCollectives::barrier() { DM_MPI(MPI_Barrier(comm_)); }

std::unique_ptr<Collectives> MpiCollectives::duplicate() {
  MPI_Comm comm = MPI_COMM_NULL;
  DM_MPI(MPI_Comm_dup(comm_, &comm));
  return std::make_unique<MpiCollectives>(comm, message_limit_bytes_);
}

}  // namespace dm::dist
