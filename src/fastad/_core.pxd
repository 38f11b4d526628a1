# cython: language_level=3
"""What the compiled modules share: the C library's declarations, Recorder and Array."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "fastad.h" nogil:
    ctypedef int fad_status
    enum:
        FAD_OK
        FAD_NO_MEMORY
        FAD_OVER_LIMIT
        FAD_TOO_MANY
        FAD_BAD_SHAPE
        FAD_BAD_OPERAND
        FAD_IN_RULE
        FAD_F64
        FAD_F32
        FAD_I64
        FAD_BOOL
        FAD_DTYPE_COUNT
        FAD_IS_ACTIVE
        FAD_IS_ARRAY
        FAD_HAS_ARRAY
        FAD_IS_VERSION
        FAD_IS_OWNED
        FAD_IS_DYNAMIC
        FAD_INHERITED
        FAD_NODE_NONE
        FAD_MAX_NDIM
        FAD_MANY
        FAD_PREDICATE
        FAD_FLAT
        FAD_STRUCTURAL
        FAD_ELEMENTWISE_COUNT
        FAD_OP_COUNT
        # the primitives that Python's own operators and this module name
        FAD_ADD
        FAD_SUB
        FAD_MUL
        FAD_DIV
        FAD_POW
        FAD_FLOOR_DIVIDE
        FAD_MOD
        FAD_NEG
        FAD_POS
        FAD_ABS
        FAD_SQUARE
        FAD_SQRT
        FAD_RECIPROCAL
        FAD_STOP
        FAD_SELECT
        FAD_EQUAL
        FAD_NOT_EQUAL
        FAD_LESS
        FAD_LESS_EQUAL
        FAD_GREATER
        FAD_GREATER_EQUAL
        FAD_LOGICAL_AND
        FAD_LOGICAL_OR
        FAD_LOGICAL_XOR
        FAD_LOGICAL_NOT
        FAD_CONSTANT
        FAD_VARIABLE
        FAD_VIEW
        FAD_RESHAPE
        FAD_MAX_TO
        FAD_MIN_TO
        FAD_CUSTOM
        FAD_OUTPUT

    ctypedef struct fad_op_info:
        const char *name
        const char *spelled
        uint8_t arity
        uint8_t kind
        uint8_t aux
        const char *value
        const char *domains[2]
        const char *partials[3]
        const char *doc
    const fad_op_info fad_ops[]
    enum:
        FAD_MOST_CALLS
    unsigned fad_partial_calls(int op, int k)

    ctypedef struct fad_shape:
        uint32_t id
        uint32_t ndim
        size_t size
        const Py_ssize_t *dims
        const Py_ssize_t *strides

    ctypedef struct fad_array:
        char *data
        const fad_shape *shape
        const Py_ssize_t *strides
        uint8_t dtype

    ctypedef struct fad_node:
        uint16_t op
        uint16_t flags
        uint32_t a
        uint32_t b
        uint32_t aux

    ctypedef union fad_value:
        double number
        fad_array *array

    ctypedef struct fad_allocator:
        void *(*resize)(void *context, void *p, size_t old_size, size_t size) noexcept nogil
        void *context

    ctypedef void (*fad_loop)(char **args, const Py_ssize_t *count, const Py_ssize_t *steps, void *data) noexcept nogil
    ctypedef struct fad_bound_loop:
        fad_loop loop
        void *data
    ctypedef struct fad_loops:
        fad_bound_loop elementwise[1][4]
        fad_bound_loop matmul[2]
    void fad_default_loops(fad_loops *loops)

    ctypedef struct fad_view:
        const fad_shape *whole
        const fad_shape *part
        const Py_ssize_t *step
        const int *source

    ctypedef struct fad_custom:
        void *rule
        uint32_t first_output
        uint32_t outputs
        size_t count
        uint32_t nodes[1]

    ctypedef struct fad_sweep
    ctypedef struct fad_tape
    ctypedef struct fad_chunk
    ctypedef struct fad_arena:
        fad_chunk *first
    ctypedef struct fad_band:
        uint32_t first, count
        uint64_t rows, block
        uint32_t local_count
    ctypedef struct fad_program
    ctypedef struct fad_form:
        uint8_t dtype
        uint32_t ndim
        uint32_t dims
        uint64_t bytes
    ctypedef struct fad_guard:
        uint32_t base
        uint32_t size
        uint64_t offset
        uint64_t expected
    ctypedef struct fad_call:
        void *rule
        uint32_t inputs
        uint32_t outputs
        uint32_t first
    enum:
        FAD_IN_WORKSPACE
        FAD_IN_CONSTANTS
        FAD_FIRST_INPUT
        FAD_AT_STRIP
        FAD_AT_FIXED
        FAD_DO_OP
        FAD_DO_CONVERT
        FAD_DO_LOAD
        FAD_DO_STORE
        FAD_DO_ADD
        FAD_STEP_REGION
        FAD_STEP_REGION_BACKWARDS
        FAD_STEP_SCALARS
        FAD_STEP_GROUPS
        FAD_STEP_REPEAT
        FAD_STEP_ZERO
        FAD_STEP_MATMUL
        FAD_STEP_MATMUL_VIEWS
        FAD_STEP_CUMSUM
        FAD_STEP_EXTREMUM
        FAD_STEP_SUM
        FAD_STEP_CALL
        FAD_STEP_GUARDS
        FAD_SCALAR_LOAD
        FAD_SCALAR_STORE
        FAD_SCALAR_MUL_ADD
    ctypedef struct fad_argument:
        uint8_t place
        uint8_t dtype
        uint32_t base
        uint64_t offset
    ctypedef struct fad_affine:
        uint32_t ndim
        uint32_t first
    ctypedef struct fad_instruction:
        uint8_t code
        uint8_t dtype
        uint8_t count
        uint16_t op
        uint32_t affine
        uint64_t limit
        fad_argument arguments[4]
    ctypedef struct fad_scalar_instruction:
        uint16_t op
        uint32_t to
        uint32_t a
        uint32_t b
        uint32_t c
    ctypedef struct fad_group:
        uint16_t op
        uint32_t count
        uint32_t to
        uint64_t first
    size_t fad_scalar_arity(int op)
    ctypedef struct fad_moving:
        uint32_t base
        uint64_t offset
        int64_t stride
    ctypedef struct fad_repeated:
        uint16_t op
        uint8_t count
        uint8_t chained
        fad_moving to
        fad_moving operands[3]
    ctypedef struct fad_step:
        uint16_t kind
        uint16_t dtype
        uint32_t first
        uint32_t count
        uint64_t n
        uint32_t strip
        uint32_t strips
        uint32_t numbers
        fad_argument arguments[3]

    ctypedef struct fad_custom_host:
        fad_status (*sweep)(void *context, fad_sweep *sweep, const fad_custom *custom) noexcept nogil
        fad_status (*emit_reverse)(void *context, fad_tape *tape, const fad_custom *custom,
                                   const uint32_t *cotangents, uint32_t *results) noexcept nogil
        fad_status (*emit_tangent)(void *context, fad_tape *tape, const fad_custom *custom,
                                   const uint32_t *tangents, uint32_t *results) noexcept nogil
        fad_status (*emit_batch)(void *context, fad_tape *tape, const fad_custom *custom, size_t lanes,
                                 const uint32_t *operands, uint32_t *results) noexcept nogil
        fad_status (*call)(void *context, const fad_program *program, const fad_call *call, char **data) noexcept nogil
        void (*retain)(void *context, void *rule) noexcept nogil
        void (*release)(void *context, void *rule) noexcept nogil
        void *context

    ctypedef struct fad_pool
    enum:
        FAD_MOST_THREADS
    fad_pool *fad_pool_create(size_t threads)
    void fad_pool_destroy(fad_pool *pool)
    bint fad_pool_is_here(const fad_pool *pool)

    ctypedef struct fad_program:
        fad_custom_host host
        uint8_t *together
        fad_form *inputs
        fad_form *outputs
        fad_form *call_forms
        fad_instruction *instructions
        fad_step *steps
        fad_scalar_instruction *scalars
        fad_repeated *repeats
        fad_group *groups
        fad_band *bands
        uint32_t *places
        fad_affine *affines
        int64_t *numbers
        fad_guard *guards
        char *constants
        size_t input_count, output_count, step_count, instruction_count, scalar_count, repeat_count, guard_count, call_count
        size_t group_count, band_count, place_count
        fad_call *calls
        fad_argument *call_arguments
        size_t workspace_bytes, strip_bytes, constant_bytes, node_count

    ctypedef struct fad_tape:
        fad_node *nodes
        fad_value *values
        size_t count
        size_t capacity
        size_t bytes
        size_t limit
        void **side
        fad_shape **shapes
        fad_arena arena
        bint dry
        fad_custom_host host
        uint64_t generation
        const fad_loops *loops
        fad_allocator allocator

    ctypedef union fad_adjoint:
        double number
        void *slot
    ctypedef struct fad_sweep:
        fad_tape *tape
        fad_adjoint *adjoints
        size_t capacity

    fad_status fad_tape_create(fad_tape **tape, const fad_allocator *allocator, const fad_loops *loops, size_t limit)
    void fad_tape_destroy(fad_tape *tape)
    void fad_tape_reset(fad_tape *tape, size_t keep)
    ctypedef struct fad_bookmark:
        size_t count
    fad_bookmark fad_tape_bookmark(const fad_tape *tape)
    fad_status fad_shape_intern(fad_tape *tape, size_t ndim, const Py_ssize_t *dims, const fad_shape **out)
    fad_status fad_shape_broadcast(fad_tape *tape, const fad_shape *x, const fad_shape *y, const fad_shape **out)
    fad_status fad_push_scalar(fad_tape *tape, int op, unsigned active, uint32_t a, uint32_t b, uint32_t aux,
                               double number, uint32_t *out)
    bint fad_is_array(const fad_tape *tape, uint32_t node)
    bint fad_is_float(int dtype)
    fad_status fad_constant(fad_tape *tape, double value, uint32_t *out)
    fad_status fad_new_array(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux,
                             int dtype, const fad_shape *shape, uint32_t *out)
    fad_status fad_new_custom(fad_tape *tape, void *rule, size_t count, const uint32_t *nodes, uint32_t outputs,
                              const uint8_t *dtypes, const fad_shape **shapes, uint32_t *first)
    bint fad_repeats(const fad_array *a)
    fad_array fad_value_array(const fad_tape *tape, uint32_t node)
    const fad_shape *fad_node_shape(const fad_tape *tape, uint32_t node)
    int fad_node_dtype(const fad_tape *tape, uint32_t node)
    uint32_t fad_parent(const fad_tape *tape, uint32_t node, size_t k)

    fad_status fad_record_elementwise(fad_tape *tape, int op, const uint32_t *operands, int dtype, uint32_t *out)
    fad_status fad_record_cast(fad_tape *tape, uint32_t a, int dtype, uint32_t *out)
    fad_status fad_record_reshape(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
    fad_status fad_record_broadcast_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
    fad_status fad_record_sum_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
    fad_status fad_record_extremum_to(fad_tape *tape, int op, uint32_t a, const fad_shape *shape, uint32_t *out)
    fad_status fad_make_view(fad_tape *tape, const fad_shape *whole, size_t ndim, const Py_ssize_t *dims,
                             const Py_ssize_t *start, const Py_ssize_t *step, const int *source, uint32_t *side)
    fad_status fad_record_view(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out)
    fad_status fad_record_transpose(fad_tape *tape, uint32_t a, const int *axes, uint32_t *out)
    fad_status fad_record_element(fad_tape *tape, uint32_t a, size_t offset, uint32_t *out)
    fad_status fad_record_stack(fad_tape *tape, size_t count, const uint32_t *nodes, uint32_t *out)
    fad_status fad_record_concatenate(fad_tape *tape, size_t count, const uint32_t *nodes, size_t axis, uint32_t *out)
    fad_status fad_record_gather(fad_tape *tape, uint32_t a, uint32_t indices, uint32_t *out)
    fad_status fad_record_scatter_add(fad_tape *tape, uint32_t a, uint32_t indices, const fad_shape *shape,
                                      uint32_t *out)
    fad_status fad_record_matmul(fad_tape *tape, uint32_t a, uint32_t b, uint32_t *out)
    fad_status fad_record_zeros(fad_tape *tape, int dtype, const fad_shape *shape, uint32_t *out)
    fad_status fad_record_cumsum(fad_tape *tape, uint32_t a, size_t axis, bint backwards, uint32_t *out)

    fad_status fad_record_update_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out)
    fad_status fad_assign_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, uint32_t *out)
    fad_status fad_assign_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out)
    fad_status fad_hold(fad_tape *tape, uint32_t node)
    void fad_rebuild(const fad_tape *tape, uint32_t node, const fad_array *to)
    bint fad_is_superseded(const fad_tape *tape, uint32_t node)
    fad_status fad_cut(fad_tape *tape, uint32_t node)
    void fad_tape_rewind(fad_tape *tape, size_t mark)
    void fad_tape_return(fad_tape *tape, const fad_bookmark *mark)

    fad_status fad_sweep_begin(fad_sweep *sweep, fad_tape *tape, size_t count, bint keep)
    void fad_sweep_end(fad_sweep *sweep, size_t kept)
    fad_status fad_sweep_preset(fad_sweep *sweep, uint32_t node, char *data)
    void fad_sweep_finish(fad_sweep *sweep, uint32_t node)
    fad_status fad_sweep_give(fad_sweep *sweep, uint32_t node, const fad_array *value, void *owner)
    bint fad_sweep_get(const fad_sweep *sweep, uint32_t node, double *number, fad_array *out)
    size_t fad_sweep_scalars(fad_sweep *sweep, size_t i)
    fad_status fad_sweep_node(fad_sweep *sweep, uint32_t node)

    fad_status fad_emit_reverse(fad_tape *tape, size_t end, size_t output_count, const uint32_t *outputs,
                                const uint32_t *cotangents, size_t wrt_count, const uint32_t *wrt, uint32_t *results)
    fad_status fad_emit_tangent(fad_tape *tape, size_t end, size_t wrt_count, const uint32_t *wrt,
                                const uint32_t *tangents, size_t output_count, const uint32_t *outputs,
                                uint32_t *results)
    fad_status fad_hold_shared(fad_tape *tape, size_t start, size_t end, size_t seed_count, const uint32_t *seeds)
    fad_status fad_emit_batch(fad_tape *tape, size_t start, size_t end, size_t lanes, size_t seed_count,
                              const uint32_t *seeds, const uint32_t *batched, size_t output_count,
                              const uint32_t *outputs, uint32_t *results)
    ctypedef struct fad_trace:
        fad_tape *tape
        size_t input_count, output_count, guard_count
        uint32_t *inputs
        uint32_t *outputs
        uint32_t *guards
    fad_status fad_trace_mark(const fad_trace *trace)
    fad_status fad_trace_fill(fad_tape *tape)
    fad_status fad_pass_dead(const fad_trace *given, fad_trace *out, bint strict)
    fad_status fad_pass_reassociate(const fad_trace *given, fad_trace *out)
    fad_status fad_pass_writes(const fad_trace *given, fad_trace *out, bint strict)
    fad_status fad_pass_vectorize(const fad_trace *given, fad_trace *out)
    fad_status fad_pass_columns(const fad_trace *given, fad_trace *out, bint last)
    fad_status fad_pass_again(const fad_trace *given, fad_trace *out, size_t least)
    fad_status fad_pass_roll(const fad_trace *given, fad_trace *out, size_t min_width, bint strict)
    fad_status fad_pass_simplify(const fad_trace *given, fad_trace *out, bint strict)
    void *fad_arena_alloc(fad_tape *tape, fad_arena *arena, size_t size, fad_status *status)
    enum:
        FAD_DO_GATHER
    fad_status fad_lower(const fad_trace *trace, const char *seen, bint strict, fad_program **out)
    size_t fad_itemsize(int dtype)
    fad_status fad_trace_copy(fad_tape *to, const fad_tape *source, uint32_t node, const uint32_t *map, uint32_t *out)
    void fad_program_destroy(fad_program *program)
    size_t fad_program_bytes(const fad_program *program)
    void fad_program_prepare(const fad_program *program, char *workspace)
    fad_status fad_program_run(const fad_program *program, char *workspace, char **inputs, char **outputs,
                               fad_pool *pool, size_t *failed)
    ctypedef struct fad_fault:
        const char *part
        size_t at
        const char *reason
        char detail[40]
    bint fad_program_verify(const fad_program *program, fad_fault *fault)
    fad_status fad_program_write(const fad_program *program, char *to, size_t room, size_t *size)
    fad_status fad_program_read(const char *bytes, size_t size, const fad_allocator *allocator, const fad_loops *loops,
                                fad_program **out, fad_fault *fault)

    bint fad_verify(const fad_tape *tape, size_t *node, const char **reason)
    void fad_dump(const fad_tape *tape, size_t start, size_t stop,
                  void (*write)(void *context, const char *text) noexcept nogil, void *context)


cdef extern from "scalar.h" nogil:
    double fad_scalar_value(int op, double x, double y, double z)
    double fad_scalar_partial(int op, int k, double X, double Y, double Z, double V)
    double fad_scalar_tangent(int op, const double *x, const double *y, const double *z, const double *v,
                              double tx, double ty, double tz)


cdef class Array


cdef enum:
    LARGE_BLOCK = 1 << 20          # bytes; smaller ones come from malloc's own lists
    MOST_SPARE_BLOCKS = 32

cdef struct spare_block:
    void *p
    size_t size
    bint taken                     # by the tape that it is lent to

cdef struct spare_blocks:
    int count
    spare_block blocks[MOST_SPARE_BLOCKS]


cdef class SpareMemory:
    """Large blocks of memory, to be used again."""

    cdef spare_blocks spare

    cdef void leave_taken(self) noexcept


cdef class Recorder:
    """A tape and the right to record on it."""

    cdef fad_tape *tape
    cdef fad_sweep sweep
    cdef unsigned long thread      # of the owner while open; 0 when closed
    cdef uint64_t generation       # Arrays of an older one are stale
    cdef public bint sweeping      # its values are read without the GIL
    cdef object error              # what a rule raised
    cdef public object lanes       # while a vmap is under way: which nodes differ from lane to lane (_batch.Lanes)
    cdef readonly bint tracing     # values that reach Python are noted in `guards`
    cdef readonly list guards      # (node, bytes of its value)
    cdef SpareMemory lender        # where large blocks of the tape come from and go to, for a time
    cdef readonly bint deferred    # dry until a value is asked for
    cdef Recorder inner            # of a body that is recorded apart, meanwhile: see core/bodies.pxi
    cdef Recorder outer            # of what a body stands in, meanwhile
    cdef unsigned long outer_thread
    cdef dict captured             # of a body: node of each outer Array that it reads; None: it may read none
    cdef readonly list captures    # these Arrays
    cdef object __weakref__

    cdef int check(self, fad_status status, str what) except -1
    cpdef int settle(self) except -1
    cdef uint32_t capture(self, Array a) except? 0xfffffffe
    cdef bint is_captured(self, uint32_t node)
    cdef uint32_t lift(self, object x, int *dtype) except? 0xfffffffe
    cdef uint32_t constant_array(self, object array, int op, unsigned flags) except? 0xfffffffe
    cdef object value_of(self, uint32_t node)
    cdef bint varies(self, uint32_t node) except -1
    cdef int read_check(self, uint32_t node) except -1
    cdef int asked(self, uint32_t node) except -1
    cdef int need(self, uint32_t node) except -1
    cdef int check_node(self, size_t node) except -1
    cdef object rule_values(self, const fad_custom *custom)
    cdef object rule_arrays(self, const fad_custom *custom)
    cdef int sweep_rule(self, fad_sweep *sweep, const fad_custom *custom) except -1
    cdef int check_rule_shape(self, object rule, size_t i, uint32_t node, tuple shape) except -1
    cdef int emit_rule(self, const fad_custom *custom, const uint32_t *cotangents, uint32_t *results) except -1
    cdef int emit_rule_tangent(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1
    cdef int transpose_rule(self, const fad_custom *custom, const uint32_t *tangents, uint32_t *results) except -1


cdef class Array:
    cdef Recorder recorder
    cdef uint64_t generation
    cdef uint32_t node
    cdef bint scalar               # a 0-d float64: its value stands in the tape's table of numbers
    cdef uint16_t active
    cdef uint32_t version          # grows when it is written to
    cdef uint32_t base_version
    cdef uint32_t depth            # of the chain of views
    cdef uint16_t view_op          # VIEW or RESHAPE of the base, and its aux
    cdef uint32_t view_aux
    cdef Array base                # what it is a view of

    cdef int readable(self) except -1
    cdef uint32_t base_version_of(self) except? 0xfffffffe
    cdef int refresh(self) except -1
    cdef int writable(self) except -1
    cdef int detach(self) except -1
    cdef int write(self, uint32_t node) except -1
    cdef object number(self, str what)
    cdef int assign_gathered(self, object index, uint32_t given) except -1

    cdef int use(self) except -1


cdef Array wrap(Recorder recorder, uint32_t node)
cdef object to_numpy(const fad_array *array)
