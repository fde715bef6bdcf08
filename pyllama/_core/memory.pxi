# The sequences of a context's KV memory. For the context's thread only.


@cython.auto_pickle(False)
@cython.final
cdef class Memory:
    """The sequences in the KV memory of a context, from ``Context.memory``.

    Ranges are [p0, p1) of positions; -1 leaves an end open. Raises InvalidRequestError for ids and positions out of
    range, UnsupportedError for what this kind of memory cannot do.
    """

    cdef Context _context

    def __cinit__(self, Context context not None):
        self._context = context

    def __reduce_ex__(self, protocol):
        raise TypeError("a Memory cannot be pickled")

    def __repr__(self):
        return f"<pyllama.Memory of {self._context!r}>"

    cdef llama.llama_memory_t _memory(self) except NULL:
        self._context._alive()
        cdef llama.llama_memory_t memory = llama.llama_get_memory(self._context._ptr)
        if memory is NULL:
            raise _errors.UnsupportedError("this model has no KV memory")
        return memory

    cdef bint _recurrent(self):
        return _has_states(self._context._model._ptr)

    cdef llama.llama_seq_id _sequence(self, object seq_id, str name, int64_t low) except -2:
        """Check a sequence id. Plain unified attention can hold, though not decode, all of llama.cpp's ids."""
        cdef int64_t limit = llama.llama_n_seq_max(self._context._ptr)
        if (
            self._context._kv_unified
            and not self._recurrent()
            and llama.llama_model_n_swa(self._context._model._ptr) == 0
        ):
            limit = SEQUENCE_LIMIT
        return <llama.llama_seq_id> _integer(seq_id, name, low, limit - 1)

    cdef int _range(self, object p0, object p1, llama.llama_pos * out) except -1:
        out[0] = <llama.llama_pos> _integer(p0, "p0", -1, POSITION_LIMIT)
        out[1] = <llama.llama_pos> _integer(p1, "p1", -1, POSITION_LIMIT)
        return 0

    def clear(self, bint data=True):
        """Remove all sequences; ``data`` zeroes the buffers too."""
        cdef llama.llama_memory_t memory = self._memory()
        with nogil:
            llama.llama_memory_clear(memory, data)
        self._context._forget_states(None)

    def seq_rm(self, object seq_id, object p0=-1, object p1=-1):
        """Remove a range of a sequence, or of all with ``seq_id`` -1; False when this memory cannot remove a part.

        A recurrent state goes back by at most n_rs_seq tokens, and not to before the sequence's last batch.
        """
        cdef llama.llama_memory_t memory = self._memory()
        cdef llama.llama_seq_id sequence = self._sequence(seq_id, "seq_id", -1)
        cdef llama.llama_pos span[2]
        cdef cbool done
        self._range(p0, p1, span)
        if sequence < 0 and self._recurrent():
            # llama.cpp's own call refuses -1 here. Without a part it is clear(); a part cannot be removed.
            if span[0] > 0 or span[1] >= 0:
                return False
            with nogil:
                llama.llama_memory_clear(memory, False)
            self._context._forget_states(None)
            return True
        cdef bint goes_back = sequence >= 0 and llama.llama_n_rs_seq(self._context._ptr) > 0
        cdef llama.llama_pos last = llama.llama_memory_seq_pos_max(memory, sequence) if goes_back else -1
        if 0 < span[0] <= last and (span[1] < 0 or span[1] > last):
            # llama.cpp would take a state of an earlier batch.
            if last - span[0] + 1 >= <int> self._context._n_states.get(sequence, 0):
                return False
        with nogil:
            done = llama.llama_memory_seq_rm(memory, sequence, span[0], span[1])
        if done and goes_back:
            self._note_rollback(memory, sequence, last)
        return bool(done)

    cdef int _note_rollback(self, llama.llama_memory_t memory, llama.llama_seq_id sequence,
                            llama.llama_pos last) except -1:
        """Remember a state that the next decode reads from an older place; an empty sequence must have none."""
        cdef llama.llama_pos left = llama.llama_memory_seq_pos_max(memory, sequence)
        if left < 0:
            llama.llama_memory_seq_rm(memory, sequence, -1, -1)
            self._context._forget_states(sequence)
        elif left < last:
            self._context._rolled_back.add(sequence)
        return 0

    def seq_cp(self, object src, object dst, object p0=-1, object p1=-1):
        """Let the empty sequence ``dst`` share a range of ``src``.

        Without kv_unified, and on recurrent memory, whole sequences only; the former are copied by the next decode.
        """
        cdef llama.llama_memory_t memory = self._memory()
        cdef llama.llama_seq_id source = self._sequence(src, "src", 0)
        cdef llama.llama_seq_id target = self._sequence(dst, "dst", 0)
        cdef llama.llama_pos span[2]
        self._range(p0, p1, span)
        if source == target:
            return
        if source in self._context._rolled_back:
            raise _errors.InvalidRequestError(
                f"sequence {source} was taken back by seq_rm, which its next decode applies: decode it first",
                param="src",
            )
        if llama.llama_memory_seq_pos_max(memory, target) >= 0:
            raise _errors.InvalidRequestError(
                f"the destination sequence {target} is not empty: seq_rm it first", param="dst"
            )
        if not self._context._kv_unified or self._recurrent():
            if span[0] > 0 or 0 <= span[1] <= llama.llama_memory_seq_pos_max(memory, source):
                raise _errors.UnsupportedError(
                    f"positions [{p0}, {p1}) of sequence {source} cannot be copied alone: this memory copies whole "
                    "sequences only"
                )
            span[0] = span[1] = -1
            if not self._context._kv_unified:
                self._context._memory_update_pending = True
        with nogil:
            llama.llama_memory_seq_cp(memory, source, target, span[0], span[1])

    def seq_keep(self, object seq_id):
        """Remove all sequences but one."""
        cdef llama.llama_memory_t memory = self._memory()
        cdef llama.llama_seq_id sequence = self._sequence(seq_id, "seq_id", 0)
        cdef llama.llama_seq_id other
        if self._context._kv_unified and not self._context._rolled_back:
            with nogil:
                llama.llama_memory_seq_keep(memory, sequence)
            return
        # llama.cpp's own call looks at one stream only.
        for other in range(<llama.llama_seq_id> llama.llama_n_seq_max(self._context._ptr)):
            if other != sequence:
                with nogil:
                    llama.llama_memory_seq_rm(memory, other, -1, -1)
                self._context._forget_states(other)

    cdef bint _can_shift(self, llama.llama_memory_t memory):
        cdef llama.llama_rope_type rope = llama.llama_model_rope_type(self._context._model._ptr)
        return (
            llama.llama_memory_can_shift(memory)
            and self._context._keys_can_shift
            and rope != llama.LLAMA_ROPE_TYPE_MROPE
            and rope != llama.LLAMA_ROPE_TYPE_IMROPE
            and rope != llama.LLAMA_ROPE_TYPE_VISION
        )

    cdef int _shiftable(self, llama.llama_memory_t memory) except -1:
        if not self._can_shift(memory):
            raise _errors.UnsupportedError("the positions of this memory cannot be shifted (see can_shift)")
        return 0

    def seq_add(self, object seq_id, object p0, object p1, object delta):
        """Add ``delta`` to the positions of a range; tokens that get below 0 are removed.

        It moves tokens for every sequence that shares them. The next decode applies it.
        """
        cdef llama.llama_memory_t memory = self._memory()
        cdef llama.llama_seq_id sequence = self._sequence(seq_id, "seq_id", 0)
        cdef llama.llama_pos span[2]
        self._range(p0, p1, span)
        cdef int64_t last = llama.llama_memory_seq_pos_max(memory, sequence)
        cdef llama.llama_pos shift = <llama.llama_pos> _integer(
            delta, "delta", -POSITION_LIMIT, POSITION_LIMIT - 1 - max(last, 0)
        )
        self._shiftable(memory)
        if self._recurrent() and last + shift < 0:
            raise _errors.InvalidRequestError(
                f"delta={delta} would move the state of sequence {sequence} from position {last} below 0", param="delta"
            )
        self._context._memory_update_pending = True
        with nogil:
            llama.llama_memory_seq_add(memory, sequence, span[0], span[1], shift)

    def seq_div(self, object seq_id, object p0, object p1, object d):
        """Divide the positions of a range by ``d`` ≥ 1, rounding down. The next decode applies it."""
        cdef llama.llama_memory_t memory = self._memory()
        cdef llama.llama_seq_id sequence = self._sequence(seq_id, "seq_id", 0)
        cdef llama.llama_pos span[2]
        self._range(p0, p1, span)
        cdef int divisor = <int> _integer(d, "d", 1, POSITION_LIMIT)
        self._shiftable(memory)
        self._context._memory_update_pending = True
        with nogil:
            llama.llama_memory_seq_div(memory, sequence, span[0], span[1], divisor)

    def seq_pos_min(self, object seq_id):
        """Return the smallest position of a sequence in memory, -1 when it is empty."""
        cdef llama.llama_memory_t memory = self._memory()
        return llama.llama_memory_seq_pos_min(memory, self._sequence(seq_id, "seq_id", 0))

    def seq_pos_max(self, object seq_id):
        """Return the largest position of a sequence in memory, -1 when it is empty."""
        cdef llama.llama_memory_t memory = self._memory()
        return llama.llama_memory_seq_pos_max(memory, self._sequence(seq_id, "seq_id", 0))

    @property
    def can_shift(self) -> bool:
        """Whether seq_add and seq_div work."""
        return bool(self._can_shift(self._memory()))
