/* update.c: arrays with a part overwritten. */
#include "update.h"

#include "array.h"
#include "record.h"
#include "try.h"

static fad_version *version_of(const fad_tape *tape, uint32_t node)
{
    return (fad_version *)tape->values[node].array;
}

/* --- the part that an update is about --- */

static const fad_shape *part_shape(const fad_tape *tape, int op, uint32_t aux)
{
    return op == FAD_UPDATE_VIEW ? ((const fad_view *)tape->side[aux])->part : fad_node_shape(tape, aux);
}

static void read_part(const fad_tape *tape, int op, uint32_t aux, const fad_array *whole, const fad_array *to)
{
    if (op == FAD_UPDATE_VIEW) {
        ptrdiff_t strides[FAD_MAX_NDIM];
        fad_array part = fad_view_apply(whole, tape->side[aux], strides);
        fad_copy(to, &part);
    } else {
        fad_gather(to, whole, tape->values[aux].array);
    }
}

static void write_part(const fad_tape *tape, int op, uint32_t aux, const fad_array *whole, const fad_array *from)
{
    if (op == FAD_UPDATE_VIEW) {
        ptrdiff_t strides[FAD_MAX_NDIM];
        fad_array part = fad_view_apply(whole, tape->side[aux], strides);
        fad_copy(&part, from);
    } else {
        fad_put(whole, from, tape->values[aux].array);
    }
}

/* Takes back what version `node` wrote to `whole`. */
static void undo(const fad_tape *tape, uint32_t node, const fad_array *whole)
{
    fad_node n = tape->nodes[node];
    const fad_shape *shape = part_shape(tape, n.op, n.aux);
    fad_array part = {version_of(tape, node)->undo, shape, shape->strides, whole->dtype};
    write_part(tape, n.op, n.aux, whole, &part);
}

/* --- new versions --- */

/* In a buffer of its own: everything is allocated, and nothing written yet. */
static fad_status first_version(fad_tape *tape, fad_node n, const fad_array *like, uint32_t *out)
{
    enum { HEADER = (sizeof(fad_version) + sizeof(fad_chain) + 31) & ~(size_t)31 };
    fad_status status = FAD_OK;
    char *p = fad_arena_alloc(tape, &tape->arena, HEADER + like->shape->size * fad_itemsize(like->dtype), &status);
    if (!p)
        return status;
    fad_version *version = (fad_version *)p;
    fad_array value = {p + HEADER, like->shape, like->shape->strides, like->dtype};
    version->value = value;
    version->undo = NULL;
    version->chain = (fad_chain *)(version + 1);
    version->chain->data = value.data;
    fad_value v = {.array = &version->value};
    TRY(fad_push(tape, n.op, n.flags, n.a, n.b, n.aux, v, out));
    version->chain->newest = *out;
    return FAD_OK;
}

/* In the buffer of operand `a`, whose elements in the part are kept. */
static fad_status next_version(fad_tape *tape, fad_node n, uint32_t *out)
{
    const fad_shape *shape = part_shape(tape, n.op, n.aux);
    fad_version *before = version_of(tape, n.a);
    fad_status status = FAD_OK;
    size_t size = shape->size * fad_itemsize(before->value.dtype);
    fad_version *version = fad_arena_alloc(tape, &tape->arena, sizeof *version + size, &status);
    if (!version)
        return status;
    version->value = before->value;
    version->chain = before->chain;
    version->undo = (char *)(version + 1);
    fad_value v = {.array = &version->value};
    TRY(fad_push(tape, n.op, n.flags, n.a, n.b, n.aux, v, out));
    tape->nodes[n.a].flags &= (uint16_t)~FAD_IS_OWNED;
    version->chain->newest = *out;
    fad_array kept = {version->undo, shape, shape->strides, version->value.dtype};
    read_part(tape, n.op, n.aux, &version->value, &kept);
    return FAD_OK;
}

static unsigned update_flags(const fad_tape *tape, int op, uint32_t a, uint32_t b, uint32_t aux)
{
    unsigned flags = (tape->nodes[a].flags | tape->nodes[b].flags) & FAD_INHERITED;
    return op == FAD_UPDATE_AT ? flags | (tape->nodes[aux].flags & FAD_IS_DYNAMIC) : flags;
}

/* The node, whose value, where it has one, is still that of `a`. */
static fad_status push_updated(fad_tape *tape, int op, uint32_t a, uint32_t b, uint32_t aux, bool assign, uint32_t *out)
{
    unsigned flags = update_flags(tape, op, a, b, aux);
    const fad_array *before = tape->values[a].array;
    if (!fad_is_array(tape, a)) {
        fad_value number = {.number = tape->values[a].number};
        return fad_push(tape, op, flags | FAD_HAS_ARRAY, a, b, aux, number, out);
    }
    if (!assign || (tape->dry && flags & FAD_IS_DYNAMIC)) { /* no version: nobody writes to its buffer */
        TRY(fad_new_array(tape, op, flags, a, b, aux, before->dtype, before->shape, out));
    } else {
        flags |= FAD_IS_ARRAY | FAD_HAS_ARRAY | FAD_IS_VERSION | FAD_IS_OWNED;
        fad_node n = {(uint16_t)op, (uint16_t)flags, a, b, aux};
        if (tape->nodes[a].flags & FAD_IS_OWNED && a != b)
            return next_version(tape, n, out);
        TRY(first_version(tape, n, before, out));
    }
    if (fad_has_value(tape, *out))
        fad_copy(tape->values[*out].array, before);
    return FAD_OK;
}

/* Operands fit. `assign`: `a` will not be named again, and the new node by the caller alone. */
static fad_status update(fad_tape *tape, int op, uint32_t a, uint32_t b, uint32_t aux, bool assign, uint32_t *out)
{
    TRY(fad_record_cast(tape, b, fad_node_dtype(tape, a), &b));
    TRY(push_updated(tape, op, a, b, aux, assign, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array whole = fad_value_array(tape, *out), value = fad_value_array(tape, b);
    write_part(tape, op, aux, &whole, &value);
    return FAD_OK;
}

static fad_status update_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, bool assign, uint32_t *out)
{
    const fad_view *view = tape->side[side];
    if (fad_node_shape(tape, a) != view->whole || fad_node_shape(tape, b) != view->part)
        return FAD_BAD_SHAPE;
    return update(tape, FAD_UPDATE_VIEW, a, b, side, assign, out);
}

static fad_status update_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, bool assign, uint32_t *out)
{
    if (!fad_is_float(fad_node_dtype(tape, a)) || fad_node_shape(tape, b) != fad_node_shape(tape, indices))
        return FAD_BAD_OPERAND;
    TRY(fad_check_indices(tape, indices, fad_node_shape(tape, a)));
    return update(tape, FAD_UPDATE_AT, a, b, indices, assign, out);
}

fad_status fad_record_update_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, uint32_t *out)
{
    return update_view(tape, a, b, side, false, out);
}

fad_status fad_record_update_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out)
{
    return update_at(tape, a, b, indices, false, out);
}

fad_status fad_assign_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, uint32_t *out)
{
    return update_view(tape, a, b, side, true, out);
}

fad_status fad_assign_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out)
{
    return update_at(tape, a, b, indices, true, out);
}

/* --- older versions --- */

void fad_rebuild(const fad_tape *tape, uint32_t node, const fad_array *to)
{
    const fad_version *version = version_of(tape, node);
    fad_array now = version->value;
    now.data = version->chain->data;
    fad_copy(to, &now);
    for (uint32_t i = version->chain->newest; i != node; i = tape->nodes[i].a)
        undo(tape, i, to);
}

fad_status fad_hold(fad_tape *tape, uint32_t node)
{
    if (fad_pin(tape, node) == FAD_OK)
        return FAD_OK;
    fad_version *version = version_of(tape, node);
    fad_array own = version->value;
    fad_status status = FAD_OK;
    own.data = fad_arena_alloc(tape, &tape->arena, own.shape->size * fad_itemsize(own.dtype), &status);
    if (!own.data)
        return status;
    fad_rebuild(tape, node, &own);
    version->value = own;
    return FAD_OK;
}

fad_status fad_cut(fad_tape *tape, uint32_t node)
{
    if (!(tape->nodes[node].flags & FAD_IS_VERSION) || !version_of(tape, node)->undo)
        return FAD_OK;
    fad_status status = FAD_OK;
    uint32_t before = tape->nodes[node].a, i = version_of(tape, node)->chain->newest;
    fad_array whole = version_of(tape, node)->value;
    fad_chain *old = version_of(tape, node)->chain;
    size_t size = whole.shape->size * fad_itemsize(whole.dtype);
    fad_chain *later = fad_arena_alloc(tape, &tape->arena, sizeof *later, &status);
    whole.data = later ? fad_arena_alloc(tape, &tape->arena, size, &status) : NULL;
    if (!whole.data)
        return status;
    fad_rebuild(tape, before, &whole);
    *later = *old;
    for (; i != before; i = tape->nodes[i].a)
        version_of(tape, i)->chain = later;
    version_of(tape, node)->undo = NULL;
    for (fad_version *v = version_of(tape, before);; v = version_of(tape, i = tape->nodes[i].a)) {
        if (v->value.data == old->data)
            v->value.data = whole.data;
        if (!v->undo)
            break;
    }
    old->data = whole.data;
    old->newest = before;
    return FAD_OK;
}

bool fad_took_over(const fad_tape *tape, uint32_t node)
{
    return (tape->nodes[node].flags & FAD_IS_VERSION) != 0 && version_of(tape, node)->undo != NULL &&
           fad_is_superseded(tape, tape->nodes[node].a);
}

void fad_tape_rewind(fad_tape *tape, size_t mark)
{
    for (size_t i = tape->count; i-- > mark;) {
        if (!(tape->nodes[i].flags & FAD_IS_VERSION) || !version_of(tape, (uint32_t)i)->undo)
            continue;
        const fad_version *version = version_of(tape, (uint32_t)i);
        fad_array buffer = version->value;
        buffer.data = version->chain->data;
        undo(tape, (uint32_t)i, &buffer);
        version->chain->newest = tape->nodes[i].a;
    }
    fad_tape_truncate(tape, mark);
}

void fad_tape_return(fad_tape *tape, const fad_bookmark *mark)
{
    fad_tape_rewind(tape, mark->count);
    tape->side_count = mark->side_count;
    if (!mark->chunk) {
        fad_arena_reset(tape, &tape->arena, SIZE_MAX);
        return;
    }
    for (fad_chunk *chunk = mark->chunk->next; chunk; chunk = chunk->next)
        chunk->used = 0;
    mark->chunk->used = mark->used;
    tape->arena.current = mark->chunk;
}
