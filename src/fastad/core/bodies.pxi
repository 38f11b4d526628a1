# Bodies: what fad.scan and fad.checkpoint record apart, on a tape of its own, inside of another recording.
#
# Meanwhile the outer tape waits: an operation of its Arrays is the body's. An outer Array that the body reads is
# captured: it becomes one more input of the body, so that its derivative is not lost.

cdef Recorder innermost(Recorder recorder):
    """Who records in place of `recorder`, while it waits for a body."""
    while recorder.inner is not None:
        recorder = recorder.inner
    return recorder


cdef Array inside(Array a):
    """An Array as the operand of whoever records now."""
    cdef Recorder recorder
    if a.recorder.inner is None:
        return a
    recorder = innermost(a.recorder)
    return wrap(recorder, recorder.capture(a))


cdef int refuse_outer(Array a) except -1:
    """Raise TapeError for a write to an Array of outside of the body that is recorded."""
    if a.recorder.inner is not None or (a.base is None and a.recorder.is_captured(a.node)):
        raise TapeError("a function given to fad.scan or fad.checkpoint writes to an Array that it did not make: return "
                        "the new value (for scan, as part of the carry)")
    return 0
