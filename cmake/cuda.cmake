# Whether the CUDA backend is built: HEDDLE_CUDA_ENABLED.
if(HEDDLE_CUDA STREQUAL "ON")
  message(FATAL_ERROR "HEDDLE_CUDA=ON: this tree has no CUDA kernels yet")
endif()
set(HEDDLE_CUDA_ENABLED OFF)
