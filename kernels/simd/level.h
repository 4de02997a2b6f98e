#pragma once
// Which of the compiled instruction sets the CPU operations use.
//
// Every *_simd.cpp file is compiled once for each level, into the namespace dm::kernels::<level>
// (kernels/CMakeLists.txt). The best level that the processor has is chosen once; DM_CPU_LEVEL=baseline|v3|v4
// asks for another. Levels differ in rounding (v3 and v4 fuse multiply and add, and sum in other orders), so
// a run repeats bit for bit on one level.

namespace dm::kernels {

/// x86-64-v2 (SSE4.2), x86-64-v3 (AVX2, FMA), x86-64-v4 (AVX-512). Elsewhere baseline is what the compiler
/// targets.
enum class CpuLevel { baseline, v3, v4 };

const char* name(CpuLevel level);

/// The level in use. The first call reads DM_CPU_LEVEL and throws ExitCode::usage if it cannot be obeyed.
CpuLevel cpu_level();

/// The best level of this processor.
CpuLevel best_cpu_level();

/// What cpu_level() decides from: nullptr or "" gives `best`; an unknown name or a level above `best` is
/// refused.
CpuLevel choose_cpu_level(const char* wish, CpuLevel best);

/// Changes the level in use, for tests and benchmarks; not while an operation runs.
void set_cpu_level(CpuLevel level);

}  // namespace dm::kernels
