/* trace.c: nodes of one tape appended to another. */
#include "trace.h"

#include "array.h"
#include "record.h"
#include "try.h"
#include "update.h"

fad_status fad_trace_shape(fad_tape *to, const fad_shape *shape, const fad_shape **out)
{
    return fad_shape_intern(to, shape->ndim, shape->dims, out);
}

static fad_status new_list(fad_tape *tape, size_t count, uint32_t **out)
{
    fad_status status = FAD_OK;
    if (count > SIZE_MAX / sizeof **out - 1)
        return FAD_NO_MEMORY;
    *out = fad_arena_alloc(tape, &tape->arena, (count + 1) * sizeof **out, &status);
    return status;
}

static fad_status new_input(fad_tape *to, const fad_tape *from, uint32_t node, uint32_t *out)
{
    const fad_shape *shape;
    enum { FLAGS = FAD_INHERITED };
    if (!fad_is_array(from, node))
        return fad_push_scalar(to, FAD_VARIABLE, FLAGS, 0, 0, 0, 0, out);
    TRY(fad_trace_shape(to, fad_node_shape(from, node), &shape));
    return fad_new_array(to, FAD_VARIABLE, FLAGS, 0, 0, 0, fad_node_dtype(from, node), shape, out);
}

fad_status fad_trace_begin(fad_trace *trace, fad_tape *tape, const fad_trace *like)
{
    *trace = *like;
    trace->tape = tape;
    trace->after = NULL;
    tape->dry = true;
    TRY(new_list(tape, like->input_count, &trace->inputs));
    TRY(new_list(tape, like->output_count, &trace->outputs));
    TRY(new_list(tape, like->guard_count, &trace->guards));
    for (size_t i = 0; i < like->input_count; i++)
        TRY(new_input(tape, like->tape, like->inputs[i], &trace->inputs[i]));
    return FAD_OK;
}

void fad_trace_finish(fad_trace *to, const fad_trace *from, const uint32_t *map)
{
    for (size_t i = 0; i < from->output_count; i++)
        to->outputs[i] = map[from->outputs[i]];
    for (size_t i = 0; i < from->guard_count; i++)
        to->guards[i] = map[from->guards[i]];
}

/* A value that was overwritten becomes a constant as it was, where it is asked for. */
static fad_status hold_constant(fad_tape *tape, uint32_t node)
{
    bool gone = !(tape->nodes[node].flags & FAD_IS_DYNAMIC) && fad_is_superseded(tape, node);
    return gone ? fad_hold(tape, node) : FAD_OK;
}

static fad_status hold_constants(const fad_trace *trace)
{
    fad_tape *tape = trace->tape;
    uint32_t p;
    for (size_t i = 0; i < tape->count; i++) {
        if (!(tape->nodes[i].flags & FAD_IS_DYNAMIC))
            continue;
        for (size_t k = 0; (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            TRY(hold_constant(tape, p));
    }
    for (size_t i = 0; i < trace->output_count; i++)
        TRY(hold_constant(tape, trace->outputs[i]));
    return FAD_OK;
}

fad_status fad_trace_mark(const fad_trace *trace)
{
    fad_tape *tape = trace->tape;
    for (size_t i = 0; i < tape->count; i++)
        tape->nodes[i].flags &= (uint16_t)~FAD_IS_DYNAMIC;
    for (size_t i = 0; i < trace->input_count; i++)
        tape->nodes[trace->inputs[i]].flags |= FAD_IS_DYNAMIC;
    for (size_t i = 0; i < tape->count; i++) {
        fad_node *n = &tape->nodes[i];
        unsigned dynamic = n->flags & FAD_IS_DYNAMIC;
        uint32_t p;
        for (size_t k = 0; !dynamic && (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            dynamic |= tape->nodes[p].flags & FAD_IS_DYNAMIC;
        if (n->op == FAD_OUTPUT)
            dynamic |= tape->nodes[i - n->aux].flags & FAD_IS_DYNAMIC;
        n->flags |= (uint16_t)dynamic;
    }
    return hold_constants(trace);
}

static fad_status repeated_constant(fad_tape *to, const fad_array *array, const fad_shape *shape, uint32_t *out)
{
    fad_status status = FAD_OK;
    size_t strides = shape->ndim * sizeof(ptrdiff_t), item = fad_itemsize(array->dtype);
    char *p = fad_arena_alloc(to, &to->arena, strides + item, &status);
    if (!p)
        return status;
    memset(p, 0, strides);
    memcpy(p + strides, array->data, item);
    fad_array view = {p + strides, shape, (ptrdiff_t *)p, array->dtype};
    return fad_new_view(to, FAD_CONSTANT, 0, 0, 0, 0, &view, out);
}

fad_status fad_trace_constant(fad_tape *to, const fad_array *array, uint32_t *out)
{
    const fad_shape *shape;
    TRY(fad_trace_shape(to, array->shape, &shape));
    if (fad_repeats(array))
        return repeated_constant(to, array, shape, out);
    TRY(fad_new_array(to, FAD_CONSTANT, 0, 0, 0, 0, array->dtype, shape, out));
    fad_copy(to->values[*out].array, array);
    return FAD_OK;
}

static fad_status copy_view(fad_tape *to, const fad_view *view, uint32_t *side)
{
    const fad_shape *whole;
    TRY(fad_trace_shape(to, view->whole, &whole));
    return fad_make_view(to, whole, view->part->ndim, view->part->dims, view->start, view->step, view->source, side);
}

static fad_status copy_strided(fad_tape *to, const fad_strided *strided, uint32_t *side)
{
    const fad_shape *whole, *part = strided->part;
    TRY(fad_trace_shape(to, strided->whole, &whole));
    return fad_make_strided(to, whole, part->ndim, part->dims, strided->start, strided->strides, side);
}

static fad_status copy_list(fad_tape *to, int op, const fad_list *list, const uint32_t *map, uint32_t *out)
{
    uint32_t *nodes;
    TRY(new_list(to, list->count, &nodes));
    for (size_t i = 0; i < list->count; i++)
        nodes[i] = map[list->nodes[i]];
    return op == FAD_STACK         ? fad_record_stack(to, list->count, nodes, out)
           : op == FAD_CONCATENATE ? fad_record_concatenate(to, list->count, nodes, (size_t)list->axis, out)
                                   : fad_record_nsum(to, list->count, nodes, out);
}

static fad_status copy_custom(fad_tape *to, const fad_tape *from, const fad_custom *custom, const uint32_t *map,
                              uint32_t *out)
{
    uint32_t *nodes;
    const fad_shape **shapes;
    uint8_t *dtypes;
    fad_status status = FAD_OK;
    TRY(new_list(to, custom->count, &nodes));
    for (size_t i = 0; i < custom->count; i++)
        nodes[i] = map[custom->nodes[i]];
    shapes = fad_arena_alloc(to, &to->arena, custom->outputs * (sizeof *shapes + 1), &status);
    if (!shapes)
        return status;
    dtypes = (uint8_t *)(shapes + custom->outputs);
    for (uint32_t k = 0; k < custom->outputs; k++) {
        dtypes[k] = (uint8_t)fad_node_dtype(from, custom->first_output + k);
        TRY(fad_trace_shape(to, fad_node_shape(from, custom->first_output + k), &shapes[k]));
    }
    TRY(fad_new_custom(to, custom->rule, custom->count, nodes, custom->outputs, dtypes, shapes, out));
    if (from->host.retain)
        from->host.retain(from->host.context, custom->rule);
    return FAD_OK;
}

static fad_status copy_structural(fad_tape *to, const fad_tape *from, uint32_t node, const uint32_t *map, uint32_t *out)
{
    const fad_node *n = &from->nodes[node];
    uint32_t a = 0, b = 0, side;
    const fad_shape *shape = NULL;
    const fad_op_info *info = &fad_ops[n->op];
    if (info->arity >= 1 && info->arity <= 2)
        a = map[n->a];
    if (info->arity == 2)
        b = map[n->b];
    if (info->aux == FAD_AUX_SHAPE)
        TRY(fad_trace_shape(to, fad_node_shape(from, node), &shape));
    switch (n->op) {
    case FAD_RESHAPE:
        return fad_record_reshape(to, a, shape, out);
    case FAD_BROADCAST_TO:
        return fad_record_broadcast_to(to, a, shape, out);
    case FAD_SUM_TO:
        return fad_record_sum_to(to, a, shape, out);
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return fad_record_extremum_to(to, n->op, a, shape, out);
    case FAD_VIEW:
        TRY(copy_view(to, from->side[n->aux], &side));
        return fad_record_view(to, a, side, out);
    case FAD_EMBED:
        TRY(copy_view(to, from->side[n->aux], &side));
        return fad_record_embed(to, a, side, out);
    case FAD_UPDATE_VIEW:
        TRY(copy_view(to, from->side[n->aux], &side));
        return fad_record_update_view(to, a, b, side, out);
    case FAD_STRIDED:
        TRY(copy_strided(to, from->side[n->aux], &side));
        return fad_record_strided(to, a, side, out);
    case FAD_STRIDED_ADD:
        TRY(copy_strided(to, from->side[n->aux], &side));
        return fad_record_strided_add(to, a, side, out);
    case FAD_ELEMENT:
        return fad_record_element(to, a, n->aux, out);
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM:
        return copy_list(to, n->op, from->side[n->aux], map, out);
    case FAD_GATHER:
        return fad_record_gather(to, a, map[n->aux], out);
    case FAD_UPDATE_AT:
        return fad_record_update_at(to, a, b, map[n->aux], out);
    case FAD_SCATTER_ADD: {
        const fad_scatter *scatter = from->side[n->aux];
        TRY(fad_trace_shape(to, scatter->shape, &shape));
        return fad_record_scatter_add(to, a, map[scatter->indices], shape, out);
    }
    case FAD_MATMUL:
        return fad_record_matmul(to, a, b, out);
    case FAD_CUMSUM:
        return fad_record_cumsum(to, a, n->aux / 2, n->aux & 1, out);
    case FAD_CAST:
        return fad_record_cast(to, a, fad_node_dtype(from, node), out);
    case FAD_CUSTOM:
        return copy_custom(to, from, from->side[n->aux], map, out);
    case FAD_OUTPUT:
        *out = map[node - n->aux] + n->aux;
        return FAD_OK;
    default:
        return FAD_BAD_OPERAND;
    }
}

fad_status fad_trace_copy(fad_tape *to, const fad_tape *from, uint32_t node, const uint32_t *map, uint32_t *out)
{
    const fad_node *n = &from->nodes[node];
    if (!(n->flags & FAD_IS_DYNAMIC))
        return fad_is_array(from, node) ? fad_trace_constant(to, from->values[node].array, out)
                                        : fad_constant(to, from->values[node].number, out);
    if (n->op >= FAD_ELEMENTWISE_COUNT)
        return copy_structural(to, from, node, map, out);
    uint32_t operands[3] = {0, 0, 0};
    for (size_t k = 0; k < fad_ops[n->op].arity; k++)
        operands[k] = map[fad_parent(from, node, k)];
    int dtype = fad_ops[n->op].kind == FAD_PREDICATE ? -1 : fad_node_dtype(from, node);
    return fad_record_elementwise(to, n->op, operands, dtype, out);
}

static bool alike(const fad_tape *tape, uint32_t x, uint32_t y)
{
    return fad_is_array(tape, x) == fad_is_array(tape, y) && fad_node_dtype(tape, x) == fad_node_dtype(tape, y) &&
           fad_node_shape(tape, x) == fad_node_shape(tape, y);
}

/* Recorded once more at the end of the tape, and its value moved. */
static fad_status fill(fad_tape *tape, uint32_t node, const uint32_t *same)
{
    size_t count = tape->count;
    uint32_t again;
    fad_status status = fad_trace_copy(tape, tape, node, same, &again);
    /* A comparison of numbers is a number; recorded with an operand that was an array before a cast, it is one too. */
    if (status == FAD_OK && fad_is_array(tape, node) && !fad_is_array(tape, again))
        status = fad_record_cast(tape, again, fad_node_dtype(tape, node), &again);
    if (status == FAD_OK && !alike(tape, node, again))
        status = FAD_BAD_OPERAND;
    if (status == FAD_OK)
        tape->values[node] = tape->values[again];
    tape->count = count;
    return status;
}

fad_status fad_trace_fill(fad_tape *tape)
{
    fad_status status = FAD_OK, ignored;
    size_t count = tape->count;
    uint32_t *same = fad_resize(tape, NULL, 0, (count + 1) * sizeof *same, &status);
    if (!same)
        return status;
    for (uint32_t i = 0; i < count; i++)
        same[i] = i;
    tape->dry = false;
    for (uint32_t i = 0; i < count && status == FAD_OK; i++) {
        if (!(tape->nodes[i].flags & FAD_IS_DYNAMIC))
            continue;
        if (tape->nodes[i].op != FAD_VARIABLE)
            status = fill(tape, i, same);
        else if (fad_is_array(tape, i) && !tape->values[i].array->data)
            status = FAD_BAD_OPERAND;
    }
    tape->dry = status != FAD_OK;
    fad_resize(tape, same, (count + 1) * sizeof *same, 0, &ignored);
    return status;
}
