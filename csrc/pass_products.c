/* pass_products.c: identities of products, quotients and powers.
 *
 * Signs and constant factors move outward, where they meet others: -a * b is -(a * b) to the bit, (a * c) * b is
 * (a * b) * c to rounding. They move only out of a node that has no other use, which would have to stay, and never into a
 * larger array. The strong product, ZMUL(x, y) = 0 where x is 0, becomes a plain one only where the two cannot differ:
 * x is known not to be 0, or (but for the sign of a zero) y is known to be finite. Of an input neither is known. */
#include "pass.h"
#include "record.h"
#include "try.h"

#include <float.h>
#include <math.h>


/* Whether `c` is finite and neither zero nor so small that it lost digits, in the type of `like`. */
static bool is_normal(const fad_tape *tape, uint32_t like, double c)
{
    bool narrow = fad_node_dtype(tape, like) == FAD_F32;
    return fabs(c) >= (narrow ? FLT_MIN : DBL_MIN) && fabs(c) <= (narrow ? FLT_MAX : DBL_MAX);
}

/* x = y * c, with a c that may be combined with other constants. */
static bool is_scaled(const fad_rewriter *r, uint32_t x, uint32_t *y, double *c)
{
    const fad_node *n = &r->to->nodes[x];
    *y = n->a;
    return n->op == FAD_MUL && fad_is_number_in(r->to, x, n->b, c) && is_normal(r->to, x, *c);
}

/* Whether `x` may give up its sign or factor to `node`. */
static bool may_leave(const fad_rewriter *r, uint32_t node, uint32_t x)
{
    return !fad_is_shared(r, x) && fad_node_shape(r->to, x) == fad_node_shape(r->to, node);
}

/* -op(a, b) in place of `node`. */
static fad_status negated(fad_rewriter *r, uint32_t node, int op, uint32_t a, uint32_t b, uint32_t *out)
{
    uint32_t product = node;
    TRY(fad_make_like(r, node, op, a, b, &product));
    return product == node ? FAD_OK : fad_make_like(r, node, FAD_NEG, product, 0, out);
}

/* op(a, b) * c in place of `node`. */
static fad_status scaled(fad_rewriter *r, uint32_t node, int op, uint32_t a, uint32_t b, double c, uint32_t *out)
{
    uint32_t product = node;
    TRY(fad_make_like(r, node, op, a, b, &product));
    return product == node ? FAD_OK : fad_scale_like(r, node, product, c, out);
}

/* Signs move out of op(a, b), which is odd in both. Exact for MUL and DIV. */
static fad_status move_sign(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    bool p = fad_is_op(r, n.a, FAD_NEG), q = fad_is_op(r, n.b, FAD_NEG);
    uint32_t a = p ? r->to->nodes[n.a].a : n.a, b = q ? r->to->nodes[n.b].a : n.b;
    if (p && q)
        return fad_make_like(r, node, n.op, a, b, out);
    if ((p && may_leave(r, node, n.a)) || (q && may_leave(r, node, n.b)))
        return negated(r, node, n.op, a, b, out);
    return FAD_OK;
}

/* Factors move out of op(a, b), which is linear in both. To rounding. */
static fad_status move_factor(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    double c = 1, d = 1;
    uint32_t a, b;
    bool p = is_scaled(r, n.a, &a, &c), q = is_scaled(r, n.b, &b, &d);
    if (p && q && is_normal(r->to, node, c * d))
        return scaled(r, node, n.op, a, b, c * d, out);
    if (p && may_leave(r, node, n.a))
        return scaled(r, node, n.op, a, n.b, c, out);
    if (q && may_leave(r, node, n.b))
        return scaled(r, node, n.op, n.a, b, d, out);
    return FAD_OK;
}

/* Whether operand `x` of a product of matrices, `node`, is y * c, and the product is no larger: its sign or factor may be
 * the product's. */
static bool may_scale_product(const fad_rewriter *r, uint32_t node, uint32_t x, uint32_t *y, double *c)
{
    const fad_tape *tape = r->to;
    bool scaled = is_scaled(r, x, y, c);
    if (!scaled && fad_is_op(r, x, FAD_NEG)) {
        *c = -1;
        scaled = true;
    }
    return scaled && !fad_is_shared(r, x) && fad_is_array(tape, *y) && fad_node_shape(tape, *y) == fad_node_shape(tape, x) &&
           fad_node_dtype(tape, *y) == fad_node_dtype(tape, node) &&
           fad_node_shape(tape, x)->size >= fad_node_shape(tape, node)->size;
}

/* Not strict. */
fad_status fad_rewrite_matmul(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    uint32_t a = n.a, b = n.b, product;
    double c = 1, d = 1;
    if (r->strict)
        return FAD_OK;
    bool p = may_scale_product(r, node, n.a, &a, &c), q = may_scale_product(r, node, n.b, &b, &d);
    if (p && q && !is_normal(r->to, node, c * d))
        q = false;
    if (!p && !q)
        return FAD_OK;
    size_t mark = r->to->count;
    TRY(fad_record_matmul(r->to, p ? a : n.a, q ? b : n.b, &product));
    TRY(fad_settle(r, mark, product, &product));
    return fad_scale_like(r, node, product, (p ? c : 1) * (q ? d : 1), out);
}

/* --- x * c --- */

/* Not strict where c is negative: the zeros around it become -0. */
static fad_status scale_embedded(fad_rewriter *r, uint32_t node, uint32_t x, double c, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[x];
    uint32_t part = n.a, made = n.a;
    if (fad_is_shared(r, x) || c - c != 0 || (r->strict && !(c > 0)) || fad_node_shape(tape, x) != fad_node_shape(tape, node))
        return FAD_OK;
    TRY(fad_scale_like(r, part, part, c, &made));
    return made == part ? FAD_OK : fad_make_whole(r, made, n.aux, out);
}

/* Exact but for x * c * d. */
static fad_status scale(fad_rewriter *r, uint32_t node, uint32_t x, double c, bool turned, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t y;
    double d;
    if (c == 1)
        return fad_stand_in(r, node, x, out);
    if (c == -1)
        return fad_make_like(r, node, FAD_NEG, x, 0, out);
    if (fad_is_op(r, x, FAD_NEG))
        return fad_scale_like(r, node, tape->nodes[x].a, -c, out);
    if (!r->strict && is_scaled(r, x, &y, &d) && is_normal(tape, node, c * d))
        return fad_scale_like(r, node, y, c * d, out);
    if (fad_is_op(r, x, FAD_EMBED))
        return scale_embedded(r, node, x, c, out);
    if (turned && fad_is_array(tape, tape->nodes[node].a))
        return fad_scale_like(r, node, x, c, out);
    if (turned) { /* a number: it only changes sides */
        fad_node *n = &tape->nodes[node];
        n->b = n->a;
        n->a = x;
    }
    return FAD_OK;
}

fad_status fad_rewrite_mul(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    double c;
    if (fad_is_number_in(r->to, node, n.b, &c))
        return scale(r, node, n.a, c, false, out);
    if (fad_is_number_in(r->to, node, n.a, &c))
        return scale(r, node, n.b, c, true, out);
    if (n.a == n.b) /* x * x is how the table writes SQUARE */
        return fad_make_like(r, node, FAD_SQUARE, n.a, 0, out);
    TRY(move_sign(r, node, out));
    return *out != node || r->strict ? FAD_OK : move_factor(r, node, out);
}

/* --- strong products --- */

enum { ALL_FINITE = 1, ALL_NONZERO = 2 };

/* Which of the two hold for every element of a constant array, rounded to no other type. */
static int of_all(const fad_tape *tape, uint32_t node)
{
    const fad_array *a = tape->values[node].array;
    int all = ALL_FINITE | ALL_NONZERO;
    if (!fad_is_array(tape, node) || !fad_contiguous(a) || !fad_is_float(a->dtype))
        return 0;
    for (size_t i = 0; i < a->shape->size && all; i++) {
        double c = a->dtype == FAD_F64 ? ((const double *)a->data)[i] : ((const float *)a->data)[i];
        all &= ~((c - c != 0 ? ALL_FINITE : 0) | (c == 0 ? ALL_NONZERO : 0));
    }
    return all;
}

/* Two levels deep: what the partials in ops.def are made of. */
static bool is_finite(const fad_rewriter *r, uint32_t node, int levels)
{
    const fad_node *n = &r->to->nodes[node];
    double c;
    if (fad_is_number(r->to, node, &c))
        return c - c == 0;
    if (n->op == FAD_CONSTANT)
        return of_all(r->to, node) & ALL_FINITE;
    if (fad_ops[n->op].kind == FAD_PREDICATE || fad_node_dtype(r->to, node) == FAD_BOOL)
        return true;
    if (levels == 0)
        return false;
    if (n->op == FAD_SELECT)
        return is_finite(r, n->b, levels - 1) && is_finite(r, n->aux, levels - 1);
    if (n->op == FAD_COPYSIGN || n->op == FAD_NEG || n->op == FAD_BROADCAST_TO || n->op == FAD_ABS)
        return is_finite(r, n->a, levels - 1);
    return false;
}

/* Whether `x == 0` is false for all elements, in the type of `like`. A NaN is not zero. */
static bool is_nonzero(const fad_rewriter *r, uint32_t like, uint32_t node, int levels)
{
    const fad_node *n = &r->to->nodes[node];
    double c;
    if (fad_is_number_in(r->to, like, node, &c))
        return c != 0;
    if (n->op == FAD_CONSTANT)
        return of_all(r->to, node) & ALL_NONZERO;
    if (n->op == FAD_COSH) /* at least 1 */
        return true;
    if (levels == 0)
        return false;
    if (n->op == FAD_SELECT)
        return is_nonzero(r, like, n->b, levels - 1) && is_nonzero(r, like, n->aux, levels - 1);
    return (n->op == FAD_NEG || n->op == FAD_ABS || n->op == FAD_BROADCAST_TO) &&
           is_nonzero(r, like, n->a, levels - 1);
}

/* Exact: zero everywhere else, the product there. */
static fad_status strong_embedded(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node], x = tape->nodes[n.a];
    uint32_t y = n.b, made = x.a;
    if (fad_node_shape(tape, n.a) != fad_node_shape(tape, node) || x.op != FAD_EMBED)
        return FAD_OK;
    if (fad_is_array(tape, y)) {
        if (fad_node_shape(tape, y) != fad_node_shape(tape, node))
            return FAD_OK;
        TRY(fad_make_part(r, y, x.aux, &y));
    }
    TRY(fad_make_like(r, x.a, n.op, x.a, y, &made));
    return made == x.a ? FAD_OK : fad_make_whole(r, made, x.aux, out);
}

/* Where the product cannot but be the plain one (to the sign of a zero, where not strict). */
static bool is_plain(const fad_rewriter *r, uint32_t node)
{
    fad_node n = r->to->nodes[node];
    if (n.op == FAD_ZMUL)
        return is_nonzero(r, node, n.a, 2) || (!r->strict && is_finite(r, n.b, 2));
    if (r->strict)
        return false;
    bool p = is_finite(r, n.a, 2), q = is_finite(r, n.b, 2);
    return (p && q) || (p && is_nonzero(r, node, n.a, 2)) || (q && is_nonzero(r, node, n.b, 2));
}

/* g * c in place of `like`, with the strong zero. */
static fad_status routed_times(fad_rewriter *r, uint32_t like, uint32_t g, double c, uint32_t *out)
{
    return c == 0   ? fad_fill_like(r, like, 0.0, out)
           : c == 1 ? fad_stand_in(r, like, g, out)
                    : fad_scale_like(r, like, g, c, out);
}

/* SMUL(g, p) where p takes one of two numbers, or a number and such a choice again: the choice is made between the
 * products. To the sign of a zero. */
static fad_status routed(fad_rewriter *r, uint32_t node, uint32_t g, uint32_t p, int levels, uint32_t *out)
{
    fad_node select = r->to->nodes[p];
    uint32_t yes = node, no = node;
    double c, d;
    if (select.op != FAD_SELECT || !fad_is_number_in(r->to, node, select.b, &c) || c - c != 0)
        return FAD_OK;
    if (fad_is_number_in(r->to, node, select.aux, &d) && d - d == 0)
        TRY(routed_times(r, node, g, d, &no));
    else if (levels > 1)
        TRY(routed(r, node, g, select.aux, levels - 1, &no));
    if (no != node)
        TRY(routed_times(r, node, g, c, &yes));
    return yes == node ? FAD_OK : fad_make(r, FAD_SELECT, select.a, yes, no, fad_node_dtype(r->to, node), out);
}

fad_status fad_rewrite_strong(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    double c;
    if ((fad_is_number_in(r->to, node, n.a, &c) && c == 0) ||
        (n.op == FAD_SMUL && fad_is_number_in(r->to, node, n.b, &c) && c == 0))
        return fad_fill_like(r, node, 0.0, out);
    if (is_plain(r, node))
        return fad_make_like(r, node, FAD_MUL, n.a, n.b, out);
    if (n.op == FAD_SMUL && !r->strict)
        TRY(routed(r, node, n.a, n.b, 2, out));
    if (*out != node)
        return FAD_OK;
    TRY(strong_embedded(r, node, out));
    if (*out == node && !r->strict)
        TRY(move_sign(r, node, out));
    if (*out == node && !r->strict)
        TRY(move_factor(r, node, out));
    return FAD_OK;
}

/* --- quotients and powers --- */

static bool is_power_of_two(double c)
{
    int exponent;
    return fabs(frexp(c, &exponent)) == 0.5;
}

/* Exact but for x / c = x * (1 / c) where c is no power of two. */
fad_status fad_rewrite_div(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    double c;
    if (fad_is_number_in(r->to, node, n.b, &c)) {
        bool exact = is_power_of_two(c);
        if (is_normal(r->to, node, c) && is_normal(r->to, node, 1 / c) && (exact || !r->strict))
            return fad_scale_like(r, node, n.a, 1 / c, out);
    }
    if (fad_is_number_in(r->to, node, n.a, &c) && fabs(c) == 1)
        return c > 0 ? fad_make_like(r, node, FAD_RECIPROCAL, n.b, 0, out)
                     : negated(r, node, FAD_RECIPROCAL, n.b, 0, out);
    return move_sign(r, node, out);
}

/* x**0 is 1 for every x. The others are exact in real numbers, and pow() is not exact. */
fad_status fad_rewrite_pow(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    uint32_t square = node;
    double c;
    if (!fad_is_number_in(r->to, node, n.b, &c))
        return FAD_OK;
    if (c == 0)
        return fad_fill_like(r, node, 1.0, out);
    if (r->strict)
        return FAD_OK;
    if (c == 1)
        return fad_stand_in(r, node, n.a, out);
    if (c == -1)
        return fad_make_like(r, node, FAD_RECIPROCAL, n.a, 0, out);
    if (c != 2 && c != 3 && c != 4 && c != -2)
        return FAD_OK;
    TRY(fad_make_like(r, node, FAD_SQUARE, n.a, 0, &square));
    if (c == 2 || square == node)
        *out = square;
    else if (c == 3)
        TRY(fad_make_like(r, node, FAD_MUL, square, n.a, out));
    else
        TRY(fad_make_like(r, node, c == 4 ? FAD_SQUARE : FAD_RECIPROCAL, square, 0, out));
    return FAD_OK;
}
