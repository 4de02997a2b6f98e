# Copies ORIGINALS (a list, from ROOT) into the fresh folder TREE and applies PATCH to them.
file(REMOVE_RECURSE "${TREE}")
file(MAKE_DIRECTORY "${TREE}")
foreach(path ${ORIGINALS})
  get_filename_component(folder "${path}" DIRECTORY)
  file(COPY "${ROOT}/${path}" DESTINATION "${TREE}/${folder}")
endforeach()
# GIT_DIR away from any repository: git apply then takes paths as they stand in the working directory.
execute_process(COMMAND "${CMAKE_COMMAND}" -E env GIT_DIR=/nonexistent git apply --verbose "${PATCH}"
  WORKING_DIRECTORY "${TREE}" RESULT_VARIABLE result ERROR_VARIABLE message OUTPUT_VARIABLE message)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PATCH} no longer applies; make the same change to the files as they are now, and write it with\n"
    "  git diff -U1 | sed '/^index /d'\n${message}")
endif()
