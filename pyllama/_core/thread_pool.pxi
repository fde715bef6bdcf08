# Thread pools: where the computations on the CPU run. The CPU backend may be a plug-in, so its functions are looked up.

ctypedef llama.ggml_threadpool_t (*_pool_new)(ggml.ggml_threadpool_params * params) noexcept nogil
ctypedef void (*_pool_free)(llama.ggml_threadpool_t pool) noexcept nogil

cdef dict _PRIORITIES = {
    "low": ggml.GGML_SCHED_PRIO_LOW,
    "normal": ggml.GGML_SCHED_PRIO_NORMAL,
    "medium": ggml.GGML_SCHED_PRIO_MEDIUM,
    "high": ggml.GGML_SCHED_PRIO_HIGH,
    "realtime": ggml.GGML_SCHED_PRIO_REALTIME,
}


cdef void * _cpu_function(const char * name) except NULL:
    """Return a function of the CPU backend by its name."""
    cdef void * found = ggml.ggml_backend_reg_get_proc_address(
        ggml.ggml_backend_dev_backend_reg(ggml.ggml_backend_dev_by_type(ggml.GGML_BACKEND_DEVICE_TYPE_CPU)), name
    )
    if found is NULL:
        raise _errors.UnsupportedError(f"this build's CPU backend has no {name.decode()}")
    return found


@cython.auto_pickle(False)
@cython.final
cdef class ThreadPool:
    """Threads for the computations on the CPU, for Context.attach_threads.

    ``n_threads`` counts the calling thread, which keeps the pool's CPUs and priority. ``cpus`` are the numbers of the
    CPUs to run on, None for all; ``strict`` gives each thread one of its own. ``priority`` is "low", "normal",
    "medium", "high" or "realtime", as far as the system allows. ``poll``, from 0 to 100, is how long threads look for
    work before they sleep; OpenMP decides that itself where ggml was built with it.

    For the contexts of the thread that made it. The threads end when no context has them. Raises InvalidRequestError
    for values out of range.
    """

    cdef llama.ggml_threadpool_t _ptr
    cdef _pool_free _free_pool
    cdef long _pid
    cdef unsigned long _thread
    cdef readonly int n_threads

    def __cinit__(self, object n_threads, *, object cpus=None, object priority="normal", object poll=50,
                  bint strict=False):
        self._pid = llama.process_id()
        self._thread = PyThread_get_thread_ident()
        self.n_threads = <int> _integer(n_threads, "n_threads", 1, ggml.GGML_MAX_N_THREADS)
        cdef int prio = _choice(_PRIORITIES, priority, "priority")
        cdef ggml.ggml_threadpool_params params = ggml.ggml_threadpool_params_default(self.n_threads)
        params.prio = <ggml.ggml_sched_priority> prio
        params.poll = <uint32_t> _integer(poll, "poll", 0, 100)
        params.strict_cpu = strict
        cdef int64_t last = min(_os.cpu_count() or 1, ggml.GGML_MAX_N_THREADS) - 1
        for cpu in () if cpus is None else cpus:
            params.cpumask[_integer(cpu, "cpus", 0, last)] = True
        _ensure_llama()
        cdef _pool_new make = <_pool_new> _cpu_function("ggml_threadpool_new")
        self._free_pool = <_pool_free> _cpu_function("ggml_threadpool_free")
        with nogil:
            self._ptr = make(&params)
        if self._ptr is NULL:
            raise MemoryError("a thread pool")

    def __dealloc__(self):
        if self._ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                self._free_pool(self._ptr)

    def __reduce_ex__(self, protocol):
        raise TypeError("a ThreadPool cannot be pickled")

    def __repr__(self):
        return f"<pyllama.ThreadPool of {self.n_threads} threads>"

    cdef int _usable(self) except -1:
        _check_process(self._pid, "the thread pool")
        if self._thread != PyThread_get_thread_ident():
            raise _errors.EngineError(
                f"the thread pool belongs to thread {self._thread} and was used by thread "
                f"{PyThread_get_thread_ident()}: make one per thread"
            )
        return 0
