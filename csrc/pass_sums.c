/* pass_sums.c: identities of sums and differences. */
#include "pass.h"
#include "record.h"
#include "try.h"

#include <math.h>


/* op(EMBED(a), EMBED(b)) at the same place is EMBED(op(a, b)): exact, 0 + 0 and 0 - 0 are +0. So it is for
 * STRIDED_ADD, but for the order of the sum where places coincide. */
static fad_status meet_embedded(fad_rewriter *r, uint32_t node, uint32_t a, uint32_t b, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node], x = tape->nodes[a], y = tape->nodes[b];
    uint32_t made;
    bool strided = x.op == FAD_STRIDED_ADD && !r->strict;
    if (x.op != y.op || !(x.op == FAD_EMBED || strided) || !fad_same_side(x.op, tape->side[x.aux], tape->side[y.aux]))
        return FAD_OK;
    TRY(fad_make(r, n.op, x.a, y.a, 0, fad_node_dtype(tape, node), &made));
    if (fad_node_shape(tape, made) != fad_node_shape(tape, x.a))
        return FAD_OK;
    size_t mark = tape->count;
    TRY(strided ? fad_record_strided_add(tape, made, x.aux, &made) : fad_record_embed(tape, made, x.aux, &made));
    return fad_settle(r, mark, made, out);
}

/* Exact but for x + 0, which is -0 where x is. */
fad_status fad_rewrite_add(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, b = tape->nodes[node].b;
    double c;
    bool turned = fad_is_number_in(tape, node, a, &c);
    if (turned) { /* constants come second, in every sum and product */
        a = b;
        b = tape->nodes[node].a;
    }
    if (turned || fad_is_number_in(tape, node, b, &c)) {
        if (c == 0 && (signbit(c) || !r->strict))
            return fad_stand_in(r, node, a, out);
        if (fad_is_op(r, a, FAD_NEG))
            return fad_make_like(r, node, FAD_SUB, b, tape->nodes[a].a, out);
        return turned ? fad_make_like(r, node, FAD_ADD, a, b, out) : FAD_OK;
    }
    if (a == b)
        return fad_scale_like(r, node, a, 2, out);
    if (fad_is_op(r, b, FAD_NEG))
        return fad_make_like(r, node, FAD_SUB, a, tape->nodes[b].a, out);
    if (fad_is_op(r, a, FAD_NEG))
        return fad_make_like(r, node, FAD_SUB, b, tape->nodes[a].a, out);
    return meet_embedded(r, node, a, b, out);
}

/* Exact but for x - (-0) and 0 - x, whose zeros have another sign. */
fad_status fad_rewrite_sub(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, b = tape->nodes[node].b;
    double c;
    if (fad_is_number_in(tape, node, b, &c) && c == 0 && (!signbit(c) || !r->strict))
        return fad_stand_in(r, node, a, out);
    if (fad_is_number_in(tape, node, a, &c) && c == 0 && (signbit(c) || !r->strict))
        return fad_make_like(r, node, FAD_NEG, b, 0, out);
    if (fad_is_op(r, b, FAD_NEG))
        return fad_make_like(r, node, FAD_ADD, a, tape->nodes[b].a, out);
    return meet_embedded(r, node, a, b, out);
}

/* Exact but for -(a - b), whose zero has another sign. */
fad_status fad_rewrite_neg(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, factor;
    fad_node of = tape->nodes[a];
    double c;
    if (of.op == FAD_NEG)
        return fad_stand_in(r, node, of.a, out);
    if (of.op == FAD_MUL && fad_is_number_in(tape, node, of.b, &c))
        return fad_scale_like(r, node, of.a, -c, out);
    if (of.op == FAD_DIV && fad_is_number_in(tape, node, of.a, &c)) {
        TRY(fad_make_number(r, -c, &factor));
        return fad_make_like(r, node, FAD_DIV, factor, of.b, out);
    }
    if (of.op == FAD_SUB && !r->strict && !fad_is_shared(r, a))
        return fad_make_like(r, node, FAD_SUB, of.b, of.a, out);
    return FAD_OK;
}

/* Not strict (an NSUM starts from +0): zeros go, and one or two terms are a sum without a list. */
fad_status fad_rewrite_nsum(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_list *list = tape->side[tape->nodes[node].aux]; /* this node's own, not yet known to others */
    size_t count = 0;
    double c;
    if (r->strict)
        return FAD_OK;
    for (size_t i = 0; i < list->count; i++)
        if (!fad_is_number(tape, list->nodes[i], &c) || c != 0)
            list->nodes[count++] = list->nodes[i];
    if (count == 0)
        list->nodes[count++] = list->nodes[0];
    list->count = count;
    return count == 1   ? fad_stand_in(r, node, list->nodes[0], out)
           : count == 2 ? fad_make_like(r, node, FAD_ADD, list->nodes[0], list->nodes[1], out)
                        : FAD_OK;
}
