/* verify.c: is a tape well formed? Reads only. */
#include "fastad.h"

/* Whether VIEW node `i` is a window on the buffer of its operand. */
static bool shares(const fad_tape *tape, uint32_t i, uint32_t parent)
{
    if (tape->nodes[i].op != FAD_VIEW || !fad_is_array(tape, i))
        return false;
    const fad_array *whole = tape->values[parent].array;
    uintptr_t from = (uintptr_t)whole->data, at = (uintptr_t)tape->values[i].array->data;
    return at >= from && at < from + whole->shape->size * fad_itemsize(whole->dtype);
}

static const char *check_parents(const fad_tape *tape, uint32_t i)
{
    uint32_t parent;
    unsigned active = 0, arrays = 0;
    for (size_t k = 0; (parent = fad_parent(tape, i, k)) != FAD_NODE_NONE; k++) {
        if (parent >= i)
            return "a parent does not come before its child";
        active |= tape->nodes[parent].flags & FAD_IS_ACTIVE;
        arrays |= tape->nodes[parent].flags & FAD_IS_ARRAY;
        if (fad_is_superseded(tape, parent) && (!fad_reads_once(tape->nodes[i].op) || shares(tape, i, parent)))
            return "reads a value that was overwritten";
    }
    const fad_node *n = &tape->nodes[i];
    if ((n->flags & FAD_IS_ACTIVE) && !active && n->op != FAD_VARIABLE && n->op != FAD_POS)
        return "active, but none of its parents is";
    if ((n->flags & FAD_IS_ARRAY || arrays) && !(n->flags & FAD_HAS_ARRAY))
        return "an array is not flagged";
    return NULL;
}

static const char *check_strided(const fad_tape *tape, const fad_node *n, const fad_shape *shape)
{
    const fad_strided *strided = tape->side[n->aux];
    const fad_shape *operand = fad_node_shape(tape, n->a);
    bool reads = n->op == FAD_STRIDED;
    if (strided->whole != (reads ? operand : shape) || strided->part != (reads ? shape : operand))
        return "its shapes are not those of its side record";
    if (!fad_strided_is_inside(strided->whole, strided->part, strided->start, strided->strides))
        return "reaches outside of the whole";
    return NULL;
}

static const char *check_shape(const fad_tape *tape, uint32_t i)
{
    const fad_node *n = &tape->nodes[i];
    const fad_shape *shape = fad_node_shape(tape, i);
    if (shape->id >= tape->shape_count || tape->shapes[shape->id] != shape)
        return "its shape is not one of the tape's";
    if (fad_ops[n->op].aux == FAD_AUX_SHAPE && (n->aux >= tape->shape_count || tape->shapes[n->aux] != shape))
        return "its shape is not the one that its aux names";
    if (n->op < FAD_ELEMENTWISE_COUNT)
        for (size_t k = 0; k < fad_ops[n->op].arity; k++)
            if (!fad_shape_expands(fad_node_shape(tape, fad_parent(tape, i, k)), shape))
                return "an operand does not broadcast to its shape";
    if (n->op == FAD_BROADCAST_TO && !fad_shape_expands(fad_node_shape(tape, n->a), shape))
        return "broadcasts from a shape that does not expand";
    bool reduces = n->op == FAD_SUM_TO || n->op == FAD_MAX_TO || n->op == FAD_MIN_TO;
    if (reduces && !fad_shape_expands(shape, fad_node_shape(tape, n->a)))
        return "reduces to a shape that does not expand";
    if (n->op == FAD_RESHAPE && shape->size != fad_node_shape(tape, n->a)->size)
        return "reshapes to another number of elements";
    if (n->op == FAD_STRIDED || n->op == FAD_STRIDED_ADD)
        return check_strided(tape, n, shape);
    return NULL;
}

bool fad_verify(const fad_tape *tape, size_t *node, const char **reason)
{
    for (size_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        *node = i;
        *reason = NULL;
        if (n->op >= FAD_OP_COUNT)
            *reason = "no such op";
        else if (fad_ops[n->op].aux == FAD_AUX_SIDE && n->aux >= tape->side_count)
            *reason = "no such side record";
        else if ((*reason = check_parents(tape, (uint32_t)i)) == NULL)
            *reason = check_shape(tape, (uint32_t)i);
        if (*reason)
            return false;
    }
    return true;
}
