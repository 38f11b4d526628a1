/* sweep.h: the adjoints of one numeric reverse sweep, and its steps. The loop itself belongs to the host
 * (src/fastad/_reverse.pyx; tests/c has one in C): it hands stretches of scalar nodes to fad_sweep_scalars and every
 * node with FAD_HAS_ARRAY to fad_sweep_node. */
#ifndef FAD_SWEEP_H
#define FAD_SWEEP_H

#include "tape.h"

/* Memory of adjoints, shared by views of it; reused within the sweep when the last reference goes. */
typedef struct fad_buffer {
    struct fad_buffer *next;
    char *data;
    uint32_t references;
    int32_t size_class;        /* -1: the host's memory, never reused */
} fad_buffer;

/* The adjoint of an array node. Empty: zero. */
typedef struct {
    fad_array value;
    fad_buffer *buffer;        /* NULL: empty */
    fad_buffer *preset;        /* where the host wants the result, or NULL */
} fad_slot;

typedef union {
    double number;             /* of a scalar node */
    fad_slot *slot;            /* of an array node; NULL: zero */
} fad_adjoint;

enum { FAD_SIZE_CLASSES = 256 };

typedef struct fad_sweep {
    fad_tape *tape;
    fad_adjoint *adjoints;     /* one a node */
    size_t capacity;
    bool keep;                 /* keep the adjoints of all nodes, not only of variables */
    fad_arena arena;
    fad_buffer *free[FAD_SIZE_CLASSES];
} fad_sweep;

/* Makes room for nodes 0 .. count-1, all adjoints zero. */
fad_status fad_sweep_begin(fad_sweep *sweep, fad_tape *tape, size_t count, bool keep);
/* Gives memory back, but for `kept` bytes. */
void fad_sweep_end(fad_sweep *sweep, size_t kept);

/* The array adjoint of `node` is to be left in `data` (C-contiguous, of the node's type and shape). */
fad_status fad_sweep_preset(fad_sweep *sweep, uint32_t node, char *data);
/* After the sweep: fills the preset memory of `node`. */
void fad_sweep_finish(fad_sweep *sweep, uint32_t node);

/* Adds `value` (of the node's shape) to the node's adjoint. `owner`: the buffer behind it, or NULL to have it copied. */
fad_status fad_sweep_give(fad_sweep *sweep, uint32_t node, const fad_array *value, fad_buffer *owner);
/* The node's adjoint as memory of its own, C-contiguous; `*empty` tells that nothing is in it yet, and unless
 * `as_is` it is then filled with zeros. Array nodes only. */
fad_status fad_sweep_dense(fad_sweep *sweep, uint32_t node, bool as_is, fad_array *out, bool *empty);
/* The node's adjoint, false if it is zero. `number` is room for a scalar node's. */
bool fad_sweep_get(const fad_sweep *sweep, uint32_t node, double *number, fad_array *out);

/* scalars.c: the reverse steps of nodes i-1, i-2, ... as long as they are scalar. Returns where they end: i with an array
 * involved in node i-1, or 0 where only leaves remain. */
size_t fad_sweep_scalars(fad_sweep *sweep, size_t i);
/* The reverse step of a node with FAD_HAS_ARRAY. */
fad_status fad_sweep_node(fad_sweep *sweep, uint32_t node);

/* For the step's parts: */
fad_status fad_sweep_buffer(fad_sweep *sweep, size_t size, fad_buffer **out);
void fad_sweep_release(fad_sweep *sweep, fad_buffer *buffer);

/* strips.c: result (+)= cotangent * partial of element-wise `node` by operand `k` (strong-zero products), summed over
 * the axes along which `result` broadcasts to the node's shape. */
void fad_strips_accumulate(fad_tape *tape, uint32_t node, size_t k, const fad_array *cotangent,
                           const fad_array *result, bool add);
/* The same for the first element alone: `result` is one number. */
void fad_strips_first(fad_tape *tape, uint32_t node, size_t k, const fad_array *cotangent, const fad_array *result);
/* Whether that product has the same value in every element. */
bool fad_strips_uniform(const fad_tape *tape, uint32_t node, size_t k, const fad_array *cotangent);

#endif
