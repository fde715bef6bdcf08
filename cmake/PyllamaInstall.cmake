# What the wheel holds beside the Python files: the module and ggml's libraries, found by rpath.

install(TARGETS _llama LIBRARY DESTINATION pyllama/_core COMPONENT pyllama)
install(TARGETS ${PYLLAMA_GGML_TARGETS}
  LIBRARY DESTINATION pyllama/lib COMPONENT pyllama
  RUNTIME DESTINATION pyllama/lib COMPONENT pyllama
)
