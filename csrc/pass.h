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
} fad_rewriter;

/* Replaces `node`, freshly appended and the tape's last, by one that does the same with less, or leaves it. What it
 * gives has gone through fad_settle, or is older than `node`. `*out` is `node` on entry. */
typedef fad_status (*fad_rewrite)(fad_rewriter *r, uint32_t node, uint32_t *out);

/* pass_simplify.c: `node` was just appended by a record function, `mark` was the tape's count before: rewrites it, and
 * gives an older node where one does the same. */
fad_status fad_settle(fad_rewriter *r, size_t mark, uint32_t node, uint32_t *out);
/* Element-wise `op`, recorded and settled. */
fad_status fad_make(fad_rewriter *r, int op, uint32_t a, uint32_t b, uint32_t c, int dtype, uint32_t *out);
/* The same in the type of `like`, repeated to its shape; `like` itself where that needs another kind of node. */
fad_status fad_make_like(fad_rewriter *r, uint32_t like, int op, uint32_t a, uint32_t b, uint32_t *out);
/* `x` converted and repeated to stand for `like`. */
fad_status fad_stand_in(fad_rewriter *r, uint32_t like, uint32_t x, uint32_t *out);

/* pass_common.c: the older node that does the same as `node`, the tape's last, which then goes; else `node`. */
fad_status fad_unify(fad_rewriter *r, uint32_t node, uint32_t *out);

/* pass_fold.c: constants. */
fad_status fad_make_number(fad_rewriter *r, double value, uint32_t *out);
fad_status fad_make_constant(fad_rewriter *r, const fad_array *value, uint32_t *out);
/* A constant of all `value`, in the shape and type of `like`. */
fad_status fad_fill_like(fad_rewriter *r, uint32_t like, double value, uint32_t *out);
/* Whether `node` is a constant with one value in all its elements. */
bool fad_is_number(const fad_tape *tape, uint32_t node, double *value);

#endif
