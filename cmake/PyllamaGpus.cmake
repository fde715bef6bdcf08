# Which GPUs CUDA's code is compiled for, where nobody says: this machine's, as with its CPU, which takes a fraction of the
# time. What is built for others says GGML_NATIVE=OFF and gets ggml's list, and so does a machine without a GPU.
# In front of PyllamaConfiguration, which turns GGML_NATIVE off for every plug-in.

function(pyllama_choose_cuda_architectures)
  if(NOT GGML_CUDA OR DEFINED GGML_NATIVE OR DEFINED CMAKE_CUDA_ARCHITECTURES OR NOT "$ENV{CUDAARCHS}" STREQUAL "")
    return()
  endif()
  find_program(_smi nvidia-smi NO_CACHE)
  if(NOT _smi)
    return()
  endif()
  execute_process(COMMAND "${_smi}" --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE _gpus ERROR_QUIET)
  string(REGEX MATCHALL "[0-9]+[.][0-9]" _gpus "${_gpus}")
  list(REMOVE_DUPLICATES _gpus)
  if(_gpus)
    list(JOIN _gpus ", " _said)
    message(STATUS "CUDA is compiled for this machine's GPUs (${_said}); GGML_NATIVE=OFF compiles it for others as well")
    list(TRANSFORM _gpus REPLACE "[.]" "")
    list(TRANSFORM _gpus APPEND "-real")
    set(CMAKE_CUDA_ARCHITECTURES ${_gpus} PARENT_SCOPE)
  endif()
endfunction()
pyllama_choose_cuda_architectures()
