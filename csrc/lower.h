/* lower.h: what the parts of lowering share: where values live, when they are computed, and what each step does. */
#ifndef FAD_LOWER_H
#define FAD_LOWER_H

#include "program.h"

#define FAD_NO_INDEX UINT32_C(0xffffffff)

/* How a root comes by its value. A node that only looks at another's memory has no class of its own. */
typedef enum {
    FAD_FROM_NOTHING,   /* not needed, or absorbed by the sum that reads it */
    FAD_FROM_INPUT,
    FAD_FROM_CONSTANT,
    FAD_FROM_SCALARS,   /* by the interpreter */
    FAD_FROM_REGION,    /* element by element: may stay in a strip */
    FAD_FROM_STORES,    /* written and added to by items of other nodes */
    FAD_FROM_STEP,      /* MATMUL, CUMSUM, CALL */
    FAD_FROM_VIEW,
} fad_source;

/* How a node that is no root reads its root's memory: strides in elements, over the node's own shape. */
typedef struct {
    ptrdiff_t offset;
    const ptrdiff_t *strides;
} fad_window;

/* Elements of a root's memory before and behind its own. */
typedef struct {
    size_t before, behind;
} fad_margins;

typedef enum { FAD_ITEM_COMPUTE, FAD_ITEM_STORE, FAD_ITEM_LOAD, FAD_ITEM_STEP, FAD_ITEM_ZERO, FAD_ITEM_GUARD } fad_item_kind;

/* A piece of work in a region. STORE: the value of `source` goes to `node` (or to output `node`, where `to_output`)
 * through `window` (of the source's shape), or to the places that `indices` names. LOAD: a scalar read from memory. */
typedef struct {
    uint8_t kind, code;
    bool to_output;
    uint32_t node, source, window, indices, next;
} fad_item;

/* Items over the same range, at the same stage. */
typedef struct {
    uint32_t stage, first, last, count;
    uint16_t kind;
    bool chained, backwards;   /* it reads its own values behind (backwards: ahead) of the element at hand */
    size_t n;
} fad_region;

typedef struct {
    const fad_trace *trace;
    fad_tape *tape;
    bool strict, has_rules;
    size_t count;              /* nodes of the tape; copies that lowering adds follow */
    size_t copies, room;
    fad_arena arena;
    uint32_t *uses;
    uint8_t *needed;           /* 1: by an output; 2: by a guard */
    uint8_t *source;           /* fad_source */
    uint8_t *given;            /* nodes that are outputs, or joined end to end in one: they lie there, not in margins */
    uint8_t *in_memory;        /* of FAD_FROM_REGION: read where a strip does not reach */
    uint32_t *root, *window;   /* window: FAD_NO_INDEX for all of the root as it is */
    uint32_t *stage, *region;  /* of roots: when complete; who computes (of an input: its number). Stage of a window that
                                * reaches into margins: when it can be read */
    uint32_t *absorbed;        /* the sum that takes a node's contribution in its place */
    uint32_t *dense;           /* copy of a node that is no dense array */
    uint32_t *copy_of;         /* of copies: the node */
    uint32_t *number;          /* of scalar nodes read from elsewhere: node whose scalar holds it */
    uint32_t *output;          /* output in which the root's memory is */
    uint64_t *output_at;       /* from which element on */
    uint32_t *takes;           /* of roots that a region computes: the root whose memory is theirs if it has any */
    uint32_t *margin;          /* of roots: number of its margins */
    fad_window *windows;
    size_t window_count, window_capacity;
    fad_margins *margins;
    size_t margin_count, margin_capacity;
    fad_item *items;
    size_t item_count, item_capacity;
    fad_region *regions;
    size_t region_count, region_capacity;
    uint32_t *table;           /* regions by stage, range and kind */
    size_t table_size;
    uint32_t barrier;          /* first stage after the guards */
} fad_lowering;

/* lower.c */
const fad_shape *fad_lower_shape(const fad_lowering *l, uint32_t node);
int fad_lower_dtype(const fad_lowering *l, uint32_t node);
bool fad_lower_is_array(const fad_lowering *l, uint32_t node);
fad_window fad_lower_window(const fad_lowering *l, uint32_t node);
bool fad_lower_is_dense(const fad_lowering *l, uint32_t node);
/* What step `node` reads as its operand `p`: a dense copy where there is one, or `p`. */
uint32_t fad_lower_step_operand(const fad_lowering *l, uint32_t node, uint32_t p);
/* Strides of the matrices of `node` as BLAS takes them. False: it does not, neither rows nor columns are contiguous. */
bool fad_lower_matrices(const fad_lowering *l, uint32_t node, ptrdiff_t *strides);
/* Scalar instructions for `node`: one, or one for each term of an NSUM. */
size_t fad_lower_scalar_count(const fad_lowering *l, uint32_t node);
/* What the i-th of them computes: the node's op, or that of a product fused with the sum that reads it. Of an NSUM, how
 * its i-th term is added (the first: POS); the sum so far, which is an operand as well, comes before the operand of ADD and
 * SUB, and behind those of a fused op. */
int fad_lower_scalar_op(const fad_lowering *l, uint32_t node, size_t i, uint32_t *operands, size_t *count);
/* Calls visit(context, node) for everything that an item reads. */
void fad_lower_reads(const fad_lowering *l, const fad_item *item, void (*visit)(void *context, uint32_t node),
                     void *context);
/* Makes `node` a window on the root of `on`; one that shows all of it is none. */
fad_status fad_lower_look_at(fad_lowering *l, uint32_t node, uint32_t on, ptrdiff_t offset, const ptrdiff_t *strides);

/* lower_margins.c: makes `node`, a join that holds `part` from element `at` on, a window on the root of `part` where that
 * can be: `*done`. What else the join has is then to be stored there. */
fad_status fad_lower_surround(fad_lowering *l, uint32_t node, uint32_t part, ptrdiff_t at, bool *done);
fad_margins fad_lower_margins(const fad_lowering *l, uint32_t root);

/* lower_place.c: what one later region alone reads is computed there, and never in memory. */
fad_status fad_lower_place(fad_lowering *l);

/* lower_chain.c: regions in a row become fewer, which read their own values at shifted places. `order` names the regions
 * as they run; what only fills margins comes earlier. */
fad_status fad_lower_chain(fad_lowering *l, uint32_t *order);
/* lower_reuse.c: what is made element by element of what nobody reads any more has the same memory. */
fad_status fad_lower_reuse(fad_lowering *l, const uint32_t *order);

/* lower_fuse.c: shortens a region's instructions, whose strips are numbered as they are made (0 .. strips-1), and gives
 * how many are left. `n`: elements of the region; `room`: for two uint32_t a strip. */
size_t fad_lower_fuse(fad_instruction *all, size_t count, size_t strips, size_t n, const fad_affine *affines,
                      const int64_t *numbers, void *room);

/* lower_emit.c: steps and instructions. `order` names the regions as they run. */
fad_status fad_lower_emit(fad_lowering *l, const uint32_t *order, const char *seen, fad_program *program);

#endif
