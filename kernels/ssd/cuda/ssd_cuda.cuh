#pragma once
// The SSD scan on the GPU (semantics: kernels/ssd/ssd.h). Two implementations behind one door, chosen by
// shape, element and alignment alone:
//
// - fast: bfloat16, P a multiple of 32, N one of 8 up to 256, any G, built for sm_90a. The state walks along
//   the row in float32 accumulators; every product is on the tensor cores, its operands rounded to bfloat16
//   once; y and dx likewise, but with N over 128, which is two launches (fast_shape.cuh): then each of two
//   parts and their sum. Where rows and heads are few, segments of the rows start at once, after a pass over
//   the states alone.
// - plain: every other shape, and float32. The recurrence itself, token by token in float32; on the device
//   also the reference of the fast one.
//
// Unlike the CPU operation, documents are kept apart by factors of zero: infinities and NaN do pass from one
// document to another in the fast path.
//
// Everything is queued on `stream`, which the caller gives; nothing is allocated, nothing synchronises, so
// that a call can be captured into a graph. The same inputs give the same bits.

#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

enum class SsdPath { kFast, kPlain };

/// The fast path also needs y, dy, dx (and b, c, x) to start at multiples of 16 bytes, strides in multiples
/// of 8 elements; db and dc at multiples of 8 bytes, even strides. Only the inputs are looked at here.
SsdPath ssd_path(const SsdInputs& in);

/// Bytes of SsdForward::saved, with states or without, and of the workspaces of SsdForward and SsdBackward.
/// None needs an initial value; all start at multiples of 128.
int64_t ssd_saved_bytes(const SsdShape& shape, SsdPath path);
int64_t ssd_scratch_bytes(const SsdShape& shape, SsdPath path);
int64_t ssd_forward_bytes(const SsdShape& shape, SsdPath path);
int64_t ssd_workspace_bytes(const SsdShape& shape, SsdPath path);

/// `path` is ssd_path() of the same arguments, or kPlain for the reference.
cudaError_t ssd_forward(const SsdForward& args, SsdPath path, cudaStream_t stream);
cudaError_t ssd_backward(const SsdBackward& args, SsdPath path, cudaStream_t stream);
cudaError_t ssd_passage(const SsdPassage& args, SsdPath path, cudaStream_t stream);

}  // namespace dm::kernels::cuda
