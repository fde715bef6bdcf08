# Chooses one of two configurations; nothing in between is supported.
#
#   native   (default)                         GGML_NATIVE=ON,  GGML_BACKEND_DL=OFF, ggml-cpu linked
#   plug-in  (wheels, and every GPU backend)   GGML_NATIVE=OFF, GGML_BACKEND_DL=ON,  all CPU variants
#
# A GPU library that is linked rather than loaded would make the import fail where its driver is missing.
# A BLAS library and Metal are part of the system that they are built on, so they may be linked.
# A system's ggml (PYLLAMA_USE_SYSTEM_GGML) has made the choice itself.

set(_plugin_backends CANN CUDA ET HEXAGON HIP MUSA OPENCL OPENVINO RPC SYCL VIRTGPU VULKAN WEBGPU ZDNN ZENDNN)
set(_ggml_options ${_plugin_backends} BLAS METAL NATIVE BACKEND_DL CPU_ALL_VARIANTS)
if(PYLLAMA_USE_SYSTEM_GGML)
  foreach(_option IN LISTS _ggml_options)
    if(GGML_${_option})
      message(FATAL_ERROR " GGML_${_option} contradicts PYLLAMA_USE_SYSTEM_GGML=ON: the system's ggml is built already")
    endif()
  endforeach()
  set(PYLLAMA_CONFIGURATION system-ggml)
  message(STATUS "pyllama configuration: ${PYLLAMA_CONFIGURATION}")
  return()
endif()

set(_plugin_wanted OFF)
foreach(_backend IN LISTS _plugin_backends)
  if(GGML_${_backend})
    set(_plugin_wanted ON)
    list(APPEND _plugin_reason "GGML_${_backend}")
  endif()
endforeach()
if(GGML_CPU_ALL_VARIANTS)
  set(_plugin_wanted ON)
  list(APPEND _plugin_reason GGML_CPU_ALL_VARIANTS)
endif()
if(DEFINED GGML_BACKEND_DL)
  if(_plugin_wanted AND NOT GGML_BACKEND_DL)
    list(JOIN _plugin_reason ", " _plugin_reason)
    message(FATAL_ERROR " ${_plugin_reason} needs GGML_BACKEND_DL=ON: leave GGML_BACKEND_DL unset")
  endif()
  set(_plugin_wanted ${GGML_BACKEND_DL})
endif()

if(_plugin_wanted)
  set(PYLLAMA_CONFIGURATION plug-in)
  if(GGML_NATIVE)
    message(FATAL_ERROR " GGML_NATIVE=ON contradicts backends as plug-ins: leave GGML_NATIVE unset")
  endif()
  set(GGML_NATIVE OFF)
  set(GGML_BACKEND_DL ON)
  if(NOT DEFINED GGML_CPU_ALL_VARIANTS)
    set(GGML_CPU_ALL_VARIANTS ON)
  endif()
else()
  set(PYLLAMA_CONFIGURATION native)
  if(NOT DEFINED GGML_NATIVE)
    set(GGML_NATIVE ON)
  endif()
  set(GGML_BACKEND_DL OFF)
endif()
message(STATUS "pyllama configuration: ${PYLLAMA_CONFIGURATION}")
