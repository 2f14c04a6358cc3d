# heddle::heddle, the library that programs link: everything but the command line. In this tree, and
# after `cmake --install` through find_package(heddle).
include(CMakePackageConfigHelpers)

add_library(heddle_library INTERFACE)
add_library(heddle::heddle ALIAS heddle_library)
set_target_properties(heddle_library PROPERTIES EXPORT_NAME heddle)
target_link_libraries(heddle_library INTERFACE heddle_engine)

set(folders base kernels models scheduler engine)
set(targets heddle_library)
foreach(folder IN LISTS folders)
  list(APPEND targets heddle_${folder})
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/heddle
    FILES_MATCHING PATTERN "*.h")
endforeach()
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/heddle)
install(TARGETS ${targets} EXPORT heddle ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT heddle NAMESPACE heddle:: DESTINATION ${package_dir} FILE heddleTargets.cmake)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/heddleConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
configure_file(cmake/heddleConfig.cmake.in heddleConfig.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/heddleConfig.cmake ${PROJECT_BINARY_DIR}/heddleConfigVersion.cmake
  DESTINATION ${package_dir})
