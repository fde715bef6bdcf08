# Adds the vendored tree: ggml as shared libraries (they travel in the package), the rest static in our module.

set(LLAMA_BUILD_COMMON ON)
set(LLAMA_BUILD_MTMD ON)
set(LLAMA_BUILD_TESTS OFF)
set(LLAMA_BUILD_TOOLS OFF)
set(LLAMA_BUILD_EXAMPLES OFF)
set(LLAMA_BUILD_SERVER OFF)
set(LLAMA_BUILD_APP OFF)
set(LLAMA_OPENSSL OFF)
set(LLAMA_SUBPROCESS OFF)
set(LLAMA_LLGUIDANCE OFF)
set(MTMD_VIDEO OFF)
set(LLAMA_BUILD_NUMBER ${PYLLAMA_LLAMA_CPP_BUILD})
set(LLAMA_BUILD_COMMIT ${PYLLAMA_LLAMA_CPP_TAG})
set(GGML_BUILD_NUMBER ${PYLLAMA_LLAMA_CPP_BUILD})
set(GGML_BUILD_COMMIT ${PYLLAMA_LLAMA_CPP_TAG})
set(GIT_EXE "") # ggml would ask it for the commit of whatever checkout this tree lies in

# ggml is added before llama.cpp's own CMakeLists.txt, which would set these defaults.
set(GGML_LLAMAFILE_DEFAULT ON)
set(GGML_CUDA_GRAPHS_DEFAULT ON)

if(PYLLAMA_USE_SYSTEM_GGML)
  include(PyllamaSystemGgml)
else()
  set(BUILD_SHARED_LIBS ON)
  set(CMAKE_C_VISIBILITY_PRESET default)
  set(CMAKE_CXX_VISIBILITY_PRESET default)
  add_subdirectory("${PYLLAMA_LLAMA_CPP_TREE}/ggml" "${CMAKE_CURRENT_BINARY_DIR}/ggml" EXCLUDE_FROM_ALL)
  set(PYLLAMA_GGML_INCLUDE "${PYLLAMA_LLAMA_CPP_TREE}/ggml/include")
  set(PYLLAMA_GGML_BASE ggml-base)
endif()

set(BUILD_SHARED_LIBS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
# From here on all is static and ends in our module, which leaves out what nothing in it calls.
pyllama_drop_unused_sections()
add_subdirectory("${PYLLAMA_LLAMA_CPP_TREE}" "${CMAKE_CURRENT_BINARY_DIR}/llama" EXCLUDE_FROM_ALL)

# arg.cpp calls exit() on bad flags and loads backends from the current directory: our shim turns the
# first into an exception and the second into our own loader (csrc/exit_shim.h).
set(_common "${PYLLAMA_LLAMA_CPP_TREE}/common")
set_target_properties(llama-common PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
set_source_files_properties("${_common}/arg.cpp" "${_common}/json.cpp"
  TARGET_DIRECTORY llama-common PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
set_source_files_properties("${_common}/arg.cpp"
  TARGET_DIRECTORY llama-common
  PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/csrc/exit_shim.h"
             OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/exit_shim.h")

# Images come from clients: the decoders in mtmd get fewer formats and a limit of memory (csrc/image_shim.h).
set_source_files_properties("${PYLLAMA_LLAMA_CPP_TREE}/tools/mtmd/mtmd-helper.cpp"
  TARGET_DIRECTORY mtmd
  PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/csrc/image_shim.h"
             OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/image_shim.h")

# Wheels are downloaded: what computes nothing is built small. Kernels, graphs and the slot loop keep -O3.
if(PYLLAMA_CONFIGURATION STREQUAL "plug-in" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang"
   AND CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(llama-common PRIVATE -Os)
  target_compile_options(mtmd PRIVATE -Os)
  target_compile_options(cpp-httplib PRIVATE -Os)
endif()

# llama.cpp's own logic under a sanitizer, for random calls from Python (make fuzz-asan). The models' graphs and ggml's
# kernels stay as they are in a release, so that ccache has them.
if(PYLLAMA_SANITIZE_LLAMA)
  file(GLOB _logic "${PYLLAMA_LLAMA_CPP_TREE}/src/llama*.cpp" "${PYLLAMA_LLAMA_CPP_TREE}/src/unicode.cpp")
  set_source_files_properties(${_logic} TARGET_DIRECTORY llama
    PROPERTIES COMPILE_OPTIONS "-fsanitize=${PYLLAMA_SANITIZE_LLAMA};-fno-omit-frame-pointer;-g1")
endif()

# What follows is about the ggml that we build.
if(PYLLAMA_USE_SYSTEM_GGML)
  return()
endif()

# There are up to 14 of them in a wheel, and each is called through the table that it hands over: what ggml's headers do
# not export stays inside, and what nothing calls is left out.
if(GGML_BACKEND_DL)
  foreach(_target IN LISTS GGML_AVAILABLE_BACKENDS)
    if(_target MATCHES "^ggml-cpu")
      set_target_properties(${_target} PROPERTIES
        C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
      pyllama_drop_unused_sections_of(${_target})
    endif()
  endforeach()
endif()

# GCC's own description of an instruction is wrong (csrc/amx_shim.h). One target, or one per CPU variant.
foreach(_target IN LISTS GGML_AVAILABLE_BACKENDS)
  if(_target MATCHES "^ggml-cpu")
    set_source_files_properties("${PYLLAMA_LLAMA_CPP_TREE}/ggml/src/ggml-cpu/amx/mmq.cpp"
      TARGET_DIRECTORY ${_target}
      PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/csrc/amx_shim.h"
                 OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/amx_shim.h")
  endif()
endforeach()

if(TARGET ggml-vulkan)
  set_source_files_properties("${PYLLAMA_LLAMA_CPP_TREE}/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
    TARGET_DIRECTORY ggml-vulkan
    PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/csrc/vulkan_shim.h"
               OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/vulkan_shim.h")
endif()

# Two packages in one process may both carry a libggml.so: our SONAMEs are our own. Plug-ins keep ggml's
# names, because ggml finds no others.
set(PYLLAMA_GGML_TARGETS ggml ggml-base ${GGML_AVAILABLE_BACKENDS})
set(PYLLAMA_GGML_RENAMED ggml ggml-base)
if(NOT GGML_BACKEND_DL)
  set(PYLLAMA_GGML_RENAMED ${PYLLAMA_GGML_TARGETS})
endif()
foreach(_target IN LISTS PYLLAMA_GGML_RENAMED)
  set_target_properties(${_target} PROPERTIES OUTPUT_NAME "pyllama-${_target}")
endforeach()
# Plug-ins may lie in a folder of their own below the libraries (csrc/backends.h).
foreach(_target IN LISTS PYLLAMA_GGML_TARGETS)
  set_property(TARGET ${_target} PROPERTY VERSION)
  set_property(TARGET ${_target} PROPERTY SOVERSION)
  if(APPLE)
    set(_origin "@loader_path")
  else()
    set(_origin "$ORIGIN")
  endif()
  if(_target IN_LIST PYLLAMA_GGML_RENAMED)
    set(_rpath "${_origin}")
  else()
    set(_rpath "${_origin}" "${_origin}/..")
  endif()
  # CUDA's own libraries come as Python packages beside us. A plug-in's wheel goes one folder down (plugin_wheel.py).
  if(_target STREQUAL "ggml-cuda")
    foreach(_package cu13 cublas cuda_runtime)
      list(APPEND _rpath "${_origin}/../../nvidia/${_package}/lib")
    endforeach()
    if(NOT APPLE)
      # A driver's function that the linker does not see is missing on every machine.
      target_link_options(${_target} PRIVATE "LINKER:-z,defs")
    endif()
  endif()
  set_target_properties(${_target} PROPERTIES INSTALL_RPATH "${_rpath}")
endforeach()
