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

from fastad.errors import LaneError, TapeError, ValuesNeeded

cdef enum:
    WORTH_DEFERRING = 1 << 17   # elements of the variables

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

# One extension module in parts: `cdef inline` paths reach across them. The order is that of the module's start.
include "core/registry.pxi"      # what is registered from outside: rules, methods, ufuncs
include "core/loops.pxi"         # inner loops: NumPy's own where it has them
include "core/memory.pxi"        # allocation, its ceiling, tapes to use again
include "core/values.pxi"        # values as ndarrays, operands that are not Arrays
include "core/rules.pxi"         # custom rules, called from C
include "core/recorder.pxi"      # the recorder: a tape and the right to record on it
include "core/bodies.pxi"        # recorders within recorders
include "core/elementwise.pxi"   # rows of csrc/ops.def: broadcasting, promotion
include "core/primitives.pxi"    # rows of csrc/structural.def, custom nodes
include "core/emission.pxi"      # derivatives as nodes
include "core/views.pxi"         # Arrays of nodes: made, used again, views of each other
include "core/operators.pxi"     # what Array's operators do: the scalar paths first
include "core/array.pxi"         # the traced array
include "core/protocols.pxi"     # ufunc calls, methods, in-place operators
include "core/indexing.pxi"      # basic indices as views, advanced ones as flat indices
