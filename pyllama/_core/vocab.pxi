# The vocabulary of a model. Immutable; any thread may call, several at once.

from libc.stdlib cimport free, malloc


@cython.auto_pickle(False)
@cython.final
cdef class Vocab:
    """The vocabulary of a model, from ``Model.vocab``; usable by any thread."""

    cdef Model _model
    cdef const llama.llama_vocab * _ptr
    cdef int32_t _n_tokens

    def __cinit__(self, Model model not None):
        model._alive()
        self._model = model
        self._ptr = llama.llama_model_get_vocab(model._ptr)
        self._n_tokens = llama.llama_vocab_n_tokens(self._ptr)

    def __reduce_ex__(self, protocol):
        raise TypeError("a Vocab cannot be pickled: load its model by path instead")

    def __repr__(self):
        return f"<pyllama.Vocab of {self._n_tokens} tokens of {self._model!r}>"

    def __eq__(self, other):
        return isinstance(other, Vocab) and (<Vocab> other)._model is self._model

    def __hash__(self):
        return hash((Vocab, id(self._model)))

    def __len__(self):
        self._model._alive()
        return self._n_tokens

    cdef int _token(self, object token, llama.llama_token * out) except -1:
        """Check one token id."""
        self._model._alive()
        cdef int64_t value
        try:
            value = token
        except OverflowError:
            value = -1
        if value < 0 or value >= self._n_tokens:
            raise _errors.InvalidRequestError(
                f"token {token} is outside the vocabulary of {self._n_tokens} tokens", param="token"
            )
        out[0] = <llama.llama_token> value
        return 0

    cdef int _has_text(self) except -1:
        self._model._alive()
        if llama.llama_vocab_get_type(self._ptr) == llama.LLAMA_VOCAB_TYPE_NONE:
            raise _errors.UnsupportedError(f"the model {self._model.path!r} has no tokenizer")
        return 0

    def tokenize(self, str text not None, *, bint add_special=True, bint parse_special=True):
        """Turn text into tokens: an int32 array of shape (n,).

        ``add_special`` adds the tokens that the model wants around a text (BOS, EOS); ``parse_special`` reads
        special tokens written out in the text instead of spelling them. Raises InvalidRequestError for text that
        is no Unicode, or that has over a million characters without a line break; UnsupportedError when the model
        lacks a special token that it adds.
        """
        self._has_text()
        cdef string encoded = _utf8(text, "text")
        cdef vector[int32_t] tokens
        self._model._n_calls += 1
        _enter()
        try:
            with nogil:
                tokens = c_tokenize(self._ptr, encoded, add_special, parse_special, b"text")
        finally:
            self._model._n_calls -= 1
            _leave()
        return _token_array(tokens.data(), <Py_ssize_t> tokens.size())

    def detokenize(self, object tokens not None, *, bint remove_special=False, bint unparse_special=True):
        """Turn tokens (array or sequence of integers) into text; bytes that are no UTF-8 become U+FFFD.

        ``remove_special`` drops the BOS and EOS that tokenize adds; ``unparse_special`` writes special tokens out.
        """
        self._has_text()
        cdef _Tokens ids = _Tokens(tokens)
        cdef Py_ssize_t i
        for i in range(ids.n):
            if ids.data[i] < 0 or ids.data[i] >= self._n_tokens:
                raise _errors.InvalidRequestError(
                    f"tokens[{i}]={ids.data[i]} is outside the vocabulary of {self._n_tokens} tokens", param="tokens"
                )
        if ids.n == 0:
            return ""
        if ids.n > 1 << 27:
            raise _errors.InvalidRequestError(f"{ids.n} tokens are too many for one call", param="tokens")
        cdef int32_t capacity = <int32_t> ids.n * 8 + 64
        cdef int32_t n = 0
        cdef char * out
        while True:
            out = <char *> malloc(capacity)
            if out is NULL:
                raise MemoryError(f"{capacity} bytes for text")
            self._model._n_calls += 1
            _enter()
            try:
                with nogil:
                    n = llama_detokenize(
                        self._ptr, ids.data, <int32_t> ids.n, out, capacity, remove_special, unparse_special
                    )
                if n >= 0:
                    return out[:n].decode("utf-8", "replace")
            finally:
                self._model._n_calls -= 1
                _leave()
                free(out)
            capacity = -n

    def token_to_piece(self, object token, *, bint special=True):
        """Return the bytes of one token, which may be a part of a UTF-8 character; b"" for a hidden special one."""
        self._has_text()
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        cdef int32_t size = 64
        cdef int32_t n
        while True:
            buffer = bytearray(size)
            n = llama_token_to_piece(self._ptr, c_token, buffer, size, 0, special)
            if n >= 0:
                return bytes(buffer[:n])
            size = -n

    def is_eog(self, object token):
        """Tell whether a token ends the generation."""
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        return bool(llama.llama_vocab_is_eog(self._ptr, c_token))

    def is_control(self, object token):
        """Tell whether a token is a control token, which has no text of its own."""
        self._has_text()
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        return bool(llama.llama_vocab_is_control(self._ptr, c_token))

    def text(self, object token):
        """Return a token as the vocabulary spells it: with "Ġ" or "▁" for a space, for example."""
        self._has_text()
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        return llama.llama_vocab_get_text(self._ptr, c_token).decode("utf-8", "replace")

    def score(self, object token):
        """Return a token's score, which unigram and SentencePiece vocabularies merge by; 0.0 in others."""
        self._has_text()
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        return llama.llama_vocab_get_score(self._ptr, c_token)

    def attr(self, object token):
        """Return a token's attributes as pyllama.TokenAttr."""
        self._has_text()
        cdef llama.llama_token c_token
        self._token(token, &c_token)
        return _records().TokenAttr(<int> llama.llama_vocab_get_attr(self._ptr, c_token))

    @property
    def n_tokens(self) -> int:
        """The number of tokens."""
        self._model._alive()
        return self._n_tokens

    @property
    def type(self) -> str:
        """The kind of tokenizer: "spm", "bpe", "wpm", "ugm", "rwkv", "plamo2", "plamo3", "test", or "none"."""
        self._model._alive()
        return _VOCAB_TYPES.get(<int> llama.llama_vocab_get_type(self._ptr), "unknown")

    @property
    def add_bos(self) -> bool:
        """Whether tokenize puts BOS first when ``add_special`` is set."""
        self._model._alive()
        return bool(llama.llama_vocab_get_add_bos(self._ptr))

    @property
    def add_eos(self) -> bool:
        """Whether tokenize puts EOS last when ``add_special`` is set."""
        self._model._alive()
        return bool(llama.llama_vocab_get_add_eos(self._ptr))

    @property
    def add_sep(self) -> bool:
        """Whether the model wants its separator between two texts."""
        self._model._alive()
        return bool(llama.llama_vocab_get_add_sep(self._ptr))

    @property
    def bos(self) -> int | None:
        """The beginning-of-sentence token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_bos(self._ptr))

    @property
    def eos(self) -> int | None:
        """The end-of-sentence token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_eos(self._ptr))

    @property
    def eot(self) -> int | None:
        """The end-of-turn token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_eot(self._ptr))

    @property
    def nl(self) -> int | None:
        """The line feed token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_nl(self._ptr))

    @property
    def pad(self) -> int | None:
        """The padding token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_pad(self._ptr))

    @property
    def sep(self) -> int | None:
        """The separator token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_sep(self._ptr))

    @property
    def mask(self) -> int | None:
        """The mask token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_mask(self._ptr))

    @property
    def fim_pre(self) -> int | None:
        """The fill-in-the-middle token before the prefix; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_pre(self._ptr))

    @property
    def fim_suf(self) -> int | None:
        """The fill-in-the-middle token before the suffix; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_suf(self._ptr))

    @property
    def fim_mid(self) -> int | None:
        """The fill-in-the-middle token before the middle; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_mid(self._ptr))

    @property
    def fim_pad(self) -> int | None:
        """The fill-in-the-middle padding token; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_pad(self._ptr))

    @property
    def fim_rep(self) -> int | None:
        """The fill-in-the-middle token before a repository's name; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_rep(self._ptr))

    @property
    def fim_sep(self) -> int | None:
        """The fill-in-the-middle token before a file's name; None when the model has none."""
        self._model._alive()
        return _known(llama.llama_vocab_fim_sep(self._ptr))

    @property
    def suppress_tokens(self) -> object:
        """The tokens that the model asks never to be sampled: an int32 array, mostly empty."""
        self._model._alive()
        cdef int32_t n = 0
        cdef const llama.llama_token * tokens = llama.llama_vocab_get_suppress_tokens(self._ptr, &n)
        return _token_array(tokens, n)


cdef object _known(llama.llama_token token):
    return None if token < 0 else token


cdef dict _VOCAB_TYPES = {
    <int> llama.LLAMA_VOCAB_TYPE_NONE: "none",
    <int> llama.LLAMA_VOCAB_TYPE_SPM: "spm",
    <int> llama.LLAMA_VOCAB_TYPE_BPE: "bpe",
    <int> llama.LLAMA_VOCAB_TYPE_WPM: "wpm",
    <int> llama.LLAMA_VOCAB_TYPE_UGM: "ugm",
    <int> llama.LLAMA_VOCAB_TYPE_RWKV: "rwkv",
    <int> llama.LLAMA_VOCAB_TYPE_PLAMO2: "plamo2",
    <int> llama.LLAMA_VOCAB_TYPE_TEST: "test",
    <int> llama.LLAMA_VOCAB_TYPE_PLAMO3: "plamo3",
}
