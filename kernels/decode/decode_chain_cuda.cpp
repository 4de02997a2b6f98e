#include "kernels/decode/decode_chain_cuda.h"

#include <ATen/ATen.h>

#include "kernels/device/cuda/tensor.h"

namespace dm::kernels {

using cuda::DecodeStage;

DecodeChain::DecodeChain() : impl_(std::make_unique<Impl>()) {}
DecodeChain::~DecodeChain() = default;
void DecodeChain::run() { impl_->run(); }

uint64_t* DecodeChain::Impl::mail(int64_t words, const at::Tensor& like) {
  if (used_ == mails_.size()) mails_.emplace_back();
  at::Tensor& place = mails_[used_++];
  if (!place.defined() || place.numel() < words) place = at::zeros({words}, like.options().dtype(at::kLong));
  return reinterpret_cast<uint64_t*>(place.data_ptr<int64_t>());
}

const uint64_t* DecodeChain::Impl::mail_of(const at::Tensor& product) const {
  const auto found = products_.find(product.const_data_ptr());
  return found == products_.end() ? nullptr : found->second;
}

void DecodeChain::Impl::add(const DecodeStage& stage, const at::Tensor& product, uint64_t* mail,
                            std::initializer_list<at::Tensor> tensors) {
  if (!launches_.defined())
    launches_ = at::zeros({cuda::kMostDecodeBlocks}, product.options().dtype(at::kInt));
  stages.push_back(stage);
  kept_.insert(kept_.end(), tensors);
  products_[product.const_data_ptr()] = mail;
  if (stages.size() == cuda::kMostDecodeStages) run();
}

void DecodeChain::Impl::run() {
  if (!stages.empty())
    check_launch(
        cuda::decode_chain(stages.data(), static_cast<int>(stages.size()),
                           reinterpret_cast<uint32_t*>(launches_.data_ptr<int32_t>()), current_stream()),
        "decoding");
  stages.clear(), kept_.clear(), products_.clear();
  used_ = 0;
}

}  // namespace dm::kernels
