#pragma once
// The GPU that a rank works on, and work recorded once and replayed. Without CUDA there is none: use_gpu()
// refuses, and a Graph runs its work as it comes.

#include <cstdint>
#include <functional>
#include <memory>

namespace dm::kernels {

/// Makes GPU `index` of this host the one that tensors on "cuda" go to, and a stream other than the default
/// one current on this thread. ExitCode::usage where there is none, or none that this program was built for.
void use_gpu(int64_t index);

/// Returns when the current stream is done. An error of the GPU's ends the job (ExitCode::lost).
void wait_for_gpu();

struct GpuMemory {
  int64_t used_bytes;      // held by tensors now
  int64_t peak_bytes;      // held by tensors at most, since the last reset
  int64_t reserved_bytes;  // taken from the GPU at most
};
GpuMemory gpu_memory();
void reset_gpu_peak();

/// Copies out of the GPU's memory beside the kernels of the current stream.
class SideCopies {
 public:
  SideCopies();
  ~SideCopies();  // waits
  SideCopies(const SideCopies&) = delete;
  SideCopies& operator=(const SideCopies&) = delete;

  /// Begins copying `size_bytes` from the GPU to pinned memory once the current stream has done what it holds
  /// now.
  void start(void* to, const void* from, int64_t size_bytes);
  /// What the current stream is given from here on begins after the copies.
  void go_first();
  /// Returns when the copies are done. May be called by another thread than the one that started them, one at
  /// a time. An error of the GPU's is ExitCode::lost.
  void wait();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Work of fixed shapes on fixed memory, run again and again: the first time as it comes, so that whatever is
/// prepared once is prepared; then it is recorded as a CUDA graph, and from there on replayed, with one
/// launch instead of one a kernel. The work must not wait for the GPU, and whatever it reads must stay in
/// place.
class Graph {
 public:
  /// Without `record` the work runs as it comes every time.
  explicit Graph(bool record);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void run(const std::function<void()>& work);
  /// Kernels and copies in the recorded graph; 0 before there is one.
  int64_t nodes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::kernels
