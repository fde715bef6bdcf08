# Our own headers (csrc/), as far as the bindings call them.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "errors.h" namespace "pyllama" nogil:
    cdef enum class error_kind:
        invalid_request
        context_exceeded
        media_url
        not_found
        unsupported
        busy
        unavailable
        closed
        model_load
        engine

cdef extern from "error_capture.h" namespace "pyllama" nogil:
    cdef cppclass captured_error:
        cbool out_of_memory
        error_kind kind
        string message
        string param
        int64_t n_prompt_tokens
        int64_t n_ctx
        int64_t retry_after

    captured_error capture_error()

cdef extern from "build_info.h" namespace "pyllama" nogil:
    cdef cppclass device_info:
        string name
        string description
        string backend
        string kind
        uint64_t memory_free
        uint64_t memory_total

    cppclass backend_info:
        string name
        string library

    string llama_cpp_tag() except +
    string build_configuration() except +
    string build_flags() except +
    vector[backend_info] backends() except +
    vector[device_info] devices() except +

cdef extern from "thread.h" namespace "pyllama" nogil:
    void set_time_slice(uint32_t microseconds)
