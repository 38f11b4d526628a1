/* pass_simplify.c: one walk that copies what lives and rewrites every node on its way: what depends on no input
 * becomes a constant (pass_fold.c), identities of the list below apply, and what is known already is not appended again
 * (pass_common.c). What the rewriting left unused is taken out at the end (pass_dead.c). */
#include "pass.h"
#include "record.h"
#include "try.h"

/* A rewrite may make nodes that are rewritten in turn, up to here; a chain that is longer stays as it is. */
enum { MOST_REWRITES = 12 };

/* The identities, by the op they start from. */
static const fad_rewrite rewrites[FAD_OP_COUNT] = {
    [FAD_ADD] = fad_rewrite_add,
    [FAD_SUB] = fad_rewrite_sub,
    [FAD_NEG] = fad_rewrite_neg,
    [FAD_NSUM] = fad_rewrite_nsum,
    [FAD_MUL] = fad_rewrite_mul,
    [FAD_ZMUL] = fad_rewrite_strong,
    [FAD_SMUL] = fad_rewrite_strong,
    [FAD_DIV] = fad_rewrite_div,
    [FAD_POW] = fad_rewrite_pow,
    [FAD_SQUARE] = fad_rewrite_even,
    [FAD_ABS] = fad_rewrite_even,
    [FAD_FABS] = fad_rewrite_even,
    [FAD_POS] = fad_rewrite_identity,
    [FAD_MAXIMUM] = fad_rewrite_extremum,
    [FAD_MINIMUM] = fad_rewrite_extremum,
    [FAD_FMAX] = fad_rewrite_extremum,
    [FAD_FMIN] = fad_rewrite_extremum,
    [FAD_GREATER] = fad_rewrite_greater,
    [FAD_GREATER_EQUAL] = fad_rewrite_greater,
    [FAD_SELECT] = fad_rewrite_select,
    [FAD_BROADCAST_TO] = fad_rewrite_broadcast,
    [FAD_SUM_TO] = fad_rewrite_sum_to,
    [FAD_MAX_TO] = fad_rewrite_reduced_transpose,
    [FAD_MIN_TO] = fad_rewrite_reduced_transpose,
    [FAD_MATMUL] = fad_rewrite_matmul,
    [FAD_RESHAPE] = fad_rewrite_reshape,
    [FAD_CAST] = fad_rewrite_cast,
    [FAD_VIEW] = fad_rewrite_view,
    [FAD_EMBED] = fad_rewrite_embed,
    [FAD_UPDATE_VIEW] = fad_rewrite_update_view,
    [FAD_STRIDED] = fad_rewrite_strided,
    [FAD_STRIDED_ADD] = fad_rewrite_strided_add,
    [FAD_ELEMENT] = fad_rewrite_element,
    [FAD_STACK] = fad_rewrite_stack,
    [FAD_CONCATENATE] = fad_rewrite_concatenate,
    [FAD_GATHER] = fad_rewrite_gather,
    [FAD_SCATTER_ADD] = fad_rewrite_scatter,
};

static fad_status fold(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    if (!fad_is_array(tape, node)) {
        double number = tape->values[node].number;
        tape->count--;
        return fad_make_number(r, number, out);
    }
    fad_array value = *tape->values[node].array; /* its data stays in the arena */
    tape->count--;
    return fad_make_constant(r, &value, out);
}

static bool same_form(const fad_tape *tape, uint32_t x, uint32_t y)
{
    if (!(tape->nodes[x].flags & FAD_IS_ARRAY) && !(tape->nodes[y].flags & FAD_IS_ARRAY))
        return true;
    return fad_is_array(tape, x) == fad_is_array(tape, y) && fad_node_shape(tape, x) == fad_node_shape(tape, y) &&
           fad_node_dtype(tape, x) == fad_node_dtype(tape, y);
}

static fad_status rewrite(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    fad_status status = FAD_OK;
    if (r->depth == MOST_REWRITES)
        return FAD_OK;
    r->depth++;
    if (n.op < FAD_ELEMENTWISE_COUNT && n.flags & FAD_IS_ARRAY)
        status = fad_rewrite_operands(r, node, out);
    if (status == FAD_OK && *out == node && n.op < FAD_ELEMENTWISE_COUNT && n.flags & FAD_IS_ARRAY)
        status = fad_rewrite_transposed(r, node, out);
    if (status == FAD_OK && *out == node && rewrites[n.op])
        status = rewrites[n.op](r, node, out);
    r->depth--;
    if (status == FAD_OK && !same_form(r->to, node, *out))
        *out = node; /* an array without axes where a scalar was: nobody may notice the difference */
    return status;
}

fad_status fad_settle(fad_rewriter *r, size_t mark, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint16_t op = tape->nodes[node].op;
    *out = node;
    if (node < mark || op == FAD_CUSTOM || op == FAD_OUTPUT)
        return FAD_OK;
    if (!(tape->nodes[node].flags & FAD_IS_DYNAMIC))
        return fold(r, node, out);
    TRY(rewrite(r, node, out));
    if (*out == node)
        return fad_unify(r, node, out);
    if (node + 1 == tape->count)
        tape->count--;
    return FAD_OK;
}

fad_status fad_make(fad_rewriter *r, int op, uint32_t a, uint32_t b, uint32_t c, int dtype, uint32_t *out)
{
    size_t mark = r->to->count;
    uint32_t operands[3] = {a, b, c}, node;
    TRY(fad_record_elementwise(r->to, op, operands, dtype, &node));
    return fad_settle(r, mark, node, out);
}

fad_status fad_make_like(fad_rewriter *r, uint32_t like, int op, uint32_t a, uint32_t b, uint32_t *out)
{
    fad_tape *tape = r->to;
    int dtype = fad_node_dtype(tape, like);
    uint32_t node;
    if (dtype != FAD_F64 && !fad_is_array(tape, a) && (fad_ops[op].arity < 2 || !fad_is_array(tape, b)))
        return FAD_OK; /* scalar nodes compute in float64 */
    TRY(fad_make(r, op, a, b, 0, dtype, &node));
    return fad_stand_in(r, like, node, out);
}

fad_status fad_scale_like(fad_rewriter *r, uint32_t like, uint32_t x, double c, uint32_t *out)
{
    uint32_t factor;
    TRY(fad_make_number(r, c, &factor));
    return fad_make_like(r, like, FAD_MUL, x, factor, out);
}

fad_status fad_stand_in(fad_rewriter *r, uint32_t like, uint32_t x, uint32_t *out)
{
    fad_tape *tape = r->to;
    const fad_shape *shape = fad_node_shape(tape, like);
    size_t mark = tape->count;
    if (fad_node_dtype(tape, x) != fad_node_dtype(tape, like)) {
        if (fad_is_array(tape, x))
            return FAD_OK;
        TRY(fad_record_cast(tape, x, fad_node_dtype(tape, like), &x));
        TRY(fad_settle(r, mark, x, &x));
    }
    if (fad_node_shape(tape, x) != shape) {
        if (!fad_shape_expands(fad_node_shape(tape, x), shape))
            return FAD_OK;
        mark = tape->count;
        TRY(fad_record_broadcast_to(tape, x, shape, &x));
        TRY(fad_settle(r, mark, x, &x));
    }
    *out = x;
    return FAD_OK;
}

/* --- the walk --- */

fad_status fad_copy_settled(fad_rewriter *r, const fad_tape *from, uint32_t node, const uint32_t *map, uint32_t *out)
{
    size_t mark = r->to->count;
    uint32_t copy;
    if (!(from->nodes[node].flags & FAD_IS_DYNAMIC))
        return fad_is_array(from, node) ? fad_make_constant(r, from->values[node].array, out)
                                        : fad_make_number(r, from->values[node].number, out);
    TRY(fad_trace_copy(r->to, from, node, map, &copy));
    return fad_settle(r, mark, copy, out);
}

static fad_status rebuild(fad_rewriter *r, const fad_trace *in, fad_trace *out, const uint8_t *uses, uint32_t *map)
{
    for (size_t i = 0; i < in->input_count; i++)
        map[in->inputs[i]] = out->inputs[i];
    for (size_t i = 0; i < in->tape->count; i++) {
        const fad_node *n = &in->tape->nodes[i];
        if (!uses[i])
            continue;
        if (n->op != FAD_VARIABLE || !(n->flags & FAD_IS_DYNAMIC))
            TRY(fad_copy_settled(r, in->tape, (uint32_t)i, map, &map[i]));
        if (uses[i] == FAD_USED_OFTEN)
            r->to->nodes[map[i]].flags |= FAD_MARKED;
    }
    fad_trace_finish(out, in, map);
    return FAD_OK;
}

static size_t count_living(const uint8_t *uses, size_t count)
{
    size_t living = 0;
    for (size_t i = 0; i < count; i++)
        living += uses[i] != 0;
    return living;
}

fad_status fad_pass_simplify(const fad_trace *in, fad_trace *out, bool strict)
{
    fad_tape *tape = out->tape;
    uint8_t *uses;
    fad_rewriter r = {.to = tape, .strict = strict};
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t count = in->tape->count, bytes = (count + 1) * sizeof(uint32_t);
    TRY(fad_trace_begin(out, tape, in));
    TRY(fad_count_uses(in, tape, &uses));
    size_t living = count_living(uses, count);
    uint32_t *map = fad_resize(tape, NULL, 0, bytes, &status);
    if (map) {
        status = fad_tape_reserve(tape, living);
        if (status == FAD_OK)
            status = fad_expect_nodes(&r, living);
        if (status == FAD_OK)
            status = rebuild(&r, in, out, uses, map);
        fad_resize(tape, map, bytes, 0, &ignored);
    }
    fad_resize(tape, uses, count + 1, 0, &ignored);
    fad_resize(tape, r.known, r.known_size * sizeof *r.known, 0, &ignored);
    return status == FAD_OK ? fad_drop_dead(out) : status;
}
