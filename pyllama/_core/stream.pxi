# Streams of the engine, and what wakes an event loop for them.

cdef class Waker:
    """A descriptor that becomes readable when one of the subscribed streams changes.

    One per event loop. ``drain`` is for the loop's thread, ``wait`` for a notifier thread on loops that cannot
    watch a descriptor.
    """

    cdef shared_ptr[c_waker] handle

    def __cinit__(self) -> None:
        self.handle = make_shared[c_waker]()

    @property
    def fd(self) -> int:
        """The descriptor to watch."""
        return deref(self.handle).fd()

    def drain(self) -> list:
        """Return the keys of the streams that changed since the last call."""
        return deref(self.handle).drain()

    def wait(self) -> bool:
        """Block until something changed (True) or the waker is closed (False)."""
        cdef bint woken
        with nogil:
            woken = deref(self.handle).wait()
        return woken

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        deref(self.handle).close()


cdef class Stream:
    """One request's answer: bytes with absolute offsets, readable from its acceptance on.

    Safe to use from any thread. Made by Engine.submit.
    """

    cdef c_submitted handle
    cdef shared_ptr[c_engine] engine
    cdef readonly str content_type

    def __init__(self) -> None:
        raise TypeError("streams are made by Engine.submit()")

    @property
    def id(self) -> str:
        """The completion's id."""
        return _text(self.handle.id)

    @property
    def state(self) -> str:
        """One of "accepted", "started" and "finished"."""
        cdef c_session_state state = deref(self.handle.session).state()
        if state == c_session_state.accepted:
            return "accepted"
        return "started" if state == c_session_state.started else "finished"

    @property
    def error(self) -> Exception | None:
        """The error that ended the stream, or None."""
        try:
            c_raise_failure(deref(self.handle.session))
        except Exception as reason:
            return reason
        return None

    def read(self, uint64_t offset, size_t max_bytes=262144) -> tuple:
        """Return (bytes, next offset, finished, first kept offset or None); never waits.

        The last is set when the ring overtook ``offset``: bytes before it are gone. An
        offset beyond the end gives nothing until the stream gets there.
        """
        cdef c_read_result result
        result = deref(self.handle.session).read(offset, max_bytes)
        return (
            <bytes> result.bytes,
            result.next_offset,
            result.finished,
            result.first_offset if result.lost else None,
        )

    def subscribe(self, Waker waker not None, uint64_t key) -> None:
        """Mark ``key`` at ``waker`` on each change from now on, and now when something is there already."""
        deref(self.handle.session).subscribe(waker.handle, key)

    def unsubscribe(self, Waker waker not None, uint64_t key) -> None:
        """End a subscription."""
        deref(self.handle.session).unsubscribe(waker.handle.get(), key)

    def cancel(self) -> None:
        """End the request before the next decode, wherever it is. Idempotent."""
        deref(self.engine).cancel(self.handle.control)
