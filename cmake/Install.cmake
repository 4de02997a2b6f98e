# The installed tree. The program finds LibTorch where it was built against it (rpath) or on LD_LIBRARY_PATH.
set_target_properties(diffmamba PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS diffmamba RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY recipes/ DESTINATION ${CMAKE_INSTALL_DATADIR}/diffmamba/recipes)
install(FILES README.md LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
