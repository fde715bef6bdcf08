# What the wheel holds beside the Python files: the module and ggml's libraries, found by rpath.

install(TARGETS _llama LIBRARY DESTINATION pyllama/_core COMPONENT pyllama)
if(PYLLAMA_GGML_TARGETS)
  install(TARGETS ${PYLLAMA_GGML_TARGETS}
    LIBRARY DESTINATION pyllama/lib COMPONENT pyllama
    RUNTIME DESTINATION pyllama/lib COMPONENT pyllama
  )
endif()
if(PYLLAMA_DEMO_MODEL)
  install(FILES pyllama/models/pyllama-demo.gguf DESTINATION pyllama/models COMPONENT pyllama)
endif()

# Which llama.cpp it is, for who takes a wheel apart; and the licences of what is linked in (NOTICE says whose they are).
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/llama.cpp.txt" "${PYLLAMA_LLAMA_CPP_TAG}\n")
set(_licences pyllama/licenses/llama.cpp)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/llama.cpp.txt" DESTINATION pyllama/licenses COMPONENT pyllama)
install(FILES "${PYLLAMA_LLAMA_CPP_TREE}/LICENSE" DESTINATION ${_licences} COMPONENT pyllama)
foreach(_folder licenses vendor)
  install(DIRECTORY "${PYLLAMA_LLAMA_CPP_TREE}/${_folder}/" DESTINATION ${_licences}/${_folder} COMPONENT pyllama
    FILES_MATCHING PATTERN "LICENSE*")
endforeach()
