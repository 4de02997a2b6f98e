#include "train/flat_parameters.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/square_sum/square_sum_cuda.h"

namespace dm::train {
namespace {

constexpr int64_t kAlignment = 64;  // elements; 256 bytes of float32
constexpr int64_t kSumBlock = int64_t{1}
                              << 16;  // elements summed in one go: fixed, so that threads change no bit

int64_t aligned(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
double square_sum(const T* values, int64_t count) {
  std::vector<double> partial(static_cast<size_t>((count + kSumBlock - 1) / kSumBlock));
  parallel_for(static_cast<int64_t>(partial.size()), [&](int64_t block) {
    double sum = 0;
    const int64_t end = std::min(count, (block + 1) * kSumBlock);
    for (int64_t i = block * kSumBlock; i < end; ++i)
      sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    partial[static_cast<size_t>(block)] = sum;
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  DM_CHECK(dtype == DType::f32 || dtype == DType::f64, "no training in {}", name(dtype));
  return dtype == DType::f32 ? at::kFloat : at::kDouble;
}

FlatParameters::FlatParameters(std::vector<model::ParameterInfo> infos, DType dtype, Collectives& group,
                               at::Device device)
    : infos_(std::move(infos)), dtype_(dtype), group_(group) {
  int64_t total = 0;
  for (const model::ParameterInfo& info : infos_) {
    offsets_.push_back(total);
    total += aligned(info.count());
  }
  owned_count_ = aligned((total + group.size() - 1) / group.size());
  DM_CHECK(device.is_cpu() || (group.size() == 1 && dtype == DType::f32), "{} weights of {} ranks on {}",
           name(dtype), group.size(), device.str());
  const auto options = at::TensorOptions().dtype(scalar_type(dtype)).device(device);
  weights_ = at::zeros({owned_count_ * group.size()}, options);
  gradients_ = at::zeros_like(weights_);
  for (size_t i = 0; i < infos_.size(); ++i) {
    const int64_t count = infos_[i].count();
    at::Tensor leaf = weights_.narrow(0, offsets_[i], count).view(infos_[i].shape).detach();
    leaf.set_requires_grad(true);
    leaf.mutable_grad() = gradients_.narrow(0, offsets_[i], count).view(infos_[i].shape);
    leaves_.emplace(infos_[i].name, std::move(leaf));
  }
}

std::vector<Slice> FlatParameters::slices(int64_t rank) const {
  const int64_t first = rank * owned_count_, last = first + owned_count_;
  std::vector<Slice> result;
  for (size_t i = 0; i < infos_.size(); ++i) {
    const int64_t begin = std::max(first, offsets_[i]);
    const int64_t end = std::min(last, offsets_[i] + infos_[i].count());
    if (begin < end)
      result.push_back({static_cast<int64_t>(i), begin - offsets_[i], end - offsets_[i], begin - first});
  }
  return result;
}

void FlatParameters::initialise(const model::ModelConfig& config, uint64_t seed) {
  for (size_t i = 0; i < infos_.size(); ++i) {
    at::Tensor values = weights_.narrow(0, offsets_[i], infos_[i].count());
    const at::Tensor host =
        device().is_cpu() ? values : at::empty(values.sizes(), values.options().device(at::kCPU));
    model::initialise(config, infos_[i], seed, 0, host);
    if (!device().is_cpu()) values.copy_(host);
  }
}

void FlatParameters::zero_gradients() { gradients_.zero_(); }

void FlatParameters::reduce_gradients() {
  // A backward pass that replaced a leaf's gradient instead of adding to it would leave the flat buffer
  // behind, unseen.
  for (size_t i = 0; i < infos_.size(); ++i)
    DM_CHECK(leaves_.at(infos_[i].name).grad().data_ptr() == at(gradients_.data_ptr(), offsets_[i]),
             "the gradient of {} left the flat buffer", infos_[i].name);
  if (!device().is_cpu()) return;  // of one rank
  group_
      .reduce_scatter(gradients_.data_ptr(), owned_gradients().data_ptr(), owned_count_, dtype_, Reduce::sum)
      ->wait();
}

double FlatParameters::owned_gradient_squares() const {
  if (!device().is_cpu()) return kernels::square_sum_cuda(owned_gradients()).sum.item<double>();
  const void* gradients = owned_gradients().data_ptr();
  return dtype_ == DType::f32 ? square_sum(static_cast<const float*>(gradients), owned_count_)
                              : square_sum(static_cast<const double*>(gradients), owned_count_);
}

std::string FlatParameters::first_non_finite_gradient() const {
  for (const Slice& slice : slices(rank())) {
    const at::Tensor gradient = gradients_.narrow(0, rank() * owned_count_ + slice.offset, slice.count());
    if (!at::isfinite(gradient).all().item<bool>())
      return fmt::format("gradient of {} not finite", infos_[static_cast<size_t>(slice.parameter)].name);
  }
  return "its share of the gradient finite";
}

void FlatParameters::gather_weights() {
  if (!device().is_cpu()) return;  // of one rank
  group_.all_gather(owned_weights().data_ptr(), weights_.data_ptr(), owned_count_, dtype_)->wait();
}

}  // namespace dm::train
