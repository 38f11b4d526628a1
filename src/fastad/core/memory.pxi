# Memory of tapes: allocation, which tests make fail, the ceiling, tapes to use again.

cdef long failing_in = 0      # 0: never; n: the n-th allocation from now fails, and all after it
cdef long allocations = 0


cdef void *resize(void *context, void *p, size_t old_size, size_t size) noexcept nogil:
    global failing_in, allocations
    if size == 0:
        free(p)
        return NULL
    if size > old_size:
        allocations += 1
        if failing_in > 0:
            failing_in -= 1
            if failing_in == 0:
                failing_in = 1
                return NULL
    return realloc(p, size)


def fail_allocation(long n):
    """For tests: from the `n`-th allocation on, every one fails (0: none does). Returns how many were made so far."""
    global failing_in
    failing_in = n
    return allocations


cdef size_t ceiling = 0


def set_memory_limit(nbytes):
    """Most bytes that any one tape may take; 0 (the default) means no limit.

    Parameters
    ----------
    nbytes : int

    Examples
    --------
    >>> fad.set_memory_limit(8 << 30)
    >>> fad.set_memory_limit(0)
    """
    global ceiling
    if nbytes < 0:
        raise ValueError(f"nbytes: expected 0 or more, got {nbytes}")
    ceiling = nbytes


def memory_limit():
    """The limit in force."""
    return ceiling


# C tapes whose Recorder is gone, with memory that is already there: the next Recorder takes one.
cdef enum:
    IDLE_TAPES = 4
    KEPT_BY_IDLE = 1 << 26   # bytes

cdef fad_tape *idle[IDLE_TAPES]
cdef int idle_count = 0


def drop_idle_tapes():
    """Free the tapes that wait for a next Recorder."""
    global idle_count
    while idle_count > 0:
        idle_count -= 1
        fad_tape_destroy(idle[idle_count])
