# The system's ggml as the targets that llama.cpp links: for distributions, which carry one ggml for all packages.
# Sets PYLLAMA_GGML_INCLUDE, PYLLAMA_GGML_BASE, and PYLLAMA_SYSTEM_BACKEND_DIR where its backends are plug-ins.

file(STRINGS "${PYLLAMA_LLAMA_CPP_TREE}/ggml/CMakeLists.txt" _lines REGEX "^set\\(GGML_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]+" " " _wanted "${_lines}")
string(STRIP "${_wanted}" _wanted)
string(REPLACE " " "." _wanted "${_wanted}")

find_package(ggml QUIET CONFIG)
if(NOT ggml_FOUND)
  pyllama_stop("PYLLAMA_USE_SYSTEM_GGML=ON, and CMake finds no ggml"
    "install ggml ${_wanted} with its CMake files, or say where with -DCMAKE_PREFIX_PATH=<prefix>")
endif()
# Nothing promises that another minor version has the same structures.
if(NOT ggml_VERSION MATCHES "^([0-9]+\\.[0-9]+)" OR NOT CMAKE_MATCH_1 VERSION_EQUAL _wanted)
  pyllama_stop("the system's ggml is ${ggml_VERSION}, and llama.cpp ${PYLLAMA_LLAMA_CPP_TAG} is written for ${_wanted}"
    "install that, give the llama.cpp of your ggml with -DPYLLAMA_LLAMA_CPP_DIR=<tree>, or leave PYLLAMA_USE_SYSTEM_GGML off")
endif()
add_library(ggml ALIAS ggml::ggml)
set(PYLLAMA_GGML_INCLUDE "${GGML_INCLUDE_DIR}")
set(PYLLAMA_GGML_BASE ggml::ggml-base)
set(PYLLAMA_GGML_TARGETS)
if(GGML_BACKEND_DL)
  set(PYLLAMA_SYSTEM_BACKEND_DIR "${GGML_BACKEND_DIR}")
  if(NOT PYLLAMA_SYSTEM_BACKEND_DIR)
    set(PYLLAMA_SYSTEM_BACKEND_DIR "${GGML_LIB_DIR}")
  endif()
endif()
message(STATUS "the system's ggml ${ggml_VERSION} in ${GGML_LIB_DIR}")
