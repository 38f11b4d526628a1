# Programs run step after step (csrc/loop.c), forwards and backwards.

cdef extern from "stdbool.h" nogil:
    ctypedef bint bool

cdef extern from "loop.h" nogil:
    ctypedef struct fad_body:
        size_t count
        const fad_program **programs
        char **workspaces
        size_t last
        size_t carries, inputs, outputs
        const size_t *offsets
        size_t state_bytes
        char **origins
        const ptrdiff_t *strides
        fad_pool *pool
        char **bases

    ctypedef struct fad_revolve:
        fad_body *forward
        fad_body *reverse
        size_t slots
        char *snapshots
        size_t *steps
        size_t top, end
        char **states
        char **cotangents
        size_t at, goal
        bool moving, missed_forward, missed_reverse
        uint64_t advanced

    fad_status fad_loop_run(fad_body *body, size_t *at, size_t to, size_t budget, char **states, bool *fits)
    fad_status fad_revolve_run(fad_revolve *revolve, size_t budget)
    size_t fad_revolve_split(size_t steps, size_t slots)

cdef enum:
    STEPS_WITHOUT_PYTHON = 4096   # signals are looked at in between


cdef bint is_unknown_path(fad_status status):
    """Whether a rule in a program met a path that it does not know: then another of the programs may do."""
    global rule_error
    if status == FAD_IN_RULE and isinstance(rule_error, UnknownPath):
        rule_error = None
        return True
    return False


cdef class Steps:
    """A step of a loop, as programs of which one fits at each step, with the memory that they read and write.

    Parameters
    ----------
    offsets : sequence of int
        Where in a state the first inputs (and outputs) are.
    state_bytes : int
        Size of a state.
    inputs, outputs : sequence of (ndarray, int, int)
        The others: contiguous memory, byte at which step 0 finds its part, bytes between those of two steps.
    """

    cdef fad_body body
    cdef readonly list programs
    cdef list arrays, raws
    cdef size_t capacity
    cdef bint wide       # a program has work for several threads

    def __cinit__(self, offsets, size_t state_bytes, inputs, outputs):
        cdef size_t i, n, carries = len(offsets)
        cdef size_t *places
        cdef ptrdiff_t *strides
        self.programs, self.arrays, self.raws = [], [], []
        self.body.carries, self.body.state_bytes = carries, state_bytes
        self.body.inputs, self.body.outputs = carries + len(inputs), carries + len(outputs)
        n = self.body.inputs + self.body.outputs
        self.body.offsets = places = <size_t *>calloc(carries + 1, sizeof(size_t))
        self.body.origins = <char **>calloc(n + 1, sizeof(char *))
        self.body.strides = strides = <ptrdiff_t *>calloc(n + 1, sizeof(ptrdiff_t))
        self.body.bases = <char **>calloc(FAD_FIRST_INPUT + n, sizeof(char *))
        if places == NULL or self.body.origins == NULL or strides == NULL or self.body.bases == NULL:
            raise MemoryError(f"no memory for {n} addresses")
        for i in range(carries):
            places[i] = offsets[i]
        for first, given in ((carries, inputs), (self.body.inputs + carries, outputs)):
            i = first
            for array, origin, stride in given:
                self.arrays.append(array)
                self.body.origins[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>array) + <ptrdiff_t>origin
                strides[i] = stride
                i += 1

    def __dealloc__(self):
        free(<void *>self.body.offsets)
        free(self.body.origins)
        free(<void *>self.body.strides)
        free(self.body.bases)
        free(self.body.programs)
        free(self.body.workspaces)

    def close(self):
        """Give the workspaces back."""
        cdef Program program
        cdef size_t raw
        for program, raw in zip(self.programs, self.raws):
            program.give_back(<char *>raw)
        self.programs, self.raws = [], []
        self.body.count = 0

    def add(self, Program program):
        """One more path, or an old one: it is tried first from now on."""
        cdef size_t n = self.body.count
        cdef void *grown
        cdef char *raw
        if program in self.programs:
            self.body.last = self.programs.index(program)
            return
        if program.program.input_count > self.body.inputs or program.program.output_count != self.body.outputs:
            raise ValueError("a path has other inputs or outputs than the step")
        if n == self.capacity:
            grown = realloc(self.body.programs, (2 * n + 4) * sizeof(void *))
            if grown == NULL:
                raise MemoryError(f"no memory for {n} paths")
            self.body.programs = <const fad_program **>grown
            grown = realloc(self.body.workspaces, (2 * n + 4) * sizeof(void *))
            if grown == NULL:
                raise MemoryError(f"no memory for {n} paths")
            self.body.workspaces = <char **>grown
            self.capacity = 2 * n + 4
        raw = program.take()
        self.programs.append(program)
        self.wide |= program.program.together != NULL
        self.raws.append(<size_t>raw)
        self.body.programs[n] = program.program
        self.body.workspaces[n] = aligned_start(raw)
        self.body.last = n
        self.body.count = n + 1

    def run(self, cnp.ndarray here, cnp.ndarray there, size_t at, size_t to):
        """Steps `at` to `to` - 1 from the state in `here`.

        Returns
        -------
        at : int
            The next step. Less than `to` where no path fits.
        swapped : bool
            Whether the state is in `there`.
        """
        cdef char *states[2]
        cdef char *first = <char *>cnp.PyArray_DATA(here)
        cdef fad_status status
        cdef bool fits = True
        cdef Pool helpers = pool_for(self.wide)
        self.body.pool = threads_of(helpers)
        states[0], states[1] = first, <char *>cnp.PyArray_DATA(there)
        while at < to and fits:
            with nogil:
                status = fad_loop_run(&self.body, &at, to, STEPS_WITHOUT_PYTHON, states, &fits)
            if is_unknown_path(status):
                break
            if status != FAD_OK:
                raise_status(status)
            PyErr_CheckSignals()
        return at, states[0] != first


def revolve(Steps forward, Steps reverse, size_t length, size_t slots, cnp.ndarray initial, cnp.ndarray cotangent,
            missed):
    """Reverse a loop with `slots` of its states kept.

    Parameters
    ----------
    forward, reverse : Steps
        Step k of `reverse` has as inputs, after those it carries, the state before step k of `forward`.
    length : int
    slots : int
        At least 1.
    initial, cotangent : ndarray of uint8
        State before the first step of `forward`; state in which `reverse` begins.
    missed : callable
        ``missed(k, state, cotangent or None)`` adds a path for step k of `forward` or `reverse`.

    Returns
    -------
    cotangent : ndarray of uint8
    advanced : int
        How many forward steps were taken.
    """
    cdef fad_revolve r
    cdef size_t bytes = forward.body.state_bytes
    cdef fad_status status
    cdef Pool helpers
    snapshots = np.empty(max(slots * bytes, 1), np.uint8)
    steps = np.zeros(slots, np.uintp)
    states = [np.empty(max(bytes, 1), np.uint8) for _ in range(2)]
    cotangents = [cotangent.copy(), np.empty_like(cotangent)]
    snapshots[:bytes] = initial[:bytes]
    memset(&r, 0, sizeof(r))
    r.forward, r.reverse = &forward.body, &reverse.body
    r.slots, r.end = slots, length
    r.snapshots = <char *>cnp.PyArray_DATA(<cnp.ndarray>snapshots)
    r.steps = <size_t *>cnp.PyArray_DATA(<cnp.ndarray>steps)
    for i in range(2):
        r.states[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>states[i])
        r.cotangents[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>cotangents[i])
    while r.end:
        helpers = pool_for(forward.wide or reverse.wide)   # held while it is in use
        forward.body.pool = reverse.body.pool = threads_of(helpers)
        with nogil:
            status = fad_revolve_run(&r, STEPS_WITHOUT_PYTHON)
        if is_unknown_path(status):
            raise RuntimeError("a loop met another path on its way back")
        if status != FAD_OK:
            raise_status(status)
        if r.missed_forward:
            missed(r.at, state_at(r.states[0], bytes), None)
        elif r.missed_reverse:
            missed(r.end - 1, state_at(r.states[0] if r.moving else r.snapshots + r.top * bytes, bytes),
                   state_at(r.cotangents[0], reverse.body.state_bytes))
        PyErr_CheckSignals()
    index = 0 if r.cotangents[0] == <char *>cnp.PyArray_DATA(<cnp.ndarray>cotangents[0]) else 1
    return cotangents[index], r.advanced


cdef object state_at(char *data, size_t size):
    array = np.empty(max(size, 1), np.uint8)
    memcpy(cnp.PyArray_DATA(<cnp.ndarray>array), data, size)
    return array


def revolve_split(size_t steps, size_t slots):
    """How far to advance before the next state is kept: see csrc/loop.h."""
    return fad_revolve_split(steps, slots)
