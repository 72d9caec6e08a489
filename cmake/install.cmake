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
endif()
install(DIRECTORY models DESTINATION ${CMAKE_INSTALL_DATADIR}/cajal)
configure_package_config_file(cmake/cajalConfig.cmake.in cajalConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(cajalConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/dependencies.cmake ${PROJECT_BINARY_DIR}/cajalConfig.cmake
        ${PROJECT_BINARY_DIR}/cajalConfigVersion.cmake DESTINATION ${package})
