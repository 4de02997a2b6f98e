# What the libraries link, as targets. The build includes this file, and so does the installed find_package(diffmamba),
# since a program that links dm_core links HDF5 too.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(ZLIB REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)

# HDF5's own imported target differs between distributions and CMake versions; this one is always the same.
add_library(dm_hdf5 INTERFACE IMPORTED)
target_include_directories(dm_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(dm_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

include("${CMAKE_CURRENT_LIST_DIR}/Torch.cmake")
if(DM_CUDA)
  find_package(CUDAToolkit 13.0 REQUIRED)
  include("${CMAKE_CURRENT_LIST_DIR}/Nccl.cmake")
endif()
