/* pass.h: the passes over traces, and what the parts of the simplifying walk share.
 *
 * A pass reads one trace and writes another, on a fresh tape. Strict: every value that outputs and guards need keeps
 * its bits (a NaN stays a NaN, of any payload). Otherwise values may differ by rounding and in the sign of a zero.
 * Derivatives taken after a pass agree with those taken before it to rounding: what is strict about a gradient is
 * that of one which the trace already holds as nodes. */
#ifndef FAD_PASS_H
#define FAD_PASS_H

#include "trace.h"

/* What outputs and guards need, and the inputs. */
fad_status fad_pass_dead(const fad_trace *in, fad_trace *out, bool strict);
/* The same, every node rewritten on its way: constants, identities, common subexpressions. */
fad_status fad_pass_simplify(const fad_trace *in, fad_trace *out, bool strict);

/* --- pass_dead.c --- */

/* How often each node is used by what outputs and guards need, up to FAD_USED_OFTEN; 0: dead. The inputs are never
 * dead, and the outputs of a CUSTOM node live and die together. An array of count + 1 bytes of `memory`, the caller's
 * to free. */
enum { FAD_USED_OFTEN = 2 };
fad_status fad_count_uses(const fad_trace *trace, fad_tape *memory, uint8_t **uses);
/* Takes the dead nodes out of `trace`, in place, and clears FAD_MARKED. */
fad_status fad_drop_dead(fad_trace *trace);

/* --- the simplifying walk --- */

typedef struct {
    uint32_t hash, node;       /* node + 1; 0: empty */
} fad_known;

typedef struct {
    fad_tape *to;
    bool strict;
    unsigned depth;            /* of rewrites within rewrites */
    fad_known *known;          /* pass_common.c: open addressing, a power of two */
    size_t known_size, known_count;
    size_t known_spacing;      /* slots a node, times 2^16 */
} fad_rewriter;

/* Replaces `node`, freshly appended and the tape's last, by one that does the same with less, or leaves it. What it
 * gives has gone through fad_settle, or is older than `node`. `*out` is `node` on entry. */
typedef fad_status (*fad_rewrite)(fad_rewriter *r, uint32_t node, uint32_t *out);

/* pass_simplify.c: `node` was just appended by a record function, `mark` was the tape's count before: rewrites it, and
 * gives an older node where one does the same. */
fad_status fad_settle(fad_rewriter *r, size_t mark, uint32_t node, uint32_t *out);
/* A copy of `node` of `from`, settled; a constant where it depends on no input. `map` tells where its operands are. */
fad_status fad_copy_settled(fad_rewriter *r, const fad_tape *from, uint32_t node, const uint32_t *map, uint32_t *out);
/* Element-wise `op`, recorded and settled. */
fad_status fad_make(fad_rewriter *r, int op, uint32_t a, uint32_t b, uint32_t c, int dtype, uint32_t *out);
/* The same in the type of `like`, repeated to its shape. Leaves `*out` alone where that cannot be. */
fad_status fad_make_like(fad_rewriter *r, uint32_t like, int op, uint32_t a, uint32_t b, uint32_t *out);
/* x * c in the same way. */
fad_status fad_scale_like(fad_rewriter *r, uint32_t like, uint32_t x, double c, uint32_t *out);
/* `x` itself, converted and repeated where it must be to stand for `like`. Leaves `*out` alone where it cannot. */
fad_status fad_stand_in(fad_rewriter *r, uint32_t like, uint32_t x, uint32_t *out);

/* pass_shapes.c: `a` in another shape, recorded and settled. */
fad_status fad_make_reshape(fad_rewriter *r, uint32_t a, const fad_shape *shape, uint32_t *out);

static inline bool fad_is_op(const fad_rewriter *r, uint32_t node, int op) { return r->to->nodes[node].op == op; }

/* Whether more than one node of the trace that is read uses it: then it stays, whatever replaces one use. */
static inline bool fad_is_shared(const fad_rewriter *r, uint32_t node)
{
    return (r->to->nodes[node].flags & FAD_MARKED) != 0;
}

/* pass_common.c: the older node that does the same as `node`, the tape's last, which then goes; else `node`. */
fad_status fad_unify(fad_rewriter *r, uint32_t node, uint32_t *out);
/* Makes room for `count` nodes, before the first of them. */
fad_status fad_expect_nodes(fad_rewriter *r, size_t count);
/* Whether the side records of two nodes of one `op` say the same. */
bool fad_same_side(int op, const void *x, const void *y);

/* pass_fold.c: constants. */
fad_status fad_make_number(fad_rewriter *r, double value, uint32_t *out);
fad_status fad_make_constant(fad_rewriter *r, const fad_array *value, uint32_t *out);
/* A constant of all `value`, in the shape and type of `like`. */
fad_status fad_fill_like(fad_rewriter *r, uint32_t like, double value, uint32_t *out);
/* Whether `node` is a constant with one value in all its elements. */
bool fad_is_number(const fad_tape *tape, uint32_t node, double *value);
/* The same, the value rounded to the type in which `like` is computed. */
bool fad_is_number_in(const fad_tape *tape, uint32_t like, uint32_t node, double *value);

/* --- the identities, by what they start from --- */

/* pass_shapes.c */
fad_status fad_rewrite_operands(fad_rewriter *r, uint32_t node, uint32_t *out); /* of every element-wise array */
fad_status fad_rewrite_broadcast(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_sum_to(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_reshape(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_cast(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_sums.c */
fad_status fad_rewrite_add(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_sub(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_neg(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_nsum(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_products.c */
fad_status fad_rewrite_mul(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_strong(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_div(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_matmul(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_pow(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_choices.c */
fad_status fad_rewrite_even(fad_rewriter *r, uint32_t node, uint32_t *out);     /* f(-x) = f(|x|) = f(x) */
fad_status fad_rewrite_identity(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_extremum(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_greater(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_select(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_views.c */
fad_status fad_make_part(fad_rewriter *r, uint32_t a, uint32_t side, uint32_t *out);  /* recorded and settled */
fad_status fad_make_whole(fad_rewriter *r, uint32_t a, uint32_t side, uint32_t *out);
/* Where the whole's element `at` is in the part (flat, C order); false: not in it. And the other way. */
bool fad_view_finds(const fad_view *view, size_t at, size_t *in_part);
size_t fad_view_reads(const fad_view *view, size_t in_part);
fad_status fad_rewrite_view(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_embed(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_update_view(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_transposes.c */
fad_status fad_rewrite_transposed(fad_rewriter *r, uint32_t node, uint32_t *out); /* of every element-wise array */
fad_status fad_rewrite_reduced_transpose(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_reshaped_transpose(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_strided.c */
fad_status fad_rewrite_strided(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_strided_add(fad_rewriter *r, uint32_t node, uint32_t *out);
/* pass_elements.c */
fad_status fad_rewrite_element(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_stack(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_concatenate(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_gather(fad_rewriter *r, uint32_t node, uint32_t *out);
fad_status fad_rewrite_scatter(fad_rewriter *r, uint32_t node, uint32_t *out);

#endif
