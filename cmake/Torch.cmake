# LibTorch as an imported target made by hand: find_package(Torch) of a CUDA wheel refuses to configure where there is no
# CUDA toolkit, and the CPU build needs two of its libraries only.
if(NOT EXISTS "${DM_TORCH_DIR}/include/ATen/ATen.h")
  message(FATAL_ERROR "No LibTorch in DM_TORCH_DIR=${DM_TORCH_DIR}.\n"
    "Run launch/setup, which unpacks the PyPI wheel there, or name the torch folder of an installed one:\n"
    "  cmake -D DM_TORCH_DIR=$(python3 -c 'import torch; print(torch.__path__[0])') ...")
endif()

get_filename_component(DM_TORCH_SITE "${DM_TORCH_DIR}" DIRECTORY)
add_library(dm_torch INTERFACE IMPORTED)
target_include_directories(dm_torch SYSTEM INTERFACE "${DM_TORCH_DIR}/include" "${DM_TORCH_DIR}/include/torch/csrc/api/include")
# The wheel brings fmt headers of its own, newer than the system's library and found before its headers: what includes
# LibTorch uses them header-only (their names differ by version, so both may be in one program).
target_compile_definitions(dm_torch INTERFACE FMT_HEADER_ONLY=1)
target_link_directories(dm_torch INTERFACE "${DM_TORCH_DIR}/lib")
# The wheel's libraries want the CUDA runtime's at load time; they are looked for beside it, as the nvidia wheels lay them.
file(GLOB DM_NVIDIA_LIB_DIRS LIST_DIRECTORIES true "${DM_TORCH_SITE}/nvidia/*/lib")
target_link_options(dm_torch INTERFACE -Wl,--allow-shlib-undefined
  "-Wl,-rpath,${DM_TORCH_DIR}/lib" "$<$<BOOL:${DM_NVIDIA_LIB_DIRS}>:-Wl,-rpath,$<JOIN:${DM_NVIDIA_LIB_DIRS},:>>")
target_link_libraries(dm_torch INTERFACE torch_cpu c10)
if(DM_CUDA)
  target_link_options(dm_torch INTERFACE -Wl,--no-as-needed)
  target_link_libraries(dm_torch INTERFACE torch_cuda c10_cuda)
endif()
