#include <cuda_runtime.h>

#include <cstddef>
#include <exception>
#include <map>
#include <utility>

#include "core/log.h"
#include "dist/cuda/check.h"
#include "dist/staged_collectives.h"

namespace dm::dist {
namespace {

/// Pinned host memory, kept for the next operation of the size: pinning costs milliseconds.
class Pool {
 public:
  struct Buffer {
    int64_t bytes = 0;
    std::byte* data = nullptr;
  };
  ~Pool() {
    for (const auto& [bytes, data] : free_) cudaFreeHost(data);
  }
  Buffer take(int64_t bytes) {
    if (const auto found = free_.find(bytes); found != free_.end()) {
      const Buffer buffer{bytes, found->second};
      free_.erase(found);
      return buffer;
    }
    Buffer fresh{bytes, nullptr};
    if (bytes > 0) DM_CUDA(cudaMallocHost(reinterpret_cast<void**>(&fresh.data), static_cast<size_t>(bytes)));
    return fresh;
  }
  void give(const Buffer& buffer) { free_.emplace(buffer.bytes, buffer.data); }

 private:
  std::multimap<int64_t, std::byte*> free_;
};

class StagedCollectives final : public Collectives {
 public:
  StagedCollectives(std::unique_ptr<Collectives> host, std::function<void*()> current_stream)
      : host_(std::move(host)), current_stream_(std::move(current_stream)) {}

  int64_t rank() const override { return host_->rank(); }
  int64_t size() const override { return host_->size(); }

  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    Staged staged(*this, data, count * size_bytes(dtype));
    staged.fetch(data, staged.bytes());
    host_->all_reduce(staged.data(), count, dtype, op);
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    auto staged = std::make_unique<Staged>(*this, output, count * size_bytes(dtype));
    const std::byte* all = staged->fetch_more(input, size() * staged->bytes());
    staged->follow(host_->reduce_scatter(all, staged->data(), count, dtype, op));
    return staged;
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    const int64_t piece = count * size_bytes(dtype);
    auto staged = std::make_unique<Staged>(*this, output, size() * piece);
    std::byte* mine = staged->data() + rank() * piece;
    staged->fetch(input, piece, mine);
    staged->follow(host_->all_gather(mine, staged->data(), count, dtype));
    return staged;
  }
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override {
    Staged staged(*this, data, count * size_bytes(dtype));
    if (rank() == root) staged.fetch(data, staged.bytes());
    host_->broadcast(staged.data(), count, dtype, root);
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    auto staged = std::make_unique<Staged>(*this, nullptr, count * size_bytes(dtype));
    staged->fetch(data, staged->bytes());
    staged->follow(host_->send(staged->data(), count, dtype, to));
    return staged;
  }
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override {
    auto staged = std::make_unique<Staged>(*this, data, count * size_bytes(dtype));
    staged->follow(host_->receive(staged->data(), count, dtype, from));
    return staged;
  }
  void barrier() override { host_->barrier(); }
  std::unique_ptr<Collectives> duplicate() override {
    return std::make_unique<StagedCollectives>(host_->duplicate(), current_stream_);
  }

 private:
  /// An operation's host memory, and where on the GPU its result belongs. wait() brings it there.
  class Staged final : public Pending {
   public:
    Staged(StagedCollectives& group, void* result, int64_t bytes)
        : group_(group), result_(result), buffer_(group.pool_.take(bytes)) {}
    ~Staged() override {
      try {
        wait();
      } catch (const std::exception& error) {
        log_error("an exchange that nobody waited for failed: {}", error.what());
      }
    }
    std::byte* data() const { return buffer_.data; }
    int64_t bytes() const { return buffer_.bytes; }

    void fetch(const void* from, int64_t bytes, std::byte* to = nullptr) const {
      DM_CUDA(cudaMemcpyAsync(to ? to : buffer_.data, from, static_cast<size_t>(bytes),
                              cudaMemcpyDeviceToHost, group_.stream()));
      DM_CUDA(cudaStreamSynchronize(group_.stream()));
    }
    const std::byte* fetch_more(const void* from, int64_t bytes) {
      more_ = group_.pool_.take(bytes);
      fetch(from, bytes, more_.data);
      return more_.data;
    }
    void follow(std::unique_ptr<Pending> pending) { pending_ = std::move(pending); }

    void wait() override {
      if (std::exchange(waited_, true)) return;
      if (pending_) pending_->wait();
      if (result_) {
        DM_CUDA(cudaMemcpyAsync(result_, buffer_.data, static_cast<size_t>(buffer_.bytes),
                                cudaMemcpyHostToDevice, group_.stream()));
        DM_CUDA(cudaStreamSynchronize(group_.stream()));  // before the memory is another operation's
      }
      group_.pool_.give(buffer_);
      if (more_.data) group_.pool_.give(more_);
    }

   private:
    StagedCollectives& group_;
    void* result_;
    Pool::Buffer buffer_, more_;
    std::unique_ptr<Pending> pending_;
    bool waited_ = false;
  };

  cudaStream_t stream() const { return static_cast<cudaStream_t>(current_stream_()); }

  std::unique_ptr<Collectives> host_;
  std::function<void*()> current_stream_;
  Pool pool_;
};

}  // namespace

std::unique_ptr<Collectives> make_staged_collectives(std::unique_ptr<Collectives> host,
                                                     std::function<void*()> current_stream) {
  return std::make_unique<StagedCollectives>(std::move(host), std::move(current_stream));
}

}  // namespace dm::dist
