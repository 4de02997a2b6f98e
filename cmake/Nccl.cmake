# NCCL for CUDA builds: the library that the torch wheel brings (nvidia-nccl-cu13), or the system's. LibTorch's CUDA half
# links the same one, and a process must not hold two.
find_path(DM_NCCL_INCLUDE_DIR nccl.h
  HINTS "${DM_TORCH_SITE}/nvidia/nccl/include" "${DM_TORCH_DIR}/include" PATHS "${CUDAToolkit_TARGET_DIR}/include")
find_library(DM_NCCL_LIBRARY NAMES libnccl.so.2 nccl
  HINTS "${DM_TORCH_SITE}/nvidia/nccl/lib" "${DM_TORCH_DIR}/lib" PATHS "${CUDAToolkit_LIBRARY_DIR}" "${CUDAToolkit_TARGET_DIR}/lib")
if(NOT DM_NCCL_INCLUDE_DIR OR NOT DM_NCCL_LIBRARY)
  message(FATAL_ERROR "A CUDA build needs NCCL: nccl.h is ${DM_NCCL_INCLUDE_DIR}, the library ${DM_NCCL_LIBRARY}.\n"
    "Install it beside LibTorch (pip install --target ${DM_TORCH_SITE} --no-deps nvidia-nccl-cu13) or on the system\n"
    "(libnccl-dev), or name both: -D DM_NCCL_INCLUDE_DIR=... -D DM_NCCL_LIBRARY=.../libnccl.so.2")
endif()
add_library(dm_nccl INTERFACE IMPORTED)
target_include_directories(dm_nccl SYSTEM INTERFACE "${DM_NCCL_INCLUDE_DIR}")
target_link_libraries(dm_nccl INTERFACE "${DM_NCCL_LIBRARY}")
