#pragma once
// The element types of activations on the GPU.

namespace dm::kernels::cuda {

enum class Element { kFloat32, kBFloat16 };

}  // namespace dm::kernels::cuda
