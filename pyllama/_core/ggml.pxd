# ggml's devices, buffer types and thread pools, as far as the bindings call them.
from libc.stdint cimport uint32_t
from libcpp cimport bool as cbool

from llama cimport ggml_backend_buffer_type_t, ggml_backend_dev_t, ggml_threadpool_t

cdef extern from "ggml-backend.h" nogil:
    enum ggml_backend_dev_type:
        GGML_BACKEND_DEVICE_TYPE_CPU
        GGML_BACKEND_DEVICE_TYPE_GPU
        GGML_BACKEND_DEVICE_TYPE_IGPU

    struct ggml_backend_reg:
        pass
    ctypedef ggml_backend_reg * ggml_backend_reg_t

    size_t ggml_backend_dev_count()
    ggml_backend_dev_t ggml_backend_dev_get(size_t index)
    ggml_backend_dev_t ggml_backend_dev_by_type(ggml_backend_dev_type kind)
    ggml_backend_dev_type ggml_backend_dev_type_of "ggml_backend_dev_type"(ggml_backend_dev_t device)
    const char * ggml_backend_dev_name(ggml_backend_dev_t device)
    ggml_backend_buffer_type_t ggml_backend_dev_buffer_type(ggml_backend_dev_t device)
    const char * ggml_backend_buft_name(ggml_backend_buffer_type_t kind)
    ggml_backend_reg_t ggml_backend_dev_backend_reg(ggml_backend_dev_t device)
    void * ggml_backend_reg_get_proc_address(ggml_backend_reg_t reg, const char * name)

cdef extern from "ggml.h" nogil:
    const int GGML_MAX_N_THREADS

    enum ggml_sched_priority:
        GGML_SCHED_PRIO_LOW
        GGML_SCHED_PRIO_NORMAL
        GGML_SCHED_PRIO_MEDIUM
        GGML_SCHED_PRIO_HIGH
        GGML_SCHED_PRIO_REALTIME
    struct ggml_threadpool_params:
        cbool * cpumask
        int n_threads
        ggml_sched_priority prio
        uint32_t poll
        cbool strict_cpu

    ggml_threadpool_params ggml_threadpool_params_default(int n_threads)
