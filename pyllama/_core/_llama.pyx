# distutils: language = c++
# cython: language_level=3
"""The one extension module: every .pxi file is a part of it, so that one ggml registry serves them all."""

cimport cython
from libcpp.string cimport string
from libcpp.vector cimport vector

include "errors.pxi"
include "build_info.pxi"
include "throwing.pxi"
include "handle.pxi"
include "log.pxi"
include "model_options.pxi"
include "model.pxi"
include "vocab.pxi"
include "batch.pxi"
include "thread_pool.pxi"
include "context_options.pxi"
include "context_handle.pxi"
include "context.pxi"
include "decode.pxi"
include "outputs.pxi"
include "view.pxi"
include "state.pxi"
include "adapter.pxi"
include "memory.pxi"
include "sampler_calls.pxi"
include "sampler_build.pxi"
include "candidates.pxi"
include "sampler_list.pxi"
include "sampler.pxi"
include "graph_sampler.pxi"
include "quantize.pxi"
include "core_calls.pxi"
include "params.pxi"
include "json.pxi"
include "stream.pxi"
include "engine.pxi"
