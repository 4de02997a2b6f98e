#pragma once
// Elements whose type is known when the kernel runs: where there are few of them, or memory is waited for
// anyway, the branch costs nothing and spares an instantiation for every combination.

#include "kernels/device/elements.cuh"
#include "kernels/device/rows.h"

namespace dm::kernels::cuda {

/// An element as it stands in memory, for loads that shall all be under way before one of them is looked at.
__device__ inline uint32_t bits(const Rows& rows, int64_t row, int64_t i) {
  const int64_t at = row * rows.stride + i;
  return rows.element == Element::kFloat32 ? static_cast<const uint32_t*>(rows.data)[at]
                                           : static_cast<const uint16_t*>(rows.data)[at];
}
__device__ inline float value(const Rows& rows, uint32_t bits) {
  return __uint_as_float(rows.element == Element::kFloat32 ? bits : bits << 16);
}
__device__ inline float read(const Rows& rows, int64_t row, int64_t i) {
  return value(rows, bits(rows, row, i));
}

__device__ inline void write(void* to, Element element, int64_t at, float value) {
  if (element == Element::kFloat32)
    static_cast<float*>(to)[at] = value;
  else
    put(static_cast<bf16*>(to) + at, value);
}

/// Four neighbours of a row as they stand in memory.
struct FourBits {
  uint32_t words[4];
};

/// Whether every four columns from a multiple of four on can be moved in one access.
__device__ inline bool in_fours(const Rows& rows, int64_t width) {
  const uint64_t bytes = rows.element == Element::kFloat32 ? 16 : 8;
  return width % 4 == 0 && rows.stride % 4 == 0 && reinterpret_cast<uint64_t>(rows.data) % bytes == 0;
}

/// Columns i .. i + 3, zeros from `width` on; `fours` is in_fours().
__device__ inline FourBits four_bits(const Rows& rows, int64_t row, int64_t i, int64_t width, bool fours) {
  FourBits four = {};
  if (i >= width) return four;
  const int64_t at = row * rows.stride + i;
  if (rows.element == Element::kFloat32) {
    const uint32_t* const from = static_cast<const uint32_t*>(rows.data) + at;
    if (fours) {
      const uint4 v = *reinterpret_cast<const uint4*>(from);
      four = {{v.x, v.y, v.z, v.w}};
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) four.words[k] = i + k < width ? from[k] : 0;
    }
  } else {
    const uint16_t* const from = static_cast<const uint16_t*>(rows.data) + at;
    if (fours) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      four = {{v.x, v.y}};
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (i + k < width) four.words[k / 2] |= uint32_t{from[k]} << (k % 2 * 16);
    }
  }
  return four;
}
__device__ inline float4 four_values(const Rows& rows, const FourBits& four) {
  const uint32_t(&w)[4] = four.words;
  const auto as_float = [](uint32_t bits) { return __uint_as_float(bits); };
  if (rows.element == Element::kFloat32)
    return {as_float(w[0]), as_float(w[1]), as_float(w[2]), as_float(w[3])};
  return {as_float(w[0] << 16), as_float(w[0] & 0xffff0000u), as_float(w[1] << 16),
          as_float(w[1] & 0xffff0000u)};
}

/// Elements at .. at + 3 of which `count` exist; with `fours`, `to` can be written in accesses of four.
__device__ inline void write_four(void* to, Element element, int64_t at, const float4& v, int64_t count,
                                  bool fours) {
  if (fours) {
    const float values[4] = {v.x, v.y, v.z, v.w};
    if (element == Element::kFloat32)
      Pack<float, 4>::of(values).to(static_cast<float*>(to) + at);
    else
      Pack<bf16, 4>::of(values).to(static_cast<bf16*>(to) + at);
    return;
  }
  write(to, element, at, v.x);
  if (count > 1) write(to, element, at + 1, v.y);
  if (count > 2) write(to, element, at + 2, v.z);
  if (count > 3) write(to, element, at + 3, v.w);
}

}  // namespace dm::kernels::cuda
