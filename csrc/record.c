/* record.c: the forward pass: a value computed, a node appended. */
#include "record.h"

#include "array.h"
#include "scalar.h"
#include "try.h"

/* What a node takes over from an operand. */
static unsigned inherited(const fad_tape *tape, uint32_t node) { return tape->nodes[node].flags & FAD_INHERITED; }

static unsigned dynamic(const fad_tape *tape, uint32_t node) { return tape->nodes[node].flags & FAD_IS_DYNAMIC; }

/* Appends a node of type and shape given, scalar where both allow it, and tells where its value goes. The pointer
 * is good until the next append. */
static fad_status new_value(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux, int dtype,
                            const fad_shape *shape, fad_array *to, uint32_t *out)
{
    if (shape->ndim == 0 && dtype == FAD_F64) {
        fad_value zero = {.number = 0};
        TRY(fad_push(tape, op, flags | FAD_HAS_ARRAY, a, b, aux, zero, out));
    } else {
        TRY(fad_new_array(tape, op, flags, a, b, aux, dtype, shape, out));
    }
    *to = fad_value_array(tape, *out);
    return FAD_OK;
}

/* --- element-wise --- */

static int wider(int x, int y)
{
    if (x == y)
        return x;
    if (x == FAD_BOOL)
        return y;
    if (y == FAD_BOOL)
        return x;
    return FAD_F64; /* int64 with a float, or the two floats */
}

/* Type in which arrays of the operands' types are computed; scalar nodes have no say. */
static int common_dtype(const fad_tape *tape, size_t first, size_t arity, const uint32_t *operands)
{
    int dtype = -1;
    for (size_t k = first; k < arity; k++)
        if (fad_is_array(tape, operands[k])) {
            int own = fad_node_dtype(tape, operands[k]);
            dtype = dtype < 0 ? own : wider(dtype, own);
        }
    return dtype < 0 ? FAD_F64 : dtype;
}

/* Makes operand `k` an operand of type `dtype`. Scalar nodes are converted while computing. */
static fad_status cast_operand(fad_tape *tape, uint32_t *operand, int dtype)
{
    if (!fad_is_array(tape, *operand) || fad_node_dtype(tape, *operand) == dtype)
        return FAD_OK;
    return fad_record_cast(tape, *operand, dtype, operand);
}

/* A scalar node's number in the type that an inner loop reads. */
typedef union {
    double f64;
    float f32;
    int64_t i64;
    uint8_t truth;
} scalar_room;

static fad_array scalar_operand(const fad_tape *tape, double number, int dtype, scalar_room *room)
{
    switch (dtype) {
    case FAD_F32:
        room->f32 = (float)number;
        break;
    case FAD_I64:
        room->i64 = (int64_t)number;
        break;
    case FAD_BOOL:
        room->truth = number != 0;
        break;
    default:
        room->f64 = number;
        break;
    }
    fad_array a = {(char *)room, tape->shapes[0], tape->shapes[0]->strides, (uint8_t)dtype};
    return a;
}

static bool all_repeat(const fad_tape *tape, size_t arity, const uint32_t *operands)
{
    for (size_t k = 0; k < arity; k++)
        if (fad_node_shape(tape, operands[k])->size != 1 && !fad_repeats(tape->values[operands[k]].array))
            return false;
    return true;
}

/* A node of `shape` whose elements are all the same: `to` is the one. */
static fad_status new_repeated(fad_tape *tape, int op, unsigned flags, const uint32_t *operands, int dtype,
                               const fad_shape *shape, fad_array *to, uint32_t *out)
{
    fad_status status = FAD_OK;
    size_t size = (shape->ndim + 2) * sizeof(ptrdiff_t);
    ptrdiff_t *room = fad_arena_alloc(tape, &tape->arena, size, &status);
    if (!room)
        return status;
    memset(room, 0, size);
    fad_array one = {(char *)room, tape->shapes[0], tape->shapes[0]->strides, (uint8_t)dtype};
    fad_array wide = {(char *)room, shape, room + 1, (uint8_t)dtype};
    *to = one;
    return fad_new_view(tape, op, flags, operands[0], operands[1], operands[2], &wide, out);
}

static fad_status record_arrays(fad_tape *tape, int op, size_t arity, const uint32_t *given, int dtype, uint32_t *out)
{
    uint32_t operands[3] = {given[0], arity > 1 ? given[1] : 0, arity > 2 ? given[2] : 0};
    size_t first = op == FAD_SELECT; /* SELECT's condition has a type of its own */
    bool predicate = fad_ops[op].kind == FAD_PREDICATE;
    if (dtype < 0)
        dtype = common_dtype(tape, first, arity, operands);
    if (!predicate && !fad_is_float(dtype))
        return FAD_BAD_OPERAND;
    const fad_shape *shape = tape->shapes[0];
    unsigned flags = 0;
    for (size_t k = 0; k < arity; k++) {
        TRY(cast_operand(tape, &operands[k], k < first ? FAD_BOOL : dtype));
        tape->failed_at = k;
        TRY(fad_shape_broadcast(tape, shape, fad_node_shape(tape, operands[k]), &shape));
        flags |= inherited(tape, operands[k]);
    }
    if (predicate || fad_ops[op].kind == FAD_FLAT)
        flags &= ~(unsigned)FAD_IS_ACTIVE;
    int result = predicate ? FAD_BOOL : dtype;
    fad_array values[3], to;
    const fad_shape *computed = shape;
    if (tape->dry && !(flags & FAD_IS_DYNAMIC) && shape->size > 1 && all_repeat(tape, arity, operands)) {
        computed = tape->shapes[0]; /* one element stands for all */
        TRY(new_repeated(tape, op, flags, operands, result, shape, &to, out));
    } else {
        TRY(new_value(tape, op, flags, operands[0], operands[1], operands[2], result, shape, &to, out));
    }
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    /* Values are read after the append, which may move them. */
    const fad_array *pointers[3];
    scalar_room room[3];
    for (size_t k = 0; k < arity; k++) {
        int own = k < first ? FAD_BOOL : dtype;
        values[k] = fad_is_array(tape, operands[k])
                        ? *tape->values[operands[k]].array
                        : scalar_operand(tape, tape->values[operands[k]].number, own, &room[k]);
        pointers[k] = &values[k];
    }
    for (size_t k = 0; computed != shape && k < arity; k++) {
        values[k].shape = computed;
        values[k].strides = computed->strides;
    }
    fad_apply_elementwise(tape->loops, op, dtype, computed, arity, pointers, &to);
    return FAD_OK;
}

fad_status fad_record_elementwise(fad_tape *tape, int op, const uint32_t *operands, int dtype, uint32_t *out)
{
    size_t arity = fad_ops[op].arity;
    unsigned flags = 0;
    double x[3] = {0, 0, 0};
    for (size_t k = 0; k < arity; k++) {
        if (fad_is_array(tape, operands[k]))
            return record_arrays(tape, op, arity, operands, dtype, out);
        flags |= tape->nodes[operands[k]].flags;
        x[k] = tape->values[operands[k]].number;
    }
    if (fad_ops[op].kind == FAD_PREDICATE || fad_ops[op].kind == FAD_FLAT)
        flags &= ~(unsigned)FAD_IS_ACTIVE;
    bool skip = tape->dry && flags & FAD_IS_DYNAMIC;
    return fad_push_scalar(tape, op, flags, operands[0], arity > 1 ? operands[1] : 0, arity > 2 ? operands[2] : 0,
                           skip ? 0 : fad_scalar_value(op, x[0], x[1], x[2]), out);
}

/* --- one operand --- */

fad_status fad_record_cast(fad_tape *tape, uint32_t a, int dtype, uint32_t *out)
{
    int from = fad_node_dtype(tape, a);
    const fad_shape *shape = fad_node_shape(tape, a);
    if (from == dtype) {
        *out = a;
        return FAD_OK;
    }
    unsigned flags = inherited(tape, a) & (fad_is_float(dtype) ? FAD_INHERITED : FAD_IS_DYNAMIC);
    if (dtype == FAD_F64 && shape->ndim == 0) {
        fad_array number = {NULL, shape, shape->strides, FAD_F64}, value = fad_value_array(tape, a);
        double x = 0;
        number.data = (char *)&x;
        if (value.data)
            fad_copy(&number, &value);
        fad_value v = {.number = x};
        return fad_push(tape, FAD_CAST, flags | FAD_HAS_ARRAY, a, 0, 0, v, out);
    }
    TRY(fad_new_array(tape, FAD_CAST, flags, a, 0, 0, dtype, shape, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array value = fad_value_array(tape, a);
    fad_copy(tape->values[*out].array, &value);
    return FAD_OK;
}

fad_status fad_record_reshape(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    const fad_shape *from = fad_node_shape(tape, a);
    if (from->size != shape->size)
        return FAD_BAD_SHAPE;
    if (from == shape) {
        *out = a;
        return FAD_OK;
    }
    if (fad_is_array(tape, a) && !(shape->ndim == 0 && fad_node_dtype(tape, a) == FAD_F64)) {
        fad_array view = *tape->values[a].array;
        if (fad_contiguous(&view)) {
            view.shape = shape;
            view.strides = shape->strides;
            return fad_new_view(tape, FAD_RESHAPE, inherited(tape, a), a, 0, shape->id, &view, out);
        }
    }
    fad_array to;
    TRY(new_value(tape, FAD_RESHAPE, inherited(tape, a), a, 0, shape->id, fad_node_dtype(tape, a), shape, &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array value = fad_value_array(tape, a);
    to.shape = value.shape; /* same elements in C order: copied as if it had the operand's shape */
    to.strides = value.shape->strides;
    fad_copy(&to, &value);
    return FAD_OK;
}

fad_status fad_record_broadcast_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    const fad_shape *from = fad_node_shape(tape, a);
    if (from == shape) {
        *out = a;
        return FAD_OK;
    }
    if (!fad_shape_expands(from, shape))
        return FAD_BAD_SHAPE;
    if (tape->dry && !dynamic(tape, a)) { /* a constant that is looked at, not computed with: no need to repeat it */
        fad_status status = FAD_OK;
        ptrdiff_t *strides = fad_arena_alloc(tape, &tape->arena, (shape->ndim + 1) * sizeof *strides, &status);
        if (!strides)
            return status;
        fad_array one = fad_value_array(tape, a);
        if (!fad_is_array(tape, a)) { /* its number may move */
            one.data = fad_arena_alloc(tape, &tape->arena, sizeof(double), &status);
            if (!one.data)
                return status;
            memcpy(one.data, &tape->values[a].number, sizeof(double));
        }
        fad_array wide = fad_broadcast_view(&one, shape, strides);
        return fad_new_view(tape, FAD_BROADCAST_TO, inherited(tape, a), a, 0, shape->id, &wide, out);
    }
    TRY(fad_new_array(tape, FAD_BROADCAST_TO, inherited(tape, a), a, 0, shape->id, fad_node_dtype(tape, a), shape, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array value = fad_value_array(tape, a);
    fad_copy(tape->values[*out].array, &value);
    return FAD_OK;
}

/* Adds `from`, summed to the shape of `to`, in an order that depends on the shapes alone and not on where the elements
 * lie: a program, whose arrays may lie otherwise, gives the same bits. */
static fad_status add_in_order(fad_tape *tape, const fad_array *to, const fad_array *from)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t wide = 0, bytes = from->shape->size * fad_itemsize(from->dtype);
    for (size_t d = 0; d < from->shape->ndim; d++)
        wide += from->shape->dims[d] > 1;
    if (wide <= 1 || bytes == 0 || fad_contiguous(from)) {
        fad_add_reduced(tape->loops, to, from);
        return FAD_OK;
    }
    fad_array dense = {NULL, from->shape, from->shape->strides, from->dtype};
    dense.data = fad_resize(tape, NULL, 0, bytes, &status);
    if (!dense.data)
        return status;
    fad_copy(&dense, from);
    fad_add_reduced(tape->loops, to, &dense);
    fad_resize(tape, dense.data, bytes, 0, &ignored);
    return FAD_OK;
}

fad_status fad_record_sum_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    const fad_shape *from = fad_node_shape(tape, a);
    if (from == shape) {
        *out = a;
        return FAD_OK;
    }
    if (!fad_shape_expands(shape, from))
        return FAD_BAD_SHAPE;
    if (!fad_is_float(fad_node_dtype(tape, a)))
        return FAD_BAD_OPERAND;
    fad_array to;
    TRY(new_value(tape, FAD_SUM_TO, inherited(tape, a), a, 0, shape->id, fad_node_dtype(tape, a), shape, &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array value = fad_value_array(tape, a);
    fad_fill_zero(&to);
    return add_in_order(tape, &to, &value);
}

fad_status fad_record_extremum_to(fad_tape *tape, int op, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    const fad_shape *from = fad_node_shape(tape, a);
    int dtype = fad_node_dtype(tape, a);
    if (from == shape) {
        *out = a;
        return FAD_OK;
    }
    if (!fad_shape_expands(shape, from))
        return FAD_BAD_SHAPE;
    if (from->size == 0 && shape->size != 0)
        return FAD_BAD_OPERAND; /* nothing has no extremum */
    fad_array to;
    unsigned flags = inherited(tape, a) & (fad_is_float(dtype) ? FAD_INHERITED : FAD_IS_DYNAMIC);
    TRY(new_value(tape, op, flags, a, 0, shape->id, dtype, shape, &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array value = fad_value_array(tape, a);
    fad_extremum(&to, &value, op == FAD_MAX_TO);
    return FAD_OK;
}

/* --- views --- */

static bool is_bijective(const fad_shape *whole, size_t ndim, const ptrdiff_t *dims, const ptrdiff_t *step,
                         const int *source)
{
    bool used[FAD_MAX_NDIM] = {false};
    for (size_t i = 0; i < ndim; i++) {
        if (source[i] < 0)
            continue;
        if (dims[i] != whole->dims[source[i]] || (step[i] != 1 && step[i] != -1))
            return false;
        used[source[i]] = true;
    }
    for (size_t s = 0; s < whole->ndim; s++)
        if (!used[s] && whole->dims[s] != 1)
            return false;
    return true;
}

/* True where every element read lies within `whole`, and no source axis is read by two output axes. */
static bool view_is_inside(const fad_shape *whole, size_t ndim, const ptrdiff_t *dims, const ptrdiff_t *start,
                           const ptrdiff_t *step, const int *source)
{
    bool used[FAD_MAX_NDIM] = {false};
    for (size_t i = 0; i < ndim; i++)
        if (dims[i] == 0)
            return true;
    for (size_t i = 0; i < ndim; i++) {
        int s = source[i];
        if (s < 0 && dims[i] == 1)
            continue;
        if (s < 0 || s >= (int)whole->ndim || used[s])
            return false;
        used[s] = true;
        ptrdiff_t last = start[s] + (dims[i] - 1) * step[i];
        if (last < 0 || last >= whole->dims[s])
            return false;
    }
    for (size_t s = 0; s < whole->ndim; s++)
        if (start[s] < 0 || start[s] >= whole->dims[s])
            return false;
    return true;
}

fad_status fad_make_view(fad_tape *tape, const fad_shape *whole, size_t ndim, const ptrdiff_t *dims,
                         const ptrdiff_t *start, const ptrdiff_t *step, const int *source, uint32_t *side)
{
    const fad_shape *part;
    TRY(fad_shape_intern(tape, ndim, dims, &part));
    if (!view_is_inside(whole, ndim, dims, start, step, source))
        return FAD_BAD_OPERAND;
    fad_status status = FAD_OK;
    size_t numbers = whole->ndim + ndim;
    fad_view *view = fad_arena_alloc(tape, &tape->arena,
                                     sizeof *view + numbers * sizeof(ptrdiff_t) + ndim * sizeof(int), &status);
    if (!view)
        return status;
    ptrdiff_t *own_start = (ptrdiff_t *)(view + 1), *own_step = own_start + whole->ndim;
    int *own_source = (int *)(own_step + ndim);
    for (size_t s = 0; s < whole->ndim; s++)
        own_start[s] = start[s];
    for (size_t i = 0; i < ndim; i++) {
        own_step[i] = step[i];
        own_source[i] = source[i];
    }
    view->whole = whole;
    view->part = part;
    view->bijective = is_bijective(whole, ndim, dims, step, source);
    view->start = own_start;
    view->step = own_step;
    view->source = own_source;
    return fad_side_add(tape, view, side);
}

/* A scalar's number may move. And where an array is being written to, a small part is copied: sharing the memory would
 * make the next write copy the whole. */
static bool view_is_copied(const fad_tape *tape, uint32_t a, const fad_view *view)
{
    unsigned flags = tape->nodes[a].flags;
    return !(flags & FAD_IS_ARRAY) || (flags & FAD_IS_OWNED && view->part->size <= view->whole->size / 4);
}

fad_status fad_record_view(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out)
{
    const fad_view *view = tape->side[side];
    if (fad_node_shape(tape, a) != view->whole)
        return FAD_BAD_SHAPE;
    int dtype = fad_node_dtype(tape, a);
    if (view->part->ndim == 0 && dtype == FAD_F64) {
        fad_value zero = {.number = 0};
        TRY(fad_push(tape, FAD_VIEW, inherited(tape, a) | FAD_HAS_ARRAY, a, 0, side, zero, out));
        if (!fad_has_value(tape, *out))
            return FAD_OK;
        fad_array value = fad_value_array(tape, a);
        fad_array part = fad_view_apply(&value, view, NULL);
        tape->values[*out].number = *(const double *)part.data;
        return FAD_OK;
    }
    if (view_is_copied(tape, a, view)) {
        ptrdiff_t room[FAD_MAX_NDIM];
        TRY(fad_new_array(tape, FAD_VIEW, inherited(tape, a), a, 0, side, dtype, view->part, out));
        if (!fad_has_value(tape, *out))
            return FAD_OK;
        fad_array value = fad_value_array(tape, a);
        fad_array part = fad_view_apply(&value, view, room);
        fad_copy(tape->values[*out].array, &part);
        return FAD_OK;
    }
    fad_status status = FAD_OK;
    ptrdiff_t *strides =
        fad_arena_alloc(tape, &tape->arena, (view->part->ndim + 1) * sizeof *strides, &status);
    if (!strides)
        return status;
    fad_array part = {NULL, view->part, view->part->strides, (uint8_t)dtype};
    if (fad_has_value(tape, a))
        part = fad_view_apply(tape->values[a].array, view, strides);
    return fad_new_view(tape, FAD_VIEW, inherited(tape, a), a, 0, side, &part, out);
}

fad_status fad_record_embed(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out)
{
    const fad_view *view = tape->side[side];
    if (fad_node_shape(tape, a) != view->part)
        return FAD_BAD_SHAPE;
    fad_array whole;
    TRY(new_value(tape, FAD_EMBED, inherited(tape, a), a, 0, side, fad_node_dtype(tape, a), view->whole, &whole, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    ptrdiff_t strides[FAD_MAX_NDIM];
    fad_array part = fad_view_apply(&whole, view, strides), value = fad_value_array(tape, a);
    if (!view->bijective)
        fad_fill_zero(&whole);
    fad_copy(&part, &value);
    return FAD_OK;
}

fad_status fad_record_transpose(fad_tape *tape, uint32_t a, const int *axes, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(tape, a);
    ptrdiff_t dims[FAD_MAX_NDIM], start[FAD_MAX_NDIM], step[FAD_MAX_NDIM];
    for (size_t i = 0; i < shape->ndim; i++) {
        if (axes[i] < 0 || (size_t)axes[i] >= shape->ndim)
            return FAD_BAD_OPERAND;
        dims[i] = shape->dims[axes[i]];
        start[i] = 0;
        step[i] = 1;
    }
    uint32_t side;
    TRY(fad_make_view(tape, shape, shape->ndim, dims, start, step, axes, &side));
    return fad_record_view(tape, a, side, out);
}

/* --- elements and lists --- */

fad_status fad_record_element(fad_tape *tape, uint32_t a, size_t offset, uint32_t *out)
{
    if (!fad_is_array(tape, a))
        return FAD_BAD_OPERAND;
    const fad_array *array = tape->values[a].array;
    if (array->dtype != FAD_F64 || offset >= array->shape->size || offset > UINT32_MAX)
        return FAD_BAD_OPERAND;
    ptrdiff_t at = 0;
    size_t rest = offset;
    for (size_t i = array->shape->ndim; i-- > 0;) {
        at += (ptrdiff_t)(rest % (size_t)array->shape->dims[i]) * array->strides[i];
        rest /= (size_t)array->shape->dims[i];
    }
    fad_value v = {.number = array->data ? ((const double *)array->data)[at] : 0};
    return fad_push(tape, FAD_ELEMENT, inherited(tape, a) | FAD_HAS_ARRAY, a, 0, (uint32_t)offset, v, out);
}

static fad_status new_list(fad_tape *tape, size_t count, const uint32_t *nodes, size_t axis, uint32_t *side,
                           unsigned *flags)
{
    fad_status status = FAD_OK;
    if (count > SIZE_MAX / sizeof(uint32_t) - 8)
        return FAD_NO_MEMORY;
    fad_list *list = fad_arena_alloc(tape, &tape->arena, sizeof *list + count * sizeof(uint32_t), &status);
    if (!list)
        return status;
    list->count = count;
    list->axis = (int)axis;
    *flags = 0;
    for (size_t i = 0; i < count; i++) {
        TRY(fad_pin(tape, nodes[i]));
        list->nodes[i] = nodes[i];
        *flags |= inherited(tape, nodes[i]);
    }
    return fad_side_add(tape, list, side);
}

fad_status fad_record_stack(fad_tape *tape, size_t count, const uint32_t *nodes, uint32_t *out)
{
    uint32_t side;
    unsigned flags = 0;
    const fad_shape *shape;
    ptrdiff_t dim = (ptrdiff_t)count;
    for (size_t i = 0; i < count; i++)
        if (fad_is_array(tape, nodes[i]))
            return FAD_BAD_OPERAND;
    TRY(fad_shape_intern(tape, 1, &dim, &shape));
    TRY(new_list(tape, count, nodes, 0, &side, &flags));
    TRY(fad_new_array(tape, FAD_STACK, flags, 0, 0, side, FAD_F64, shape, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    double *to = (double *)tape->values[*out].array->data;
    for (size_t i = 0; i < count; i++)
        to[i] = tape->values[nodes[i]].number;
    return FAD_OK;
}

fad_status fad_record_concatenate(fad_tape *tape, size_t count, const uint32_t *nodes, size_t axis, uint32_t *out)
{
    if (count == 0)
        return FAD_BAD_OPERAND;
    const fad_shape *first = fad_node_shape(tape, nodes[0]), *shape;
    int dtype = fad_node_dtype(tape, nodes[0]);
    ptrdiff_t dims[FAD_MAX_NDIM];
    if (axis >= first->ndim)
        return FAD_BAD_OPERAND;
    memcpy(dims, first->dims, first->ndim * sizeof *dims);
    dims[axis] = 0;
    for (size_t i = 0; i < count; i++) {
        const fad_shape *own = fad_node_shape(tape, nodes[i]);
        tape->failed_at = i;
        if (own->ndim != first->ndim || fad_node_dtype(tape, nodes[i]) != dtype)
            return FAD_BAD_OPERAND;
        for (size_t d = 0; d < own->ndim; d++)
            if (d != axis && own->dims[d] != first->dims[d])
                return FAD_BAD_SHAPE;
        if (own->dims[axis] > PTRDIFF_MAX - dims[axis])
            return FAD_BAD_SHAPE;
        dims[axis] += own->dims[axis];
    }
    uint32_t side;
    unsigned flags = 0;
    TRY(fad_shape_intern(tape, first->ndim, dims, &shape));
    TRY(new_list(tape, count, nodes, axis, &side, &flags));
    TRY(fad_new_array(tape, FAD_CONCATENATE, flags & (fad_is_float(dtype) ? FAD_INHERITED : FAD_IS_DYNAMIC), 0, 0, side,
                      dtype, shape, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array part = *tape->values[*out].array;
    part.strides = shape->strides;
    for (size_t i = 0; i < count; i++) {
        fad_array value = fad_value_array(tape, nodes[i]);
        part.shape = value.shape; /* strides stay those of the whole */
        fad_copy(&part, &value);
        part.data += value.shape->dims[axis] * shape->strides[axis] * (ptrdiff_t)fad_itemsize(dtype);
    }
    return FAD_OK;
}

fad_status fad_record_nsum(fad_tape *tape, size_t count, const uint32_t *nodes, uint32_t *out)
{
    if (count == 0)
        return FAD_BAD_OPERAND;
    const fad_shape *shape = fad_node_shape(tape, nodes[0]);
    int dtype = fad_node_dtype(tape, nodes[0]);
    if (!fad_is_float(dtype))
        return FAD_BAD_OPERAND;
    for (size_t i = 0; i < count; i++)
        if (fad_node_shape(tape, nodes[i]) != shape || fad_node_dtype(tape, nodes[i]) != dtype)
            return FAD_BAD_SHAPE;
    uint32_t side;
    unsigned flags = 0;
    TRY(new_list(tape, count, nodes, 0, &side, &flags));
    fad_array to;
    TRY(new_value(tape, FAD_NSUM, flags, 0, 0, side, dtype, shape, &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array first = fad_value_array(tape, nodes[0]);
    fad_copy(&to, &first);
    for (size_t i = 1; i < count; i++) {
        fad_array value = fad_value_array(tape, nodes[i]);
        fad_add(tape->loops, &to, &value);
    }
    return FAD_OK;
}

/* --- indexed access --- */

fad_status fad_check_indices(const fad_tape *tape, uint32_t indices, const fad_shape *whole)
{
    if (!fad_is_array(tape, indices))
        return FAD_BAD_OPERAND;
    const fad_array *array = tape->values[indices].array;
    if (array->dtype != FAD_I64 || !fad_contiguous(array))
        return FAD_BAD_OPERAND;
    if (!fad_has_value(tape, indices))
        return FAD_OK; /* checked when they were recorded, and when they are computed again */
    const int64_t *at = (const int64_t *)array->data;
    for (size_t i = 0; i < array->shape->size; i++)
        if (at[i] < 0 || (size_t)at[i] >= whole->size)
            return FAD_BAD_OPERAND;
    return FAD_OK;
}

fad_status fad_record_gather(fad_tape *tape, uint32_t a, uint32_t indices, uint32_t *out)
{
    TRY(fad_check_indices(tape, indices, fad_node_shape(tape, a)));
    fad_array to;
    TRY(new_value(tape, FAD_GATHER, inherited(tape, a) | dynamic(tape, indices), a, 0, indices, fad_node_dtype(tape, a),
                  fad_node_shape(tape, indices), &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array from = fad_value_array(tape, a);
    fad_gather(&to, &from, tape->values[indices].array);
    return FAD_OK;
}

fad_status fad_record_scatter_add(fad_tape *tape, uint32_t a, uint32_t indices, const fad_shape *shape, uint32_t *out)
{
    if (!fad_is_float(fad_node_dtype(tape, a)) || fad_node_shape(tape, a) != fad_node_shape(tape, indices))
        return FAD_BAD_OPERAND;
    TRY(fad_check_indices(tape, indices, shape));
    fad_status status = FAD_OK;
    uint32_t side;
    fad_scatter *scatter = fad_arena_alloc(tape, &tape->arena, sizeof *scatter, &status);
    if (!scatter)
        return status;
    scatter->indices = indices;
    scatter->shape = shape;
    TRY(fad_side_add(tape, scatter, &side));
    fad_array to;
    TRY(new_value(tape, FAD_SCATTER_ADD, inherited(tape, a) | dynamic(tape, indices), a, 0, side,
                  fad_node_dtype(tape, a), shape, &to, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    fad_array from = fad_value_array(tape, a);
    fad_fill_zero(&to);
    fad_scatter_add(&to, &from, tape->values[indices].array);
    return FAD_OK;
}

/* --- places of a nest of loops --- */

bool fad_strided_is_inside(const fad_shape *whole, const fad_shape *part, ptrdiff_t start, const ptrdiff_t *strides)
{
    ptrdiff_t low = start, high = start, reach;
    if (part->size == 0)
        return true;
    for (size_t i = 0; i < part->ndim; i++) {
        ptrdiff_t *end = strides[i] < 0 ? &low : &high;
        if (__builtin_mul_overflow(part->dims[i] - 1, strides[i], &reach) || __builtin_add_overflow(*end, reach, end))
            return false;
    }
    return low >= 0 && high >= 0 && (size_t)high < whole->size;
}

fad_status fad_make_strided(fad_tape *tape, const fad_shape *whole, size_t ndim, const ptrdiff_t *dims,
                            ptrdiff_t start, const ptrdiff_t *strides, uint32_t *side)
{
    const fad_shape *part;
    TRY(fad_shape_intern(tape, ndim, dims, &part));
    if (whole->ndim == 0 || !fad_strided_is_inside(whole, part, start, strides))
        return FAD_BAD_OPERAND;
    fad_status status = FAD_OK;
    fad_strided *strided = fad_arena_alloc(tape, &tape->arena, sizeof *strided + ndim * sizeof *strides, &status);
    if (!strided)
        return status;
    ptrdiff_t *own = (ptrdiff_t *)(strided + 1);
    for (size_t i = 0; i < ndim; i++)
        own[i] = strides[i];
    strided->whole = whole;
    strided->part = part;
    strided->start = start;
    strided->strides = own;
    return fad_side_add(tape, strided, side);
}

/* The array behind `a`, copied where it is not C-contiguous. */
static fad_status dense_value(fad_tape *tape, uint32_t a, fad_array *out)
{
    *out = *tape->values[a].array;
    if (fad_contiguous(out))
        return FAD_OK;
    fad_status status = FAD_OK;
    fad_array from = *out;
    out->data = fad_arena_alloc(tape, &tape->arena, from.shape->size * fad_itemsize(from.dtype), &status);
    out->strides = out->shape->strides;
    if (out->data)
        fad_copy(out, &from);
    return status;
}

fad_status fad_record_strided(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out)
{
    const fad_strided *strided = tape->side[side];
    if (fad_node_shape(tape, a) != strided->whole)
        return FAD_BAD_SHAPE;
    int dtype = fad_node_dtype(tape, a);
    fad_array whole, part = {NULL, strided->part, strided->part->strides, (uint8_t)dtype};
    if (fad_has_value(tape, a)) {
        TRY(dense_value(tape, a, &whole));
        part = fad_strided_apply(&whole, strided);
    }
    if (strided->part->ndim || dtype != FAD_F64)
        return fad_new_view(tape, FAD_STRIDED, inherited(tape, a), a, 0, side, &part, out);
    fad_value value = {.number = part.data ? *(const double *)part.data : 0};
    return fad_push(tape, FAD_STRIDED, inherited(tape, a) | FAD_HAS_ARRAY, a, 0, side, value, out);
}

fad_status fad_record_strided_add(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out)
{
    const fad_strided *strided = tape->side[side];
    int dtype = fad_node_dtype(tape, a);
    if (fad_node_shape(tape, a) != strided->part)
        return FAD_BAD_SHAPE;
    if (!fad_is_float(dtype))
        return FAD_BAD_OPERAND;
    TRY(fad_new_array(tape, FAD_STRIDED_ADD, inherited(tape, a), a, 0, side, dtype, strided->whole, out));
    if (!fad_has_value(tape, *out))
        return FAD_OK;
    const fad_array *whole = tape->values[*out].array;
    fad_array part = fad_strided_apply(whole, strided), value = fad_value_array(tape, a);
    fad_fill_zero(whole);
    fad_add(tape->loops, &part, &value);
    return FAD_OK;
}

/* --- matrix product, cumulative sum --- */

fad_status fad_record_matmul(fad_tape *tape, uint32_t a, uint32_t b, uint32_t *out)
{
    const fad_shape *x = fad_node_shape(tape, a), *y = fad_node_shape(tape, b), *shape;
    if (x->ndim < 2 || y->ndim < 2 || x->dims[x->ndim - 1] != y->dims[y->ndim - 2])
        return FAD_BAD_SHAPE;
    int dtype = wider(fad_node_dtype(tape, a), fad_node_dtype(tape, b));
    if (!fad_is_float(dtype))
        return FAD_BAD_OPERAND;
    TRY(fad_record_cast(tape, a, dtype, &a));
    TRY(fad_record_cast(tape, b, dtype, &b));
    const fad_shape *p, *q;
    TRY(fad_shape_intern(tape, x->ndim - 2, x->dims, &p));
    TRY(fad_shape_intern(tape, y->ndim - 2, y->dims, &q));
    TRY(fad_shape_broadcast(tape, p, q, &shape));
    if (shape->ndim + 2 > FAD_MAX_NDIM)
        return FAD_BAD_SHAPE;
    ptrdiff_t dims[FAD_MAX_NDIM];
    memcpy(dims, shape->dims, shape->ndim * sizeof *dims);
    dims[shape->ndim] = x->dims[x->ndim - 2];
    dims[shape->ndim + 1] = y->dims[y->ndim - 1];
    TRY(fad_shape_intern(tape, shape->ndim + 2, dims, &shape));
    TRY(fad_new_array(tape, FAD_MATMUL, inherited(tape, a) | inherited(tape, b), a, b, 0, dtype, shape, out));
    if (fad_has_value(tape, *out))
        fad_matmul(tape->loops, tape->values[*out].array, tape->values[a].array, tape->values[b].array);
    return FAD_OK;
}

fad_status fad_record_cumsum(fad_tape *tape, uint32_t a, size_t axis, bool backwards, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(tape, a);
    int dtype = fad_node_dtype(tape, a);
    if (axis >= shape->ndim || !fad_is_float(dtype))
        return FAD_BAD_OPERAND;
    TRY(fad_new_array(tape, FAD_CUMSUM, inherited(tape, a), a, 0, (uint32_t)(2 * axis + backwards), dtype, shape, out));
    if (fad_has_value(tape, *out))
        fad_cumsum(tape->values[*out].array, tape->values[a].array, axis, backwards);
    return FAD_OK;
}

/* --- constants --- */

fad_status fad_record_zeros(fad_tape *tape, int dtype, const fad_shape *shape, uint32_t *out)
{
    if (shape->ndim == 0 && dtype == FAD_F64)
        return fad_constant(tape, 0.0, out);
    TRY(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, dtype, shape, out));
    fad_fill_zero(tape->values[*out].array);
    return FAD_OK;
}

fad_status fad_record_indices(fad_tape *tape, size_t count, const int64_t *indices, uint32_t *out)
{
    const fad_shape *shape;
    ptrdiff_t dim = (ptrdiff_t)count;
    TRY(fad_shape_intern(tape, 1, &dim, &shape));
    TRY(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, out));
    memcpy(tape->values[*out].array->data, indices, count * sizeof *indices);
    return FAD_OK;
}

/* --- custom rules --- */

fad_status fad_new_custom(fad_tape *tape, void *rule, size_t count, const uint32_t *nodes, uint32_t outputs,
                          const uint8_t *dtypes, const fad_shape **shapes, uint32_t *first)
{
    fad_status status = FAD_OK;
    if (outputs == 0 || count > SIZE_MAX / sizeof(uint32_t) - 16)
        return FAD_BAD_OPERAND;
    fad_custom *custom = fad_arena_alloc(tape, &tape->arena, sizeof *custom + count * sizeof(uint32_t), &status);
    if (!custom)
        return status;
    unsigned flags = 0;
    for (size_t i = 0; i < count; i++) {
        TRY(fad_pin(tape, nodes[i]));
        custom->nodes[i] = nodes[i];
        flags |= inherited(tape, nodes[i]);
    }
    custom->rule = rule;
    custom->outputs = outputs;
    custom->count = count;
    uint32_t side;
    TRY(fad_side_add(tape, custom, &side));
    /* The outputs come last, together: a failure in between leaves none of them. */
    size_t mark = tape->count;
    for (uint32_t k = 0; k < outputs && status == FAD_OK; k++) {
        fad_array to;
        uint32_t node = 0;
        unsigned own = flags & (fad_is_float(dtypes[k]) ? FAD_INHERITED : FAD_IS_DYNAMIC);
        status = new_value(tape, k ? FAD_OUTPUT : FAD_CUSTOM, k ? own : flags, k ? (uint32_t)mark : 0, 0,
                           k ? k : side, dtypes[k], shapes[k], &to, &node);
    }
    if (status != FAD_OK) {
        tape->count = mark; /* the rule is still the caller's */
        return status;
    }
    custom->first_output = (uint32_t)mark;
    *first = (uint32_t)mark;
    return FAD_OK;
}
