# How many threads share the work of a program, and the pool of those that help.

cdef size_t num_threads = 1
cdef Pool pool = None            # made when a program first has work for it


cdef class Pool:
    """Threads that take part in runs of programs. Whoever runs one holds the pool meanwhile."""

    cdef fad_pool *pool

    def __cinit__(self, size_t threads):
        self.pool = fad_pool_create(threads)   # NULL, or fewer threads: the same results, later

    def __dealloc__(self):
        fad_pool_destroy(self.pool)


cdef Pool pool_for(bint wide):
    """The pool, or None where all is done by the calling thread."""
    global pool
    if not wide or num_threads == 1:
        return None
    if pool is None or (pool.pool != NULL and not fad_pool_is_here(pool.pool)):   # a fork has none of the threads
        pool = Pool(num_threads)
    return pool


cdef inline fad_pool *threads_of(Pool helpers) noexcept:
    return NULL if helpers is None else helpers.pool


cdef size_t thread_count(str name, n) except 0:
    if n is True or n is False:
        raise TypeError(f"{name}: expected an int from 1 to {FAD_MOST_THREADS}, got {n!r}")
    try:
        count = index(n)
    except TypeError:
        raise TypeError(f"{name}: expected an int from 1 to {FAD_MOST_THREADS}, got {n!r}") from None
    if not 1 <= count <= FAD_MOST_THREADS:
        raise ValueError(f"{name}: expected an int from 1 to {FAD_MOST_THREADS}, got {n!r}")
    return count


def set_num_threads(n):
    """Let `n` threads share the work of compiled functions, one by default.

    What is wide in a program (element-wise work on 10⁴ elements and more, the lanes of `vmap`) is split
    over them. Results do not depend on `n`, to the last bit. It holds for the whole process, from the
    next run of a program on. The environment variable ``FASTAD_NUM_THREADS`` sets it at import.

    Parameters
    ----------
    n : int
        From 1 to 1024, the calling thread included. More than there are processors make nothing faster.

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        If it is not from 1 to 1024.

    Examples
    --------
    >>> f = fad.compile(lambda x: np.sum(np.sin(x) * x))
    >>> x = np.linspace(0.0, 1.0, 100_000)
    >>> alone = f(x)
    >>> fad.set_num_threads(2)
    >>> f(x) == alone
    True
    >>> fad.set_num_threads(1)
    """
    global num_threads, pool
    cdef size_t count = thread_count("n", n)
    if count != num_threads:
        num_threads, pool = count, None   # a run under way keeps the pool that it has


def get_num_threads():
    """How many threads share the work of compiled functions: see `set_num_threads`.

    Returns
    -------
    int

    Examples
    --------
    >>> fad.get_num_threads()
    1
    """
    return num_threads


cdef size_t threads_asked_for() except 0:
    cdef str given = environ.get("FASTAD_NUM_THREADS", "").strip()
    if not given:
        return 1
    try:
        return thread_count("environment variable FASTAD_NUM_THREADS", int(given))
    except ValueError:
        raise ValueError(f"environment variable FASTAD_NUM_THREADS: expected an int from 1 to {FAD_MOST_THREADS}, "
                         f"got {given!r}") from None


num_threads = threads_asked_for()
