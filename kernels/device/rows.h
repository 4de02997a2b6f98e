#pragma once

#include <cstdint>

#include "kernels/device/element.h"

namespace dm::kernels::cuda {

/// A matrix of either element in memory that is read: element (row, i) is at row * stride + i.
struct Rows {
  const void* data;
  int64_t stride;
  Element element;
};

}  // namespace dm::kernels::cuda
