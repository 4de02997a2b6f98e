#include "kernels/dropout/dropout.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/check.h"
#include "kernels/dropout/dropout_cuda.h"

namespace dm::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T>
void masked_rows(const T* x, T* y, int64_t tokens, int64_t width, double p, const CounterRng& rng,
                 const TokenPlaces& places) {
  const auto* samples = places.samples.const_data_ptr<int64_t>();
  const uint32_t threshold = dropout_threshold(p);
  const T scale = static_cast<T>(1 / (1 - p));
  parallel_for(tokens, [&](int64_t t) {
    const int64_t token = places.first + t;
    const auto sample = static_cast<uint64_t>(samples[token / places.length]);
    const auto position = static_cast<uint64_t>(places.position + token % places.length);
    const T* from = x + t * width;
    T* to = y + t * width;
    std::array<uint32_t, 4> words{};
    for (int64_t c = 0; c < width; ++c) {
      if (c % 4 == 0) words = rng.draw(position << 32 | static_cast<uint64_t>(c / 4), sample);
      to[c] = words[static_cast<size_t>(c % 4)] >= threshold ? from[c] * scale : T(0);
    }
  });
}

at::Tensor masked(const at::Tensor& x, double p, const CounterRng& rng, const TokenPlaces& places) {
  if (x.is_cuda()) return dropout_cuda(x, p, rng, places);
  at::Tensor y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dropout", [&] {
    masked_rows(x.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(), x.numel() / x.size(-1),
                x.size(-1), p, rng, places);
  });
  return y;
}

/// A mask without its elements.
struct Mask : torch::CustomClassHolder {
  double p;
  CounterRng rng;
  TokenPlaces places;
  Mask(double p, const CounterRng& rng, TokenPlaces places) : p(p), rng(rng), places(std::move(places)) {}
  at::Tensor of(const at::Tensor& x) const { return masked(x.contiguous(), p, rng, places); }
};

class Dropout : public torch::autograd::Function<Dropout> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<Mask>& mask) {
    context->saved_data["mask"] = c10::IValue::make_capsule(mask);
    return mask->of(x);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto capsule = context->saved_data["mask"].toCapsule();
    return {static_cast<Mask&>(*capsule).of(grads[0]), at::Tensor()};
  }
};

}  // namespace

uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(std::llround(std::ldexp(p, 32))); }

at::Tensor dropout(const at::Tensor& x, double p, const CounterRng& rng, const TokenPlaces& places) {
  DM_CHECK_FLOATING("dropout", x);
  DM_CHECK_SHAPE("dropout", places.samples, at::kLong, -1);
  DM_CHECK(p >= 0 && p < 1, "dropout: p {} is not in [0, 1)", p);
  DM_CHECK(places.samples.device() == x.device() && places.samples.is_contiguous(),
           "dropout: samples are {} on {}, x on {}", describe(places.samples), places.samples.device().str(),
           x.device().str());
  const int64_t tokens = x.size(-1) > 0 ? x.numel() / x.size(-1) : 0;
  DM_CHECK(places.first >= 0 && places.position >= 0 &&
               places.first + tokens <= places.samples.size(0) * places.length,
           "dropout: x has {} tokens from {} on, of {} rows of {}", tokens, places.first,
           places.samples.size(0), places.length);
  if (p == 0 || x.numel() == 0) return x;
  return Dropout::apply(x, c10::make_intrusive<Mask>(p, rng, places));
}

}  // namespace dm::kernels
