# The reader's side of llama.cpp's log, for pyllama.logging.

cdef dict _LOG_LEVELS = {
    "debug": log_level.debug,
    "info": log_level.info,
    "warning": log_level.warn,
    "error": log_level.error,
}


def attach_log(str level):
    """Keep lines of at least ``level`` for next_log_line instead of writing warnings to stderr."""
    cdef log_level c_level = <log_level> <int> _choice(_LOG_LEVELS, level, "level")
    _ensure_llama()
    attach_log_reader(c_level)


def detach_log():
    """Wake next_log_line and let warnings go to stderr again."""
    detach_log_reader()


def read_log():
    """Block for one log line, as (level, text) with llama.cpp's level number; None once detached."""
    cdef log_line line
    cdef cbool found
    with nogil:
        found = next_log_line(line)
    return (<int> line.level, _text(line.text)) if found else None
