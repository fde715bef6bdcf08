# A batch of tokens for Context.decode. Plain memory: any thread, one at a time.

from libc.stdint cimport int8_t
from libc.stdlib cimport calloc


@cython.auto_pickle(False)
@cython.final
cdef class Batch:
    """Up to ``n_tokens`` tokens with their positions, sequences (at most ``n_seq_max`` a token) and outputs.

    Not bound to a context; reusable after clear(). Raises InvalidRequestError for sizes out of range.
    """

    cdef llama.llama_batch _batch
    cdef llama.llama_seq_id * _ids
    cdef int32_t _capacity
    cdef int32_t _n_seq_max
    cdef bint _busy

    def __cinit__(self, object n_tokens, object n_seq_max=1):
        cdef int32_t i
        cdef int32_t capacity = <int32_t> _integer(n_tokens, "n_tokens", 1, 1 << 22)
        self._n_seq_max = <int32_t> _integer(n_seq_max, "n_seq_max", 1, SEQUENCE_LIMIT)
        self._batch.token = <llama.llama_token *> calloc(capacity, sizeof(llama.llama_token))
        self._batch.pos = <llama.llama_pos *> calloc(capacity, sizeof(llama.llama_pos))
        self._batch.n_seq_id = <int32_t *> calloc(capacity, sizeof(int32_t))
        self._batch.seq_id = <llama.llama_seq_id **> calloc(capacity, sizeof(llama.llama_seq_id *))
        self._batch.logits = <int8_t *> calloc(capacity, 1)
        self._ids = <llama.llama_seq_id *> calloc(<size_t> capacity * self._n_seq_max, sizeof(llama.llama_seq_id))
        if (
            self._batch.token is NULL
            or self._batch.pos is NULL
            or self._batch.n_seq_id is NULL
            or self._batch.seq_id is NULL
            or self._batch.logits is NULL
            or self._ids is NULL
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
        free(self._ids)

    def __reduce_ex__(self, protocol):
        raise TypeError("a Batch cannot be pickled")

    def __repr__(self):
        return f"<pyllama.Batch of {self._batch.n_tokens} tokens, room for {self._capacity}>"

    def __len__(self):
        return self._batch.n_tokens

    @property
    def n_tokens(self) -> int:
        """The number of tokens in the batch."""
        return self._batch.n_tokens

    @property
    def capacity(self) -> int:
        """The number of tokens that the batch has room for."""
        return self._capacity

    cdef int _writable(self, Py_ssize_t n) except -1:
        if self._busy:
            raise _errors.EngineError("the batch is being decoded by another thread")
        if n > self._capacity - self._batch.n_tokens:
            raise _errors.InvalidRequestError(
                f"{n} more tokens do not fit: the batch holds {self._batch.n_tokens} of {self._capacity}"
            )
        return 0

    def clear(self):
        """Remove all tokens."""
        self._writable(0)
        self._batch.n_tokens = 0

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
        self._writable(ids.n)
        cdef int64_t first = _integer(pos, "pos", 0, POSITION_LIMIT - 1)
        cdef llama.llama_seq_id sequence = <llama.llama_seq_id> _integer(seq_id, "seq_id", 0, SEQUENCE_LIMIT - 1)
        if logits not in ("last", "all", "none"):
            raise _errors.InvalidRequestError(
                f"logits={logits!r} must be one of 'last', 'all', 'none'", param="logits"
            )
        if first + ids.n > POSITION_LIMIT:
            raise _errors.InvalidRequestError(
                f"pos={first} and {ids.n} tokens go beyond position {POSITION_LIMIT}", param="pos"
            )
        cdef int8_t every = logits == "all"
        cdef int32_t start = self._batch.n_tokens
        cdef int32_t n = <int32_t> ids.n
        cdef int32_t i
        if n == 0:
            return
        memcpy(self._batch.token + start, ids.data, n * sizeof(llama.llama_token))
        for i in range(n):
            self._batch.pos[start + i] = <llama.llama_pos> (first + i)
            self._batch.n_seq_id[start + i] = 1
            self._batch.seq_id[start + i][0] = sequence
            self._batch.logits[start + i] = every
        if logits == "last":
            self._batch.logits[start + n - 1] = 1
        self._batch.n_tokens = start + n
