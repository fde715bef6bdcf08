# A batch of tokens and embeddings for Context.decode. Plain memory: any thread, one at a time.

from libc.stdint cimport int8_t
from libc.stdlib cimport calloc, malloc


@cython.auto_pickle(False)
@cython.final
cdef class Batch:
    """Up to ``n_tokens`` tokens with their positions, sequences (at most ``n_seq_max`` a token) and outputs.

    With ``n_embd``, the model's n_embd_inp, entries can also be embeddings. Not bound to a context; reusable after
    clear(). Raises InvalidRequestError for sizes out of range.
    """

    cdef llama.llama_batch _batch
    cdef llama.llama_seq_id * _ids
    cdef int32_t _capacity
    cdef int32_t _n_seq_max
    cdef int32_t _n_embd
    cdef int32_t _n_embeddings  # entries that are embeddings; their token is LLAMA_TOKEN_NULL
    cdef int32_t * _sections     # three more positions of each embedding (M-RoPE), -1 where they follow from the first
    cdef bint _in_sections       # whether an embedding of this batch has them
    cdef bint _busy

    def __cinit__(self, object n_tokens, object n_seq_max=1, *, object n_embd=0):
        cdef int32_t i
        cdef int32_t capacity = <int32_t> _integer(n_tokens, "n_tokens", 1, 1 << 22)
        self._n_seq_max = <int32_t> _integer(n_seq_max, "n_seq_max", 1, SEQUENCE_LIMIT)
        self._n_embd = <int32_t> _integer(n_embd, "n_embd", 0, 1 << 20)
        self._batch.token = <llama.llama_token *> calloc(capacity, sizeof(llama.llama_token))
        self._batch.pos = <llama.llama_pos *> calloc(capacity, sizeof(llama.llama_pos))
        self._batch.n_seq_id = <int32_t *> calloc(capacity, sizeof(int32_t))
        self._batch.seq_id = <llama.llama_seq_id **> calloc(capacity, sizeof(llama.llama_seq_id *))
        self._batch.logits = <int8_t *> calloc(capacity, 1)
        self._ids = <llama.llama_seq_id *> calloc(<size_t> capacity * self._n_seq_max, sizeof(llama.llama_seq_id))
        if self._n_embd:
            self._batch.embd = <float *> calloc(<size_t> capacity * self._n_embd, sizeof(float))
        if (
            self._batch.token is NULL
            or self._batch.pos is NULL
            or self._batch.n_seq_id is NULL
            or self._batch.seq_id is NULL
            or self._batch.logits is NULL
            or self._ids is NULL
            or (self._n_embd and self._batch.embd is NULL)
        ):
            raise MemoryError(f"a batch of {capacity} tokens")
        for i in range(capacity):
            self._batch.seq_id[i] = self._ids + <size_t> i * self._n_seq_max
        self._capacity = capacity

    def __dealloc__(self):
        free(self._batch.token)
        free(self._batch.pos)
        free(self._batch.n_seq_id)
        free(self._batch.seq_id)
        free(self._batch.logits)
        free(self._batch.embd)
        free(self._sections)
        free(self._ids)

    def __reduce_ex__(self, protocol):
        raise TypeError("a Batch cannot be pickled")

    def __repr__(self):
        return f"<pyllama.Batch of {self._batch.n_tokens} tokens, room for {self._capacity}>"

    def __len__(self):
        return self._batch.n_tokens

    @property
    def n_tokens(self) -> int:
        """The number of tokens and embeddings in the batch."""
        return self._batch.n_tokens

    @property
    def capacity(self) -> int:
        """The number of tokens that the batch has room for."""
        return self._capacity

    @property
    def n_embd(self) -> int:
        """The width of the embeddings that the batch can hold; 0 when it is for tokens only."""
        return self._n_embd

    cdef int _writable(self, Py_ssize_t n) except -1:
        if self._busy:
            raise _errors.EngineError("the batch is being decoded by another thread")
        if n > self._capacity - self._batch.n_tokens:
            raise _errors.InvalidRequestError(
                f"{n} more tokens do not fit: the batch holds {self._batch.n_tokens} of {self._capacity}"
            )
        return 0

    def clear(self):
        """Remove all tokens and embeddings."""
        self._writable(0)
        self._batch.n_tokens = 0
        self._n_embeddings = 0
        self._in_sections = False

    def add(self, object token, object pos, object seq_ids, bint logits=False):
        """Append one token at position ``pos`` of the sequence, or the sequences, ``seq_ids``.

        ``logits`` asks for the output of this token. Returns the token's index in the batch.
        """
        self._writable(1)
        cdef int32_t i = self._batch.n_tokens
        cdef int32_t n = 0
        cdef int32_t j
        cdef llama.llama_seq_id seq_id
        if not isinstance(seq_ids, (list, tuple, set, frozenset, range)):
            seq_ids = (seq_ids,)
        if not 1 <= len(seq_ids) <= self._n_seq_max:
            raise _errors.InvalidRequestError(
                f"a token of this batch belongs to 1 to {self._n_seq_max} sequences, not {len(seq_ids)}",
                param="seq_ids",
            )
        self._batch.token[i] = <llama.llama_token> _integer(token, "token", 0, 2147483647)
        self._batch.pos[i] = <llama.llama_pos> _integer(pos, "pos", 0, POSITION_LIMIT - 1)
        for value in seq_ids:
            seq_id = <llama.llama_seq_id> _integer(value, "seq_ids", 0, SEQUENCE_LIMIT - 1)
            for j in range(n):
                if self._batch.seq_id[i][j] == seq_id:
                    raise _errors.InvalidRequestError(f"sequence {seq_id} is named twice", param="seq_ids")
            self._batch.seq_id[i][n] = seq_id
            n += 1
        self._batch.n_seq_id[i] = n
        self._batch.logits[i] = logits
        self._batch.n_tokens = i + 1
        return i

    def add_sequence(self, object tokens not None, object pos, object seq_id, str logits="last"):
        """Append tokens (array or sequence of integers) at positions ``pos``, ``pos + 1``, … of one sequence.

        ``logits`` asks for the output of the "last" token, of "all" or of "none".
        """
        cdef _Tokens ids = _Tokens(tokens)
        cdef int32_t start = self._batch.n_tokens
        cdef Py_ssize_t i
        if self._n_embd:
            # A token below zero would pass for an embedding.
            for i in range(ids.n):
                if ids.data[i] < 0:
                    raise _errors.InvalidRequestError(f"tokens[{i}]={ids.data[i]} is no token", param="tokens")
        self._place(ids.n, pos, seq_id, logits)
        if ids.n:
            memcpy(self._batch.token + start, ids.data, ids.n * sizeof(llama.llama_token))

    def add_embeddings(self, object rows not None, object pos, object seq_id, str logits="last"):
        """Append embeddings, an array of shape (n, n_embd), at positions ``pos``, ``pos + 1``, … of one sequence.

        They take the place of the tokens' own embeddings, at the model's first layer. The batch must have been made
        with n_embd. For models with M-RoPE ``pos`` can be an array of shape (n, 3), time, row and column of each, or
        (n, 4). ``logits`` is as in add_sequence(). Raises InvalidRequestError for other shapes, NaN and infinity.
        """
        if self._n_embd == 0:
            raise _errors.InvalidRequestError("the batch holds no embeddings: make it with n_embd", param="rows")
        numpy = _numpy()
        rows = numpy.ascontiguousarray(rows, dtype=numpy.float32)
        if rows.ndim != 2 or rows.shape[1] != self._n_embd:
            raise _errors.InvalidRequestError(
                f"rows must have the shape (n, {self._n_embd}), not {rows.shape}", param="rows"
            )
        if not numpy.isfinite(rows).all():
            raise _errors.InvalidRequestError("rows holds NaN or infinity", param="rows")
        cdef Py_ssize_t n = rows.shape[0]
        cdef int32_t start = self._batch.n_tokens
        cdef Py_buffer buffer
        cdef Py_ssize_t i
        sections = None
        if numpy.ndim(pos) > 0:
            sections = _checked_sections(pos, n)
            self._make_sections()
            pos = sections[0, 0] if n else 0
        PyObject_GetBuffer(rows, &buffer, PyBUF_C_CONTIGUOUS)
        try:
            self._place(n, pos, seq_id, logits)
            if n:
                memcpy(self._batch.embd + <size_t> start * self._n_embd, buffer.buf, buffer.len)
        finally:
            PyBuffer_Release(&buffer)
        for i in range(n):
            self._batch.token[start + i] = llama.LLAMA_TOKEN_NULL
        self._n_embeddings += <int32_t> n
        if sections is not None and n:
            self._set_sections(start, sections)

    cdef int _make_sections(self) except -1:
        cdef size_t size = <size_t> self._capacity * 3 * sizeof(int32_t)
        if self._sections is NULL:
            self._sections = <int32_t *> malloc(size)
        if self._sections is NULL:
            raise MemoryError("the positions of a batch")
        if not self._in_sections:
            memset(self._sections, 0xFF, size)
        return 0

    cdef int _set_sections(self, int32_t start, object sections) except -1:
        cdef int32_t i
        self._in_sections = True
        for i, entry in enumerate(sections.tolist()):
            self._batch.pos[start + i] = entry[0]
            self._sections[3 * (start + i)] = entry[1]
            self._sections[3 * (start + i) + 1] = entry[2]
            self._sections[3 * (start + i) + 2] = entry[3]
        return 0

    cdef int _place(self, Py_ssize_t count, object pos, object seq_id, str logits) except -1:
        """Append ``count`` entries of one sequence; their tokens or embeddings are the caller's to fill in."""
        self._writable(count)
        cdef int64_t first = _integer(pos, "pos", 0, POSITION_LIMIT - 1)
        cdef llama.llama_seq_id sequence = <llama.llama_seq_id> _integer(seq_id, "seq_id", 0, SEQUENCE_LIMIT - 1)
        if logits not in ("last", "all", "none"):
            raise _errors.InvalidRequestError(
                f"logits={logits!r} must be one of 'last', 'all', 'none'", param="logits"
            )
        if first + count > POSITION_LIMIT:
            raise _errors.InvalidRequestError(
                f"pos={first} and {count} tokens go beyond position {POSITION_LIMIT}", param="pos"
            )
        cdef int32_t n = <int32_t> count
        if n == 0:
            return 0
        cdef int32_t start = self._batch.n_tokens
        cdef llama.llama_pos * positions = self._batch.pos + start
        cdef int32_t * counts = self._batch.n_seq_id + start
        cdef llama.llama_seq_id * ids = self._ids + <size_t> start * self._n_seq_max
        cdef int32_t i
        # One plain loop for each array: the compiler turns them into vector stores.
        for i in range(n):
            positions[i] = <llama.llama_pos> (first + i)
        for i in range(n):
            counts[i] = 1
        if self._n_seq_max == 1:
            for i in range(n):
                ids[i] = sequence
        else:
            for i in range(n):
                ids[<size_t> i * self._n_seq_max] = sequence
        memset(self._batch.logits + start, logits == "all", n)
        if logits == "last":
            self._batch.logits[start + n - 1] = 1
        self._batch.n_tokens = start + n
        return 0


cdef object _checked_sections(object pos, Py_ssize_t n):
    """Return the positions of n embeddings in four sections, an int array of shape (n, 4)."""
    numpy = _numpy()
    given = numpy.asarray(pos)
    if given.dtype.kind not in "iu":
        raise TypeError(f"pos must be integers, not of type {given.dtype}")
    if given.ndim != 2 or given.shape[0] != n or given.shape[1] not in (3, 4):
        raise _errors.InvalidRequestError(
            f"pos must be an integer, or have the shape ({n}, 3) or ({n}, 4), not {given.shape}", param="pos"
        )
    if given.size and not (0 <= given.min() and given.max() < POSITION_LIMIT):
        raise _errors.InvalidRequestError(f"pos must be in [0, {POSITION_LIMIT - 1}]", param="pos")
    sections = numpy.zeros((n, 4), dtype=numpy.int64)
    sections[:, : given.shape[1]] = given
    return sections
