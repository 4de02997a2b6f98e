#include "dist/nccl_collectives.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/process.h"
#include "dist/cuda/check.h"

namespace dm::dist {
namespace {

using Clock = std::chrono::steady_clock;

/// Between two looks for errors of operations that are queued already.
constexpr std::chrono::milliseconds kPollEvery{200};

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::u8: return ncclUint8;
    case DType::u32: return ncclUint32;
    case DType::u64: return ncclUint64;
    case DType::i32: return ncclInt32;
    case DType::i64: return ncclInt64;
    case DType::bf16: return ncclBfloat16;
    case DType::f32: return ncclFloat32;
    case DType::f64: return ncclFloat64;
    default: DM_FAIL(ExitCode::internal, "NCCL adds no {}", name(dtype));
  }
}

ncclRedOp_t nccl_op(Reduce op) { return op == Reduce::sum ? ncclSum : op == Reduce::max ? ncclMax : ncclMin; }

class NcclCollectives;

/// Joins the stream that is current at wait() behind the one the operation was queued on.
class Queued final : public Pending {
 public:
  Queued(NcclCollectives& group, cudaStream_t stream) : group_(group), stream_(stream) {}
  ~Queued() override;
  void wait() override;

 private:
  NcclCollectives& group_;
  cudaStream_t stream_;
  bool waited_ = false;
};

class NcclCollectives final : public Collectives {
 public:
  NcclCollectives(std::unique_ptr<Collectives> host, NcclOptions options);
  ~NcclCollectives() override;

  int64_t rank() const override { return host_->rank(); }
  int64_t size() const override { return host_->size(); }

  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    flush();
    queue("all_reduce", [&](cudaStream_t stream) {
      return ncclAllReduce(data, data, elements(count), nccl_type(dtype), nccl_op(op), comm_, stream);
    });
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    flush();
    return queue("reduce_scatter", [&](cudaStream_t stream) {
      return ncclReduceScatter(input, output, elements(count), nccl_type(dtype), nccl_op(op), comm_, stream);
    });
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    flush();
    const int64_t bytes = count * size_bytes(dtype);
    return queue("all_gather", [&](cudaStream_t stream) {
      return ncclAllGather(input, output, elements(bytes), ncclUint8, comm_, stream);
    });
  }
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override {
    flush();
    const int64_t bytes = count * size_bytes(dtype);
    queue("broadcast", [&](cudaStream_t stream) {
      return ncclBroadcast(data, data, elements(bytes), ncclUint8, static_cast<int>(root), comm_, stream);
    });
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    return pair({const_cast<void*>(data), count * size_bytes(dtype), to, /*sends=*/true});
  }
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override {
    return pair({data, count * size_bytes(dtype), from, /*sends=*/false});
  }
  void barrier() override { host_->barrier(); }
  std::unique_ptr<Collectives> duplicate() override {
    return std::make_unique<NcclCollectives>(host_->duplicate(), options_);
  }

  cudaStream_t stream() const { return static_cast<cudaStream_t>(options_.current_stream()); }
  /// Queues the sends and receives that stand open, together.
  void flush();
  /// What the current stream is given from now on starts after what `stream` holds.
  void join(cudaStream_t stream);

 private:
  struct Pair {
    void* data;
    int64_t bytes;
    int64_t peer;
    bool sends;
  };

  static size_t elements(int64_t count) { return static_cast<size_t>(count); }
  std::unique_ptr<Pending> pair(const Pair& pair);
  template <class Call>
  std::unique_ptr<Pending> queue(const char* operation, const Call& call);
  void settle(ncclResult_t result, const char* operation, double timeout_s);
  [[noreturn]] void fail(ncclResult_t result, const char* operation) const;
  std::string place() const;
  void poll();

  std::unique_ptr<Collectives> host_;
  NcclOptions options_;
  ncclComm_t comm_ = nullptr;
  std::vector<Pair> pairs_;
  cudaStream_t pairs_stream_ = nullptr;
  cudaEvent_t joined_ = nullptr;
  int exceptions_at_start_ = std::uncaught_exceptions();
  // A communicator that does not block takes one call at a time, from whichever thread: asking for its state
  // while another thread has a call under way finishes that call twice. Held from a call until it has
  // settled.
  std::mutex calls_;
  std::atomic<bool> ending_ = false;
  std::thread poller_;
};

Queued::~Queued() {
  try {
    wait();
  } catch (const std::exception& error) {
    log_error("an exchange that nobody waited for failed: {}", error.what());
  }
}

void Queued::wait() {
  if (std::exchange(waited_, true)) return;
  group_.flush();
  group_.join(stream_);
}

NcclCollectives::NcclCollectives(std::unique_ptr<Collectives> host, NcclOptions options)
    : host_(std::move(host)), options_(std::move(options)) {
  // Multicast objects of NVLink have taken whole hosts out of service; rings reach the same bandwidth.
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  ncclUniqueId id = {};
  if (rank() == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) fail(result, "the start");
  }
  host_->broadcast(&id, sizeof id, DType::u8, 0);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  settle(ncclCommInitRankConfig(&comm_, static_cast<int>(size()), id, static_cast<int>(rank()), &config),
         "the start", options_.start_timeout_s);
  DM_CUDA(cudaEventCreateWithFlags(&joined_, cudaEventDisableTiming));
  poller_ = std::thread([this] { poll(); });
}

NcclCollectives::~NcclCollectives() {
  ending_ = true;
  if (poller_.joinable()) poller_.join();
  if (joined_) cudaEventDestroy(joined_);
  if (!comm_) return;
  // Below an exception the peers may be anywhere: finalising would wait for them.
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    ncclCommAbort(comm_);
    return;
  }
  ncclResult_t result = ncclCommFinalize(comm_);
  while (result == ncclInProgress && ncclCommGetAsyncError(comm_, &result) == ncclSuccess)
    std::this_thread::yield();
  if (result == ncclSuccess)
    ncclCommDestroy(comm_);
  else
    ncclCommAbort(comm_);
}

std::string NcclCollectives::place() const {
  const ProcessIdentity& me = process_identity();
  return fmt::format("rank {} of {} on {}", me.rank, me.world, me.host);
}

void NcclCollectives::fail(ncclResult_t result, const char* operation) const {
  const char* more = ncclGetLastError(comm_);
  DM_FAIL(result == ncclInvalidArgument ? ExitCode::internal : ExitCode::lost,
          "{}: NCCL, {}: {}{}{}; run it again, with NCCL_DEBUG=INFO to see more", place(), operation,
          ncclGetErrorString(result), more && *more ? ": " : "", more ? more : "");
}

void NcclCollectives::settle(ncclResult_t result, const char* operation, double timeout_s) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_s);
  while (result == ncclInProgress) {
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) fail(asked, operation);
    if (result != ncclInProgress) break;
    DM_REQUIRE(Clock::now() < deadline, ExitCode::lost,
               "{}: NCCL, {}: the ranks did not come together within {:.0f} s; run it again", place(),
               operation, timeout_s);
    std::this_thread::yield();
  }
  if (result != ncclSuccess) fail(result, operation);
}

template <class Call>
std::unique_ptr<Pending> NcclCollectives::queue(const char* operation, const Call& call) {
  const cudaStream_t on = stream();
  const std::lock_guard lock(calls_);
  settle(call(on), operation, options_.start_timeout_s);
  return std::make_unique<Queued>(*this, on);
}

std::unique_ptr<Pending> NcclCollectives::pair(const Pair& pair) {
  if (!pairs_.empty() && pairs_stream_ != stream()) flush();
  pairs_stream_ = stream();
  pairs_.push_back(pair);
  return std::make_unique<Queued>(*this, pairs_stream_);
}

void NcclCollectives::flush() {
  if (pairs_.empty()) return;
  const std::vector<Pair> pairs = std::exchange(pairs_, {});
  const std::lock_guard lock(calls_);
  ncclResult_t result = ncclGroupStart();
  for (const Pair& p : pairs) {
    const int peer = static_cast<int>(p.peer);
    const ncclResult_t one = p.sends
                                 ? ncclSend(p.data, elements(p.bytes), ncclUint8, peer, comm_, pairs_stream_)
                                 : ncclRecv(p.data, elements(p.bytes), ncclUint8, peer, comm_, pairs_stream_);
    if (one != ncclSuccess && one != ncclInProgress) result = one;
  }
  const ncclResult_t end = ncclGroupEnd();
  settle(result == ncclSuccess ? end : result, "send and receive", options_.start_timeout_s);
}

void NcclCollectives::join(cudaStream_t stream) {
  const cudaStream_t current = this->stream();
  if (current == stream) return;
  DM_CUDA(cudaEventRecord(joined_, stream));
  DM_CUDA(cudaStreamWaitEvent(current, joined_));
}

void NcclCollectives::poll() {
  while (!ending_) {
    std::this_thread::sleep_for(kPollEvery);
    const std::unique_lock lock(calls_, std::try_to_lock);
    if (!lock) continue;  // whoever holds it asks for the state itself
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    if (ending_) return;
    try {
      fail(asked == ncclSuccess ? state : asked, "an operation under way");
    } catch (const Error& error) {
      options_.lost(error.what());
    }
    return;
  }
}

}  // namespace

std::unique_ptr<Collectives> make_nccl_collectives(std::unique_ptr<Collectives> host, NcclOptions options) {
  return std::make_unique<NcclCollectives>(std::move(host), std::move(options));
}

std::string nccl_version() {
  int code = 0;
  if (ncclGetVersion(&code) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

}  // namespace dm::dist
