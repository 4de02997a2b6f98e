#include "train/flat_parameters.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "kernels/square_sum/square_sum_cuda.h"

namespace dm::train {
namespace {

constexpr int64_t kSumBlock = int64_t{1}
                              << 16;  // elements summed in one go: fixed, so that threads change no bit

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

FlatParameters::FlatParameters(std::vector<model::LocalParameter> parameters, DType dtype, Collectives& group,
                               at::Device device, int64_t bucket_bytes, int64_t zero)
    : parameters_(std::move(parameters)),
      dtype_(dtype),
      group_(group),
      layout_(flat_layout(parameters_, size_bytes(dtype), group.size(), bucket_bytes,
                          scatters(zero, group.size()))),
      scattered_(scatters(zero, group.size())) {
  DM_CHECK(device.is_cpu() || dtype == DType::f32, "{} weights on {}", name(dtype), device.str());
  allocate(device);
  find_counted();
  gather_ = std::make_unique<WeightGather>(group_, layout_.buckets, dtype_, owned_weights_, weights_);
}

void FlatParameters::allocate(at::Device device) {
  const auto options = at::TensorOptions().dtype(scalar_type(dtype_)).device(device);
  weights_ = at::zeros({layout_.flat_count}, options);
  gradients_ = at::zeros({layout_.gradient_count}, options);
  if (scattered_) arrived_ = at::empty({layout_.widest_piece()}, options);
  const bool alone = group_.size() == 1;
  owned_weights_ = alone ? weights_ : at::zeros({layout_.owned_count}, options);
  owned_gradients_ = alone ? gradients_ : at::zeros({layout_.owned_count}, options);
  auto bucket = layout_.buckets.begin();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const int64_t count = parameters_[i].count(), begin = layout_.offsets[i];
    while (bucket + 1 != layout_.buckets.end() && begin >= (bucket + 1)->begin) ++bucket;
    gradient_offsets_.push_back(bucket->gradient + begin - bucket->begin);
    at::Tensor leaf = weights_.narrow(0, layout_.offsets[i], count).view(parameters_[i].shape).detach();
    leaf.set_requires_grad(true);
    leaf.mutable_grad() = gradients_.narrow(0, gradient_offsets_[i], count).view(parameters_[i].shape);
    leaves_.emplace(parameters_[i].info.name, std::move(leaf));
  }
}

std::vector<Slice> FlatParameters::slices(const Bucket& bucket, int64_t rank) const {
  const int64_t first = bucket.begin + rank * bucket.piece, last = first + bucket.piece;
  std::vector<Slice> result;
  const auto start =
      std::upper_bound(layout_.offsets.begin(), layout_.offsets.end(), first) - layout_.offsets.begin() - 1;
  for (auto i = static_cast<size_t>(start); i < parameters_.size() && layout_.offsets[i] < last; ++i) {
    const int64_t begin = std::max(first, layout_.offsets[i]);
    const int64_t end = std::min(last, layout_.offsets[i] + parameters_[i].count());
    if (begin < end)
      result.push_back({static_cast<int64_t>(i), begin - layout_.offsets[i], end - layout_.offsets[i],
                        bucket.owned + begin - first});
  }
  return result;
}

std::vector<Slice> FlatParameters::slices(int64_t rank) const {
  std::vector<Slice> result;
  for (const Bucket& bucket : layout_.buckets) {
    const std::vector<Slice> part = slices(bucket, rank);
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

void FlatParameters::find_counted() {
  const auto all_count = [](const model::LocalParameter& parameter) {
    return std::all_of(parameter.pieces.begin(), parameter.pieces.end(),
                       [](const model::ParameterPiece& piece) { return piece.counted; });
  };
  if (std::all_of(parameters_.begin(), parameters_.end(), all_count)) {
    counted_ = {{0, layout_.owned_count}};  // the padding between them is zero
    return;
  }
  for (const Slice& slice : slices(rank()))
    for (const model::ParameterPiece& piece : parameters_[static_cast<size_t>(slice.parameter)].pieces) {
      const int64_t begin = std::max(slice.begin, piece.offset);
      const int64_t end = std::min(slice.end, piece.offset + piece.count());
      if (!piece.counted || begin >= end) continue;
      const int64_t at = slice.offset + begin - slice.begin;
      if (!counted_.empty() && counted_.back().second == at)
        counted_.back().second += end - begin;
      else
        counted_.emplace_back(at, at + end - begin);
    }
}

void FlatParameters::initialise(const model::ModelConfig& config, uint64_t seed) {
  settle();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor values =
        weights_.narrow(0, layout_.offsets[i], parameters_[i].count()).view(parameters_[i].shape);
    const at::Tensor host =
        device().is_cpu() ? values : at::empty(values.sizes(), values.options().device(at::kCPU));
    model::initialise(config, parameters_[i], seed, host);
    if (!device().is_cpu()) values.copy_(host);
    made_progress();
  }
  if (group_.size() == 1) return;
  for (const Bucket& bucket : layout_.buckets)
    owned_weights_.narrow(0, bucket.owned, bucket.piece)
        .copy_(weights_.narrow(0, bucket.begin + rank() * bucket.piece, bucket.piece));
}

void FlatParameters::zero_gradients() {
  gradients_.zero_();
  if (scattered_) owned_gradients_.zero_();
}

std::unique_ptr<Pending> FlatParameters::reduce(const Bucket& bucket) {
  void* const sum = scattered_ ? arrived_.data_ptr() : at(owned_gradients_.data_ptr(), bucket.owned);
  return group_.reduce_scatter(at(gradients_.data_ptr(), bucket.gradient), sum, bucket.piece, dtype_,
                               Reduce::sum);
}

void FlatParameters::take_in(const Bucket& bucket) {
  const at::NoGradGuard no_gradients;
  owned_gradients_.narrow(0, bucket.owned, bucket.piece).add_(arrived_.narrow(0, 0, bucket.piece));
  gradients_.narrow(0, bucket.gradient, bucket.piece * group_.size()).zero_();
}

void FlatParameters::reduce_gradients() {
  check_gradients();
  DM_CHECK(!scattered_, "scattered gradients are not all there at once");
  std::vector<std::unique_ptr<Pending>> pending;
  for (auto bucket = layout_.buckets.rbegin(); bucket != layout_.buckets.rend(); ++bucket)
    pending.push_back(reduce(*bucket));
  for (const auto& each : pending) each->wait();
}

void FlatParameters::check_gradients() const {
  for (size_t i = 0; i < parameters_.size(); ++i)
    DM_CHECK(leaves_.at(parameters_[i].info.name).grad().data_ptr() ==
                 at(gradients_.data_ptr(), gradient_offsets_[i]),
             "the gradient of {} left the flat buffer", parameters_[i].info.name);
}

double FlatParameters::owned_gradient_squares() const {
  double sum = 0;
  for (const auto& [begin, end] : counted_) {
    const at::Tensor range = owned_gradients_.narrow(0, begin, end - begin);
    if (!range.is_cpu())
      sum += kernels::square_sum_cuda(range).sum.item<double>();
    else if (dtype_ == DType::f32)
      sum += square_sum(range.const_data_ptr<float>(), range.numel());
    else
      sum += square_sum(range.const_data_ptr<double>(), range.numel());
  }
  return sum;
}

std::string FlatParameters::first_non_finite() const {
  settle();
  const auto finite = [](const at::Tensor& t) { return at::isfinite(t).all().item<bool>(); };
  for (const auto& parameter : parameters_)
    if (const std::string& name = parameter.info.name; !finite(leaves_.at(name).detach()))
      return fmt::format("weights of {} not finite", name);
  if (scattered_) {  // of what this rank had to add nothing is left
    const std::vector<Slice> owned = slices(rank());
    for (auto slice = owned.rbegin(); slice != owned.rend(); ++slice)
      if (!finite(owned_gradients_.narrow(0, slice->offset, slice->count())))
        return fmt::format("the sum over the ranks of the gradient of {} not finite",
                           parameters_[static_cast<size_t>(slice->parameter)].info.name);
    return "its own weights and piece of the gradient finite";
  }
  // Sums over the ranks went into the owned array; the flat buffer still holds what this rank had to add.
  for (auto parameter = parameters_.rbegin(); parameter != parameters_.rend(); ++parameter)
    if (const std::string& name = parameter->info.name; !finite(leaves_.at(name).grad()))
      return fmt::format("gradient of {} not finite", name);
  return "its own weights and gradient finite";
}

}  // namespace dm::train
