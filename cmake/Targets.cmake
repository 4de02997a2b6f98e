# dm_add_library(FOLDER SOURCES file... [CUDA file...] [NO_CUDA file...] [DEPENDS target...] [TORCH])
# makes the static library dm_FOLDER, diffmamba::FOLDER where it is installed, with the source root as its include path. CUDA files are compiled in a CUDA build,
# NO_CUDA files (which say "built without CUDA") in any other. TORCH adds LibTorch and the precompiled header.
function(dm_add_library folder)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;CUDA;NO_CUDA;DEPENDS" ${ARGN})
  set(sources ${arg_SOURCES})
  if(DM_CUDA)
    list(APPEND sources ${arg_CUDA})
  else()
    list(APPEND sources ${arg_NO_CUDA})
  endif()
  add_library(dm_${folder} STATIC ${sources})
  target_include_directories(dm_${folder} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/diffmamba>)
  target_link_libraries(dm_${folder} PUBLIC ${arg_DEPENDS})
  set_target_properties(dm_${folder} PROPERTIES EXPORT_NAME ${folder})
  install(TARGETS dm_${folder} EXPORT diffmamba ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/diffmamba
    FILES_MATCHING PATTERN "*.h" PATTERN cuda EXCLUDE PATTERN simd EXCLUDE)
  if(arg_TORCH)
    dm_use_torch(dm_${folder} PUBLIC)
  endif()
endfunction()

function(dm_use_torch target visibility)
  target_link_libraries(${target} ${visibility} dm_torch)
  target_precompile_headers(${target} REUSE_FROM dm_torch_pch)
  # A program would be compiled with -fPIE, with which the header's -fPIC does not go: GCC would parse LibTorch again.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fPIC>)
endfunction()
