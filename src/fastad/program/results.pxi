# Memory of large results: an array that the caller has dropped gives its pages to a later result of the same program.

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New

cdef extern from "results.h" nogil:
    ctypedef struct fad_results:
        pass
    size_t FAD_LARGE_RESULT
    fad_results *fad_results_create(size_t most)
    void fad_results_destroy(fad_results *results)
    void *fad_results_take(void *results, size_t size)
    void *fad_results_take_zeros(void *results, size_t count, size_t size)
    void *fad_results_resize(void *results, void *block, size_t size)
    void fad_results_give(void *results, void *block, size_t size)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *, size_t)
        void *(*calloc)(void *, size_t, size_t)
        void *(*realloc)(void *, void *, size_t)
        void (*free)(void *, void *, size_t)
    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)


cdef void forget_memory(object capsule) noexcept:
    """The program and all arrays that came from it are gone."""
    cdef PyDataMem_Handler *handler = <PyDataMem_Handler *>PyCapsule_GetPointer(capsule, "mem_handler")
    fad_results_destroy(<fad_results *>handler.allocator.ctx)
    free(handler)


cdef object memory_of_results(size_t most):
    """NumPy's handler of such memory (NEP 49): an array that was made with it holds it, and gives its memory back to it."""
    cdef PyDataMem_Handler *handler = <PyDataMem_Handler *>calloc(1, sizeof(PyDataMem_Handler))
    if handler == NULL:
        raise MemoryError("no memory for results")
    handler.allocator.ctx = fad_results_create(most)
    if handler.allocator.ctx == NULL:
        free(handler)
        raise MemoryError("no memory for results")
    memcpy(handler.name, "fastad", 7)
    handler.version = 1
    handler.allocator.malloc = fad_results_take
    handler.allocator.calloc = fad_results_take_zeros
    handler.allocator.realloc = fad_results_resize
    handler.allocator.free = fad_results_give
    return PyCapsule_New(handler, "mem_handler", <void (*)(object) noexcept>forget_memory)
