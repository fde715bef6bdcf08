# From a description (pyllama.samplers) to a native sampler, every value checked: llama.cpp checks few, and a NaN in a
# comparison can send its sorts out of bounds.

import operator as _operator

from libcpp.vector cimport vector

cdef frozenset _SELECTING = frozenset(("greedy", "dist", "mirostat", "mirostat_v2", "adaptive_p"))
cdef frozenset _OF_VOCAB = frozenset(("mirostat", "dry", "logit_bias", "grammar", "infill"))
cdef frozenset _SEEDED = frozenset(("dist", "xtc", "mirostat", "mirostat_v2", "adaptive_p"))
cdef dict _KINDS = {
    "greedy": sampler_kind.greedy,
    "dist": sampler_kind.selects,
    "mirostat": sampler_kind.selects,
    "mirostat_v2": sampler_kind.selects,
    "adaptive_p": sampler_kind.adaptive,
    "temp": sampler_kind.changes,
    "temp_ext": sampler_kind.changes,
    "penalties": sampler_kind.changes,
    "dry": sampler_kind.changes,
    "logit_bias": sampler_kind.changes,
    "infill": sampler_kind.pairs,
    "custom": sampler_kind.custom,
}
# llama.cpp looks for each of them in the whole vocabulary.
cdef int _BREAKERS = 256


cdef sampler_kind _sampler_kind(str name, tuple args) except *:
    """What checked_chain has to know about a sampler."""
    if name == "top_k":
        return sampler_kind.top_k if args[0] > 0 else sampler_kind.plain
    if name == "grammar":
        return sampler_kind.lazy_patterns if args[2] else sampler_kind.grammar
    return <sampler_kind> <int> _KINDS.get(name, <int> sampler_kind.plain)


cdef bint _wants_seed(object seed) except -1:
    """Whether a sampler is to draw its own seed; llama.cpp has a number for that, too."""
    return seed is None or seed == llama.LLAMA_DEFAULT_SEED


cdef object _drawn_seed(object sampler):
    """Return the seed that a sampler starts from, drawn where none is given; None for one that draws nothing."""
    if sampler.name not in _SEEDED:
        return None
    seed = sampler.args[-1]
    if _wants_seed(seed):
        return int.from_bytes(_os.urandom(4), "little") % llama.LLAMA_DEFAULT_SEED
    return _integer(seed, "seed", 0, 4294967295)


cdef bytes _c_text(str text, str name):
    cdef bytes encoded = _utf8(text, name)
    if b"\0" in encoded:
        raise _errors.InvalidRequestError(f"{name} holds a NUL character", param=name)
    return encoded


cdef llama.llama_sampler * _build_grammar(Vocab vocab, str text, str root, object patterns, object tokens) except NULL:
    """Build a grammar; a lazy one when ``patterns`` is not None."""
    cdef bytes c_text = _c_text(text, "grammar")
    cdef bytes c_root = _c_text(root, "root")
    cdef const char * text_ptr = c_text
    cdef const char * root_ptr = c_root
    cdef vector[const char *] pattern_ptrs
    cdef vector[llama.llama_token] trigger_tokens
    cdef llama.llama_token token
    cdef log_capture capture
    cdef llama.llama_sampler * result
    vocab._has_text()
    if not c_text.strip():
        raise _errors.InvalidRequestError("the grammar is empty", param="grammar")
    c_check_grammar_text(c_text, b"grammar")
    if patterns is None:
        with nogil:
            result = llama_sampler_init_grammar(vocab._ptr, text_ptr, root_ptr)
    else:
        kept = [_c_text(pattern, "trigger_patterns") for pattern in patterns]
        for pattern in kept:
            pattern_ptrs.push_back(<const char *> <bytes> pattern)
        for value in tokens:
            vocab._token(value, &token)
            trigger_tokens.push_back(token)
        if pattern_ptrs.empty() and trigger_tokens.empty():
            raise _errors.InvalidRequestError("a lazy grammar needs a trigger", param="trigger_patterns")
        try:
            with nogil:
                result = llama_sampler_init_grammar_lazy_patterns(
                    vocab._ptr, text_ptr, root_ptr, pattern_ptrs.data(), pattern_ptrs.size(),
                    trigger_tokens.data(), trigger_tokens.size()
                )
        except _errors.EngineError as error:
            raise _errors.InvalidRequestError(
                f"trigger_patterns={list(patterns)!r}: {error}", param="trigger_patterns"
            ) from None
    if result is NULL:
        shown = text if len(text) <= 200 else text[:200] + "…"
        raise _errors.InvalidRequestError(
            f"the grammar {shown!r} with root {root!r} is not valid: {_reason(capture.text(), 'it cannot be parsed')}",
            param="grammar",
        )
    return result


cdef llama.llama_sampler * _build_logit_bias(Vocab vocab, dict bias) except NULL:
    cdef vector[llama.llama_logit_bias] entries
    cdef llama.llama_logit_bias entry
    for token, value in bias.items():
        vocab._token(token, &entry.token)
        if value != -float("inf"):
            _real(value, "bias", -1e9, 1e9)
        entry.bias = value
        entries.push_back(entry)
    return llama_sampler_init_logit_bias(vocab._n_tokens, <int32_t> entries.size(), entries.data())


cdef llama.llama_sampler * _build_dry(Vocab vocab, double multiplier, double base, object allowed_length,
                                      object last_n, object breakers) except NULL:
    cdef vector[const char *] pointers
    vocab._has_text()
    kept = [_c_text(breaker, "seq_breakers") for breaker in breakers]
    if len(kept) > _BREAKERS:
        raise _errors.InvalidRequestError(
            f"seq_breakers has {len(kept)} strings, and at most {_BREAKERS} are allowed", param="seq_breakers"
        )
    for breaker in kept:
        pointers.push_back(<const char *> <bytes> breaker)
    return llama_sampler_init_dry(
        vocab._ptr, _real(multiplier, "multiplier", 0, 1e6), _real(base, "base", 0, 1e6),
        <int32_t> _integer(allowed_length, "allowed_length", 0, 1 << 20),
        <int32_t> _integer(last_n, "last_n", 0, 1 << 20), pointers.data(), pointers.size()
    )


cdef llama.llama_sampler * _build_penalties(int32_t n_vocab, tuple a) except NULL:
    """The vocabulary's size matters in a graph only."""
    return llama_sampler_init_penalties(
        n_vocab, <int32_t> _integer(a[0], "last_n", 0, 1 << 20), _real(a[1], "repeat", 1e-6, 1e6),
        _real(a[2], "freq", -1e6, 1e6), _real(a[3], "present", -1e6, 1e6)
    )


cdef llama.llama_sampler * _build_sampler(str name, tuple a, Vocab vocab) except NULL:
    """Build one sampler. ``a`` holds the arguments in the order of the function in pyllama.samplers."""
    if vocab is None and name in _OF_VOCAB:
        raise _errors.InvalidRequestError(f"the sampler {name!r} needs a vocab", param="samplers")
    if name == "greedy":
        return llama_sampler_init_greedy()
    if name == "dist":
        return llama_sampler_init_dist(<uint32_t> a[0])
    if name == "top_k":
        return llama_sampler_init_top_k(<int32_t> _integer(a[0], "k", -1, 2147483647))
    if name == "top_p":
        return llama_sampler_init_top_p(_real(a[0], "p", 0, 1), <size_t> _integer(a[1], "min_keep", 1, 1 << 30))
    if name == "min_p":
        return llama_sampler_init_min_p(_real(a[0], "p", 0, 1), <size_t> _integer(a[1], "min_keep", 1, 1 << 30))
    if name == "typical":
        return llama_sampler_init_typical(_real(a[0], "p", 0, 1), <size_t> _integer(a[1], "min_keep", 1, 1 << 30))
    if name == "temp":
        return llama_sampler_init_temp(_temperature(a[0]))
    if name == "temp_ext":
        return llama_sampler_init_temp_ext(
            _temperature(a[0]), _real(a[1], "delta", 0, 1e6), _real(a[2], "exponent", 0, 1e3)
        )
    if name == "xtc":
        return llama_sampler_init_xtc(
            _real(a[0], "p", 0, 1), _real(a[1], "threshold", 0, 1),
            <size_t> _integer(a[2], "min_keep", 1, 1 << 30), <uint32_t> a[3]
        )
    if name == "top_n_sigma":
        return llama_sampler_init_top_n_sigma(_real(a[0], "n", -1, 1e6))
    if name == "mirostat":
        return llama_sampler_init_mirostat(
            vocab._n_tokens, <uint32_t> a[3], _real(a[0], "tau", 0, 100), _real(a[1], "eta", 0, 10),
            <int32_t> _integer(a[2], "m", 2, 1 << 20)
        )
    if name == "mirostat_v2":
        return llama_sampler_init_mirostat_v2(<uint32_t> a[2], _real(a[0], "tau", 0, 100), _real(a[1], "eta", 0, 10))
    if name == "adaptive_p":
        return llama_sampler_init_adaptive_p(
            _real(a[0], "target", -1, 1), _real(a[1], "decay", 0, 0.99), <uint32_t> a[2]
        )
    if name == "penalties":
        return _build_penalties(0, a)
    if name == "dry":
        return _build_dry(vocab, a[0], a[1], a[2], a[3], a[4])
    if name == "logit_bias":
        return _build_logit_bias(vocab, a[0])
    if name == "grammar":
        return _build_grammar(vocab, a[0], a[1], a[2], a[3])
    if name == "infill":
        if llama.llama_vocab_eot(vocab._ptr) < 0 and llama.llama_vocab_eos(vocab._ptr) < 0:
            raise _errors.UnsupportedError("infill needs a model with an end-of-turn or end-of-sequence token")
        return llama_sampler_init_infill(vocab._ptr)
    raise _errors.InvalidRequestError(f"there is no sampler {name!r}", param="samplers")


cdef float _temperature(object value) except? -1:
    """0 picks the most likely token. A tiny temperature would make every logit infinite."""
    if value == 0:
        return 0
    return _real(value, "temp", 1e-6, 1e6)
