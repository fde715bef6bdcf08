# distutils: language = c++
# cython: language_level=3
"""The one extension module: every .pxi file is a part of it, so that one ggml registry serves them all."""

cimport cython
from libcpp.string cimport string
from libcpp.vector cimport vector

include "errors.pxi"
include "build_info.pxi"
include "core_calls.pxi"
include "params.pxi"
include "stream.pxi"
include "engine.pxi"
