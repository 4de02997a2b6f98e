#pragma once
// A matrix of bfloat16 in shared memory as the tensor cores read it: blocks of 64 columns (one of 32 for a
// matrix of 32 columns), each block row by row, the 16-byte pieces of a row swizzled by its number, so that
// reading down a column meets no bank twice. Saved states hold the same image, byte for byte, in global
// memory.

#include <cstdint>

namespace dm::kernels::cuda {

template <int kRows, int kCols>
struct Tile {
  static_assert(kCols == 32 || kCols % 64 == 0);
  static constexpr int kRowBytes = kCols == 32 ? 64 : 128;
  static constexpr int kBlockCols = kRowBytes / 2;
  static constexpr int kBlockBytes = kRows * kRowBytes;
  static constexpr int kBytes = kBlockBytes * (kCols / kBlockCols);
  static constexpr int kPieces = kCols / 8;  // 16-byte pieces of a row

  /// Byte offset of element (row, col); col even for 4-byte, a multiple of 8 for 16-byte accesses.
  static __device__ int offset(int row, int col) {
    const int swizzle = kRowBytes == 128 ? (row & 7) << 4 : ((row >> 1) & 3) << 4;
    return (col / kBlockCols) * kBlockBytes + row * kRowBytes + (((col % kBlockCols) * 2) ^ swizzle);
  }

  /// wgmma descriptor of the operand whose contraction runs along a row, from (row, col) on.
  static __device__ uint64_t along_rows(uint32_t base, int row, int col) {
    return descriptor(base + (col / kBlockCols) * kBlockBytes + row * kRowBytes + (col % kBlockCols) * 2);
  }

  /// The same for a contraction down the columns ("transposed" in PTX), from row `row` and block column `col`
  /// on.
  static __device__ uint64_t down_columns(uint32_t base, int row, int col) {
    return descriptor(base + (col / kBlockCols) * kBlockBytes + row * kRowBytes);
  }

 private:
  static __device__ uint64_t descriptor(uint32_t address) {
    constexpr uint64_t kSwizzle = kRowBytes == 128 ? 1 : 2;
    constexpr uint64_t kFixed =
        kSwizzle << 62 | uint64_t(8 * kRowBytes >> 4) << 32 | uint64_t(kBlockBytes >> 4) << 16;
    return kFixed | ((address & 0x3ffff) >> 4);
  }
};

}  // namespace dm::kernels::cuda
