# Helpers of our own CMakeLists: one way to declare a library, a test executable and a fuzz target.

set(HEDDLE_WARNINGS -Wall -Wextra -Wshadow)
if(HEDDLE_WERROR)
  list(APPEND HEDDLE_WARNINGS -Werror)
endif()

# heddle_library(base SOURCES a.cpp ... LINKS ...): static library heddle_base
function(heddle_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(heddle_${name} STATIC ${ARG_SOURCES})
  target_include_directories(heddle_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_compile_features(heddle_${name} PUBLIC cxx_std_20)
  target_compile_options(heddle_${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${HEDDLE_WARNINGS}>)
  target_link_libraries(heddle_${name} PUBLIC ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
endfunction()

# heddle_test(base SOURCES a_test.cpp ... LINKS ... [LABELS gpu]): executable base_test; every
# GoogleTest case becomes a ctest entry of its own.
function(heddle_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;LABELS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  target_compile_options(${name}_test PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${HEDDLE_WARNINGS}>)
  target_link_libraries(${name}_test PRIVATE ${ARG_LINKS} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT 600 LABELS "${ARG_LABELS}" SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()
