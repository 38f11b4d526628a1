/* pass_choices.c: identities of comparisons and what they choose, of magnitudes, and of the identity. All are exact. */
#include "pass.h"
#include "try.h"

/* SQUARE, ABS and FABS do not see a sign. */
fad_status fad_rewrite_even(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node], of = r->to->nodes[n.a];
    if (n.op != FAD_SQUARE && (of.op == FAD_ABS || of.op == FAD_FABS || of.op == FAD_SQUARE))
        return fad_stand_in(r, node, n.a, out);
    if (of.op == FAD_NEG || of.op == FAD_ABS || of.op == FAD_FABS)
        return fad_make_like(r, node, n.op, of.a, 0, out);
    return FAD_OK;
}

fad_status fad_rewrite_identity(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    return fad_stand_in(r, node, r->to->nodes[node].a, out);
}

/* The larger of x and x is x. */
fad_status fad_rewrite_extremum(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    return n.a == n.b ? fad_stand_in(r, node, n.a, out) : FAD_OK;
}

/* x > y is y < x: half as many kinds of comparisons to find in common. */
fad_status fad_rewrite_greater(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node];
    int op = n.op == FAD_GREATER ? FAD_LESS : FAD_LESS_EQUAL;
    int dtype = fad_node_dtype(tape, fad_is_array(tape, n.a) ? n.a : n.b);
    return fad_make(r, op, n.b, n.a, 0, dtype, out);
}

fad_status fad_rewrite_select(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node], condition = r->to->nodes[n.a];
    double c;
    if (n.b == n.aux)
        return fad_stand_in(r, node, n.b, out);
    if (fad_is_number(r->to, n.a, &c))
        return fad_stand_in(r, node, c != 0 ? n.b : n.aux, out);
    if (condition.op == FAD_LOGICAL_NOT)
        return fad_make(r, FAD_SELECT, condition.a, n.aux, n.b, fad_node_dtype(r->to, node), out);
    return FAD_OK;
}
