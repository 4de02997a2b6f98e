#pragma once
// A chain of short kernels, each started before the one in front of it is done (launch_early() of
// device/launch.cuh): what does not depend on earlier kernels, the weights above all, is on its way by the
// time it is needed.

namespace dm::kernels::cuda {

/// Lets the next kernel start as soon as every block has come here.
__device__ inline void let_next_kernel_start() { asm volatile("griddepcontrol.launch_dependents;"); }
/// Until all earlier kernels are complete and what they wrote is visible.
__device__ inline void wait_for_earlier_kernels() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace dm::kernels::cuda
