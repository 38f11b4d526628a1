# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, cdivision=True
"""Lanes: what was recorded for one lane, over all of them, as nodes (csrc/batch.c)."""

from libc.math cimport NAN
from libc.stdlib cimport free, malloc

import numpy as np

cimport numpy as cnp

from fastad._core import call
from fastad._program import Trace

from fastad._core cimport *

cnp.import_array()

cdef extern from "array.h" nogil:
    void fad_copy(const fad_array *to, const fad_array *source)


cdef class Lanes:
    """Which nodes of a recording differ from lane to lane, while vmaps are under way: those that depend on a seed.

    A finished vmap's seeds stay among them until the outermost one ends, so that what its function left behind in a
    list or a global is not mistaken for a value that all lanes share.
    """

    cdef size_t start        # the first node that can
    cdef bytearray marks     # of the nodes from there on, as far as asked for
    cdef set seeds
    cdef int depth           # of vmaps inside each other

    def __cinit__(self, Recorder recorder):
        self.start = recorder.tape.count
        self.marks = bytearray()
        self.seeds = set()

    def holds(self, Recorder recorder, uint32_t node):
        cdef size_t i, k
        cdef uint32_t parent
        cdef char mark
        if node < self.start:
            return False
        for i in range(self.start + len(self.marks), <size_t>node + 1):
            mark, k = i in self.seeds, 0
            while not mark:
                parent = fad_parent(recorder.tape, <uint32_t>i, k)
                if parent == FAD_NODE_NONE:
                    break
                mark = parent >= self.start and self.marks[parent - self.start]
                k += 1
            self.marks.append(mark)
        return bool(self.marks[node - self.start])


cdef class under_way:
    """Context manager: in it, reading a value that depends on a seed is refused.

    Afterwards such values are NaN: an Array that the function left behind in a list or a global would else hold the
    first lane's value for all.
    """

    cdef Recorder recorder
    cdef size_t start

    def __init__(self, Recorder recorder):
        self.recorder = recorder

    def __enter__(self):
        self.recorder.settle()   # a seed's value is never computed
        self.start = self.recorder.tape.count
        if self.recorder.lanes is None:
            self.recorder.lanes = Lanes(self.recorder)
        (<Lanes>self.recorder.lanes).depth += 1

    def __exit__(self, *exception):
        cdef Lanes lanes = self.recorder.lanes
        spoil(self.recorder, self.start, lanes.seeds)
        lanes.depth -= 1
        if lanes.depth == 0:
            self.recorder.lanes = None
        return False


cdef int spoil(Recorder recorder, size_t start, set seeds) except -1:
    """NaN for the values of the nodes from `start` on that depend on those of `seeds` that lie there."""
    cdef fad_tape *tape = recorder.tape
    cdef size_t i, k
    cdef uint32_t parent
    cdef double number = NAN
    cdef fad_array nan
    nan.data, nan.dtype = <char *>&number, <uint8_t>FAD_F64
    nan.shape = tape.shapes[0]
    nan.strides = nan.shape.strides
    cdef bytearray depends = bytearray(tape.count - start)
    for i in range(start, tape.count):
        k = 0
        depends[i - start] = i in seeds
        while not depends[i - start]:
            parent = fad_parent(tape, <uint32_t>i, k)
            if parent == FAD_NODE_NONE:
                break
            depends[i - start] = parent >= start and depends[parent - start]
            k += 1
        if not depends[i - start] or tape.dry and tape.nodes[i].flags & FAD_IS_DYNAMIC:
            continue
        parent = tape.nodes[i].a
        if tape.nodes[i].flags & FAD_IS_VERSION and not (parent >= start and depends[parent - start]):
            recorder.check(fad_cut(tape, <uint32_t>i), "vmap")   # the buffer of a value that lanes share
        if not fad_is_array(tape, <uint32_t>i):
            tape.values[i].number = NAN
        elif fad_is_float(tape.values[i].array.dtype):
            fad_copy(tape.values[i].array, &nan)
    return 0


def constant(Recorder recorder, array):
    """The Array of an ndarray of float64, float32 or bool that nothing is differentiated by."""
    return wrap(recorder, recorder.constant_array(array, FAD_CONSTANT, 0))


def seed(Recorder recorder, example):
    """A fresh Array for one lane: `example` is its value in the first."""
    cdef unsigned active = 0 if example.dtype.kind == "b" else FAD_IS_ACTIVE
    if recorder.tape.dry:
        active |= FAD_IS_DYNAMIC   # its value is not known, whatever the example
    cdef uint32_t node = recorder.constant_array(example, FAD_VARIABLE, active)
    (<Lanes>recorder.lanes).seeds.add(node)
    return wrap(recorder, node)


def extent(Recorder recorder):
    """How many nodes a recording has that depend on a variable, their elements, and whether one has a rule of its own."""
    cdef size_t i, nodes = 0, elements = 0
    cdef bint rules = False
    for i in range(recorder.tape.count):
        if recorder.tape.nodes[i].flags & FAD_IS_ACTIVE:
            nodes += 1
            elements += fad_node_shape(recorder.tape, <uint32_t>i).size
            rules |= recorder.tape.nodes[i].op == FAD_CUSTOM
    return nodes, elements, rules


def emit_batch(Recorder recorder, size_t start, size_t lanes, seeds, batched, outputs):
    """Record `outputs` over all lanes; None for one that is the same in every lane.

    Parameters
    ----------
    recorder : Recorder
    start : int
        Where the recording of one lane began: node numbers below it are the same in every lane.
    lanes : int
    seeds : sequence of int
        Nodes of that recording.
    batched : sequence of Array
        For each seed its values in all lanes, with a leading lane axis.
    outputs : sequence of Array
    """
    cdef size_t i, n = len(seeds), m = len(outputs), end
    cdef int dtype
    cdef uint32_t *room = <uint32_t *>malloc((2 * (n + m) + 1) * sizeof(uint32_t))
    if room == NULL:
        raise MemoryError
    cdef uint32_t *over = room + n
    cdef uint32_t *wanted = over + n
    cdef uint32_t *results = wanted + m
    recorder.tape.host.emit_batch = host_batch
    try:
        for i in range(n):
            room[i] = seeds[i]
            over[i] = recorder.lift(batched[i], &dtype)
        for i in range(m):
            wanted[i] = recorder.lift(outputs[i], &dtype)
        end = recorder.tape.count   # after these: a view may have been taken again
        recorder.check(fad_emit_batch(recorder.tape, start, end, lanes, n, room, over, m, wanted, results), "vmap")
        return [None if results[i] == FAD_NODE_NONE else wrap(recorder, results[i]) for i in range(m)]
    finally:
        free(room)


cdef int hold_shared(Recorder recorder, size_t start, seeds) except -1:
    cdef size_t i, n = len(seeds)
    cdef uint32_t *nodes = <uint32_t *>malloc((n + 1) * sizeof(uint32_t))
    if nodes == NULL:
        raise MemoryError
    for i in range(n):
        nodes[i] = seeds[i]
    cdef fad_status status = fad_hold_shared(recorder.tape, start, recorder.tape.count, n, nodes)
    free(nodes)
    recorder.check(status, "vmap")
    return 0


def batch_values(Recorder recorder, size_t start, size_t lanes, seeds, arrays, outputs):
    """Values of `outputs` over all lanes, as emit_batch records them, block by block: nothing stays on the tape.

    Parameters
    ----------
    recorder, start, lanes, seeds, outputs
        As for emit_batch.
    arrays : sequence of ndarray
        For each seed its values in all lanes, with a leading lane axis.
    """
    cdef size_t low, high, numbers = numbers_of(recorder, start), size = block_of(recorder, start, numbers)
    cdef int dtype
    cdef fad_bookmark place
    for array in outputs:
        recorder.lift(array, &dtype)   # a view that has to be taken again is, once
    hold_shared(recorder, start, seeds)
    place = fad_tape_bookmark(recorder.tape)
    cdef list results = [None] * len(outputs)
    low = 0
    if lanes > 0 and lanes >= PROGRAM // numbers and not has_rule(recorder, start):
        low = run_blocks(recorder, &place, start, lanes, max(LONG_BLOCK // numbers, size), seeds, arrays, outputs, results)
    while low < max(lanes, 1):
        high = min(low + size, lanes)
        try:
            batched = [constant(recorder, array[low:high]) for array in arrays]
            over = emit_batch(recorder, start, high - low, seeds, batched, outputs)
            for i, array in enumerate(over):
                if array is not None:
                    value = recorder.value_of((<Array>array).node)
                    put(results, i, value, low, lanes)
        finally:
            fad_tape_return(recorder.tape, &place)
        low += size
    return results


cdef int put(list results, i, value, size_t low, size_t lanes) except -1:
    """The values of output `i` in the lanes from `low` on."""
    if <size_t>len(value) == lanes:
        results[i] = value
        return 0
    if results[i] is None:
        results[i] = np.empty((lanes, *value.shape[1:]), value.dtype)
    results[i][low:low + len(value)] = value
    return 0


cdef size_t run_blocks(Recorder recorder, fad_bookmark *place, size_t start, size_t lanes, size_t size, seeds, arrays,
                       outputs, list results) except? 0xffffffff:
    """Make a program of a block and run it for every whole one: the bits are those of emit_batch, the time is not.

    Returns
    -------
    int
        Lanes that are done.
    """
    cdef size_t low = 0
    cdef int dtype
    size = min(size, lanes)
    recorder.tape.dry = True   # no values: only what is to be done
    try:
        batched = [variable(recorder, array[:size]) for array in arrays]
        over = emit_batch(recorder, start, size, seeds, batched, outputs)
        which = [i for i, array in enumerate(over) if array is not None]
        trace = Trace.of(recorder, [array.node for array in batched], [over[i].node for i in which], [])
        program = trace.lowered(True)
    finally:
        recorder.tape.dry = False
        fad_tape_return(recorder.tape, place)
    while low + size <= lanes:
        values = program(*[array[low:low + size] for array in arrays])
        for i, value in zip(which, values):
            put(results, i, value, low, lanes)
        low += size
    return low


cdef object variable(Recorder recorder, array):
    """An input of a trace, of the type and shape of an ndarray."""
    return wrap(recorder, recorder.constant_array(array, FAD_VARIABLE, FAD_IS_DYNAMIC))


cdef bint has_rule(Recorder recorder, size_t start) except -1:
    cdef size_t i
    for i in range(start, recorder.tape.count):
        if recorder.tape.nodes[i].op == FAD_CUSTOM:
            return True
    return False


cdef enum:
    BLOCK = 1 << 18        # numbers: what the cache next to a core holds
    LEAST = 256            # numbers of a node, so that they and not the calls cost the time
    PROGRAM = 1 << 22      # numbers in all, from which on a program is worth its making
    LONG_BLOCK = 1 << 24   # numbers that a program takes together: most are never in memory


cdef size_t numbers_of(Recorder recorder, size_t start):
    """Numbers of a lane."""
    cdef size_t i, numbers = 1
    for i in range(start, recorder.tape.count):
        numbers += fad_node_shape(recorder.tape, <uint32_t>i).size
    return numbers


cdef size_t block_of(Recorder recorder, size_t start, size_t numbers):
    """How many lanes to take together."""
    return max(BLOCK // numbers, LEAST * (recorder.tape.count - start) // numbers, 1)


cdef fad_status host_batch(void *context, fad_tape *tape, const fad_custom *custom, size_t lanes,
                           const uint32_t *operands, uint32_t *results) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        batch_rule(recorder, custom, lanes, operands, results)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef object by_leading_axes(object rule):
    """The batch method of a rule of one operand that works on any number of leading axes, as NumPy's gufuncs do."""
    def batch(lanes, inputs, over):
        return call(rule, over)
    return batch


cdef int batch_rule(Recorder recorder, const fad_custom *custom, size_t lanes, const uint32_t *operands,
                    uint32_t *results) except -1:
    cdef size_t i
    cdef int dtype, own
    rule = <object>custom.rule
    name = getattr(rule, "__name__", type(rule).__name__)
    batch = getattr(rule, "batch", None)
    if batch is None and getattr(rule, "leading_axes", False):
        batch = by_leading_axes(rule)
    if batch is None:
        raise NotImplementedError(f"{name} has no rule for the lanes of fad.vmap: give its rule a method batch(lanes, "
                                  "inputs, over), or call it in a loop over the lanes")
    inputs = tuple([wrap(recorder, custom.nodes[i]) for i in range(custom.count)])
    over = tuple([None if operands[i] == FAD_NODE_NONE else wrap(recorder, operands[i]) for i in range(custom.count)])
    values = batch(lanes, inputs, over)
    if len(values) != custom.outputs:
        raise ValueError(f"{name}: expected {custom.outputs} outputs over all lanes, got {len(values)}")
    for i in range(custom.outputs):
        like = wrap(recorder, custom.first_output + <uint32_t>i)
        if np.shape(values[i]) != (lanes, *like.shape):
            raise ValueError(f"{name}: output {i} over {lanes} lanes has shape {np.shape(values[i])}, expected "
                             f"{(lanes, *like.shape)}")
        results[i] = recorder.lift(values[i], &dtype)
        own = fad_node_dtype(recorder.tape, like.node)
        recorder.check(fad_record_cast(recorder.tape, results[i], own, &results[i]), name)
    return 0
