/* pass_vectorize.c: a long loop over scalars, which most of a recording is, becomes arrays in one walk.
 *
 * What re-rolling finds by sorting all nodes, this finds by comparing each turn of the loop with the one before: it
 * costs a few nanoseconds a node, and what comes after sees a body instead of a recording. What no turn has from an
 * earlier one becomes one array node for all turns; the rest, sums that run on say, stays as it is and is for the other
 * passes. Every element is computed as it was: nothing is added in another order. */
#include "fastad.h"
#include "pass.h"
#include "try.h"
#include "vectorize.h"

typedef struct {
    found_loop loop;
    fad_tape *to;
    uint32_t *map;    /* nodes of `from` that are nodes of their own, and elements as they are asked for */
} vectorizer;

/* --- operands --- */

static fad_status vector_shape(vectorizer *v, const fad_shape **out)
{
    ptrdiff_t turns = (ptrdiff_t)v->loop.turns;
    return fad_shape_intern(v->to, 1, &turns, out);
}

static fad_status append_numbers(vectorizer *v, uint32_t position, size_t k, uint32_t *out)
{
    const fad_tape *from = v->loop.from;
    const fad_shape *shape;
    TRY(vector_shape(v, &shape));
    TRY(fad_new_array(v->to, FAD_CONSTANT, 0, 0, 0, 0, FAD_F64, shape, out));
    double *numbers = (double *)v->to->values[*out].array->data;
    for (uint32_t t = 0; t < v->loop.turns; t++)
        numbers[t] = from->values[fad_parent(from, vectorize_node(&v->loop, t, position), k)].number;
    return FAD_OK;
}

static fad_status append_elements(vectorizer *v, uint32_t array, int64_t start, int64_t step, uint32_t *out)
{
    ptrdiff_t turns = (ptrdiff_t)v->loop.turns, stride = (ptrdiff_t)step;
    uint32_t a = v->map[array], side;
    TRY(fad_make_strided(v->to, fad_node_shape(v->to, a), 1, &turns, (ptrdiff_t)start, &stride, &side));
    return fad_record_strided(v->to, a, side, out);
}

/* What a position became, as numbers unless truth values will do. */
static fad_status as_operand(vectorizer *v, body_node *p, bool truth, uint32_t *out)
{
    *out = p->node;
    if (truth || fad_node_dtype(v->to, p->node) == FAD_F64)
        return FAD_OK;
    if (p->numbers == FAD_NODE_NONE)
        TRY(fad_record_cast(v->to, p->node, FAD_F64, &p->numbers));
    *out = p->numbers;
    return FAD_OK;
}

static fad_status operand(vectorizer *v, uint32_t position, size_t k, bool truth, uint32_t *out)
{
    const fad_tape *from = v->loop.from;
    const body_slot *slot = &v->loop.positions[position].slots[k];
    switch (slot->kind) {
    case SLOT_SAME:
        return as_operand(v, &v->loop.positions[slot->where], truth, out);
    case SLOT_NUMBERS:
        return append_numbers(v, position, k, out);
    case SLOT_ELEMENTS:
        return append_elements(v, from->nodes[slot->where].a, slot->start, slot->step, out);
    default:
        if (!(from->nodes[slot->where].flags & FAD_IS_DYNAMIC))
            return fad_trace_copy(v->to, from, slot->where, v->map, out); /* it may lie in the loop, not copied yet */
        *out = v->map[slot->where];
        return FAD_OK;
    }
}

/* --- the loop --- */

static fad_status append_position(vectorizer *v, uint32_t j)
{
    body_node *p = &v->loop.positions[j];
    uint32_t operands[VECTOR_SLOTS] = {0, 0, 0};
    if (p->op == FAD_ELEMENT) {
        uint32_t array = p->slots[0].where;
        return p->kind == BODY_UNIFORM ? fad_record_element(v->to, v->map[array], (size_t)p->start, &p->node)
                                       : append_elements(v, array, p->start, p->step, &p->node);
    }
    for (size_t k = 0; k < p->arity; k++)
        TRY(operand(v, j, k, fad_takes_truth(p->op, (unsigned)k), &operands[k]));
    return fad_record_elementwise(v->to, p->op, operands, -1, &p->node);
}

/* Makes map[node] true of an operand; `turn` is a guess. */
static fad_status bring(vectorizer *v, uint32_t node, uint32_t turn)
{
    const found_loop *l = &v->loop;
    uint32_t position, a;
    if (node < l->start || node >= l->end)
        return FAD_OK; /* copied in its turn */
    if (!vectorize_place(l, node, &turn, &position)) /* no input is in the loop */
        return fad_trace_copy(v->to, l->from, node, v->map, &v->map[node]);
    body_node *p = &v->loop.positions[position];
    if (p->kind == BODY_SCALAR)
        return FAD_OK;
    TRY(as_operand(v, p, false, &a));
    if (p->kind == BODY_VECTOR)
        TRY(fad_record_element(v->to, a, turn, &a));
    v->map[node] = a;
    return FAD_OK;
}

static fad_status copy(vectorizer *v, uint32_t node, uint32_t turn)
{
    uint32_t parent;
    if (v->loop.from->nodes[node].flags & FAD_IS_DYNAMIC)
        for (size_t k = 0; (parent = fad_parent(v->loop.from, node, k)) != FAD_NODE_NONE; k++)
            TRY(bring(v, parent, turn));
    return fad_trace_copy(v->to, v->loop.from, node, v->map, &v->map[node]);
}

static fad_status append_loop(vectorizer *v)
{
    const found_loop *l = &v->loop;
    for (uint32_t j = 0; j < l->body; j++)
        if (l->positions[j].kind != BODY_SCALAR)
            TRY(append_position(v, j));
    for (uint32_t t = 0; t < l->turns; t++)
        for (uint32_t j = 0; j < l->body; j++)
            if (l->positions[j].kind == BODY_SCALAR)
                TRY(copy(v, vectorize_node(l, t, j), t));
    return FAD_OK;
}

/* --- the pass --- */

static fad_status copy_stretch(vectorizer *v, uint32_t start, uint32_t end)
{
    const fad_tape *from = v->loop.from;
    for (uint32_t i = start; i < end; i++)
        if (from->nodes[i].op != FAD_VARIABLE || !(from->nodes[i].flags & FAD_IS_DYNAMIC))
            TRY(copy(v, i, v->loop.turns - 1));
    return FAD_OK;
}

static fad_status run(vectorizer *v, const fad_trace *in, fad_trace *out)
{
    const found_loop *l = &v->loop;
    for (size_t i = 0; i < in->input_count; i++)
        v->map[in->inputs[i]] = out->inputs[i];
    TRY(copy_stretch(v, 0, l->start));
    TRY(append_loop(v));
    TRY(copy_stretch(v, l->end, (uint32_t)in->tape->count));
    for (size_t i = 0; i < in->output_count; i++)
        TRY(bring(v, in->outputs[i], l->turns - 1));
    for (size_t i = 0; i < in->guard_count; i++)
        TRY(bring(v, in->guards[i], 0));
    fad_trace_finish(out, in, v->map);
    return FAD_OK;
}

/* Whether the loop is worth it, as far as it depends on what is used. */
static fad_status look_at_uses(vectorizer *v, const fad_trace *in, bool *found)
{
    fad_status ignored = FAD_OK;
    uint8_t *uses;
    TRY(fad_count_uses(in, v->to, &uses));
    *found = vectorize_lives(&v->loop, uses);
    fad_resize(v->to, uses, in->tape->count + 1, 0, &ignored);
    return FAD_OK;
}

fad_status fad_pass_vectorize(const fad_trace *in, fad_trace *out)
{
    bool found;
    vectorizer v = {.loop = {.from = in->tape, .memory = out->tape}, .to = out->tape};
    fad_status status = vectorize_find(&v.loop, &found), ignored = FAD_OK;
    size_t bytes = (in->tape->count + 1) * sizeof *v.map;
    if (status == FAD_OK && found)
        status = look_at_uses(&v, in, &found);
    if (status == FAD_OK && found) {
        v.map = fad_resize(v.to, NULL, 0, bytes, &status);
        if (v.map) {
            status = fad_trace_begin(out, v.to, in);
            if (status == FAD_OK)
                status = run(&v, in, out);
            fad_resize(v.to, v.map, bytes, 0, &ignored);
        }
    }
    vectorize_free(&v.loop);
    return status;
}
