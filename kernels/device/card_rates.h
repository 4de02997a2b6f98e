#pragma once
// What a GPU's arithmetic and memory reach: the rates that floors and utilisation are shares of, by card.

#include <string_view>

namespace dm::kernels {

struct CardRates {
  std::string_view card;    // as CudaDevice names it
  double product_tflops;    // of a large bfloat16 matrix product on random values, measured
  double copy_terabytes;    // bytes read and written a second by a large copy, 10^12, measured
  double peak_bf16_tflops;  // the data sheet's, dense
  double peak_float_tflops;
};

inline constexpr CardRates kH100{"NVIDIA H100 80GB HBM3", 790, 3.0, 989, 67};
inline constexpr CardRates kH200{"NVIDIA H200", 790, 4.3, 989, 67};

/// Null for a card of which nothing has been measured.
constexpr const CardRates* card_rates(std::string_view card) {
  for (const CardRates* rates : {&kH100, &kH200})
    if (rates->card == card) return rates;
  return nullptr;
}

}  // namespace dm::kernels
