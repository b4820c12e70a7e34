# Installs the C library: header files, libquantstats, a CMake package and a pkg-config file. All of them find each
# other by relative paths, so the folder can be moved: a wheel is unpacked anywhere.
include(CMakePackageConfigHelpers)

set(include_dir ${QS_INSTALL_PREFIX}include)
set(lib_dir ${QS_INSTALL_PREFIX}lib)
set(package_dir ${lib_dir}/cmake/quantstats)

# What an extension module of Python needs: the header files, without the library.
add_library(quantstats_headers INTERFACE)
target_include_directories(quantstats_headers INTERFACE $<INSTALL_INTERFACE:${include_dir}>)
set_target_properties(quantstats_headers PROPERTIES EXPORT_NAME headers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/csrc/include/quantstats DESTINATION ${include_dir} COMPONENT python)
install(TARGETS quantstats quantstats_headers EXPORT quantstatsTargets
  LIBRARY DESTINATION ${lib_dir} COMPONENT python
  RUNTIME DESTINATION ${lib_dir} COMPONENT python)
install(EXPORT quantstatsTargets NAMESPACE quantstats:: DESTINATION ${package_dir} COMPONENT python)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/quantstatsConfig.cmake.in
  ${PROJECT_BINARY_DIR}/quantstatsConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/quantstatsConfigVersion.cmake COMPATIBILITY SameMajorVersion)
configure_file(${CMAKE_CURRENT_LIST_DIR}/quantstats.pc.in ${PROJECT_BINARY_DIR}/quantstats.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/quantstatsConfig.cmake ${PROJECT_BINARY_DIR}/quantstatsConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT python)
install(FILES ${PROJECT_BINARY_DIR}/quantstats.pc DESTINATION ${lib_dir}/pkgconfig COMPONENT python)
