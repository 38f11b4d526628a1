# cython: language_level=3, binding=False, embedsignature=False, cdivision=True
"""The recorder and the traced array.

A Recorder owns a C tape; an Array is a node of it. Operators and NumPy's protocols record here; what is known of
single NumPy functions is registered from outside (FUNCTIONS, METHODS), and derivatives are C (csrc/emit.c) or the
reverse loop's (_reverse.pyx).
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE, PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.slice cimport PySlice_AdjustIndices, PySlice_Unpack
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

import importlib

import numpy as np

cimport numpy as cnp

from fastad.errors import TapeError

cnp.import_array()

cdef extern from *:
    """
    #ifndef FAD_BUILD_FLAGS
    #define FAD_BUILD_FLAGS ""
    #endif
    #ifdef FAD_DEBUG
    enum { FAD_DEBUG_BUILD = 1 };
    #else
    enum { FAD_DEBUG_BUILD = 0 };
    #endif
    static const char *fad_compiler(void)
    {
    #ifdef __VERSION__
        return __VERSION__;
    #else
        return "unknown";
    #endif
    }
    static const char *fad_instruction_set(void)
    {
    #if defined(__x86_64__) && defined(__GNUC__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f"))
            return "AVX-512";
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            return "AVX2";
        return "x86-64 baseline";
    #else
        return "baseline";
    #endif
    }
    #include "pythread.h"
    /* The calling thread, in one instruction where the compiler offers it. */
    static inline unsigned long fad_thread(void)
    {
    #if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
        return (unsigned long)__builtin_thread_pointer();
    #else
        return PyThread_get_thread_ident();
    #endif
    }
    """
    unsigned long fad_thread() nogil
    const char *FAD_BUILD_FLAGS
    int FAD_DEBUG_BUILD
    const char *fad_compiler()
    const char *fad_instruction_set()

cdef extern from "numpy/ufuncobject.h":
    ctypedef struct PyUFuncObject:
        int nin
        int nout
        int nargs
        int ntypes
        fad_loop *functions
        void **data
        char *types

FUNCTIONS = {}
"""Rules of NumPy functions: function to rule(*args, **kwargs). Filled by fastad._record.implements."""
METHODS = {}
"""Further methods of Array: name to function(self, ...). Filled by fastad._record.method."""

cdef dict functions = FUNCTIONS
cdef dict methods = METHODS
cdef bint rules_are_loaded = False
RULES = "fastad.numpy"
"""The module that registers the rules. It is imported when the first one is looked for: `import fastad` stays quick."""


cdef int load_rules() except -1:
    global rules_are_loaded
    if not rules_are_loaded:
        importlib.import_module(RULES)
        rules_are_loaded = True
    return 0


cdef object rule_of(object function):
    """The registered rule of a NumPy function, or None."""
    rule = functions.get(function)
    if rule is None:
        load_rules()
        rule = functions.get(function)
    return rule


cdef dict elementwise_ufuncs = {}      # ufunc to op number
cdef dict rows = {fad_ops[i].name.decode(): i for i in range(FAD_ELEMENTWISE_COUNT)}
cdef list DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)]
cdef object FLOAT64 = DTYPES[0]
cdef object ndarray = np.ndarray
cdef object generic = np.generic
cdef object ufunc_type = np.ufunc

# ---------------------------------------------------------------------------------------------------------------------
# Inner loops: the portable ones of csrc/loops.c, replaced by NumPy's own where it has them (same bits as NumPy).

cdef fad_loops LOOPS
fad_default_loops(&LOOPS)


cdef bint use_loop(PyUFuncObject *ufunc, bytes types, fad_bound_loop *slot):
    """Point `slot` at the ufunc's inner loop for the given type characters."""
    cdef int i
    for i in range(ufunc.ntypes):
        if ufunc.functions[i] != NULL and ufunc.types[i * ufunc.nargs:(i + 1) * ufunc.nargs] == types:
            slot.loop = ufunc.functions[i]
            slot.data = ufunc.data[i] if ufunc.data != NULL else NULL
            return True
    return False


def install_ufuncs(table):
    """Take the inner loops of NumPy's ufuncs: `table` maps ufunc to op number."""
    cdef int op, dtype, number
    elementwise_ufuncs.update(table)
    letters = (b"d", b"f", np.dtype(np.int64).char.encode(), b"?")
    numbers = (cnp.NPY_FLOAT64, cnp.NPY_FLOAT32, cnp.NPY_INT64, cnp.NPY_BOOL)
    for ufunc, op in table.items():
        for dtype in range(FAD_DTYPE_COUNT):
            if fad_ops[op].kind == FAD_PREDICATE:
                result = cnp.NPY_BOOL
            elif dtype <= FAD_F32:
                result = numbers[dtype]
            else:
                continue
            types = bytes([numbers[dtype]] * fad_ops[op].arity + [result])
            use_loop(<PyUFuncObject *>ufunc, types, &LOOPS.elementwise[op][dtype])
    for dtype in range(2):
        use_loop(<PyUFuncObject *>np.matmul, bytes([numbers[dtype]] * 3), &LOOPS.matmul[dtype])


def elementwise_table():
    """Rows of csrc/ops.def as tuples: see fastad._ops.Op."""
    kinds = ("LINEAR", "BILINEAR", "SMOOTH", "KINK", "FLAT", "PREDICATE")
    table = []
    cdef int i, k
    for i in range(FAD_ELEMENTWISE_COUNT):
        info = &fad_ops[i]
        if max([fad_partial_calls(i, k) for k in range(info.arity)]) > FAD_MOST_CALLS:
            raise ImportError(f"{info.name.decode()}: a partial of its row in ops.def makes more than {FAD_MOST_CALLS} "
                              "calls: raise FAD_MOST_CALLS")
        domains = tuple([info.domains[min(k, 1)].decode() for k in range(info.arity)])
        partials = tuple([info.partials[k].decode() for k in range(info.arity)])
        table.append((info.name.decode(), i, info.spelled.decode(), info.arity, kinds[info.kind], domains,
                      partials, info.doc.decode()))
    return table


def build_info():
    """Facts of this build: compiler, flags, instruction set, NumPy."""
    return {
        "compiler": fad_compiler().decode(),
        "flags": FAD_BUILD_FLAGS.decode(),
        "debug": bool(FAD_DEBUG_BUILD),
        "instruction_set": fad_instruction_set().decode(),
        "numpy": np.__version__,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Memory. Tests make allocation N fail.

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


# ---------------------------------------------------------------------------------------------------------------------
# Recorder

cdef inline object shape_tuple(const fad_shape *shape):
    cdef size_t i
    return tuple([shape.dims[i] for i in range(shape.ndim)])


cdef object to_numpy(const fad_array *array):
    """A fresh C-contiguous ndarray with the array's elements."""
    cdef cnp.npy_intp dims[64]
    cdef cnp.npy_intp strides[64]
    cdef size_t i, item = 8
    cdef int number = cnp.NPY_FLOAT64
    if array.dtype == FAD_F32:
        item, number = 4, cnp.NPY_FLOAT32
    elif array.dtype == FAD_I64:
        number = cnp.NPY_INT64
    elif array.dtype == FAD_BOOL:
        item, number = 1, cnp.NPY_BOOL
    for i in range(array.shape.ndim):
        dims[i] = array.shape.dims[i]
        strides[i] = array.strides[i] * item
    view = cnp.PyArray_New(<type>ndarray, <int>array.shape.ndim, dims, number, strides, array.data, 0, 0, None)
    return cnp.PyArray_NewCopy(<cnp.ndarray>view, cnp.NPY_CORDER)


cdef fad_status host_sweep(void *context, fad_sweep *sweep, const fad_custom *custom) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.sweep_rule(sweep, custom)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef fad_status host_reverse(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *cotangents,
                             uint32_t *results) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.emit_rule(custom, cotangents, results)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef fad_status host_tangent(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *tangents,
                             uint32_t *results) noexcept with gil:
    cdef Recorder recorder = <Recorder>context
    try:
        recorder.emit_rule_tangent(custom, tangents, results)
        return FAD_OK
    except BaseException as error:
        recorder.error = error
        return FAD_IN_RULE


cdef void host_release(void *context, void *rule) noexcept with gil:
    Py_DECREF(<object>rule)


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


cdef class Recorder:
    """A tape and the right to record on it.

    One thread records at a time; Arrays remember the recorder and its generation, so that one that outlived its tape
    is an error and never a wrong number.
    """

    def __cinit__(self):
        global idle_count
        cdef fad_allocator allocator
        memset(&self.sweep, 0, sizeof(self.sweep))
        if idle_count > 0:
            idle_count -= 1
            self.tape = idle[idle_count]
        else:
            allocator.resize = resize
            allocator.context = NULL
            if fad_tape_create(&self.tape, &allocator, &LOOPS, 0) != FAD_OK:
                raise MemoryError("no memory for a new tape")
        self.tape.host.sweep = host_sweep
        self.tape.host.emit_reverse = host_reverse
        self.tape.host.emit_tangent = host_tangent
        self.tape.host.release = host_release
        self.tape.host.context = <void *>self
        self.generation = 1

    def __dealloc__(self):
        global idle_count
        if self.tape == NULL:
            return
        fad_sweep_end(&self.sweep, 0)
        fad_tape_reset(self.tape, KEPT_BY_IDLE)   # releases rules, which may end other Recorders
        if idle_count == IDLE_TAPES:
            fad_tape_destroy(self.tape)
            return
        idle[idle_count] = self.tape
        idle_count += 1

    @property
    def is_open(self):
        """Whether the calling thread may record."""
        return self.thread == fad_thread()

    @property
    def nbytes(self):
        return self.tape.bytes

    def open(self, size_t limit=0):
        """Let the calling thread record."""
        if self.sweeping:
            raise RuntimeError("a reverse sweep of this tape is under way")
        if limit and self.tape.bytes > limit and self.tape.count == 0:
            fad_sweep_end(&self.sweep, 0)   # what earlier recordings left is more than this one may take
            fad_tape_reset(self.tape, 0)
        self.tape.limit = limit
        self.thread = fad_thread()
        self.error = None

    def close(self):
        """End recording; values and gradients stay readable. The limit was recording's: a sweep may take more."""
        self.thread = 0
        self.tape.limit = 0

    def reset(self, size_t keep=0):
        """End recording and forget everything, but for `keep` bytes of memory to be used again."""
        self.thread = 0
        self.generation += 1
        self.error = None
        fad_sweep_end(&self.sweep, keep)
        fad_tape_reset(self.tape, keep)

    def rewind(self, size_t mark):
        fad_tape_rewind(self.tape, mark)

    def __len__(self):
        return self.tape.count

    def op_name(self, uint32_t node):
        return fad_ops[self.tape.nodes[node].op].name.decode()

    def parents(self, uint32_t node):
        self.check_node(node)
        cdef list result = []
        cdef uint32_t p
        cdef size_t k = 0
        while True:
            p = fad_parent(self.tape, node, k)
            if p == FAD_NODE_NONE:
                return tuple(result)
            result.append(p)
            k += 1

    def node_value(self, uint32_t node):
        self.check_node(node)
        return self.value_of(node)

    def node_shape(self, uint32_t node):
        self.check_node(node)
        return shape_tuple(fad_node_shape(self.tape, node))

    def node_active(self, uint32_t node):
        self.check_node(node)
        return bool(self.tape.nodes[node].flags & FAD_IS_ACTIVE)

    def partials(self, uint32_t node):
        """Partials of an element-wise scalar node by each operand, as floats."""
        self.check_node(node)
        cdef fad_node n = self.tape.nodes[node]
        cdef double x[3]
        cdef int k, arity
        if n.op >= FAD_ELEMENTWISE_COUNT or n.flags & FAD_HAS_ARRAY:
            raise ValueError(f"node {node} ({self.op_name(node)}) is not an element-wise operation of scalars")
        arity = fad_ops[n.op].arity
        for k in range(arity):
            x[k] = self.tape.values[fad_parent(self.tape, node, k)].number
        for k in range(arity, 3):
            x[k] = 0.0
        v = self.tape.values[node].number
        return tuple([fad_scalar_partial(n.op, k, x[0], x[1], x[2], v) for k in range(arity)])

    cdef int check_node(self, size_t node) except -1:
        if node >= self.tape.count:
            raise IndexError(f"node {node} is not on this tape, which has {self.tape.count} nodes")
        return 0

    def array(self, uint32_t node):
        """The Array of a node."""
        self.check_node(node)
        return wrap(self, node)

    def verify(self):
        """Raise TapeError if the tape is not well formed."""
        cdef size_t node = 0
        cdef const char *reason = NULL
        if not fad_verify(self.tape, &node, &reason):
            raise TapeError(f"node {node} of the tape is malformed: {reason.decode()}")

    def dump(self, size_t start=0, stop=None):
        """Text form of the nodes start .. stop-1."""
        parts = []
        cdef size_t end = self.tape.count if stop is None else stop
        fad_dump(self.tape, start, end, collect_text, <void *>parts)
        return "".join(parts)

    def depends_on_before(self, uint32_t node, size_t mark):
        """Whether `node` depends on an active node older than `mark`."""
        cdef size_t i
        cdef uint32_t p
        cdef size_t k
        if node < mark:
            return bool(self.tape.nodes[node].flags & FAD_IS_ACTIVE)
        cdef bytearray seen = bytearray(node + 1 - mark)
        for i in range(mark, node + 1):
            k = 0
            while True:
                p = fad_parent(self.tape, <uint32_t>i, k)
                if p == FAD_NODE_NONE:
                    break
                if (p < mark and self.tape.nodes[p].flags & FAD_IS_ACTIVE) or (p >= mark and seen[p - mark]):
                    seen[i - mark] = 1
                    break
                k += 1
        return bool(seen[node - mark])

    # --- errors ---

    cdef int check(self, fad_status status, str what) except -1:
        if status == FAD_OK:
            return 0
        if status == FAD_IN_RULE:
            error, self.error = self.error, None
            raise error
        if status == FAD_NO_MEMORY:
            raise MemoryError(f"{what}: no memory for the tape, which holds {self.tape.count} nodes in "
                              f"{self.tape.bytes} bytes")
        if status == FAD_OVER_LIMIT:
            raise TapeError(f"{what}: the tape would pass its limit of {self.tape.limit} bytes "
                            f"({self.tape.count} nodes in {self.tape.bytes} bytes)")
        if status == FAD_TOO_MANY:
            raise TapeError(f"{what}: the tape is full ({self.tape.count} nodes)")
        if status == FAD_BAD_SHAPE:
            raise ValueError(f"{what}: shapes do not fit")
        raise TypeError(f"{what}: an operand has a type or an index that this operation cannot take")

    def require_open(self):
        """Raise TapeError unless the calling thread may record."""
        if self.thread == fad_thread():
            return
        if self.thread == 0:
            raise TapeError("the tape of this Array is closed: nothing can be recorded on it any more")
        raise TapeError("the tape of this Array belongs to another thread: record on it only there")

    # --- values in and out ---

    cdef object value_of(self, uint32_t node):
        cdef fad_array array
        if not fad_is_array(self.tape, node):
            return self.tape.values[node].number
        array = fad_value_array(self.tape, node)
        return to_numpy(&array)

    cdef uint32_t constant_array(self, object array, int op, unsigned flags) except? 0xfffffffe:
        """A node holding a copy of an ndarray of float64, float32, an integer type or bool."""
        cdef cnp.ndarray a = array
        cdef int dtype, i
        cdef uint32_t node = 0
        cdef const fad_shape *shape
        cdef Py_ssize_t dims[64]
        refuse(array)
        if not a.dtype.isnative:
            a = a.astype(a.dtype.newbyteorder("="))
        kind = a.dtype.kind
        if kind in "fu" and a.dtype.itemsize == 8:
            dtype = FAD_F64   # of either byte order; uint64 because int64 does not hold it, as NumPy promotes the two
        elif kind == "f" and a.dtype.itemsize == 4:
            dtype = FAD_F32
        elif kind in "iu":
            dtype = FAD_I64
        elif kind == "b":
            dtype = FAD_BOOL
        else:
            raise TypeError(f"an array of dtype {a.dtype} cannot be recorded: expected float64, float32, integer or bool"
                            + (" (complex is not supported yet)" if kind == "c" else ""))
        a = np.ascontiguousarray(a, DTYPES[dtype]) if a.ndim else np.asarray(a, DTYPES[dtype])
        if a.ndim == 0 and dtype == FAD_F64:
            self.check(fad_push_scalar(self.tape, op, flags, 0, 0, 0, <double>a, &node), "constant")
            return node
        for i in range(a.ndim):
            dims[i] = a.shape[i]
        self.check(fad_shape_intern(self.tape, a.ndim, dims, &shape), "constant")
        self.check(fad_new_array(self.tape, op, flags, 0, 0, 0, dtype, shape, &node), "constant")
        memcpy(self.tape.values[node].array.data, cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a))
        return node

    cdef uint32_t lift(self, object x, int *dtype) except? 0xfffffffe:
        """Node of an operand. `dtype` becomes its type, or -1 for a Python number (which has no say in the result's)."""
        cdef uint32_t node = 0
        cdef Array a
        kind = type(x)
        if kind is Array:
            a = <Array>x
            a.use()
            if a.recorder is not self:
                raise TapeError("operands were recorded on different tapes")
            dtype[0] = FAD_F64 if a.scalar else fad_node_dtype(self.tape, a.node)
            return a.node
        dtype[0] = -1
        if kind is float or kind is int or kind is bool:
            self.check(fad_constant(self.tape, x, &node), "constant")
            return node
        if isinstance(x, generic):
            if x.dtype == FLOAT64:
                dtype[0] = FAD_F64
                self.check(fad_constant(self.tape, x, &node), "constant")
                return node
            x = np.asarray(x)
        elif isinstance(x, (float, int)):
            self.check(fad_constant(self.tape, float(x), &node), "constant")
            return node
        elif not isinstance(x, ndarray):
            x = nested(x)
        if type(x) is Array:
            return self.lift(x, dtype)
        if x.dtype.hasobject:
            return self.lift(stack_objects(self, x), dtype)
        node = self.constant_array(x, FAD_CONSTANT, 0)
        dtype[0] = fad_node_dtype(self.tape, node)
        return node

    def variable(self, value):
        """A new variable with the given value."""
        cdef uint32_t node = 0
        cdef int dtype = -1
        self.require_open()
        if type(value) is float:
            self.check(fad_push_scalar(self.tape, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, &node), "variable")
            return wrap(self, node)
        if is_traced(value):
            node = self.lift(value, &dtype)
            if self.tape.nodes[node].flags & FAD_IS_ACTIVE:
                return record(FAD_POS, wrap(self, node))
            value = self.value_of(node)   # depends on no variable: a new one, with its value
        refuse(value)
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8 or array.dtype == np.float16:
            raise TypeError(f"value: expected real numbers (float64, float32 or integers), got {type(value).__name__}"
                            + (f" of dtype {array.dtype}" if array.dtype.kind != "O" else ""))
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        return wrap(self, self.constant_array(array, FAD_VARIABLE, FAD_IS_ACTIVE))

    # --- rules of custom nodes ---

    cdef object rule_values(self, const fad_custom *custom):
        cdef size_t i
        return (tuple([self.value_of(custom.nodes[i]) for i in range(custom.count)]),
                tuple([self.value_of(custom.first_output + <uint32_t>i) for i in range(custom.outputs)]))

    cdef object rule_arrays(self, const fad_custom *custom):
        cdef size_t i
        return (tuple([wrap(self, custom.nodes[i]) for i in range(custom.count)]),
                tuple([wrap(self, custom.first_output + <uint32_t>i) for i in range(custom.outputs)]))

    cdef int sweep_rule(self, fad_sweep *sweep, const fad_custom *custom) except -1:
        cdef size_t i
        cdef double number
        cdef fad_array g, to
        cdef uint32_t node
        cdef cnp.ndarray array
        inputs, outputs = self.rule_values(custom)
        cotangents = []
        for i in range(custom.outputs):
            if fad_sweep_get(sweep, custom.first_output + <uint32_t>i, &number, &g):
                cotangents.append(number if not fad_is_array(self.tape, custom.first_output + <uint32_t>i)
                                  else to_numpy(&g))
            else:
                cotangents.append(np.zeros_like(outputs[i])[()])
        results = rule_results(<object>custom.rule, inputs, outputs, tuple(cotangents))
        for i in range(custom.count):
            node = custom.nodes[i]
            if results[i] is None or not self.tape.nodes[node].flags & FAD_IS_ACTIVE:
                continue
            given = np.asarray(results[i])
            if given.dtype.kind not in "fiub":
                raise TypeError(f"{rule_name(<object>custom.rule)}: the derivative by input {i} has dtype "
                                f"{given.dtype}: expected real numbers")
            array = np.ascontiguousarray(given, DTYPES[fad_node_dtype(self.tape, node)])
            self.check_rule_shape(<object>custom.rule, i, node, np.shape(results[i]))
            to.data = <char *>cnp.PyArray_DATA(array)
            to.shape = fad_node_shape(self.tape, node)
            to.strides = to.shape.strides
            to.dtype = <uint8_t>fad_node_dtype(self.tape, node)
            self.check(fad_sweep_give(sweep, node, &to, NULL), "custom rule")
        return 0

    cdef int check_rule_shape(self, object rule, size_t i, uint32_t node, tuple shape) except -1:
        expected = shape_tuple(fad_node_shape(self.tape, node))
        if shape != expected:
            raise ValueError(f"{rule_name(rule)}: the derivative by input {i} has shape {shape}, "
                             f"but the input has shape {expected}")
        return 0

    cdef int emit_rule(self, const fad_custom *custom, const uint32_t *cotangents, uint32_t *results) except -1:
        cdef size_t i
        cdef int dtype
        inputs, outputs = self.rule_arrays(custom)
        given = [wrap(self, cotangents[i]) if cotangents[i] != FAD_NODE_NONE else np.zeros(outputs[i].shape)[()]
                 for i in range(custom.outputs)]
        values = rule_results(<object>custom.rule, inputs, outputs, tuple(given))
        for i in range(custom.count):
            if values[i] is None:
                continue
            results[i] = self.lift(values[i], &dtype)
            self.check_rule_shape(<object>custom.rule, i, custom.nodes[i],
                                  shape_tuple(fad_node_shape(self.tape, results[i])))
            dtype = fad_node_dtype(self.tape, custom.nodes[i])
            if fad_is_float(dtype):
                self.check(fad_record_cast(self.tape, results[i], dtype, &results[i]), "custom rule")
        return 0

    cdef int emit_rule_tangent(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1:
        cdef size_t i
        cdef int dtype
        cdef uint32_t like
        inputs, outputs = self.rule_arrays(custom)
        rule = <object>custom.rule
        if getattr(rule, "jvp", None) is None:
            return self.transpose_rule(custom, tangents, results)
        given = [wrap(self, tangents[i]) if tangents[i] != FAD_NODE_NONE else np.zeros(inputs[i].shape)[()]
                 for i in range(custom.count)]
        values = rule.jvp(inputs, outputs, tuple(given))
        if not isinstance(values, (tuple, list)):
            values = (values,)
        if len(values) != custom.outputs:
            raise ValueError(f"{rule_name(rule)}: expected {custom.outputs} tangents, one for each output, "
                             f"got {len(values)}")
        for i in range(custom.outputs):
            if values[i] is None:
                continue
            results[i] = self.lift(values[i], &dtype)
            like = custom.first_output + <uint32_t>i
            if fad_node_shape(self.tape, results[i]) != fad_node_shape(self.tape, like):
                raise ValueError(f"{rule_name(rule)}: the tangent of output {i} has shape "
                                 f"{shape_tuple(fad_node_shape(self.tape, results[i]))}, but the output has shape "
                                 f"{shape_tuple(fad_node_shape(self.tape, like))}")
            if fad_is_float(fad_node_dtype(self.tape, like)):
                self.check(fad_record_cast(self.tape, results[i], fad_node_dtype(self.tape, like), &results[i]),
                           "custom rule")
        return 0

    cdef int transpose_rule(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1:
        """The tangent from the vjp alone: vjp is linear in the cotangents u, so d<vjp(u), t>/du is the jvp of t."""
        cdef size_t i, n = 0
        cdef int dtype
        inputs, outputs = self.rule_arrays(custom)
        dummies = tuple([self.variable(np.zeros(output.shape)) for output in outputs])
        values = rule_results(<object>custom.rule, inputs, outputs, dummies)
        cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((3 * custom.count + custom.outputs + 1) * sizeof(uint32_t))
        if nodes == NULL:
            raise MemoryError
        try:
            for i in range(custom.count):
                if values[i] is None or tangents[i] == FAD_NODE_NONE:
                    continue
                nodes[n] = self.lift(values[i], &dtype)
                nodes[custom.count + n] = tangents[i]
                n += 1
            for i in range(custom.outputs):
                nodes[2 * custom.count + i] = (<Array>dummies[i]).node
            self.check(fad_emit_reverse(self.tape, self.tape.count, n, nodes, nodes + custom.count, custom.outputs,
                                        nodes + 2 * custom.count, results), "jvp of a custom rule")
        finally:
            PyMem_Free(nodes)
        return 0


cdef void collect_text(void *context, const char *text) noexcept with gil:
    (<list>context).append(text.decode())


cdef str rule_name(object rule):
    return getattr(rule, "__name__", type(rule).__name__)


cdef object rule_results(object rule, tuple inputs, tuple outputs, tuple cotangents):
    results = rule.vjp(inputs, outputs, cotangents)
    if not isinstance(results, (tuple, list)):
        results = (results,)
    if len(results) != len(inputs):
        raise ValueError(f"{rule_name(rule)}: expected {len(inputs)} derivatives, one for each input, "
                         f"got {len(results)}")
    return results


# ---------------------------------------------------------------------------------------------------------------------
# Operands that are not Arrays

cdef int refuse(object x) except -1:
    """Raise TypeError for the ndarrays whose operators mean something else."""
    if type(x) is not ndarray and isinstance(x, (np.matrix, np.ma.MaskedArray)):
        raise TypeError(f"numpy.{type(x).__name__} is not supported: its operators are not an array's; "
                        "pass np.asarray(x), or its data and its mask apart")
    return 0


cdef object nested(object x):
    """ndarray of a list, tuple or other array-like; object dtype where it holds Arrays."""
    if isinstance(x, (list, tuple)):
        if holds_array(x):
            return nested_arrays(x)
    elif isinstance(x, (complex, str, bytes)) or x is None:
        raise TypeError(f"expected numbers or arrays, got {type(x).__name__}")
    array = np.asarray(x)
    if array.dtype == object and not array.shape and type(array[()]) is not Array:
        raise TypeError(f"expected numbers or arrays, got {type(x).__name__}")
    return array


cdef bint holds_array(object x):
    for item in x:
        if type(item) is Array or (isinstance(item, (list, tuple)) and holds_array(item)):
            return True
        if isinstance(item, ndarray) and item.dtype == object:
            return True
    return False


cdef object nested_arrays(object items):
    """One Array of a nested sequence that holds Arrays."""
    parts = [nested_arrays(item) if isinstance(item, (list, tuple)) and holds_array(item) else item
             for item in items]
    return rule_of(np.stack)(parts)


cdef object stack_objects(Recorder recorder, object array):
    """One Array of an object ndarray whose elements are Arrays and numbers."""
    cdef Py_ssize_t i, n = array.size
    cdef uint32_t node = 0
    cdef int dtype
    cdef list items = array.ravel().tolist()
    if n and any([type(item) is Array and (<Array>item).recorder is recorder and not (<Array>item).scalar
                  for item in items]):
        return reshape(rule_of(np.stack)(items), array.shape + np.shape(items[0]))
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            item = items[i]
            if type(item) is not Array and not isinstance(item, (float, int, generic)):
                raise TypeError(f"an object array may hold Arrays and numbers, got {type(item).__name__} at flat "
                                f"index {i}")
            nodes[i] = recorder.lift(item, &dtype)
        recorder.check(fad_record_stack(recorder.tape, n, nodes, &node), "stack")
    finally:
        PyMem_Free(nodes)
    return reshape(wrap(recorder, node), array.shape)


cdef Recorder recorder_of(object x):
    """The recorder of an operand, or None."""
    if type(x) is Array:
        return (<Array>x).recorder
    if isinstance(x, ndarray):
        if x.dtype == object:
            for item in x.flat:
                if type(item) is Array:
                    return (<Array>item).recorder
    elif isinstance(x, (list, tuple)):
        for item in x:
            recorder = recorder_of(item)
            if recorder is not None:
                return recorder
    return None


cdef Recorder recorder_for(tuple operands):
    """The open recorder on which an operation of these operands is recorded."""
    cdef Recorder recorder
    for x in operands:
        recorder = recorder_of(x)
        if recorder is not None:
            recorder.require_open()
            return recorder
    raise TypeError("expected at least one fastad.Array among the operands")


def is_array(x):
    """Whether `x` is an Array or a container (object array, list, tuple) that holds one."""
    return recorder_of(x) is not None


cdef bint is_traced(object x):
    return type(x) is Array or recorder_of(x) is not None


def value_of(x):
    """Value of an Array, or of an object array that holds some, without recording; anything else as it is."""
    if type(x) is Array:
        (<Array>x).readable()
        return (<Array>x).recorder.value_of((<Array>x).node)
    if recorder_of(x) is not None:
        return np.array([value_of(item) for item in np.asarray(x, dtype=object).ravel()]).reshape(np.shape(x)) \
            if isinstance(x, ndarray) else np.array([value_of(item) for item in x])
    return x


cdef list shape_of_operands(Recorder recorder, uint32_t *nodes, int n):
    cdef int k
    return [shape_tuple(fad_node_shape(recorder.tape, nodes[k])) for k in range(n)]


# ---------------------------------------------------------------------------------------------------------------------
# Primitives



def record(int op, *operands):
    """Record element-wise primitive number `op` with broadcasting and NumPy's promotion.

    Operations of bool and integer operands alone have no derivative: they give plain values, unless they are
    predicates.
    """
    return record_operands(op, operands)


cdef object record_operands(int op, tuple operands):
    cdef Recorder recorder = recorder_for(operands)
    cdef uint32_t nodes[3]
    cdef int dtypes[3]
    cdef int k, dtype, floats = 0, arity = fad_ops[op].arity
    cdef bint small = False
    cdef uint32_t node = 0
    if len(operands) != arity:
        raise TypeError(f"{fad_ops[op].name.decode()}: expected {arity} operands, got {len(operands)}")
    for k in range(arity):
        nodes[k] = recorder.lift(operands[k], &dtypes[k])
    # The type to compute in: of the operands that are not Python numbers, as NumPy promotes them.
    dtype = -1
    for k in range(1 if op == FAD_SELECT else 0, arity):
        if dtypes[k] < 0:
            floats += type(operands[k]) is float
            continue
        if dtypes[k] == FAD_I64 and small_integer(operands[k]):
            small = True   # as float32 holds them all, they have no say among floats
            continue
        if fad_is_float(dtypes[k]):
            floats += 1
        if dtype < 0 or dtype == dtypes[k]:
            dtype = dtypes[k]
        elif dtype == FAD_BOOL or (dtypes[k] == FAD_F64):
            dtype = dtypes[k]
        elif dtypes[k] != FAD_BOOL:
            dtype = FAD_F64 if dtype != dtypes[k] else dtype
    if small and (dtype < 0 or dtype == FAD_BOOL):
        dtype = FAD_I64
    if dtype < 0:
        dtype = FAD_F64
    if fad_ops[op].kind == FAD_PREDICATE:
        if not any_array(recorder, nodes, arity):
            return np.bool_(scalar_predicate(recorder, op, nodes, arity))
        if floats and not fad_is_float(dtype):
            dtype = FAD_F64
        elif dtype == FAD_BOOL and weak_number(operands):
            dtype = FAD_I64
    elif not fad_is_float(dtype):
        if floats == 0:
            return integer_result(op, operands)
        dtype = FAD_F64
    cdef fad_status status = fad_record_elementwise(recorder.tape, op, nodes, dtype, &node)
    if status == FAD_BAD_SHAPE:
        shapes = " ".join([str(s) for s in shape_of_operands(recorder, nodes, arity)])
        raise ValueError(f"operands could not be broadcast together with shapes {shapes} "
                         f"({fad_ops[op].spelled.decode() or fad_ops[op].name.decode()})")
    recorder.check(status, fad_ops[op].spelled.decode())
    return wrap(recorder, node)


cdef bint small_integer(object x):
    """Whether `x` is an array or NumPy number of 8 or 16 bits."""
    return isinstance(x, (ndarray, generic)) and x.dtype.itemsize <= 2


cdef bint any_array(Recorder recorder, uint32_t *nodes, int n):
    cdef int k
    for k in range(n):
        if fad_is_array(recorder.tape, nodes[k]):
            return True
    return False


cdef bint scalar_predicate(Recorder recorder, int op, uint32_t *nodes, int arity):
    """A predicate of scalars: a plain truth value, as from Python's comparisons."""
    cdef double x = recorder.tape.values[nodes[0]].number
    return fad_scalar_value(op, x, recorder.tape.values[nodes[arity - 1]].number, 0.0) != 0


cdef bint weak_number(tuple operands):
    for x in operands:
        if type(x) is int:
            return True
    return False


cdef object integer_result(int op, tuple operands):
    """Integer and bool arithmetic: NumPy's, on values."""
    name = fad_ops[op].spelled.decode()
    if not name:
        return value_of(operands[0])
    return getattr(np, name)(*[value_of(x) for x in operands])


cdef const fad_shape *intern(Recorder recorder, object shape, str what) except NULL:
    cdef Py_ssize_t dims[64]
    cdef const fad_shape *result
    cdef int i, n
    if isinstance(shape, int):
        shape = (shape,)
    n = len(shape)
    if n > 64:
        raise ValueError(f"{what}: at most 64 dimensions, got {n}")
    for i in range(n):
        dims[i] = shape[i]
        if dims[i] < 0:
            raise ValueError(f"{what}: negative dimensions are not allowed, got {tuple(shape)}")
    recorder.check(fad_shape_intern(recorder.tape, n, dims, &result), what)
    return result


cdef Array operand(object x):
    """An operand as an Array of an open recorder."""
    cdef Recorder r
    cdef int dtype
    if type(x) is Array:
        (<Array>x).use()
        return <Array>x
    r = recorder_for((x,))
    return wrap(r, r.lift(x, &dtype))


def asarray(x):
    """`x` as an Array: itself, or the stack of an object array or nested list that holds Arrays."""
    return operand(x)


def reshape(x, shape):
    """Same elements in C order, other shape; `shape` without -1."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "reshape")
    cdef const fad_shape *own = fad_node_shape(a.recorder.tape, a.node)
    if own.size != to.size:
        raise ValueError(f"cannot reshape array of size {own.size} into shape {tuple(shape)}")
    a.recorder.check(fad_record_reshape(a.recorder.tape, a.node, to, &node), "reshape")
    return view_of(a, node)


def broadcast_to(x, shape):
    """Repeat along new and one-element axes."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "broadcast_to")
    cdef fad_status status = fad_record_broadcast_to(a.recorder.tape, a.node, to, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"broadcast_to: an array of shape {a.shape} does not broadcast to shape {tuple(shape)}")
    a.recorder.check(status, "broadcast_to")
    return wrap(a.recorder, node)


def sum_to(x, shape):
    """Sum over the axes that broadcasting from `shape` to x.shape repeats."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "sum_to")
    cdef fad_status status = fad_record_sum_to(a.recorder.tape, a.node, to, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"sum_to: shape {tuple(shape)} does not broadcast to the operand's shape {a.shape}")
    a.recorder.check(status, "sum_to")
    return wrap(a.recorder, node)


def transpose(x, axes):
    """Permute the axes: a view."""
    cdef Array a = operand(x)
    cdef int own[64]
    cdef uint32_t node = 0
    cdef int i
    if sorted(axes) != list(range(a.ndim)):
        raise ValueError(f"transpose: axes {tuple(axes)} are no permutation of the {a.ndim} axes")
    for i in range(a.ndim):
        own[i] = axes[i]
    if a.scalar:
        return a
    a.recorder.check(fad_record_transpose(a.recorder.tape, a.node, own, &node), "transpose")
    return view_of(a, node)


cdef uint32_t index_node(Recorder recorder, object indices, size_t size) except? 0xfffffffe:
    array = np.asarray(value_of(indices))
    if array.dtype.kind not in "iu":
        raise TypeError(f"indices: expected integers, got dtype {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= size):
        raise IndexError(f"indices: flat index out of range for {size} elements")
    return recorder.constant_array(np.asarray(array, np.int64) if array.ndim else array.astype(np.int64).reshape(()),
                                   FAD_CONSTANT, 0)


def gather(x, indices):
    """Elements of `x` at flat C-order `indices`; the result has the shape of `indices`."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    cdef uint32_t at = index_node(a.recorder, indices, fad_node_shape(a.recorder.tape, a.node).size)
    a.recorder.check(fad_record_gather(a.recorder.tape, a.node, at, &node), "gather")
    return wrap(a.recorder, node)


def scatter_add(v, indices, shape):
    """Zeros of `shape`, with `v` added at flat C-order `indices`."""
    cdef Array a = operand(v)
    cdef uint32_t node = 0
    cdef const fad_shape *to = intern(a.recorder, shape, "scatter_add")
    cdef uint32_t at = index_node(a.recorder, indices, to.size)
    if fad_node_shape(a.recorder.tape, a.node) != fad_node_shape(a.recorder.tape, at):
        raise ValueError(f"scatter_add: values of shape {a.shape} and indices of shape {np.shape(indices)}")
    a.recorder.check(fad_record_scatter_add(a.recorder.tape, a.node, at, to, &node), "scatter_add")
    return wrap(a.recorder, node)


def segment_sum(x, ids, Py_ssize_t n):
    """Sums of the rows of `x` that share an id: result row i is the sum of the rows k with ids[k] == i < n."""
    cdef Array a = operand(x)
    ids = np.asarray(value_of(ids))
    if ids.ndim != 1 or a.ndim == 0 or a.shape[0] != ids.size:
        raise ValueError(f"segment_sum: ids: expected one id for each of the rows of x (shape {a.shape}), "
                         f"got shape {ids.shape}")
    if ids.size and (ids.min() < 0 or ids.max() >= n):
        raise IndexError(f"segment_sum: ids out of range for {n} segments")
    row = int(np.prod(a.shape[1:]))
    flat = (ids.astype(np.int64)[:, None] * row + np.arange(row)).reshape(a.shape)
    return scatter_add(a, flat, (n,) + a.shape[1:])


def update_at(x, v, indices):
    """Copy of `x` with `v` (broadcast to indices.shape) written at distinct flat C-order `indices`."""
    cdef Recorder recorder = recorder_for((x, v))
    cdef int dtype
    cdef uint32_t a = recorder.lift(x, &dtype), b = recorder.lift(v, &dtype), node = 0
    cdef uint32_t at = index_node(recorder, indices, fad_node_shape(recorder.tape, a).size)
    recorder.check(fad_record_broadcast_to(recorder.tape, b, fad_node_shape(recorder.tape, at), &b), "update_index")
    recorder.check(fad_record_update_at(recorder.tape, a, b, at, &node), "update_index")
    return wrap(recorder, node)


update_index = update_at


def concatenate(sequence, axis=0):
    """Arrays of equal rank end to end along `axis`."""
    cdef tuple parts = tuple(sequence)
    cdef Recorder recorder = recorder_for(parts)
    cdef Py_ssize_t i, n = len(parts)
    cdef int dtype, common = -1
    cdef uint32_t node = 0
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    cdef fad_status status = FAD_OK
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            nodes[i] = recorder.lift(parts[i], &dtype)
            if dtype < 0:
                dtype = FAD_F64
            if common < 0:
                common = dtype
            elif common != dtype:
                common = {np.dtype(np.float64): FAD_F64, np.dtype(np.float32): FAD_F32, np.dtype(np.int64): FAD_I64}[
                    np.promote_types(DTYPES[common], DTYPES[dtype])]
        for i in range(n):
            recorder.check(fad_record_cast(recorder.tape, nodes[i], common, &nodes[i]), "concatenate")
        status = fad_record_concatenate(recorder.tape, n, nodes, axis, &node)
        if status == FAD_BAD_SHAPE or status == FAD_BAD_OPERAND:
            shapes = " ".join([str(shape_tuple(fad_node_shape(recorder.tape, nodes[i]))) for i in range(n)])
            raise ValueError(f"concatenate: shapes {shapes} do not fit along axis {axis}")
        recorder.check(status, "concatenate")
    finally:
        PyMem_Free(nodes)
    return wrap(recorder, node)


def stack_scalars(sequence):
    """0-d operands side by side as a vector."""
    cdef tuple parts = tuple(sequence)
    cdef object box = np.empty(len(parts), dtype=object)
    box[:] = parts
    return stack_objects(recorder_for(parts), box)


def matmul(a, b):
    """Matrix product of stacks of matrices (ndim >= 2 both)."""
    cdef Recorder recorder = recorder_for((a, b))
    cdef int dtype
    cdef uint32_t x = recorder.lift(a, &dtype), y, node = 0
    if dtype >= 0 and not fad_is_float(dtype):
        recorder.check(fad_record_cast(recorder.tape, x, FAD_F64, &x), "matmul")
    y = recorder.lift(b, &dtype)
    if dtype >= 0 and not fad_is_float(dtype):
        recorder.check(fad_record_cast(recorder.tape, y, FAD_F64, &y), "matmul")
    cdef fad_status status = fad_record_matmul(recorder.tape, x, y, &node)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"matmul: shapes {shape_tuple(fad_node_shape(recorder.tape, x))} and "
                         f"{shape_tuple(fad_node_shape(recorder.tape, y))} do not fit")
    recorder.check(status, "matmul")
    return wrap(recorder, node)


def cumsum(x, axis, reverse=False):
    """Cumulative sum along `axis` (from the end where `reverse`)."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    if not 0 <= axis < a.ndim:
        raise ValueError(f"cumsum: axis {axis} is out of bounds for an array of {a.ndim} dimensions")
    a.recorder.check(fad_record_cumsum(a.recorder.tape, a.node, axis, reverse, &node), "cumsum")
    return wrap(a.recorder, node)


def cast(x, dtype):
    """`x` as float64 or float32 (an integer or bool result is a plain ndarray: it has no derivative)."""
    cdef Array a = operand(x)
    cdef uint32_t node = 0
    wanted = np.dtype(dtype)
    if wanted != FLOAT64 and wanted != DTYPES[FAD_F32]:
        if wanted.kind in "iub":
            return np.asarray(value_of(a)).astype(wanted)
        raise TypeError(f"dtype: expected float64, float32, an integer type or bool, got {wanted}"
                        + (" (complex is not supported yet)" if wanted.kind == "c" else ""))
    a.recorder.check(fad_record_cast(a.recorder.tape, a.node, FAD_F64 if wanted == FLOAT64 else FAD_F32, &node),
                     "cast")
    return wrap(a.recorder, node)


def select(condition, a, b):
    """`a` where `condition` is true, else `b`."""
    if type(condition) is not Array:
        condition = np.asarray(condition)
        if condition.dtype != bool:
            condition = condition.astype(bool)
    return record_operands(FAD_SELECT, (condition, a, b))


def stop(x):
    """Identity whose derivative is 0."""
    return record_operands(FAD_STOP, (x,))


def custom(rule, inputs, values, n_out=None):
    """A node with a rule of its own.

    Parameters
    ----------
    rule : object
        ``rule.vjp(inputs, outputs, cotangents)`` gives one derivative for each input (None: zero), and, optionally,
        ``rule.jvp(inputs, outputs, tangents)`` one tangent for each output.
    inputs : sequence
        Operands, at least one an Array.
    values : sequence
        The outputs, already computed.

    Returns
    -------
    tuple of Array
    """
    cdef tuple operands = tuple(inputs), outputs = tuple(values)
    cdef Recorder recorder = recorder_for(operands)
    cdef size_t i, n = len(operands), m = len(outputs)
    cdef int dtype
    cdef uint32_t first = 0
    cdef fad_array to
    cdef cnp.ndarray array
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    cdef uint8_t *dtypes = <uint8_t *>PyMem_Malloc(m + 1)
    cdef const fad_shape **shapes = <const fad_shape **>PyMem_Malloc((m + 1) * sizeof(void *))
    try:
        if nodes == NULL or dtypes == NULL or shapes == NULL:
            raise MemoryError
        for i in range(n):
            nodes[i] = recorder.lift(operands[i], &dtype)
        arrays = []
        for i in range(m):
            array = np.ascontiguousarray(outputs[i]) if np.ndim(outputs[i]) else np.asarray(outputs[i])
            if array.dtype not in DTYPES:
                if array.dtype.kind not in "iu":
                    raise TypeError(f"{rule_name(rule)}: output {i} has dtype {array.dtype}: expected float64, "
                                    "float32, integer or bool")
                array = array.astype(np.int64)
            arrays.append(array)
            dtypes[i] = <uint8_t>DTYPES.index(array.dtype)
            shapes[i] = intern(recorder, np.shape(array), rule_name(rule))
        recorder.check(fad_new_custom(recorder.tape, <void *>rule, n, nodes, <uint32_t>m, dtypes, shapes, &first),
                       rule_name(rule))
        Py_INCREF(rule)
        for i in range(m):
            array = arrays[i]
            to = fad_value_array(recorder.tape, first + <uint32_t>i)
            memcpy(to.data, cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
    finally:
        PyMem_Free(nodes)
        PyMem_Free(dtypes)
        PyMem_Free(shapes)
    return tuple([custom_output(recorder, first + <uint32_t>i) for i in range(m)])


cdef Array custom_output(Recorder recorder, uint32_t node):
    """An output's Array. The first node of a rule is active for the rule's sake, even where its value is an index."""
    cdef Array a = wrap(recorder, node)
    a.active = a.active and fad_is_float(fad_node_dtype(recorder.tape, node))
    return a


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives as nodes

cdef uint32_t *node_list(Recorder recorder, tuple arrays) except NULL:
    cdef Py_ssize_t i, n = len(arrays)
    cdef int dtype
    cdef uint32_t *nodes = <uint32_t *>PyMem_Malloc((n + 1) * sizeof(uint32_t))
    if nodes == NULL:
        raise MemoryError
    try:
        for i in range(n):
            nodes[i] = recorder.lift(arrays[i], &dtype)
    except BaseException:
        PyMem_Free(nodes)
        raise
    return nodes


def emit_reverse(Recorder recorder, outputs, cotangents, wrt):
    """Record the cotangents of `wrt` given those of `outputs`; zeros (plain) where an output does not depend on it."""
    return emit(recorder, tuple(outputs), tuple(cotangents), tuple(wrt), True)


def emit_tangent(Recorder recorder, wrt, tangents, outputs):
    """Record the tangents of `outputs` given those of `wrt`; zeros (plain) where an output does not depend on it."""
    return emit(recorder, tuple(wrt), tuple(tangents), tuple(outputs), False)


cdef object emit(Recorder recorder, tuple given, tuple seeds, tuple wanted, bint reverse):
    cdef Py_ssize_t i, n = len(given), m = len(wanted)
    cdef uint32_t *from_nodes = NULL
    cdef uint32_t *seed_nodes = NULL
    cdef uint32_t *to_nodes = NULL
    cdef uint32_t *results = NULL
    cdef size_t end
    recorder.require_open()
    if FAD_DEBUG_BUILD:
        recorder.verify()
    try:
        from_nodes = node_list(recorder, given)
        to_nodes = node_list(recorder, wanted)
        end = recorder.tape.count   # after these: a view may have been taken again
        seed_nodes = node_list(recorder, tuple([conform(recorder, seed, like) for seed, like in zip(seeds, given)]))
        results = <uint32_t *>PyMem_Malloc((m + 1) * sizeof(uint32_t))
        if results == NULL:
            raise MemoryError
        if reverse:
            recorder.check(fad_emit_reverse(recorder.tape, end, n, from_nodes, seed_nodes, m, to_nodes, results),
                           "derivatives as nodes")
        else:
            recorder.check(fad_emit_tangent(recorder.tape, end, n, from_nodes, seed_nodes, m, to_nodes, results),
                           "derivatives as nodes")
        return [zeros_like(recorder, to_nodes[i]) if results[i] == FAD_NODE_NONE else wrap(recorder, results[i])
                for i in range(m)]
    finally:
        PyMem_Free(from_nodes)
        PyMem_Free(seed_nodes)
        PyMem_Free(to_nodes)
        PyMem_Free(results)


cdef object conform(Recorder recorder, object seed, Array like):
    """A seed as an Array of the type and shape of `like`."""
    cdef int dtype
    cdef uint32_t node = recorder.lift(seed, &dtype)
    recorder.check(fad_record_cast(recorder.tape, node, fad_node_dtype(recorder.tape, like.node), &node), "seed")
    if fad_node_shape(recorder.tape, node) != fad_node_shape(recorder.tape, like.node):
        raise ValueError(f"seed of shape {shape_tuple(fad_node_shape(recorder.tape, node))} for a value of shape "
                         f"{like.shape}")
    return wrap(recorder, node)


cdef object zeros_like(Recorder recorder, uint32_t node):
    shape = shape_tuple(fad_node_shape(recorder.tape, node))
    dtype = fad_node_dtype(recorder.tape, node)
    return np.zeros(shape, DTYPES[dtype if fad_is_float(dtype) else FAD_F64])[()] if shape else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Array

cdef enum:
    DEEPEST_VIEW = 1000
    FROZEN = 0xffff        # in place of a view's op


# Arrays come and go with every recorded operation: those that went are used again as they are, type and empty
# fields in place, which is several times cheaper than a new object.
cdef enum:
    SPARE_ARRAYS = 1024

cdef PyObject *spare[SPARE_ARRAYS]
cdef Py_ssize_t spare_count = 0

cdef extern from *:
    """
    typedef void (*fad_destructor)(PyObject *);
    static inline fad_destructor fad_swap_dealloc(PyTypeObject *type, fad_destructor dealloc)
    {
        fad_destructor before = type->tp_dealloc;
        type->tp_dealloc = dealloc;
        return before;
    }
    """
    ctypedef void (*fad_destructor)(PyObject *) noexcept
    fad_destructor fad_swap_dealloc(void *type, fad_destructor dealloc)
    void Py_SET_REFCNT(PyObject *o, Py_ssize_t count)

cdef fad_destructor destroy


cdef inline Array fresh():
    global spare_count
    cdef PyObject *p
    if spare_count > 0:
        spare_count -= 1
        p = spare[spare_count]
        Py_SET_REFCNT(p, 0)   # the cast takes the one reference
        return <Array>p
    return Array.__new__(Array)


cdef void set_aside(PyObject *p) noexcept:
    global spare_count
    cdef Array a
    Py_SET_REFCNT(p, 1)       # alive while its fields are cleared, which may set others aside
    a = <Array>p
    a.recorder = None
    if a.base is not None:
        a.base = None
        a.depth = 0
    a.version = 0
    Py_SET_REFCNT(p, 2)       # `a` goes out of scope, and nothing is destroyed
    if spare_count == SPARE_ARRAYS:
        a = None
        Py_SET_REFCNT(p, 0)
        destroy(p)
        return
    spare[spare_count] = p
    spare_count += 1


destroy = fad_swap_dealloc(<void *>Array, set_aside)


cdef inline Array wrap(Recorder recorder, uint32_t node):
    cdef Array a = fresh()
    cdef uint16_t flags = recorder.tape.nodes[node].flags
    a.recorder = recorder
    a.generation = recorder.generation
    a.node = node
    a.scalar = not flags & FAD_IS_ARRAY
    a.active = flags & FAD_IS_ACTIVE
    return a


cdef Array view_of(Array a, uint32_t node):
    """Array of a VIEW or RESHAPE node of `a`: writing to one writes to the other, as NumPy's views do."""
    cdef Array v = wrap(a.recorder, node)
    cdef fad_node n = a.recorder.tape.nodes[node]
    if v.scalar or a.scalar or node == a.node or n.a != a.node:
        return v
    if n.op == FAD_RESHAPE and a.recorder.tape.values[node].array.data != a.recorder.tape.values[a.node].array.data:
        return v
    v.base = a
    v.base_version = a.version
    v.view_op = n.op
    v.view_aux = n.aux
    v.depth = a.depth + 1
    if v.depth > DEEPEST_VIEW:
        # Too deep to follow: it stays as it is, and is refused once what it views is written to.
        while a.base is not None:
            a = a.base
        v.base = a
        v.base_version = a.version
        v.view_op = FROZEN
        v.depth = DEEPEST_VIEW + 1
    return v


cdef inline bint live(Array a):
    return (a.generation == a.recorder.generation and a.base is None
            and a.recorder.thread == fad_thread())


cdef inline object scalar_result(int op, Recorder recorder, uint32_t a, uint32_t b, unsigned active, double value):
    cdef uint32_t node = 0
    cdef Array result
    cdef fad_status status = fad_push_scalar(recorder.tape, op, active, a, b, 0, value, &node)
    if status != FAD_OK:
        recorder.check(status, fad_ops[op].spelled.decode())
    result = fresh()
    result.recorder = recorder
    result.generation = recorder.generation
    result.node = node
    result.scalar = True
    result.active = active
    return result


cdef inline object constant_operand(Recorder recorder, double value, uint32_t *node):
    recorder.check(fad_constant(recorder.tape, value, node), "constant")


cdef inline object binary(int op, object left, object right):
    """left op right: the scalar paths first, which touch nothing but the tape."""
    cdef Array x, y
    cdef uint32_t c = 0
    cdef double number
    cdef bint flat = fad_ops[op].kind == FAD_FLAT
    if type(left) is Array:
        x = <Array>left
        if x.scalar and live(x):
            if type(right) is Array:
                y = <Array>right
                if y.scalar and y.recorder is x.recorder and y.generation == y.recorder.generation:
                    return scalar_result(op, x.recorder, x.node, y.node, 0 if flat else x.active | y.active,
                                         fad_scalar_value(op, x.recorder.tape.values[x.node].number,
                                                          x.recorder.tape.values[y.node].number, 0.0))
            elif type(right) is float or type(right) is int:
                number = right
                constant_operand(x.recorder, number, &c)
                return scalar_result(op, x.recorder, x.node, c, 0 if flat else x.active,
                                     fad_scalar_value(op, x.recorder.tape.values[x.node].number, number, 0.0))
    elif type(left) is float or type(left) is int:
        y = <Array>right
        if y.scalar and live(y):
            number = left
            constant_operand(y.recorder, number, &c)
            return scalar_result(op, y.recorder, c, y.node, 0 if flat else y.active,
                                 fad_scalar_value(op, number, y.recorder.tape.values[y.node].number, 0.0))
    return binary_arrays(op, left, right)


cdef object binary_arrays(int op, object left, object right):
    cdef Array x, y
    cdef uint32_t nodes[2]
    cdef uint32_t node = 0
    cdef fad_status status
    # Two float64 arrays of one open recorder need none of the questions that record_operands asks.
    if type(left) is Array and type(right) is Array:
        x, y = <Array>left, <Array>right
        if live(x) and y.recorder is x.recorder and y.generation == x.generation and y.base is None \
                and fad_node_dtype(x.recorder.tape, x.node) == FAD_F64 \
                and fad_node_dtype(x.recorder.tape, y.node) == FAD_F64:
            nodes[0], nodes[1] = x.node, y.node
            status = fad_record_elementwise(x.recorder.tape, op, nodes, FAD_F64, &node)
            if status == FAD_OK:
                return wrap(x.recorder, node)
            if status != FAD_BAD_SHAPE:
                x.recorder.check(status, fad_ops[op].spelled.decode())
    elif not recordable(left) or not recordable(right):
        return NotImplemented
    return record_operands(op, (left, right))


cdef bint recordable(object x):
    """Whether an operator may take `x` as its operand; others get a chance to handle the Array themselves."""
    return (type(x) is Array or isinstance(x, (float, int, ndarray, generic, list, tuple))) \
        and not isinstance(x, (np.character, np.complexfloating))


cdef object unary(int op, Array x):
    cdef unsigned active
    if x.scalar and live(x):
        active = 0 if fad_ops[op].kind == FAD_FLAT else x.active
        return scalar_result(op, x.recorder, x.node, 0, active,
                             fad_scalar_value(op, x.recorder.tape.values[x.node].number, 0.0, 0.0))
    return record_operands(op, (x,))


cdef object power(object left, object right):
    """left ** right, with NumPy's short cuts for common exponents."""
    if type(left) is Array and (type(right) is float or type(right) is int):
        if right == 2:
            return unary(FAD_SQUARE, <Array>left)
        if right == 1:
            return unary(FAD_POS, <Array>left)
        if right == 0.5:
            return unary(FAD_SQRT, <Array>left)
        if right == -1:
            return unary(FAD_RECIPROCAL, <Array>left)
    return binary(FAD_POW, left, right)


cdef object compare(object left, object right, int op):
    """A bool for two scalars, a recorded mask otherwise."""
    cdef Array x = <Array>left
    if x.scalar:
        x.readable()
        value = x.recorder.tape.values[x.node].number
        if type(right) is Array and (<Array>right).scalar:
            (<Array>right).readable()
            other = (<Array>right).recorder.tape.values[(<Array>right).node].number
            return fad_scalar_value(op, value, other, 0.0) != 0
        if isinstance(right, (float, int)):
            return fad_scalar_value(op, value, right, 0.0) != 0
    if not recordable(right):
        return NotImplemented
    return record_operands(op, (left, right))


@cython.final
@cython.no_gc
@cython.c_api_binop_methods(True)
cdef class Array:
    """A recorded value, from 0-d to N-d: what a differentiated function receives in place of its arguments.

    It takes part in Python's operators and in NumPy's functions like the ndarray or float that it stands for; every
    operation is appended to the tape. Arrays are not made directly: transforms and `fastad.Tape.variable` make them.

    Attributes
    ----------
    shape : tuple of int
    ndim, size : int
    dtype : numpy.dtype
        float64 or float32; bool and int64 for masks and indices, which have no derivative.
    value : float or ndarray
        A copy of the value.
    node : int
        Its place on the tape.
    active : bool
        Whether it depends on a variable.

    Examples
    --------
    >>> with fad.Tape() as tape:
    ...     x = tape.variable(3.0)
    ...     y = x * x + 1.0
    >>> y.value
    10.0
    """

    def __init__(self):
        raise TypeError("Arrays are made by fastad's transforms and by fastad.Tape.variable")

    cdef int use(self) except -1:
        """Check that this Array may be an operand now, and bring a view up to date."""
        self.readable()
        self.recorder.require_open()
        return 0

    cdef int readable(self) except -1:
        if self.recorder is None:
            raise TypeError("Arrays are made by fastad's transforms and by fastad.Tape.variable")
        if self.generation != self.recorder.generation:
            raise TapeError("this Array was used after its tape was reset: it belongs to a gradient call that has ended")
        if self.base is not None and self.base_version_of() != self.base_version:
            self.refresh()
        return 0

    cdef uint32_t base_version_of(self) except? 0xfffffffe:
        self.base.readable()
        return self.base.version

    cdef int refresh(self) except -1:
        """Take the view again: its base was written to."""
        cdef fad_tape *tape = self.recorder.tape
        self.recorder.require_open()
        if self.view_op == FROZEN:
            raise TapeError(f"a view of more than {DEEPEST_VIEW} views of each other was used after its base was "
                            "written to: copy it before")
        if self.view_op == FAD_VIEW:
            self.recorder.check(fad_record_view(tape, self.base.node, self.view_aux, &self.node), "view")
        else:
            self.recorder.check(fad_record_reshape(tape, self.base.node, tape.shapes[self.view_aux], &self.node),
                                "view")
        self.active = tape.nodes[self.node].flags & FAD_IS_ACTIVE
        self.base_version = self.base.version
        self.version += 1
        return 0

    cdef int write(self, uint32_t node) except -1:
        """Make `node` the value of this Array and, through views, of what it is a view of."""
        cdef fad_tape *tape = self.recorder.tape
        cdef Array a = self
        cdef const fad_shape *whole
        if self.depth > DEEPEST_VIEW:
            raise TapeError(f"writing to a view of more than {DEEPEST_VIEW} views of each other: copy it first")
        while True:
            a.node = node
            a.active = tape.nodes[node].flags & FAD_IS_ACTIVE
            a.version += 1
            if a.base is None:
                return 0
            whole = fad_node_shape(tape, a.base.node)
            if a.view_op == FAD_VIEW:
                self.recorder.check(fad_record_update_view(tape, a.base.node, node, a.view_aux, &node), "assignment")
            else:
                self.recorder.check(fad_record_reshape(tape, node, whole, &node), "assignment")
            a.base_version = a.base.version + 1
            a = a.base

    # --- what it is ---

    @property
    def shape(self):
        self.readable()
        return () if self.scalar else shape_tuple(fad_node_shape(self.recorder.tape, self.node))

    @property
    def ndim(self):
        self.readable()
        return fad_node_shape(self.recorder.tape, self.node).ndim

    @property
    def size(self):
        self.readable()
        return fad_node_shape(self.recorder.tape, self.node).size

    @property
    def dtype(self):
        self.readable()
        return DTYPES[fad_node_dtype(self.recorder.tape, self.node)]

    @property
    def itemsize(self):
        return self.dtype.itemsize

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize

    @property
    def value(self):
        self.readable()
        return self.recorder.value_of(self.node)

    @property
    def node(self):
        return self.node

    @property
    def op(self):
        self.readable()
        return fad_ops[self.recorder.tape.nodes[self.node].op].name.decode()

    @property
    def active(self):
        self.readable()
        return bool(self.active)

    @property
    def recorder(self):
        return self.recorder

    @property
    def T(self):
        return transpose(self, range(self.ndim - 1, -1, -1))

    @property
    def mT(self):
        n = self.ndim
        if n < 2:
            raise ValueError(f"matrix transpose with ndim < 2 is undefined, got an Array of {n} dimensions")
        return transpose(self, [*range(n - 2), n - 1, n - 2])

    @property
    def real(self):
        return self

    @property
    def flat(self):
        return iter(reshape(self, (self.size,)))

    @property
    def base(self):
        return self.base

    def __repr__(self):
        if self.recorder is None or self.generation != self.recorder.generation:
            return "Array(<of a tape that was reset>)"
        return f"Array({self.value!r})" if self.scalar else f"Array({np.array2string(self.value, prefix='Array(')})"

    def __format__(self, spec):
        return format(self.value, spec) if self.scalar else format(str(self), spec)

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("len() of a 0-d Array")
        return fad_node_shape(self.recorder.tape, self.node).dims[0]

    def __hash__(self):
        return hash((id(self.recorder), self.generation, self.node))

    # --- conversion: an active value never becomes a constant unseen ---

    def __bool__(self):
        if self.size != 1:
            raise ValueError("the truth value of an Array with other than one element is ambiguous: use .any() or "
                             ".all()")
        return bool(np.any(self.value))

    cdef object number(self, str what):
        self.readable()
        if self.active:
            raise TypeError(f"{what} of a recorded value would drop its derivative: use fastad's or NumPy's functions "
                            "(np.sin, fad.sin, ...), or fad.stop_gradient(x) where a constant is meant")
        if fad_node_shape(self.recorder.tape, self.node).size != 1:
            raise TypeError("only Arrays of one element can be converted to Python numbers")
        return np.asarray(self.recorder.value_of(self.node)).reshape(-1)[0]

    def __float__(self):
        return float(self.number("float()"))

    def __int__(self):
        return int(self.number("int()"))

    def __complex__(self):
        return complex(self.number("complex()"))

    def __index__(self):
        if self.dtype.kind != "i":
            raise TypeError("only integer Arrays can be used as an index")
        return int(self.number("an index"))

    def item(self, *args):
        return self.number("item()") if self.active else np.asarray(self.value).item(*args)

    def tolist(self):
        if self.ndim == 0:
            return self
        return [row.tolist() for row in self]

    def __array__(self, dtype=None, copy=None):
        self.readable()
        if self.active or fad_is_float(fad_node_dtype(self.recorder.tape, self.node)) and self.active:
            if self.scalar and (dtype is None or dtype == object):
                box = np.empty((), dtype=object)
                box[()] = self
                return box
            raise TypeError("np.asarray of a recorded value would drop its derivative: pass the Array itself to NumPy's "
                            "functions (np.stack for several), or fad.stop_gradient(x) where a constant is meant")
        if self.scalar and dtype is None:
            box = np.empty((), dtype=object)
            box[()] = self
            return box
        return np.asarray(self.recorder.value_of(self.node), dtype)

    def astype(self, dtype, **_):
        return cast(self, dtype)

    # --- operators ---

    def __add__(left, right):
        return binary(FAD_ADD, left, right)

    def __sub__(left, right):
        return binary(FAD_SUB, left, right)

    def __mul__(left, right):
        return binary(FAD_MUL, left, right)

    def __truediv__(left, right):
        return binary(FAD_DIV, left, right)

    def __floordiv__(left, right):
        return binary(FAD_FLOOR_DIVIDE, left, right)

    def __mod__(left, right):
        return binary(FAD_MOD, left, right)

    def __divmod__(left, right):
        return binary(FAD_FLOOR_DIVIDE, left, right), binary(FAD_MOD, left, right)

    def __pow__(left, right, modulus):
        if modulus is not None:
            raise TypeError("pow() of an Array takes no modulus")
        return power(left, right)

    def __matmul__(left, right):
        if not recordable(left) or not recordable(right):
            return NotImplemented
        return rule_of(np.matmul)(left, right)

    def __and__(left, right):
        return rule_of(np.bitwise_and)(left, right)

    def __or__(left, right):
        return rule_of(np.bitwise_or)(left, right)

    def __xor__(left, right):
        return rule_of(np.bitwise_xor)(left, right)

    def __invert__(self):
        return rule_of(np.invert)(self)

    def __neg__(self):
        return unary(FAD_NEG, self)

    def __pos__(self):
        return unary(FAD_POS, self)

    def __abs__(self):
        return unary(FAD_ABS, self)

    def __round__(self, digits=None):
        return rule_of(np.round)(self, 0 if digits is None else digits)

    def __richcmp__(self, other, int op):
        if op == Py_LT:
            return compare(self, other, FAD_LESS)
        if op == Py_LE:
            return compare(self, other, FAD_LESS_EQUAL)
        if op == Py_GT:
            return compare(self, other, FAD_GREATER)
        if op == Py_GE:
            return compare(self, other, FAD_GREATER_EQUAL)
        result = compare(self, other, FAD_EQUAL if op == Py_EQ else FAD_NOT_EQUAL)
        return (op == Py_NE) if result is NotImplemented and other is None else result

    # --- in place: the Array moves on to a new node, and so does what it is a view of ---

    def __iadd__(self, other):
        return in_place(self, binary(FAD_ADD, self, other))

    def __isub__(self, other):
        return in_place(self, binary(FAD_SUB, self, other))

    def __imul__(self, other):
        return in_place(self, binary(FAD_MUL, self, other))

    def __itruediv__(self, other):
        return in_place(self, binary(FAD_DIV, self, other))

    def __ifloordiv__(self, other):
        return in_place(self, binary(FAD_FLOOR_DIVIDE, self, other))

    def __imod__(self, other):
        return in_place(self, binary(FAD_MOD, self, other))

    def __ipow__(self, other):
        return in_place(self, power(self, other))

    def __imatmul__(self, other):
        return in_place(self, self @ other)

    # --- indexing ---

    def __getitem__(self, index):
        cdef Py_ssize_t i
        cdef const fad_shape *shape
        cdef uint32_t node = 0
        self.use()
        if type(index) is int and not self.scalar:
            shape = fad_node_shape(self.recorder.tape, self.node)
            if shape.ndim == 1 and fad_node_dtype(self.recorder.tape, self.node) == FAD_F64:
                i = index
                if i < 0:
                    i += shape.dims[0]
                if not 0 <= i < shape.dims[0]:
                    raise IndexError(f"index {index} is out of bounds for axis 0 with size {shape.dims[0]}")
                if i <= 0xfffffffe:
                    self.recorder.check(fad_record_element(self.recorder.tape, self.node, i, &node), "index")
                    return wrap(self.recorder, node)
        cdef int side = basic_index(self, index)
        if side >= 0:
            self.recorder.check(fad_record_view(self.recorder.tape, self.node, side, &node), "index")
            return view_of(self, node)
        return gather(self, flat_indices(self.shape, index))

    def __setitem__(self, index, value):
        cdef uint32_t node = 0, given
        cdef int dtype
        self.use()
        if not fad_is_float(fad_node_dtype(self.recorder.tape, self.node)):
            raise TypeError("only floating-point Arrays can be written to")
        given = self.recorder.lift(value, &dtype)
        cdef int side = basic_index(self, index)
        if self.scalar:
            self.recorder.check(fad_record_cast(self.recorder.tape, given, FAD_F64, &given), "assignment")
            self.recorder.check(fad_record_broadcast_to(self.recorder.tape, given,
                                                        fad_node_shape(self.recorder.tape, self.node), &given),
                                "assignment")
            self.write(given)
            return
        if side < 0:
            self.assign_gathered(index, given)
            return
        self.recorder.check(fad_record_cast(self.recorder.tape, given,
                                            fad_node_dtype(self.recorder.tape, self.node), &given), "assignment")
        given = fitted(self.recorder, given, part_shape(self.recorder, side))
        self.recorder.check(fad_record_update_view(self.recorder.tape, self.node, given, side, &node), "assignment")
        self.write(node)

    cdef int assign_gathered(self, object index, uint32_t given) except -1:
        cdef uint32_t node = 0, at
        flat = flat_indices(self.shape, index)
        given = fitted(self.recorder, given, intern(self.recorder, flat.shape, "assignment"))
        # Where an element is named more than once, the last value stays, as in NumPy.
        last = flat.size - 1 - np.unique(flat.ravel()[::-1], return_index=True)[1]
        if last.size < flat.size:
            at = self.recorder.constant_array(last, FAD_CONSTANT, 0)
            self.recorder.check(fad_record_gather(self.recorder.tape, given, at, &given), "assignment")
            flat = flat.ravel()[last]
        self.recorder.check(fad_record_cast(self.recorder.tape, given,
                                            fad_node_dtype(self.recorder.tape, self.node), &given), "assignment")
        at = self.recorder.constant_array(flat, FAD_CONSTANT, 0)
        self.recorder.check(fad_record_update_at(self.recorder.tape, self.node, given, at, &node), "assignment")
        return self.write(node)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d Array")
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, x):
        return bool(np.any(self.value == value_of(x)))

    # --- copies ---

    def __copy__(self):
        self.readable()
        return self if self.scalar else wrap(self.recorder, self.node)

    def __deepcopy__(self, memo):
        return self.__copy__()

    def copy(self, order=None):
        return self.__copy__()

    def __reduce__(self):
        raise TypeError("an Array cannot be pickled: it is a place on a tape; pickle its .value")

    # --- NumPy ---

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__":
            op = elementwise_ufuncs.get(ufunc)
            if op is not None and not kwargs:
                return record_operands(op, inputs)
        return ufunc_call(ufunc, method, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        rule = rule_of(function)
        if rule is None:
            raise NotImplementedError(unknown(f"numpy function {function_name(function)}"))
        return rule(*args, **kwargs)

    def __getattr__(self, name):
        load_rules()
        method = methods.get(name)
        if method is not None:
            return BoundMethod(method, self)
        op = object_ufuncs().get(name)
        if op is not None:
            return BoundMethod(record_row, (op, self))
        raise AttributeError(f"'Array' object has no attribute '{name}'")


# ---------------------------------------------------------------------------------------------------------------------
# Parts of Array's protocols

cdef class BoundMethod:
    """A registered method with its Array."""

    cdef object function, owner

    def __cinit__(self, function, owner):
        self.function = function
        self.owner = owner

    def __call__(self, *args, **kwargs):
        return self.function(self.owner, *args, **kwargs)


def record_row(row, *operands):
    return record(row[0], row[1], *operands)


cdef dict names_of_ufuncs = {}


cdef dict object_ufuncs():
    """Ufuncs by name, as NumPy's loops over object arrays look them up on the elements."""
    if not names_of_ufuncs:
        names_of_ufuncs.update({ufunc.__name__: op for ufunc, op in elementwise_ufuncs.items()})
    return names_of_ufuncs


cdef str function_name(function):
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module}.{getattr(function, '__name__', function)}"


cdef str unknown(str what):
    return (f"{what} has no derivative rule in fastad yet. Write it with functions that have one, or give it a rule: "
            "subclass fad.Function")


cdef object in_place(Array self, object result):
    """Finish self op= other: 0-d values are replaced, as Python's numbers are; arrays are written to."""
    cdef Array new
    cdef uint32_t node
    if result is NotImplemented:
        return NotImplemented
    if type(result) is not Array:
        raise TypeError(f"in place: an Array of dtype {self.dtype} cannot take a result of dtype "
                        f"{np.asarray(result).dtype}")
    new = <Array>result
    if self.scalar:
        return new
    node = new.node
    if new.shape != self.shape:
        raise ValueError(f"non-broadcastable output operand with shape {self.shape} doesn't match the broadcast shape "
                         f"{new.shape}")
    self.recorder.check(fad_record_cast(self.recorder.tape, node, fad_node_dtype(self.recorder.tape, self.node), &node),
                        "in place")
    self.write(node)
    return self


cdef object ufunc_call(ufunc, str method, tuple inputs, dict kwargs):
    """Ufunc calls beyond the plain one of a table row: out=, reduce, accumulate, outer, and registered rules."""
    out = kwargs.pop("out", None)
    if kwargs.get("where", True) is True:
        kwargs.pop("where", None)
    if out is not None:
        return ufunc_out(ufunc, method, inputs, kwargs, out)
    op = elementwise_ufuncs.get(ufunc)
    if method == "__call__" and not kwargs:
        if op is not None:
            return record_operands(op, inputs)
        rule = rule_of(ufunc)
        if rule is not None:
            return rule(*inputs)
    elif method == "outer" and not kwargs and op is not None and len(inputs) == 2:
        left, right = [x if is_traced(x) else np.asarray(x) for x in inputs]
        return record_operands(op, (rule_of(np.reshape)(left, tuple(left.shape) + (1,) * right.ndim), right))
    elif method in ("reduce", "accumulate"):
        rule = rule_of((ufunc, method))
        if rule is not None:
            if method == "reduce":
                kwargs.setdefault("axis", 0)
            return rule(*inputs, **kwargs)
    if method != "__call__":
        raise NotImplementedError(unknown(f"numpy.{ufunc.__name__}.{method}"))
    if kwargs and (op is not None or rule_of(ufunc) is not None):
        raise NotImplementedError(f"numpy.{ufunc.__name__} of an Array takes no {sorted(kwargs)[0]}= argument")
    raise NotImplementedError(unknown(f"numpy.{ufunc.__name__}"))


cdef object ufunc_out(ufunc, str method, tuple inputs, dict kwargs, tuple out):
    if len(out) != 1 or type(out[0]) is not Array:
        raise TypeError(f"out: numpy.{ufunc.__name__} of an Array can be written to an Array only: an ndarray cannot hold "
                        "a recorded value")
    result = ufunc_call(ufunc, method, inputs, kwargs)
    if (<Array>out[0]).scalar:
        out[0][()] = result   # 0-d, but named as the place to write to: not replaced as by `+=`
        return out[0]
    return in_place(out[0], result)


cdef uint32_t fitted(Recorder recorder, uint32_t given, const fad_shape *shape) except? 0xfffffffe:
    """`given` with leading one-element axes dropped and broadcast to `shape`, as NumPy's assignment does."""
    cdef const fad_shape *own = fad_node_shape(recorder.tape, given)
    cdef Py_ssize_t skip = 0
    cdef const fad_shape *less
    while own.ndim - skip > shape.ndim and own.dims[skip] == 1:
        skip += 1
    if skip:
        recorder.check(fad_shape_intern(recorder.tape, own.ndim - skip, own.dims + skip, &less), "assignment")
        recorder.check(fad_record_reshape(recorder.tape, given, less, &given), "assignment")
    cdef fad_status status = fad_record_broadcast_to(recorder.tape, given, shape, &given)
    if status == FAD_BAD_SHAPE:
        raise ValueError(f"could not broadcast input array from shape {shape_tuple(own)} into shape "
                         f"{shape_tuple(shape)}")
    recorder.check(status, "assignment")
    return given


cdef extern from "fastad.h":
    ctypedef struct fad_view:
        const fad_shape *whole
        const fad_shape *part


cdef const fad_shape *part_shape(Recorder recorder, int side):
    return (<fad_view *>recorder.tape.side[side]).part


cdef bint is_basic(object index):
    return index is None or index is Ellipsis or isinstance(index, slice) or \
        (isinstance(index, (int, np.integer)) and not isinstance(index, bool))


cdef int basic_index(Array a, object index) except -2:
    """Side record of a basic index, or -1 where the index is an advanced one."""
    cdef const fad_shape *shape = fad_node_shape(a.recorder.tape, a.node)
    cdef Py_ssize_t start[64]
    cdef Py_ssize_t step[64]
    cdef Py_ssize_t dims[64]
    cdef int source[64]
    cdef int axis = 0, out = 0, used = 0, missing
    cdef Py_ssize_t i, lower, upper, stride, length
    cdef uint32_t side = 0
    cdef tuple parts = index if type(index) is tuple else (index,)
    for part in parts:
        if not is_basic(part):
            return -1
        if part is not None and part is not Ellipsis:
            used += 1
    if used > <int>shape.ndim:
        raise IndexError(f"too many indices for array: array is {shape.ndim}-dimensional, but {used} were indexed")
    if len([part for part in parts if part is Ellipsis]) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    missing = <int>shape.ndim - used
    if Ellipsis not in parts:
        parts = parts + (Ellipsis,)
    memset(start, 0, sizeof(start))
    if len(parts) - 1 + <int>shape.ndim - used > 64:
        raise IndexError("too many new axes")
    for part in parts:
        if part is Ellipsis:
            for _ in range(missing):
                dims[out], step[out], source[out] = shape.dims[axis], 1, axis
                out += 1
                axis += 1
        elif part is None:
            dims[out], step[out], source[out] = 1, 0, -1
            out += 1
        elif isinstance(part, slice):
            PySlice_Unpack(part, &lower, &upper, &stride)
            length = PySlice_AdjustIndices(shape.dims[axis], &lower, &upper, stride)
            start[axis] = lower if length > 0 else 0
            dims[out], step[out], source[out] = length, stride if length > 1 else 1, axis
            out += 1
            axis += 1
        else:
            i = part
            if i < 0:
                i += shape.dims[axis]
            if not 0 <= i < shape.dims[axis]:
                raise IndexError(f"index {part} is out of bounds for axis {axis} with size {shape.dims[axis]}")
            start[axis] = i
            axis += 1
    a.recorder.check(fad_make_view(a.recorder.tape, shape, out, dims, start, step, source, &side), "index")
    return <int>side


cdef object flat_indices(tuple shape, object index):
    """Flat C-order indices that an advanced index picks, by NumPy's own rules: each axis' coordinate is indexed."""
    parts = index if type(index) is tuple else (index,)
    plain_index = tuple([index_value(part) for part in parts])
    cdef list strides = [1] * len(shape)
    cdef Py_ssize_t d
    for d in range(len(shape) - 2, -1, -1):
        strides[d] = strides[d + 1] * shape[d + 1]
    flat = None
    for d in range(len(shape)):
        along = [1] * len(shape)
        along[d] = shape[d]
        coordinate = np.broadcast_to((np.arange(shape[d], dtype=np.int64) * strides[d]).reshape(along), shape)
        picked = coordinate[plain_index]
        flat = picked if flat is None else flat + picked
    if flat is None:
        flat = np.zeros((), np.int64)[plain_index]
    return np.ascontiguousarray(flat, np.int64) if np.ndim(flat) else np.asarray(flat, np.int64)


cdef object index_value(object part):
    value = value_of(part)
    if type(part) is Array and (<Array>part).active:
        raise IndexError("an index must be integers or bools, got a differentiable Array")
    return value
