# Helpers of our own CMakeLists: one way to declare a library and a test executable.

set(HEDDLE_WARNINGS -Wall -Wextra -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False on "literal" + string (GCC bug 105651) and on temporaries of aggregates that hold a map.
  list(APPEND HEDDLE_WARNINGS -Wno-restrict -Wno-maybe-uninitialized)
endif()
if(HEDDLE_WERROR)
  list(APPEND HEDDLE_WARNINGS -Werror)
endif()

# heddle_library(base SOURCES a.cpp ... [LINKS ...] [PRIVATE_LINKS ...]): static library heddle_base
function(heddle_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  if(NOT ARG_SOURCES)  # a folder of headers
    add_library(heddle_${name} INTERFACE)
    target_link_libraries(heddle_${name} INTERFACE ${ARG_LINKS})
    set(scope INTERFACE)
  else()
    add_library(heddle_${name} STATIC ${ARG_SOURCES})
    target_compile_options(heddle_${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${HEDDLE_WARNINGS}>)
    target_link_libraries(heddle_${name} PUBLIC ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
    set(scope PUBLIC)
  endif()
  target_include_directories(heddle_${name} ${scope}
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/heddle>)
  target_compile_features(heddle_${name} ${scope} cxx_std_20)
  set_target_properties(heddle_${name} PROPERTIES EXPORT_NAME ${name})
endfunction()

# heddle_test(base SOURCES a_test.cpp ... LINKS ...): executable base_test; every GoogleTest case is
# a ctest entry of its own, "base.Suite.Case". Suites named *Cuda* get the label gpu.
function(heddle_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  target_compile_options(${name}_test PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${HEDDLE_WARNINGS}>)
  target_compile_definitions(${name}_test PRIVATE HEDDLE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name}_test PRIVATE ${ARG_LINKS} GTest::gmock GTest::gtest_main)
  set(common TEST_PREFIX ${name}. NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
  gtest_discover_tests(${name}_test ${common} TEST_FILTER -*Cuda*
    PROPERTIES TIMEOUT 600 LABELS ${name})
  gtest_discover_tests(${name}_test ${common} TEST_FILTER *Cuda*
    PROPERTIES TIMEOUT 600 LABELS gpu)
endfunction()
