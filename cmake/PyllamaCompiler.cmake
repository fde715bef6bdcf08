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
# What is installed gets other rpaths in place of the build's, in a string as long as those: the same in each folder.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)

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
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${_launcher})
    set(CMAKE_HIP_COMPILER_LAUNCHER ${_launcher})
    # ccache tells compilers apart by name. pip's builds take the names that Python was built with (gcc), plain
    # CMake others (cc): take Python's for both.
    if(NOT DEFINED CMAKE_C_COMPILER AND NOT DEFINED CMAKE_CXX_COMPILER AND NOT DEFINED ENV{CC} AND NOT DEFINED ENV{CXX})
      execute_process(
        COMMAND "${Python_EXECUTABLE}" -c
          "import sysconfig; print(*((sysconfig.get_config_var(v) or '-').split()[0] for v in ('CC', 'CXX')), sep=';')"
        OUTPUT_VARIABLE _compilers OUTPUT_STRIP_TRAILING_WHITESPACE
      )
      list(GET _compilers 0 _c)
      list(GET _compilers 1 _cxx)
      find_program(_c_found "${_c}" NO_CACHE)
      find_program(_cxx_found "${_cxx}" NO_CACHE)
      if(_c_found AND _cxx_found)
        set(ENV{CC} "${_c_found}")
        set(ENV{CXX} "${_cxx_found}")
      endif()
    endif()
  endif()
endif()
# ggml looks for ccache itself and would set a launcher without a base directory.
set(GGML_CCACHE OFF)

# After the languages are enabled.
macro(pyllama_compiler_options)
  # Unity files include their sources by absolute path, and GGML_ASSERT holds __FILE__: without this no two
  # folders would share a ccache entry, and the library would name the folder that it was built in.
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX,CUDA,HIP>:-fmacro-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}/=>")
  endif()
endmacro()

# One section per function; ld's --gc-sections needs them to leave out what is unused. Apple's linker looks at symbols
# instead (-dead_strip).
set(PYLLAMA_SECTIONS "$<$<COMPILE_LANGUAGE:C,CXX>:-ffunction-sections;-fdata-sections>")

# For this folder and those added to it later. What links them says --gc-sections.
macro(pyllama_drop_unused_sections)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE)
    add_compile_options("${PYLLAMA_SECTIONS}")
  endif()
endmacro()

# For one library.
function(pyllama_drop_unused_sections_of target)
  if(APPLE)
    target_link_options(${target} PRIVATE LINKER:-dead_strip)
  elseif(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_compile_options(${target} PRIVATE "${PYLLAMA_SECTIONS}")
    target_link_options(${target} PRIVATE LINKER:--gc-sections)
  endif()
endfunction()
