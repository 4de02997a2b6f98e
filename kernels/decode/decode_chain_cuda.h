#pragma once
// decode_chain.h on the GPU. For *_cuda.cpp files.

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "kernels/decode/cuda/decode_cuda.cuh"
#include "kernels/decode/decode_chain.h"

namespace dm::kernels {

struct DecodeChain::Impl {
  /// Room for `words` words of mail of the stage that is added next, the same in every launch.
  uint64_t* mail(int64_t words, const at::Tensor& like);
  /// `tensors`: what the stage points to; `product` what it makes, also as `mail`.
  void add(const cuda::DecodeStage& stage, const at::Tensor& product, uint64_t* mail,
           std::initializer_list<at::Tensor> tensors);
  /// Where a product of a stage of the next launch is found by later stages; null if it is none.
  const uint64_t* mail_of(const at::Tensor& product) const;
  void run();

  std::vector<cuda::DecodeStage> stages;

 private:
  std::vector<at::Tensor> kept_;                     // what the stages read and write
  std::vector<at::Tensor> mails_;                    // int64, zero at first
  size_t used_ = 0;                                  // of these in the next launch
  std::map<const void*, const uint64_t*> products_;  // of the next launch
  at::Tensor launches_;
};

}  // namespace dm::kernels
