/* pass_shapes.c: identities of broadcasting, sums over axes, reshaping and casting. */
#include "pass.h"
#include "record.h"
#include "try.h"

/* --- operands of element-wise nodes --- */

typedef struct {
    uint32_t nodes[3];
    double numbers[3];
    bool is_number[3];   /* a constant array that one number replaces */
    int dtype;           /* to compute in */
    bool changed, arrays;
} operands;

/* What can be had of `node`'s operands without repeating them: element-wise nodes broadcast by themselves. */
static operands without_repeating(const fad_tape *tape, uint32_t node)
{
    operands x = {.dtype = -1};
    uint16_t op = tape->nodes[node].op;
    for (size_t k = 0; k < fad_ops[op].arity; k++) {
        uint32_t p = x.nodes[k] = fad_parent(tape, node, k);
        if (!fad_is_array(tape, p))
            continue;
        x.dtype = fad_node_dtype(tape, p);
        if (tape->nodes[p].op == FAD_BROADCAST_TO)
            x.nodes[k] = tape->nodes[p].a;
        else
            x.is_number[k] = fad_is_number(tape, p, &x.numbers[k]);
        x.changed |= x.nodes[k] != p || x.is_number[k];
        x.arrays |= !x.is_number[k] && fad_is_array(tape, x.nodes[k]);
    }
    if (fad_ops[op].kind != FAD_PREDICATE)
        x.dtype = fad_node_dtype(tape, node);
    return x;
}

/* Exact. Two operands that are repeated alike meet before they are repeated. Where no array would be left, only
 * float64 arithmetic is the same as a scalar's. */
fad_status fad_rewrite_operands(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    operands x = without_repeating(r->to, node);
    uint16_t op = r->to->nodes[node].op;
    uint32_t made;
    if (!x.changed || !(x.arrays || (x.dtype == FAD_F64 && fad_ops[op].kind != FAD_PREDICATE)))
        return FAD_OK;
    for (size_t k = 0; k < fad_ops[op].arity; k++)
        if (x.is_number[k])
            TRY(fad_make_number(r, x.numbers[k], &x.nodes[k]));
    TRY(fad_make(r, op, x.nodes[0], x.nodes[1], x.nodes[2], x.dtype, &made));
    return fad_stand_in(r, node, made, out);
}

/* --- recording and settling --- */

static fad_status make_broadcast(fad_rewriter *r, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_broadcast_to(r->to, a, shape, out));
    return fad_settle(r, mark, *out, out);
}

static fad_status make_sum_to(fad_rewriter *r, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_sum_to(r->to, a, shape, out));
    return fad_settle(r, mark, *out, out);
}

fad_status fad_make_reshape(fad_rewriter *r, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_reshape(r->to, a, shape, out));
    return fad_settle(r, mark, *out, out);
}

static fad_status make_cast(fad_rewriter *r, uint32_t a, int dtype, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_cast(r->to, a, dtype, out));
    return fad_settle(r, mark, *out, out);
}

/* --- the rewrites --- */

/* Exact: repeated twice is repeated at once. */
fad_status fad_rewrite_broadcast(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node];
    if (!fad_is_op(r, n.a, FAD_BROADCAST_TO))
        return FAD_OK;
    return make_broadcast(r, tape->nodes[n.a].a, fad_node_shape(tape, node), out);
}

/* Not strict. A sum over the axes that repeat x is x as often as it was repeated. */
static fad_status sum_of_repeated(fad_rewriter *r, uint32_t node, uint32_t x, size_t size, uint32_t *out)
{
    fad_tape *tape = r->to;
    const fad_shape *to = fad_node_shape(tape, node), *from = fad_node_shape(tape, x);
    if (from->size == 0 || size == 0)
        return FAD_OK;
    if (fad_shape_expands(from, to))
        return fad_scale_like(r, node, x, (double)(size / to->size), out);
    if (!fad_shape_expands(to, from))
        return FAD_OK;
    TRY(make_sum_to(r, x, to, &x));
    return fad_scale_like(r, node, x, (double)(size / from->size), out);
}

/* Not strict. What the sum over all elements does not see: their order, and zeros between them. */
static bool is_same_to_a_total(const fad_rewriter *r, uint32_t node)
{
    const fad_node *n = &r->to->nodes[node];
    return n->op == FAD_EMBED || n->op == FAD_RESHAPE ||
           (n->op == FAD_VIEW && ((const fad_view *)r->to->side[n->aux])->bijective);
}

/* What a factor is a quotient by, perhaps times what is finite: where that is neither zero nor infinite nor a NaN, the
 * factor is finite. `x` itself: nothing. */
static uint32_t divisor(const fad_rewriter *r, uint32_t x)
{
    enum { LEVELS = 4 };
    uint32_t at = x;
    double c;
    for (int level = 0; level < LEVELS; level++) {
        const fad_node *n = &r->to->nodes[at];
        if (n->op == FAD_RECIPROCAL)
            return n->a;
        if (n->op == FAD_DIV)
            return fad_is_number(r->to, n->a, &c) && c - c == 0 ? n->b : x;
        if (n->op == FAD_MUL && fad_is_number(r->to, n->b, &c) && c - c == 0)
            at = n->a;
        else if (n->op == FAD_NEG || n->op == FAD_RESHAPE)
            at = n->a;
        else
            return x;
    }
    return x;
}

/* Not strict. The sum of the elements of x, each times a quotient by the sum S of all, is the quotient times S. (If S is
 * zero or infinite, so that the quotient is not finite or zero, both are NaN, or the strong product's zero; but where a
 * sum of finite numbers overflows, or its reciprocal does, the one may be infinite or NaN and the other not.) */
static fad_status sum_of_shares(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    const fad_shape *shape = fad_node_shape(tape, node), *from = fad_node_shape(tape, tape->nodes[node].a);
    fad_node of = tape->nodes[tape->nodes[node].a];
    for (int k = 0; k < 1 + (of.op == FAD_MUL); k++) {
        uint32_t factor = k ? of.b : of.a, x = k ? of.a : of.b, sum = divisor(r, factor);
        if (sum != factor && fad_is_op(r, sum, FAD_SUM_TO) && tape->nodes[sum].a == x && fad_node_shape(tape, x) == from &&
            fad_node_shape(tape, sum) == shape && fad_shape_expands(fad_node_shape(tape, factor), shape))
            return fad_make_like(r, node, of.op, factor, sum, out);
    }
    return FAD_OK;
}

/* Not strict (sums start from +0, are taken in another order, and are multiplied once instead of each term). */
fad_status fad_rewrite_sum_to(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, sum;
    fad_node of = tape->nodes[a];
    const fad_shape *shape = fad_node_shape(tape, node), *from = fad_node_shape(tape, a);
    double c;
    if (r->strict)
        return FAD_OK;
    if (shape->size == from->size)
        return fad_make_reshape(r, a, shape, out);
    if (of.op == FAD_BROADCAST_TO)
        return sum_of_repeated(r, node, of.a, from->size, out);
    if (of.op == FAD_SUM_TO)
        return make_sum_to(r, of.a, shape, out);
    if (of.op == FAD_NEG) {
        TRY(make_sum_to(r, of.a, shape, &sum));
        return fad_make_like(r, node, FAD_NEG, sum, 0, out);
    }
    if (of.op == FAD_MUL && fad_node_shape(tape, of.a) == from && fad_is_number(tape, of.b, &c) && c - c == 0) {
        TRY(make_sum_to(r, of.a, shape, &sum));
        return fad_scale_like(r, node, sum, c, out);
    }
    if (of.op == FAD_MUL || of.op == FAD_ZMUL)
        TRY(sum_of_shares(r, node, out));
    if (*out != node)
        return FAD_OK;
    if (shape->size == 1 && is_same_to_a_total(r, a) && fad_shape_expands(shape, fad_node_shape(tape, of.a)))
        return make_sum_to(r, of.a, shape, out);
    return fad_rewrite_reduced_transpose(r, node, out);
}

/* Exact. */
fad_status fad_rewrite_reshape(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node of = tape->nodes[tape->nodes[node].a];
    const fad_shape *shape = fad_node_shape(tape, node);
    if (of.op == FAD_RESHAPE)
        return fad_make_reshape(r, of.a, shape, out);
    if (of.op == FAD_BROADCAST_TO && fad_node_shape(tape, of.a)->ndim == 0)
        return make_broadcast(r, of.a, shape, out);
    return fad_rewrite_reshaped_transpose(r, node, out);
}

/* True where every value of type `from` is one of type `to`. */
static bool holds(int from, int to) { return from == to || from == FAD_BOOL || (from == FAD_F32 && to == FAD_F64); }

/* Exact: a detour through a wider type goes; what is repeated is converted before. */
fad_status fad_rewrite_cast(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, made;
    fad_node of = tape->nodes[a];
    int dtype = fad_node_dtype(tape, node);
    if (of.op == FAD_CAST && holds(fad_node_dtype(tape, of.a), fad_node_dtype(tape, a)))
        return make_cast(r, of.a, dtype, out);
    if (of.op != FAD_BROADCAST_TO)
        return FAD_OK;
    const fad_shape *shape = fad_node_shape(tape, node);
    TRY(make_cast(r, of.a, dtype, &made));
    return make_broadcast(r, made, shape, out);
}
