#pragma once
// CPU threads of this process, for our own kernels and for LibTorch's, set once before the first of either
// runs.

#include <cstdint>

namespace dm::launch {

/// `asked` threads, or with 0 this host's cores shared by the `local_world` ranks on it (at least one each).
int64_t use_threads(int64_t asked, int64_t local_world);

}  // namespace dm::launch
