# Sets PYLLAMA_LLAMA_CPP_TREE to a verified llama.cpp tree, fetching the pinned one when it is missing.

set(_vendor "${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.cpp")
file(STRINGS "${_vendor}/pin.toml" _tag REGEX "^tag *=")
string(REGEX REPLACE ".*\"b([0-9]+)\".*" "\\1" PYLLAMA_LLAMA_CPP_BUILD "${_tag}")

find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)

if(PYLLAMA_LLAMA_CPP_DIR)
  set(PYLLAMA_LLAMA_CPP_TREE "${PYLLAMA_LLAMA_CPP_DIR}")
  set(_fetch_args --check-only --tree "${PYLLAMA_LLAMA_CPP_DIR}")
else()
  set(PYLLAMA_LLAMA_CPP_TREE "${_vendor}/src")
  set(_fetch_args)
endif()

execute_process(
  COMMAND "${Python_EXECUTABLE}" "${_vendor}/fetch.py" ${_fetch_args}
  RESULT_VARIABLE _fetch_result
  ERROR_VARIABLE _fetch_error
  ERROR_STRIP_TRAILING_WHITESPACE
)
if(NOT _fetch_result EQUAL 0)
  message(FATAL_ERROR "${_fetch_error}")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_vendor}/pin.toml" "${_vendor}/fetch.py")
