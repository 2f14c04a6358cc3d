# Compiler and linker settings of every target.
include(CheckLinkerFlag)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()

find_program(HEDDLE_CCACHE ccache)
if(HEDDLE_CCACHE)
  foreach(language CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${HEDDLE_CCACHE})
    endif()
  endforeach()
endif()

find_program(HEDDLE_MOLD mold)
if(HEDDLE_MOLD)
  check_linker_flag(CXX -fuse-ld=mold HEDDLE_LINKS_WITH_MOLD)
  if(HEDDLE_LINKS_WITH_MOLD)
    add_link_options(-fuse-ld=mold)
  endif()
endif()

# Bits are part of the contract: no contraction of a*b+c that the source does not ask for.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

# Cheap checks that stay in release; the sanitizers have their own. (Distributions may predefine
# _FORTIFY_SOURCE, hence the -U.)
if(NOT HEDDLE_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>"
    "$<$<COMPILE_LANGUAGE:CXX>:-D_GLIBCXX_ASSERTIONS;-fstack-protector-strong>")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|aarch64")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fstack-clash-protection>)
  endif()
endif()

if(HEDDLE_SANITIZE)
  set(HEDDLE_SANITIZE_FLAGS -fsanitize=${HEDDLE_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${HEDDLE_SANITIZE_FLAGS}>")
  add_link_options(-fsanitize=${HEDDLE_SANITIZE})
endif()
