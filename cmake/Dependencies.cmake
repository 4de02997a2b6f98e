# Everything the build needs from outside, on or off as written above, never by what happens to be found.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(ZLIB REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

# HDF5's own imported target differs between distributions and CMake versions; this one is always the same.
add_library(dm_hdf5 INTERFACE)
target_include_directories(dm_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(dm_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

include(Torch)
if(DM_CUDA)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 does not know yet that nvcc takes it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  find_package(CUDAToolkit 13.0 REQUIRED)
  # "90a-real" as the program names it in its messages: 90a.
  string(REPLACE "-real" "" DM_CUDA_ARCHITECTURE_NAMES "${CMAKE_CUDA_ARCHITECTURES}")
  add_compile_definitions("$<$<COMPILE_LANGUAGE:CUDA>:DM_CUDA_ARCHITECTURES=\"${DM_CUDA_ARCHITECTURE_NAMES}\">")
endif()
if(DM_TESTS)
  find_package(GTest 1.12 REQUIRED)
endif()
