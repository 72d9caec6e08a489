# What `cmake --install` gives: headers, libraries, the command, the embedded models, a CMake package.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/cajal)
install(TARGETS ${targets} EXPORT cajalTargets)
install(EXPORT cajalTargets NAMESPACE cajal:: DESTINATION ${package})
install(DIRECTORY src/cajal DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_BINARY_DIR}/generated/cajal/core/version.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cajal/core)
if(CAJAL_TORCH)
  install(TARGETS cajal_command cajal_layer)
  if(HTTPLIB_FOUND)  # where only the command was built, its pages are made now
    install(CODE "if(NOT EXISTS \"${PROJECT_BINARY_DIR}/web/index.html\")
      execute_process(COMMAND \"${PROJECT_SOURCE_DIR}/tools/build_web\" \"${PROJECT_BINARY_DIR}\")
    endif()")
    install(DIRECTORY ${PROJECT_BINARY_DIR}/web DESTINATION ${CMAKE_INSTALL_DATADIR}/cajal)
  endif()
endif()
install(DIRECTORY models DESTINATION ${CMAKE_INSTALL_DATADIR}/cajal)
configure_package_config_file(cmake/cajalConfig.cmake.in cajalConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(cajalConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/dependencies.cmake ${PROJECT_BINARY_DIR}/cajalConfig.cmake
        ${PROJECT_BINARY_DIR}/cajalConfigVersion.cmake DESTINATION ${package})
