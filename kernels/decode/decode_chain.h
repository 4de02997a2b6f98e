#pragma once
// A token of decoding on a GPU as few launches: the operations of kernels/decode and the mixer's step are
// queued here, and all that stand one behind the other run as one (cuda/decode_cuda.cuh).

#include <memory>

namespace dm::kernels {

/// What an operation with a chain returns is there once the chain has run: until then it is for other
/// operations with this chain only. Where an operation cannot be queued, it runs the chain and then itself.
/// One stream. The first use allocates, and must not be recorded as a graph.
class DecodeChain {
 public:
  DecodeChain();
  ~DecodeChain();
  DecodeChain(const DecodeChain&) = delete;
  DecodeChain& operator=(const DecodeChain&) = delete;

  /// Starts what is queued; nothing if nothing is, as always on a CPU.
  void run();

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace dm::kernels
