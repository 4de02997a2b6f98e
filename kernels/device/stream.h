#pragma once
// The order of work on a GPU: what is given to one stream runs in order, streams run side by side. On the CPU
// (`on_gpu` false) all work runs as it is called, and nothing has to be waited for.

#include <functional>
#include <memory>

namespace dm::kernels {

/// The current stream of this thread, a cudaStream_t; null in a build without CUDA.
void* current_stream_handle();

/// A mark in the work of a stream.
class Mark {
 public:
  explicit Mark(bool on_gpu);
  ~Mark();
  Mark(Mark&&) noexcept;
  Mark& operator=(Mark&&) noexcept;

  /// Marks what the current stream has been given so far. Inside work that a Graph records, every replay sets
  /// the mark anew.
  void set();
  /// What the current stream is given from now on starts when it has been reached; at once if never set.
  /// Inside work that a Graph records, every replay waits for the mark as last set before it, which has to be
  /// once, and outside of that work.
  void wait() const;
  /// Milliseconds of the GPU's time from `earlier` to this mark. Both have been reached (wait_for_gpu());
  /// 0 on the CPU.
  double ms_since(const Mark& earlier) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The order of two streams: what one is given after wait() comes after what the other had been given at
/// set(). Also inside work that a Graph records, where both belong to that work; the same fence then serves
/// outside of it too.
class Fence {
 public:
  explicit Fence(bool on_gpu);
  ~Fence();
  void set();
  void wait() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A stream beside the one that the model computes on.
class SideStream {
 public:
  explicit SideStream(bool on_gpu);
  ~SideStream();
  /// Runs `work` with this stream as the current one.
  void run(const std::function<void()>& work) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::kernels
