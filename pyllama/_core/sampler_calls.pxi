# The calls of SamplerChain and quantize() into csrc/ that can throw: raise_captured must be in scope.

from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as cbool
from libcpp.map cimport map as cpp_map
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "grammar_check.h" namespace "pyllama" nogil:
    void c_check_grammar_text "pyllama::check_grammar_text"(const string & grammar, const string & field) \
        except +raise_captured

cdef extern from "checked_chain.h" namespace "pyllama" nogil:
    cdef enum class sampler_kind:
        plain
        changes
        top_k
        greedy
        selects
        pairs
        adaptive
        grammar
        lazy_patterns
        custom

    cdef cppclass checked_chain:
        checked_chain(const llama.llama_vocab * vocab) except +raise_captured
        unique_ptr[checked_chain] clone() except +raise_captured
        size_t size()
        void insert(size_t at, const string & name, sampler_kind kind, int32_t k, llama.llama_sampler * sampler) \
            except +raise_captured
        void erase(size_t at)
        void set_vocab(const llama.llama_vocab * vocab)
        size_t load(const float * row, int32_t n_vocab) except +raise_captured
        size_t apply(size_t first) except +raise_captured
        llama.llama_token_data_array & candidates()
        const shared_ptr[vector[llama.llama_token_data]] & buffer()
        void changed() except +raise_captured
        void select(int64_t token) except +raise_captured
        llama.llama_token accept_selected() except +raise_captured
        void accept(llama.llama_token token) except +raise_captured
        void reset() except +raise_captured
        cbool broken()
        int64_t time_us()
        int64_t n_accepted()

cdef extern from "quantize.h" namespace "pyllama" nogil:
    cpp_map[string, vector[float]] load_importance_matrix(const string & path) except +raise_captured

    cdef cppclass quantize_options:
        int32_t ftype
        int32_t n_threads
        int32_t output_type
        int32_t embedding_type
        cbool allow_requantize
        cbool quantize_output
        cbool pure
        cpp_map[string, vector[float]] imatrix

    cdef cppclass quantization:
        quantization(string source, string destination, quantize_options options) except +raise_captured
        cbool wait(int32_t milliseconds) except +raise_captured
        float progress()
        void cancel()
        string failure() except +raise_captured
