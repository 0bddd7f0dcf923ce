# `cmake --install`: the shared library, its headers, the program and a CMake package.
include(CMakePackageConfigHelpers)
install(TARGETS hga EXPORT hgaTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS hga_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/hga DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_BINARY_DIR}/generated/hga/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/hga)
install(EXPORT hgaTargets NAMESPACE hga:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hga)
configure_package_config_file(cmake/hgaConfig.cmake.in ${CMAKE_BINARY_DIR}/hgaConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hga)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/hgaConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/hgaConfig.cmake ${CMAKE_BINARY_DIR}/hgaConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hga)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
