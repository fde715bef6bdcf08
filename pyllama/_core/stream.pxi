# Streams of the engine, and what wakes an event loop for them.
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t

cimport core


def set_time_slice(uint32_t microseconds) -> None:
    """Ask the scheduler to run the calling thread in turns of ``microseconds``, so that it wakes up at once.

    For a thread whose work is short and waited for, where the decode keeps all cores busy. Linux 6.12 and newer;
    elsewhere nothing happens.
    """
    core.set_time_slice(microseconds)


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


cdef class ControlRequest:
    """What a control request's JSON asks for. Raises InvalidRequestError.

    ``in_process``: no completion is named, and the answer tells of a finished request as well.
    """

    cdef shared_ptr[c_control_request] handle
    cdef bint in_process

    def __init__(self, bytes body not None, *, bint in_process=False) -> None:
        cdef string text = body
        cdef shared_ptr[c_control_request] made
        with nogil:
            made = c_read_control(text, in_process)
        self.handle = made
        self.in_process = in_process

    @property
    def id(self) -> str:
        """The completion it is for."""
        return _text(c_completion_id(deref(self.handle)))

    @property
    def takes_time(self) -> bool:
        """Whether posting it builds samplers or tokenises, which can take milliseconds."""
        return c_takes_time(deref(self.handle))


cdef class ControlTicket:
    """The receipt of a control that was posted. Made by Stream.control."""

    cdef shared_ptr[c_control_ticket] handle
    cdef bint in_process

    def __init__(self) -> None:
        raise TypeError("control tickets are made by Stream.control()")

    def answer(self) -> bytes:
        """Return the answer as JSON, empty while there is none.

        Raises EngineBusyError when too many controls of the completion were waiting.
        """
        return c_control_answer(deref(self.handle), self.in_process)


cdef bytes _copy_slice(c_ring_slice & slice):
    # The ring's mutex is not held: the slice keeps its bytes.
    cdef size_t n_bytes = slice.n_bytes()
    cdef bytes data = PyBytes_FromStringAndSize(NULL, n_bytes)
    cdef char * target = PyBytes_AsString(data)
    if n_bytes <= 65536:
        slice.copy_to(target)
    else:
        with nogil:
            slice.copy_to(target)
    return data


cdef class Stream:
    """One request's answer: bytes with absolute offsets, readable from its acceptance on.

    Safe to use from any thread. Made by Engine.submit.
    """

    cdef c_submitted handle
    cdef shared_ptr[c_engine] engine
    cdef readonly str content_type
    cdef readonly str dialect

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
    def queue_position(self) -> int | None:
        """How many requests are before it in the queue; None when it does not wait there."""
        cdef int32_t position = c_queue_position(self.handle)
        return position if position >= 0 else None

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
        result = deref(self.handle.session).read(offset, max_bytes, False)
        return (
            _copy_slice(result.slice),
            result.next_offset,
            result.finished,
            result.first_offset if result.lost else None,
        )

    def read_events(self, uint64_t offset, size_t max_bytes=262144) -> tuple:
        """As read(), and after its four values: the stream's end by now, the first event's id, whether the bytes
        begin where that event does, and the offsets at which the events end.
        """
        cdef c_read_result result
        result = deref(self.handle.session).read(offset, max_bytes, True)
        return (
            _copy_slice(result.slice),
            result.next_offset,
            result.finished,
            result.first_offset if result.lost else None,
            result.end_offset,
            result.slice.first_event,
            result.slice.starts_event,
            result.slice.event_ends,
        )

    @property
    def end_offset(self) -> int:
        """Bytes that were ever written."""
        return deref(self.handle.session).end_offset()

    def offset_after(self, uint64_t event_id) -> int | None:
        """Return where the event behind ``event_id`` begins; None when no such event has been written yet."""
        cdef optional[uint64_t] offset = deref(self.handle.session).offset_after(event_id)
        return offset.value() if offset.has_value() else None

    def keep(self, size_t n_extra=0) -> None:
        """Keep the stream within the engine's budget for all streams, also when it has ended.

        While it runs it drops its oldest bytes rather than exceed the budget, and once it has ended all its bytes
        may go. ``n_extra`` bytes are charged beside its own.
        """
        deref(self.handle.session).keep(n_extra)

    @property
    def evicted(self) -> bool:
        """Whether a kept stream had to give up its bytes."""
        return deref(self.handle.session).evicted()

    def detach(self) -> None:
        """Give up the engine, so that a stream that is kept does not keep the model. Reading goes on."""
        self.engine.reset()
        self.handle.control.reset()
        self.handle.choices.clear()

    def subscribe(self, Waker waker not None, uint64_t key) -> None:
        """Mark ``key`` at ``waker`` on each change from now on, and now when something is there already."""
        deref(self.handle.session).subscribe(waker.handle, key)

    def unsubscribe(self, Waker waker not None, uint64_t key) -> None:
        """End a subscription."""
        deref(self.handle.session).unsubscribe(waker.handle.get(), key)

    def control(self, ControlRequest request not None, Waker waker=None, uint64_t key=0) -> ControlTicket:
        """Post a control; it is applied before the next decode. Never waits.

        With a waker, ``key`` is marked there once it is answered.
        """
        cdef shared_ptr[c_waker] wakes
        cdef shared_ptr[c_control_ticket] made
        if self.engine.get() == NULL:
            raise _errors.ClosedError("the stream gave up its engine")
        if waker is not None:
            wakes = waker.handle
        with nogil:
            made = c_post_control(deref(self.engine), self.handle, deref(request.handle), wakes, key)
        cdef ControlTicket ticket = ControlTicket.__new__(ControlTicket)
        ticket.handle = made
        ticket.in_process = request.in_process
        return ticket

    def cancel(self) -> None:
        """End the request before the next decode, wherever it is. Idempotent."""
        if self.engine.get() != NULL:
            deref(self.engine).cancel(self.handle.control)
