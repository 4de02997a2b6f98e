# Everything the build needs from outside, on or off as written here and in Libraries.cmake, never by what happens to be found.
include(Libraries)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)

if(DM_CUDA)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 does not know yet that nvcc takes it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  # "90a-real" as the program names it in its messages: 90a.
  string(REPLACE "-real" "" DM_CUDA_ARCHITECTURE_NAMES "${CMAKE_CUDA_ARCHITECTURES}")
  add_compile_definitions("$<$<COMPILE_LANGUAGE:CUDA>:DM_CUDA_ARCHITECTURES=\"${DM_CUDA_ARCHITECTURE_NAMES}\">")
endif()
if(DM_TESTS)
  find_package(GTest 1.12 REQUIRED)
endif()

# The one precompiled header: everything of LibTorch that sources may use. torch/torch.h (43 s) is included nowhere.
file(WRITE "${PROJECT_BINARY_DIR}/torch_pch.cpp" "// Nothing: this object library exists for its precompiled header.\n")
add_library(dm_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
target_link_libraries(dm_torch_pch PRIVATE dm_torch)
target_precompile_headers(dm_torch_pch PRIVATE <ATen/ATen.h> <torch/csrc/autograd/custom_function.h>
  <torch/csrc/autograd/variable.h> <map> <string> <vector>)
