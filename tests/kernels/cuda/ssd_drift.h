#pragma once
// How far the scan's state is from float64 after long rows, for both types in which a GPU keeps states.

#include <cuda_runtime_api.h>

namespace dm::test {

/// Prints a line a case; whether all are as near after 2^20 tokens as after 1,024.
bool report_drift(cudaStream_t stream);

}  // namespace dm::test
