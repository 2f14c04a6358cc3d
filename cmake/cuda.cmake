# The CUDA backend: whether it is built (HEDDLE_CUDA_ENABLED), and the only place with nvcc flags.
#
# HEDDLE_CUDA=AUTO: on where nvcc and an NVIDIA device are found. ON: needs nvcc alone; the programs
# then run without a device too, and say so when one is asked for. OFF: looks for nothing.

set(HEDDLE_CUDA_ENABLED OFF)
if(NOT HEDDLE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "HEDDLE_CUDA=${HEDDLE_CUDA}: allowed are AUTO, ON, OFF")
endif()
if(NOT HEDDLE_CUDA STREQUAL "OFF")
  if(CMAKE_CUDA_COMPILER)
    set(heddle_nvcc ${CMAKE_CUDA_COMPILER})
  else()
    find_program(HEDDLE_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda
      PATH_SUFFIXES bin)
    set(heddle_nvcc ${HEDDLE_NVCC})
  endif()
  set(heddle_cuda_device OFF)
  if(EXISTS /proc/driver/nvidia/version OR EXISTS /dev/nvidiactl OR EXISTS /dev/dxg)
    set(heddle_cuda_device ON)
  endif()
  if(heddle_nvcc AND (HEDDLE_CUDA STREQUAL "ON" OR heddle_cuda_device))
    set(HEDDLE_CUDA_ENABLED ON)
  elseif(HEDDLE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "HEDDLE_CUDA=ON: no nvcc in PATH, $CUDA_HOME/bin or /usr/local/cuda/bin. "
      "Install the CUDA toolkit (12.4 or newer), or pass -DCMAKE_CUDA_COMPILER=/path/to/nvcc, or "
      "-DHEDDLE_CUDA=OFF for a build without CUDA")
  endif()
endif()

if(HEDDLE_CUDA_ENABLED)
  # Hopper's own instructions need the "a" target; machine code only, no PTX for other devices.
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90a-real)
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${heddle_nvcc})
  endif()
  if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  enable_language(CUDA)
  # CMake 3.25.1 does not know how to ask nvcc for C++20 and would drop the request silently.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  find_package(CUDAToolkit REQUIRED)
  message(STATUS "CUDA backend: on (${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION})")
elseif(HEDDLE_CUDA STREQUAL "AUTO")
  if(heddle_nvcc)
    message(STATUS "CUDA backend: off (nvcc is here, an NVIDIA device is not; HEDDLE_CUDA=ON forces it)")
  else()
    message(STATUS "CUDA backend: off (no nvcc)")
  endif()
else()
  message(STATUS "CUDA backend: off (HEDDLE_CUDA=OFF)")
endif()

# heddle_cuda_kernels(target): adds kernels/cuda to the library and HEDDLE_CUDA=1 to what it and its
# users compile, and declares the benchmark kernels_cuda_bench (built when asked for by name).
function(heddle_cuda_kernels target)
  set(folder ${PROJECT_SOURCE_DIR}/kernels/cuda)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cu ${folder}/*.cpp)
  target_sources(${target} PRIVATE ${sources})
  target_compile_definitions(${target} PUBLIC HEDDLE_CUDA=1)
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
  # Contraction is off as on the CPU: a fused multiply-add happens where the source says fmaf.
  set(flags --fmad=false -lineinfo -Xptxas=-warn-spills,-warn-lmem-usage
    -Xcompiler=-Wall,-Wextra,-Wshadow,-ffp-contract=off)
  if(HEDDLE_WERROR)
    list(APPEND flags -Werror=all-warnings -Xcompiler=-Werror -Xptxas=-Werror)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flags}>")

  set(bench ${PROJECT_SOURCE_DIR}/tests/kernels/cuda_bench.cpp)
  if(HEDDLE_TESTS AND EXISTS ${bench})
    add_executable(kernels_cuda_bench EXCLUDE_FROM_ALL ${bench})
    target_compile_options(kernels_cuda_bench PRIVATE ${HEDDLE_WARNINGS})
    target_link_libraries(kernels_cuda_bench PRIVATE ${target} fmt::fmt)
  endif()
endfunction()
