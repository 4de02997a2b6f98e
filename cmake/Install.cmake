# The installed tree, which works wherever it is moved:
#
#   bin/diffmamba                    finds LibTorch on LD_LIBRARY_PATH, where it was built against it, or in lib/diffmamba of
#                                    the tree
#   lib/, include/, lib/cmake/       the folders' libraries, for find_package(diffmamba)
#   share/                           recipes, batch scripts, manual page, completion for bash and zsh, documents
#
# The component libtorch (cmake --install BUILD --component libtorch) copies what the program loads of LibTorch into
# lib/diffmamba, so that the tree needs nothing of the machine it was built on but system libraries.
include(CMakePackageConfigHelpers)

file(RELATIVE_PATH bundled "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}/diffmamba")
set_target_properties(diffmamba PROPERTIES INSTALL_RPATH "$ORIGIN/${bundled}" INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS diffmamba RUNTIME_DEPENDENCY_SET loaded RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(RUNTIME_DEPENDENCY_SET loaded COMPONENT libtorch EXCLUDE_FROM_ALL
  DIRECTORIES "${DM_TORCH_DIR}/lib" ${DM_NVIDIA_LIB_DIRS}
  POST_INCLUDE_REGEXES "^${DM_TORCH_SITE}/" POST_EXCLUDE_REGEXES "."
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/diffmamba)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/diffmamba)
install(EXPORT diffmamba NAMESPACE diffmamba:: FILE diffmambaTargets.cmake DESTINATION ${package})
configure_package_config_file(cmake/diffmambaConfig.cmake.in "${PROJECT_BINARY_DIR}/diffmambaConfig.cmake"
  INSTALL_DESTINATION ${package})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/diffmambaConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/diffmambaConfig.cmake" "${PROJECT_BINARY_DIR}/diffmambaConfigVersion.cmake"
  cmake/Libraries.cmake cmake/Torch.cmake cmake/Nccl.cmake DESTINATION ${package})

# dm_install_page(WORD FILE DESTINATION) installs what `diffmamba WORD` prints, asked when it is installed.
function(dm_install_page word file destination)
  set(page "${PROJECT_BINARY_DIR}/pages/${file}")
  install(CODE "execute_process(COMMAND \"$<TARGET_FILE:diffmamba>\" ${word} OUTPUT_FILE \"${page}\" COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES "${page}" DESTINATION ${destination})
endfunction()
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/pages")
dm_install_page(man diffmamba.1 ${CMAKE_INSTALL_MANDIR}/man1)
dm_install_page(bash-completion diffmamba ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
dm_install_page(zsh-completion _diffmamba ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)

install(DIRECTORY recipes launch/slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/diffmamba USE_SOURCE_PERMISSIONS)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(FILES README.md LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
