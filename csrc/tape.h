/* tape.h: the tape. A flat array of 16-byte nodes in topological order (a parent's index is always smaller than
 * its child's), a value beside each node, and an arena for the data of array nodes. It knows shapes and values,
 * not derivatives. Every function that can fail returns a status, and leaves the tape usable. */
#ifndef FAD_TAPE_H
#define FAD_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ops.h"

/* Loops built for several instruction sets, the best chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(FAD_SANITIZE)
#define FAD_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FAD_SIMD
#endif

enum { FAD_MAX_NDIM = 64, FAD_MAX_OPERANDS = 4 };

typedef enum {
    FAD_OK = 0,
    FAD_NO_MEMORY = -1,    /* the allocator said no */
    FAD_OVER_LIMIT = -2,   /* the tape's own ceiling */
    FAD_TOO_MANY = -3,     /* more nodes, shapes or side records than 32 bits count */
    FAD_BAD_SHAPE = -4,    /* operands do not broadcast, or sizes overflow */
    FAD_BAD_OPERAND = -5,  /* no such node, wrong type, index out of range */
    FAD_IN_RULE = -6,      /* a custom rule failed; the caller's language holds the error */
} fad_status;

typedef enum { FAD_F64, FAD_F32, FAD_I64, FAD_BOOL, FAD_DTYPE_COUNT } fad_dtype;

static inline size_t fad_itemsize(int dtype) { return dtype == FAD_BOOL ? 1 : dtype == FAD_F32 ? 4 : 8; }
static inline bool fad_is_float(int dtype) { return dtype == FAD_F64 || dtype == FAD_F32; }

/* A shape is interned in its tape: the same shape is the same pointer and the same id. */
typedef struct {
    uint32_t id;
    uint32_t ndim;
    size_t size;                /* number of elements */
    const ptrdiff_t *dims;
    const ptrdiff_t *strides;   /* of a C-contiguous array, in elements */
} fad_shape;

/* An array value, or a view of one. Strides are in elements. */
typedef struct {
    char *data;
    const fad_shape *shape;
    const ptrdiff_t *strides;   /* shape->strides if and only if C-contiguous */
    uint8_t dtype;
} fad_array;

static inline bool fad_contiguous(const fad_array *a) { return a->strides == a->shape->strides; }

/* Whether more than one element of it is one element in memory. */
static inline bool fad_repeats(const fad_array *a)
{
    if (a->shape->size < 2)
        return false;
    for (size_t i = 0; i < a->shape->ndim; i++)
        if (a->strides[i] != 0 && a->shape->dims[i] != 1)
            return false;
    return true;
}

typedef struct {
    uint16_t op;
    uint16_t flags;
    uint32_t a, b;   /* parents */
    uint32_t aux;    /* third parent, shape id, side record or number: fad_ops[op].aux tells */
} fad_node;

enum {
    FAD_IS_ACTIVE = 1,   /* depends on a variable */
    FAD_IS_ARRAY = 2,    /* its value is an array */
    FAD_HAS_ARRAY = 4,   /* it or one of its parents is an array: not for the scalar loop */
    FAD_MARKED = 8,      /* free for one sweep's use */
    FAD_IS_DYNAMIC = 16, /* depends on an input of the program that the tape is made into */
    FAD_INHERITED = FAD_IS_ACTIVE | FAD_IS_DYNAMIC,
    FAD_IS_VERSION = 32, /* its value is a fad_version */
    FAD_IS_OWNED = 64,   /* a version that nothing has read but to copy: the next write may take its buffer */
};

typedef union {
    double number;
    fad_array *array;
} fad_value;

/* Versions of an array that is written to (update.c) share a buffer, which holds the newest one. Each keeps what it
 * overwrote: the older ones can be had again from that. */
typedef struct {
    char *data;
    uint32_t newest;
} fad_chain;

typedef struct {
    fad_array value;           /* first: where fad_value.array points */
    fad_chain *chain;
    char *undo;                /* the overwritten elements; NULL: the buffer was new */
} fad_version;

/* --- side records --- */

/* Basic indexing. Output axis i reads source axis `source[i]` (or none, -1, where it is new) with `step[i]`,
 * from `start[s]` on source axis s. */
typedef struct {
    const fad_shape *whole;    /* shape that VIEW reads */
    const fad_shape *part;     /* shape that VIEW gives */
    bool bijective;            /* a permutation: every element of the whole is in the part */
    const ptrdiff_t *start;    /* whole->ndim */
    const ptrdiff_t *step;     /* part->ndim */
    const int *source;         /* part->ndim */
} fad_view;

/* Places of a nest of loops: element [i, j, ...] of the part is the element of the whole at C-order offset
 * start + i*stride[0] + j*stride[1] + ... Strides may be zero or negative, and places may coincide. */
typedef struct {
    const fad_shape *whole;    /* shape that STRIDED reads */
    const fad_shape *part;     /* shape that STRIDED gives */
    ptrdiff_t start;
    const ptrdiff_t *strides;  /* part->ndim */
} fad_strided;

/* Operands of STACK, CONCATENATE (along `axis`) and NSUM. */
typedef struct {
    size_t count;
    int axis;
    uint32_t nodes[];
} fad_list;

/* Whether what CONCATENATE joins to an array of `shape` lies one behind the other there. */
static inline bool fad_joins_end_to_end(const fad_list *list, const fad_shape *shape)
{
    return (size_t)shape->dims[list->axis] * (size_t)shape->strides[list->axis] == shape->size;
}

/* SCATTER_ADD: where to. */
typedef struct {
    uint32_t indices;          /* node of the flat indices, int64 */
    const fad_shape *shape;    /* of the result */
} fad_scatter;

/* CUSTOM: operands and outputs of a rule that the host language holds. */
typedef struct {
    void *rule;
    uint32_t first_output;     /* outputs are consecutive nodes */
    uint32_t outputs;
    size_t count;
    uint32_t nodes[];          /* operands */
} fad_custom;

/* --- memory --- */

/* realloc of the host: `p` may be NULL, `size` 0 frees. */
typedef struct {
    void *(*resize)(void *context, void *p, size_t old_size, size_t size);
    void *context;
} fad_allocator;

typedef struct fad_chunk {
    struct fad_chunk *next;
    size_t size, used;         /* of the bytes after this header */
} fad_chunk;

typedef struct {
    fad_chunk *first, *current;
} fad_arena;

/* --- loops --- */

/* An element-wise inner loop: NumPy's signature. `args` are operands then result, `steps` in bytes. */
typedef void (*fad_loop)(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data);

typedef struct {
    fad_loop loop;
    void *data;
} fad_bound_loop;

typedef struct {
    fad_bound_loop elementwise[FAD_ELEMENTWISE_COUNT][FAD_DTYPE_COUNT]; /* by type of the operands */
    fad_bound_loop matmul[2];
    double constant_partial[FAD_ELEMENTWISE_COUNT][3]; /* fad_constant_partial of every row */
    uint8_t partial_uses[FAD_ELEMENTWISE_COUNT][3];    /* fad_partial_uses of every row */
} fad_loops;

/* Portable loops made from ops.def; a host may replace any of them (Python puts NumPy's there). */
void fad_default_loops(fad_loops *loops);

typedef struct fad_tape fad_tape;

/* How a host differentiates its CUSTOM nodes. `cotangent` and `result` are nodes (0xffffffff: none) while
 * emitting and arrays in a sweep. */
struct fad_sweep;
struct fad_program;
struct fad_call;
typedef struct {
    fad_status (*sweep)(void *context, struct fad_sweep *sweep, const fad_custom *custom);
    fad_status (*emit_reverse)(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *cotangents,
                               uint32_t *results);
    fad_status (*emit_tangent)(void *context, fad_tape *tape, const fad_custom *custom, const uint32_t *tangents,
                               uint32_t *results);
    /* `operands` over all lanes (0xffffffff: the same in every lane); every result over all lanes. */
    fad_status (*emit_batch)(void *context, fad_tape *tape, const fad_custom *custom, size_t lanes,
                             const uint32_t *operands, uint32_t *results);
    fad_status (*call)(void *context, const struct fad_program *program, const struct fad_call *call, char **data);
    void (*retain)(void *context, void *rule);
    void (*release)(void *context, void *rule);
    void *context;
} fad_custom_host;

#define FAD_NODE_NONE UINT32_C(0xffffffff)
enum { FAD_CONSTANT_CACHE = 64 };

struct fad_tape {
    fad_node *nodes;
    fad_value *values;
    size_t count, capacity, value_capacity;
    size_t leaves;             /* so many nodes at the start are CONSTANT or VARIABLE, as far as a sweep looked */
    size_t bytes, limit;       /* in use; ceiling (0: none) */
    fad_arena arena;           /* array data and side records; empty after a reset */
    void **side;
    size_t side_count, side_capacity;
    fad_shape **shapes;        /* by id; kept over resets */
    size_t shape_count, shape_capacity;
    uint32_t *shape_table;     /* open addressing, id + 1 */
    size_t shape_table_size;
    fad_arena shape_arena;
    uint64_t generation;       /* grows at every reset */
    bool dry;                  /* arrays that depend on an input have no data: only their form is recorded */
    const fad_loops *loops;
    fad_allocator allocator;
    fad_custom_host host;
    struct {
        uint64_t bits;
        uint32_t node;         /* node + 1; 0: empty */
    } constants[FAD_CONSTANT_CACHE];
    size_t failed_at;          /* operand that the last error is about */
};

/* --- life --- */

fad_status fad_tape_create(fad_tape **tape, const fad_allocator *allocator, const fad_loops *loops, size_t limit);
void fad_tape_destroy(fad_tape *tape);
/* Forgets all nodes; keeps shapes and up to `keep` bytes of memory for the next recording. */
void fad_tape_reset(fad_tape *tape, size_t keep);
/* Forgets the nodes from `mark` on, as if no buffer were shared: fad_tape_rewind is for others. */
void fad_tape_truncate(fad_tape *tape, size_t mark);

/* A place on the tape to return to (fad_tape_return), with all memory that was taken since. */
typedef struct {
    size_t count, side_count, used;
    fad_chunk *chunk;
} fad_bookmark;

fad_bookmark fad_tape_bookmark(const fad_tape *tape);

void *fad_resize(fad_tape *tape, void *p, size_t old_size, size_t size, fad_status *status);
/* Grows the list that `array` points to to `wanted` items or more, which are numbered by uint32_t. */
fad_status fad_grow_list(fad_tape *tape, void *array, size_t item, size_t wanted, size_t *capacity);
static inline fad_status fad_make_room(fad_tape *tape, void *array, size_t item, size_t wanted, size_t *capacity)
{
    return wanted <= *capacity ? FAD_OK : fad_grow_list(tape, array, item, wanted, capacity);
}
void *fad_arena_alloc(fad_tape *tape, fad_arena *arena, size_t size, fad_status *status);
void fad_arena_reset(fad_tape *tape, fad_arena *arena, size_t keep);
void fad_arena_free(fad_tape *tape, fad_arena *arena);
fad_status fad_tape_grow(fad_tape *tape);
/* Room for `count` nodes in all, to spare a tape of known length from growing. */
fad_status fad_tape_reserve(fad_tape *tape, size_t count);

/* --- shapes --- */

fad_status fad_shape_intern(fad_tape *tape, size_t ndim, const ptrdiff_t *dims, const fad_shape **out);
/* Shape that `x` and `y` broadcast to; FAD_BAD_SHAPE where they do not. */
fad_status fad_shape_broadcast(fad_tape *tape, const fad_shape *x, const fad_shape *y, const fad_shape **out);
/* True where an array of shape `from` broadcasts to shape `to`. */
bool fad_shape_expands(const fad_shape *from, const fad_shape *to);

/* --- appending --- */

/* A value that was overwritten: only fad_rebuild still knows it. */
static inline bool fad_is_superseded(const fad_tape *tape, uint32_t node)
{
    if (!(tape->nodes[node].flags & FAD_IS_VERSION))
        return false;
    const fad_version *version = (const fad_version *)tape->values[node].array;
    return version->chain->newest != node && version->value.data == version->chain->data;
}

/* Ops that look at the values of their operands only while they are recorded: no derivative reads them. */
static inline bool fad_reads_once(int op)
{
    return op == FAD_ELEMENT || op == FAD_GATHER || op == FAD_VIEW || op == FAD_UPDATE_VIEW || op == FAD_UPDATE_AT;
}

/* From now on the node's value may be read at any time: it must not be overwritten, nor have been. */
static inline fad_status fad_pin(fad_tape *tape, uint32_t node)
{
    tape->nodes[node].flags &= (uint16_t)~FAD_IS_OWNED;
    return fad_is_superseded(tape, node) ? FAD_BAD_OPERAND : FAD_OK;
}

/* The same for the operands of the newest node; if it reads once, it is enough that they have not been overwritten.
 * Otherwise the node is taken back. */
fad_status fad_pin_operands(fad_tape *tape, uint32_t node);

static inline fad_status fad_push(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux,
                                  fad_value value, uint32_t *out)
{
    if (__builtin_expect(tape->count == tape->capacity, 0)) {
        fad_status status = fad_tape_grow(tape);
        if (status != FAD_OK)
            return status;
    }
    size_t i = tape->count++;
    fad_node *node = &tape->nodes[i];
    node->op = (uint16_t)op;
    node->flags = (uint16_t)flags;
    node->a = a;
    node->b = b;
    node->aux = aux;
    tape->values[i] = value;
    *out = (uint32_t)i;
    if (flags & FAD_HAS_ARRAY) { /* operands that there are not are node 0, which is no version */
        unsigned third = op < FAD_ELEMENTWISE_COUNT ? tape->nodes[aux].flags : 0;
        if ((tape->nodes[a].flags | tape->nodes[b].flags | third) & FAD_IS_VERSION)
            return fad_pin_operands(tape, (uint32_t)i);
    }
    return FAD_OK;
}

static inline fad_status fad_push_scalar(fad_tape *tape, int op, unsigned active, uint32_t a, uint32_t b, uint32_t aux,
                                         double number, uint32_t *out)
{
    fad_value value;
    value.number = number;
    return fad_push(tape, op, active & FAD_INHERITED, a, b, aux, value, out);
}

static inline bool fad_is_array(const fad_tape *tape, uint32_t node)
{
    return (tape->nodes[node].flags & FAD_IS_ARRAY) != 0;
}

fad_status fad_constant(fad_tape *tape, double value, uint32_t *out);
/* Whether the node's value is computed as it is appended: always, but for the dynamic nodes of a dry tape. */
static inline bool fad_has_value(const fad_tape *tape, uint32_t node)
{
    return !(tape->dry && tape->nodes[node].flags & FAD_IS_DYNAMIC);
}

/* A new array node with uninitialised C-contiguous data, for the caller to fill (no data: fad_has_value). */
fad_status fad_new_array(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux, int dtype,
                         const fad_shape *shape, uint32_t *out);
/* A new array node whose value is `view`, data shared. */
fad_status fad_new_view(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux,
                        const fad_array *view, uint32_t *out);
fad_status fad_side_add(fad_tape *tape, void *record, uint32_t *out);

/* Value of a node as an array: a 0-d view of the number for a scalar node. */
static inline fad_array fad_value_array(const fad_tape *tape, uint32_t node)
{
    if (fad_is_array(tape, node))
        return *tape->values[node].array;
    const fad_shape *scalar = tape->shapes[0];
    fad_array a = {(char *)&tape->values[node].number, scalar, scalar->strides, FAD_F64};
    return a;
}

static inline const fad_shape *fad_node_shape(const fad_tape *tape, uint32_t node)
{
    return fad_is_array(tape, node) ? tape->values[node].array->shape : tape->shapes[0];
}

static inline int fad_node_dtype(const fad_tape *tape, uint32_t node)
{
    return fad_is_array(tape, node) ? tape->values[node].array->dtype : FAD_F64;
}

uint32_t fad_structural_parent(const fad_tape *tape, uint32_t node, size_t k);

/* Operand `k` of a node, FAD_NODE_NONE past the last one. */
static inline uint32_t fad_parent(const fad_tape *tape, uint32_t node, size_t k)
{
    const fad_node *n = &tape->nodes[node];
    if (n->op >= FAD_ELEMENTWISE_COUNT)
        return fad_structural_parent(tape, node, k);
    return k >= fad_ops[n->op].arity ? FAD_NODE_NONE : k == 0 ? n->a : k == 1 ? n->b : n->aux;
}

#endif
