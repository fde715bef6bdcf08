# Compiler settings shared by the vendored tree and our own code. Included before the languages are enabled.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(PYLLAMA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER AND NOT DEFINED ENV{CMAKE_CXX_COMPILER_LAUNCHER})
  find_program(PYLLAMA_CCACHE_PROGRAM ccache)
  mark_as_advanced(PYLLAMA_CCACHE_PROGRAM)
  if(PYLLAMA_CCACHE_PROGRAM)
    # Paths relative to the project, so that a clone elsewhere hits the same entries.
    set(_launcher
      "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${CMAKE_CURRENT_SOURCE_DIR}" CCACHE_NOHASHDIR=1
      "${PYLLAMA_CCACHE_PROGRAM}"
    )
    set(CMAKE_C_COMPILER_LAUNCHER ${_launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${_launcher})
  endif()
endif()
# ggml looks for ccache itself and would set a launcher without a base directory.
set(GGML_CCACHE OFF)
