# Memory of tapes: allocation, which tests make fail, the ceiling, tapes to use again.

cdef long failing_in = 0      # 0: never; n: the n-th allocation from now fails, and all after it
cdef long allocations = 0


cdef void *resize(void *context, void *p, size_t old_size, size_t size) noexcept nogil:
    """Memory of a tape; `context` is a spare_blocks, or NULL."""
    global failing_in, allocations
    cdef void *found
    if size == 0:
        if context == NULL or not keep_spare(<spare_blocks *>context, p, old_size):
            free(p)
        return NULL
    if size > old_size:
        allocations += 1
        if failing_in > 0:
            failing_in -= 1
            if failing_in == 0:
                failing_in = 1
                return NULL
    if context == NULL:
        return realloc(p, size)
    if p != NULL and has_room(<spare_blocks *>context, p, size):
        return p
    found = take_spare(<spare_blocks *>context, size) if old_size < LARGE_BLOCK else NULL
    if found == NULL:
        return realloc(p, size)
    if p != NULL:
        memcpy(found, p, old_size)
        free(p)
    return found


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


# Passes over a long trace need large blocks, one after the other. The kernel clears every page that it hands out, which
# costs as much as a pass does: so what one gives back, the next one takes.
cdef bint keep_spare(spare_blocks *spare, void *p, size_t size) noexcept nogil:
    """Keep a block that is given back, with all that it has; False: there are enough, or it is small."""
    cdef int i
    for i in range(spare.count):
        if spare.blocks[i].p == p:
            spare.blocks[i].taken = False
            return True
    if size < LARGE_BLOCK or spare.count == MOST_SPARE_BLOCKS:
        return False
    spare.blocks[spare.count] = spare_block(p, size, False)
    spare.count += 1
    return True


cdef void *take_spare(spare_blocks *spare, size_t size) noexcept nogil:
    """The smallest kept block that has `size` bytes, or NULL."""
    cdef int i, best = -1
    if size < LARGE_BLOCK:
        return NULL
    for i in range(spare.count):
        if not spare.blocks[i].taken and spare.blocks[i].size >= size:
            if best < 0 or spare.blocks[i].size < spare.blocks[best].size:
                best = i
    if best < 0:
        return NULL
    spare.blocks[best].taken = True
    return spare.blocks[best].p


cdef bint has_room(spare_blocks *spare, void *p, size_t size) noexcept nogil:
    """Whether a block that was taken has `size` bytes. One that has not is no longer known: it is about to move."""
    cdef int i
    for i in range(spare.count):
        if spare.blocks[i].p == p:
            if spare.blocks[i].size >= size:
                return True
            forget_spare(spare, i)
            return False
    return False


cdef void forget_spare(spare_blocks *spare, int i) noexcept nogil:
    spare.count -= 1
    spare.blocks[i] = spare.blocks[spare.count]


cdef class SpareMemory:
    """Large blocks that some tapes gave back and others may take, freed with it.

    A Recorder uses it between `lend` and `lend(None)`, in one thread.
    """

    def __cinit__(self):
        self.spare.count = 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.spare.count):
            free(self.spare.blocks[i].p)

    cdef void leave_taken(self) noexcept:
        """What is taken belongs to the tape from now on."""
        cdef int i
        for i in range(self.spare.count - 1, -1, -1):
            if self.spare.blocks[i].taken:
                forget_spare(&self.spare, i)

    @property
    def nbytes(self):
        """Bytes that are kept."""
        cdef int i
        cdef size_t total = 0
        for i in range(self.spare.count):
            total += self.spare.blocks[i].size
        return total


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
