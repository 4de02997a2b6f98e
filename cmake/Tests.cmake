# The one way to add a test program.
#
# dm_add_test(NAME SOURCES file... [DEPENDS target...] [RANKS n...] [LABELS label...] [TIMEOUT seconds] [TORCH])
# builds bin/NAME from GoogleTest sources and registers it: once, or with RANKS once per rank count under mpirun, as
# NAME.n<count>. Labels: unit (default), golden, mpi (added by RANKS), fault, format, gpu, slow, hygiene.
# An MPI test decides its verdict by a reduction over all ranks; running no test is a failure.
set(DM_MPIRUN ${MPIEXEC_EXECUTABLE} --oversubscribe ${MPIEXEC_NUMPROC_FLAG})
set(DM_TEST_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1)
if(DM_SANITIZE)
  set(suppressions ${PROJECT_SOURCE_DIR}/cmake/sanitizers)  # findings inside libraries of others, each with its reason
  list(APPEND DM_TEST_ENVIRONMENT
    "LSAN_OPTIONS=suppressions=${suppressions}/lsan.supp"
    # Some tests look at threads that a forked child starts.
    "TSAN_OPTIONS=suppressions=${suppressions}/tsan.supp:die_after_fork=0"
    # Libraries without frame pointers end a fast trace below the first frame that a suppression could name.
    "ASAN_OPTIONS=fast_unwind_on_malloc=0"
    # LibTorch's own threads hand work over through an OpenMP that no sanitizer was compiled into: each would be a race.
    OMP_NUM_THREADS=1)
endif()

function(dm_add_test name)
  cmake_parse_arguments(arg "TORCH" "TIMEOUT" "SOURCES;DEPENDS;RANKS;LABELS" ${ARGN})
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(DM_SANITIZE)
    math(EXPR arg_TIMEOUT "4 * ${arg_TIMEOUT}")  # what the sanitizers cost
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gmock)
  if(arg_TORCH)
    dm_use_torch(${name} PRIVATE)
  endif()
  if(arg_RANKS)
    target_link_libraries(${name} PRIVATE dm_test_mpi_main)
    foreach(ranks ${arg_RANKS})
      add_test(NAME ${name}.n${ranks} COMMAND ${DM_MPIRUN} ${ranks} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.n${ranks} PROPERTIES LABELS "mpi;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
        ENVIRONMENT "${DM_TEST_ENVIRONMENT}" PROCESSORS 2)
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE dm_test_main)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${DM_TEST_ENVIRONMENT}")
  endif()
endfunction()
