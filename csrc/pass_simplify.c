/* pass_simplify.c: one walk that copies what lives and rewrites every node on its way: what depends on no input
 * becomes a constant (pass_fold.c), identities of the list below apply, and what is known already is not appended again
 * (pass_common.c). What the rewriting left unused is taken out at the end (pass_dead.c). */
#include "pass.h"
#include "record.h"

#define TRY(call)                    \
    do {                             \
        fad_status s_ = (call);      \
        if (s_ != FAD_OK)            \
            return s_;               \
    } while (0)

/* A rewrite may make nodes that are rewritten in turn, up to here; a chain that is longer stays as it is. */
enum { MOST_REWRITES = 12 };

/* The identities, by the op they start from. */
static const fad_rewrite rewrites[FAD_OP_COUNT] = {0};

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

fad_status fad_settle(fad_rewriter *r, size_t mark, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint16_t op = tape->nodes[node].op;
    *out = node;
    if (node < mark || op == FAD_CUSTOM || op == FAD_OUTPUT)
        return FAD_OK;
    if (!(tape->nodes[node].flags & FAD_IS_DYNAMIC))
        return fold(r, node, out);
    if (rewrites[op] && r->depth < MOST_REWRITES) {
        r->depth++;
        fad_status status = rewrites[op](r, node, out);
        r->depth--;
        if (status == FAD_OK && *out == node)
            return fad_unify(r, node, out);
        if (node + 1 == tape->count)
            tape->count--;
        return status;
    }
    return fad_unify(r, node, out);
}

fad_status fad_make(fad_rewriter *r, int op, uint32_t a, uint32_t b, uint32_t c, int dtype, uint32_t *out)
{
    size_t mark = r->to->count;
    uint32_t operands[3] = {a, b, c}, node;
    TRY(fad_record_elementwise(r->to, op, operands, dtype, &node));
    return fad_settle(r, mark, node, out);
}

/* --- the walk --- */

static fad_status rebuild_node(fad_rewriter *r, const fad_tape *from, uint32_t node, uint32_t *map)
{
    size_t mark = r->to->count;
    uint32_t copy;
    if (!(from->nodes[node].flags & FAD_IS_DYNAMIC))
        return fad_is_array(from, node) ? fad_make_constant(r, from->values[node].array, &map[node])
                                        : fad_make_number(r, from->values[node].number, &map[node]);
    TRY(fad_trace_copy(r->to, from, node, map, &copy));
    return fad_settle(r, mark, copy, &map[node]);
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
            TRY(rebuild_node(r, in->tape, (uint32_t)i, map));
        if (uses[i] == FAD_USED_OFTEN)
            r->to->nodes[map[i]].flags |= FAD_MARKED;
    }
    fad_trace_finish(out, in, map);
    return FAD_OK;
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
    uint32_t *map = fad_resize(tape, NULL, 0, bytes, &status);
    if (map) {
        status = rebuild(&r, in, out, uses, map);
        fad_resize(tape, map, bytes, 0, &ignored);
    }
    fad_resize(tape, uses, count + 1, 0, &ignored);
    fad_resize(tape, r.known, r.known_size * sizeof *r.known, 0, &ignored);
    return status == FAD_OK ? fad_drop_dead(out) : status;
}
