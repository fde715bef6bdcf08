# Sets PYLLAMA_LLAMA_CPP_TREE to a checked llama.cpp tree, fetching the pinned one when it is missing, and
# PYLLAMA_LLAMA_CPP_TAG to its tag: "custom" for a tree of the user's own that is not the pinned one.

set(_vendor "${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.cpp")
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)

if(PYLLAMA_LLAMA_CPP_DIR)
  set(PYLLAMA_LLAMA_CPP_TREE "${PYLLAMA_LLAMA_CPP_DIR}")
  set(_fetch_args --tree "${PYLLAMA_LLAMA_CPP_DIR}")
else()
  set(PYLLAMA_LLAMA_CPP_TREE "${_vendor}/src")
  set(_fetch_args)
  if(PYLLAMA_LLAMA_CPP_FROM_GIT)
    set(_fetch_args --from-git)
  endif()
  if(NOT EXISTS "${PYLLAMA_LLAMA_CPP_TREE}/CMakeLists.txt")
    message(STATUS "fetching llama.cpp into ${PYLLAMA_LLAMA_CPP_TREE}")
  endif()
endif()

execute_process(
  COMMAND "${Python_EXECUTABLE}" "${_vendor}/fetch.py" ${_fetch_args}
  RESULT_VARIABLE _fetch_result
  OUTPUT_VARIABLE PYLLAMA_LLAMA_CPP_TAG
  ERROR_VARIABLE _fetch_error
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_STRIP_TRAILING_WHITESPACE
)
if(NOT _fetch_result EQUAL 0)
  message(FATAL_ERROR " ${_fetch_error}")
endif()

# Upstream's build number, which its version strings carry.
set(PYLLAMA_LLAMA_CPP_BUILD 0)
if(PYLLAMA_LLAMA_CPP_TAG MATCHES "^b([0-9]+)$")
  set(PYLLAMA_LLAMA_CPP_BUILD ${CMAKE_MATCH_1})
endif()
message(STATUS "llama.cpp ${PYLLAMA_LLAMA_CPP_TAG} in ${PYLLAMA_LLAMA_CPP_TREE}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_vendor}/pin.toml" "${_vendor}/fetch.py")
