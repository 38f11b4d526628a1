/* sweep.c: adjoints of arrays, and one reverse step of a node that involves arrays. */
#include "sweep.h"

#include "array.h"
#include "try.h"

static bool is_leaf(const fad_node *node) { return node->op == FAD_CONSTANT || node->op == FAD_VARIABLE; }

/* --- memory --- */

fad_status fad_sweep_begin(fad_sweep *sweep, fad_tape *tape, size_t count, bool keep)
{
    sweep->tape = tape;
    sweep->keep = keep;
    if (count > sweep->capacity) {
        fad_status status = FAD_OK;
        size_t item = sizeof *sweep->adjoints;
        fad_resize(tape, sweep->adjoints, sweep->capacity * item, 0, &status);
        sweep->adjoints = NULL;
        sweep->capacity = 0;
        sweep->adjoints = fad_resize(tape, NULL, 0, count * item, &status);
        if (!sweep->adjoints)
            return status;
        sweep->capacity = count;
    }
    memset(sweep->adjoints, 0, count * sizeof *sweep->adjoints);
    while (tape->leaves < count && is_leaf(&tape->nodes[tape->leaves]))
        tape->leaves++;
    return FAD_OK;
}

void fad_sweep_end(fad_sweep *sweep, size_t kept)
{
    fad_status ignored = FAD_OK;
    if (!sweep->tape)
        return;
    fad_arena_reset(sweep->tape, &sweep->arena, kept);
    memset(sweep->free, 0, sizeof sweep->free);
    if (sweep->capacity * sizeof *sweep->adjoints > kept) {
        fad_resize(sweep->tape, sweep->adjoints, sweep->capacity * sizeof *sweep->adjoints, 0, &ignored);
        sweep->adjoints = NULL;
        sweep->capacity = 0;
    }
}

/* Four classes an octave: at most a quarter is wasted. */
static int size_class(size_t size, size_t *rounded)
{
    if (size <= 64) {
        *rounded = 64;
        return 0;
    }
    int octave = 63 - __builtin_clzll((unsigned long long)(size - 1));
    size_t quarter = (size_t)1 << (octave - 2);
    size_t steps = (size - 1) >> (octave - 2); /* 4 .. 7 */
    *rounded = (steps + 1) * quarter;
    return (octave - 5) * 4 + (int)(steps - 4) - 3;
}

fad_status fad_sweep_buffer(fad_sweep *sweep, size_t size, fad_buffer **out)
{
    size_t rounded;
    int class = size_class(size, &rounded);
    fad_buffer *buffer = sweep->free[class];
    if (buffer) {
        sweep->free[class] = buffer->next;
    } else {
        fad_status status = FAD_OK;
        if (rounded > SIZE_MAX - sizeof *buffer)
            return FAD_NO_MEMORY;
        buffer = fad_arena_alloc(sweep->tape, &sweep->arena, sizeof *buffer + rounded, &status);
        if (!buffer)
            return status;
        buffer->data = (char *)(buffer + 1);
        buffer->size_class = class;
    }
    buffer->references = 1;
    *out = buffer;
    return FAD_OK;
}

void fad_sweep_release(fad_sweep *sweep, fad_buffer *buffer)
{
    if (!buffer || --buffer->references || buffer->size_class < 0)
        return;
    buffer->next = sweep->free[buffer->size_class];
    sweep->free[buffer->size_class] = buffer;
}

/* --- adjoints --- */

static fad_status slot_of(fad_sweep *sweep, uint32_t node, fad_slot **out)
{
    fad_adjoint *adjoint = &sweep->adjoints[node];
    if (!adjoint->slot) {
        fad_status status = FAD_OK;
        fad_slot *slot = fad_arena_alloc(sweep->tape, &sweep->arena, sizeof *slot, &status);
        if (!slot)
            return status;
        memset(slot, 0, sizeof *slot);
        adjoint->slot = slot;
    }
    *out = adjoint->slot;
    return FAD_OK;
}

fad_status fad_sweep_preset(fad_sweep *sweep, uint32_t node, char *data)
{
    fad_slot *slot = NULL;
    TRY(slot_of(sweep, node, &slot));
    fad_status status = FAD_OK;
    fad_buffer *buffer = fad_arena_alloc(sweep->tape, &sweep->arena, sizeof *buffer, &status);
    if (!buffer)
        return status;
    buffer->data = data;
    buffer->references = 0;
    buffer->size_class = -1;
    slot->preset = buffer;
    return FAD_OK;
}

static fad_array own_memory(const fad_tape *tape, uint32_t node, char *data)
{
    const fad_array *value = tape->values[node].array;
    fad_array a = {data, value->shape, value->shape->strides, value->dtype};
    return a;
}

void fad_sweep_finish(fad_sweep *sweep, uint32_t node)
{
    fad_slot *slot = sweep->adjoints[node].slot;
    fad_array to = own_memory(sweep->tape, node, slot->preset->data);
    if (!slot->buffer)
        fad_fill_zero(&to);
    else if (slot->buffer != slot->preset)
        fad_copy(&to, &slot->value);
}

/* Memory for the adjoint of `node`: the preset, if it is free, or a buffer. */
static fad_status fresh(fad_sweep *sweep, uint32_t node, fad_slot *slot, fad_array *value, fad_buffer **buffer)
{
    const fad_array *like = sweep->tape->values[node].array;
    if (slot->preset && slot->preset->references == 0) {
        *buffer = slot->preset;
        (*buffer)->references = 1;
    } else {
        TRY(fad_sweep_buffer(sweep, like->shape->size * fad_itemsize(like->dtype), buffer));
    }
    *value = own_memory(sweep->tape, node, (*buffer)->data);
    return FAD_OK;
}

fad_status fad_sweep_dense(fad_sweep *sweep, uint32_t node, bool as_is, fad_array *out, bool *empty)
{
    fad_slot *slot = NULL;
    TRY(slot_of(sweep, node, &slot));
    *empty = !slot->buffer;
    if (slot->buffer && slot->buffer->references == 1 && fad_contiguous(&slot->value)) {
        *out = slot->value;
        return FAD_OK;
    }
    fad_array value;
    fad_buffer *buffer = NULL;
    TRY(fresh(sweep, node, slot, &value, &buffer));
    if (slot->buffer) {
        fad_copy(&value, &slot->value);
        fad_sweep_release(sweep, slot->buffer);
    } else if (!as_is) {
        fad_fill_zero(&value);
    }
    slot->value = value;
    slot->buffer = buffer;
    *out = value;
    return FAD_OK;
}

static fad_status alias(fad_sweep *sweep, fad_slot *slot, const fad_array *value, fad_buffer *owner)
{
    slot->value = *value;
    if (!fad_contiguous(value) && value->shape->ndim) {
        fad_status status = FAD_OK;
        size_t size = value->shape->ndim * sizeof(ptrdiff_t);
        ptrdiff_t *strides = fad_arena_alloc(sweep->tape, &sweep->arena, size, &status);
        if (!strides)
            return status;
        memcpy(strides, value->strides, size);
        slot->value.strides = strides;
    }
    slot->buffer = owner;
    owner->references++;
    return FAD_OK;
}

static double number_of(const fad_array *value)
{
    return value->dtype == FAD_F64 ? *(const double *)value->data : *(const float *)value->data;
}

fad_status fad_sweep_give(fad_sweep *sweep, uint32_t node, const fad_array *value, fad_buffer *owner)
{
    if (!fad_is_array(sweep->tape, node)) {
        sweep->adjoints[node].number += number_of(value);
        return FAD_OK;
    }
    fad_slot *slot = NULL;
    TRY(slot_of(sweep, node, &slot));
    if (!slot->buffer && owner && value->dtype == sweep->tape->values[node].array->dtype)
        return alias(sweep, slot, value, owner);
    bool empty;
    fad_array dense;
    TRY(fad_sweep_dense(sweep, node, true, &dense, &empty));
    if (empty)
        fad_copy(&dense, value);
    else
        fad_add(sweep->tape->loops, &dense, value);
    return FAD_OK;
}

bool fad_sweep_get(const fad_sweep *sweep, uint32_t node, double *number, fad_array *out)
{
    const fad_tape *tape = sweep->tape;
    if (!fad_is_array(tape, node)) {
        *number = sweep->adjoints[node].number;
        fad_array a = {(char *)number, tape->shapes[0], tape->shapes[0]->strides, FAD_F64};
        *out = a;
        return *number != 0; /* NaN is not zero */
    }
    const fad_slot *slot = sweep->adjoints[node].slot;
    if (!slot || !slot->buffer)
        return false;
    *out = slot->value;
    return true;
}

/* --- one reverse step --- */

typedef struct {
    fad_sweep *sweep;
    fad_tape *tape;
    const fad_node *node;
    uint32_t index;
    fad_array g;            /* the node's adjoint */
    fad_buffer *owner;      /* of g; NULL: a scalar's */
} step;

static bool wanted(const step *s, uint32_t parent) { return (s->tape->nodes[parent].flags & FAD_IS_ACTIVE) != 0; }

/* A buffer-backed array for an intermediate result. */
static fad_status temporary(const step *s, const fad_shape *shape, int dtype, fad_array *out, fad_buffer **buffer)
{
    TRY(fad_sweep_buffer(s->sweep, shape->size * fad_itemsize(dtype), buffer));
    fad_array a = {(*buffer)->data, shape, shape->strides, (uint8_t)dtype};
    *out = a;
    return FAD_OK;
}

/* Adds to `parent` a result that broadcasts from the parent's shape: summed. */
static fad_status give_reduced(const step *s, uint32_t parent, const fad_array *value, fad_buffer *owner)
{
    const fad_shape *shape = fad_node_shape(s->tape, parent);
    if (shape == value->shape)
        return fad_sweep_give(s->sweep, parent, value, owner);
    if (fad_is_array(s->tape, parent)) {
        bool empty;
        fad_array dense;
        TRY(fad_sweep_dense(s->sweep, parent, false, &dense, &empty));
        fad_add_reduced(s->tape->loops, &dense, value);
        return FAD_OK;
    }
    fad_array sum;
    fad_buffer *buffer = NULL;
    TRY(temporary(s, shape, value->dtype, &sum, &buffer));
    fad_fill_zero(&sum);
    fad_add_reduced(s->tape->loops, &sum, value);
    s->sweep->adjoints[parent].number += number_of(&sum);
    fad_sweep_release(s->sweep, buffer);
    return FAD_OK;
}

/* Adds to `parent` a product that is the same everywhere: one number, seen as an array of zero strides. */
static fad_status give_uniform(const step *s, size_t k, uint32_t parent)
{
    const fad_shape *scalar = s->tape->shapes[0], *shape = s->g.shape;
    fad_array number, first = {s->g.data, scalar, scalar->strides, s->g.dtype};
    fad_buffer *buffer = NULL;
    ptrdiff_t zeros[FAD_MAX_NDIM] = {0};
    TRY(temporary(s, scalar, s->g.dtype, &number, &buffer));
    fad_strips_first(s->tape, s->index, k, &first, &number);
    fad_array wide = {number.data, shape, zeros, s->g.dtype};
    fad_status status = fad_sweep_give(s->sweep, parent, &wide, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_operand(const step *s, size_t k, uint32_t parent)
{
    double constant = s->tape->loops->constant_partial[s->node->op][k];
    if (constant == 0 || !wanted(s, parent))
        return FAD_OK;
    if (constant == 1)
        return give_reduced(s, parent, &s->g, s->owner);
    if (!fad_is_array(s->tape, parent)) {
        double sum = 0;
        const fad_shape *scalar = s->tape->shapes[0];
        fad_array to = {(char *)&sum, scalar, scalar->strides, FAD_F64};
        fad_strips_accumulate(s->tape, s->index, k, &s->g, &to, true);
        s->sweep->adjoints[parent].number += sum;
        return FAD_OK;
    }
    bool empty, same = fad_node_shape(s->tape, parent) == fad_node_shape(s->tape, s->index);
    if (same && s->g.shape->size > 1 && fad_strips_uniform(s->tape, s->index, k, &s->g))
        return give_uniform(s, k, parent);
    fad_array to;
    TRY(fad_sweep_dense(s->sweep, parent, same, &to, &empty));
    fad_strips_accumulate(s->tape, s->index, k, &s->g, &to, !(empty && same));
    return FAD_OK;
}

static fad_status reverse_elementwise(const step *s)
{
    const fad_node *n = s->node;
    size_t arity = fad_ops[n->op].arity;
    if (n->op == FAD_SELECT)
        TRY(reverse_operand(s, 2, n->aux));
    if (arity > 1)
        TRY(reverse_operand(s, 1, n->b));
    return n->op == FAD_SELECT ? FAD_OK : reverse_operand(s, 0, n->a);
}

static fad_status reverse_reshape(const step *s)
{
    const fad_shape *shape = fad_node_shape(s->tape, s->node->a);
    fad_array value = s->g;
    fad_buffer *buffer = NULL;
    if (!fad_contiguous(&value)) {
        TRY(temporary(s, s->g.shape, s->g.dtype, &value, &buffer));
        fad_copy(&value, &s->g);
    }
    value.shape = shape;
    value.strides = shape->strides;
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &value, buffer ? buffer : s->owner);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

/* Adds g to the part of a's adjoint that the view reads. */
static fad_status reverse_view(const step *s)
{
    const fad_view *view = s->tape->side[s->node->aux];
    ptrdiff_t strides[FAD_MAX_NDIM];
    if (view->bijective) {
        fad_array whole = fad_view_invert(&s->g, view, strides);
        return fad_sweep_give(s->sweep, s->node->a, &whole, s->owner);
    }
    bool empty;
    fad_array dense;
    TRY(fad_sweep_dense(s->sweep, s->node->a, true, &dense, &empty));
    fad_array part = fad_view_apply(&dense, view, strides);
    if (!empty) {
        fad_add(s->tape->loops, &part, &s->g);
        return FAD_OK;
    }
    if (fad_contiguous(&part)) { /* zeros only around the part */
        char *end = part.data + part.shape->size * fad_itemsize(part.dtype);
        size_t before = (size_t)(part.data - dense.data);
        memset(dense.data, 0, before);
        memset(end, 0, dense.shape->size * fad_itemsize(dense.dtype) - (size_t)(end - dense.data));
    } else {
        fad_fill_zero(&dense);
    }
    fad_copy(&part, &s->g);
    return FAD_OK;
}

static fad_status give_view(const step *s, uint32_t parent, const fad_view *view)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    fad_array part = fad_view_apply(&s->g, view, strides);
    return fad_sweep_give(s->sweep, parent, &part, s->owner);
}

/* g, to be written to and then given to operand `a` of an update: its own memory where that is read by nobody else,
 * as in a chain of updates, and a copy otherwise. `*buffer` is the caller's to release. */
static fad_status cotangent_to_cut(const step *s, fad_array *kept, fad_buffer **buffer)
{
    const fad_slot *slot = s->owner ? s->sweep->adjoints[s->index].slot : NULL;
    if (slot && !s->sweep->keep && !slot->preset && s->owner->references == 1 && fad_contiguous(&s->g)) {
        *kept = s->g;
        *buffer = s->owner;
        s->owner->references++;
        return FAD_OK;
    }
    TRY(temporary(s, s->g.shape, s->g.dtype, kept, buffer));
    fad_copy(kept, &s->g);
    return FAD_OK;
}

/* Adds the elements of g that `view` reads to `parent`: a copy, which leaves g to be cut. */
static fad_status give_view_copied(const step *s, uint32_t parent, const fad_view *view)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    fad_array part = fad_view_apply(&s->g, view, strides), copy;
    fad_buffer *buffer = NULL;
    TRY(temporary(s, part.shape, part.dtype, &copy, &buffer));
    fad_copy(&copy, &part);
    fad_status status = fad_sweep_give(s->sweep, parent, &copy, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_update_view(const step *s)
{
    const fad_view *view = s->tape->side[s->node->aux];
    bool cut = wanted(s, s->node->a);
    if (wanted(s, s->node->b))
        TRY((cut ? give_view_copied : give_view)(s, s->node->b, view));
    if (!cut)
        return FAD_OK;
    fad_array kept;
    fad_buffer *buffer = NULL;
    ptrdiff_t strides[FAD_MAX_NDIM];
    TRY(cotangent_to_cut(s, &kept, &buffer));
    fad_array part = fad_view_apply(&kept, view, strides);
    fad_fill_zero(&part);
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &kept, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_sum_to(const step *s)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    const fad_array *operand = s->tape->values[s->node->a].array;
    fad_array g = s->g;
    fad_buffer *buffer = NULL;
    if (!s->owner) { /* a number on the caller's stack: the broadcast view outlives it */
        TRY(temporary(s, g.shape, operand->dtype, &g, &buffer));
        fad_copy(&g, &s->g);
    }
    fad_array wide = fad_broadcast_view(&g, operand->shape, strides);
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &wide, buffer ? buffer : s->owner);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

/* Elements that tie share the extremum's adjoint evenly. */
static fad_status reverse_extremum(const step *s)
{
    const fad_array *x = s->tape->values[s->node->a].array;
    fad_array extrema = fad_value_array(s->tape, s->index), shares, dense;
    fad_buffer *buffer = NULL;
    bool empty;
    TRY(temporary(s, extrema.shape, FAD_F64, &shares, &buffer));
    fad_extremum_shares(&shares, &s->g, &extrema, x);
    TRY(fad_sweep_dense(s->sweep, s->node->a, true, &dense, &empty));
    fad_extremum_share(&dense, x, &extrema, &shares, !empty);
    fad_sweep_release(s->sweep, buffer);
    return FAD_OK;
}

static fad_status reverse_stack(const step *s)
{
    const fad_list *list = s->tape->side[s->node->aux];
    ptrdiff_t stride = s->g.strides[0];
    for (size_t i = 0; i < list->count; i++)
        s->sweep->adjoints[list->nodes[i]].number += ((const double *)s->g.data)[(ptrdiff_t)i * stride];
    return FAD_OK;
}

static fad_status reverse_concatenate(const step *s)
{
    const fad_list *list = s->tape->side[s->node->aux];
    fad_array part = s->g;
    ptrdiff_t strides[FAD_MAX_NDIM];
    memcpy(strides, s->g.strides, s->g.shape->ndim * sizeof *strides);
    for (size_t i = 0; i < list->count; i++) {
        const fad_shape *shape = fad_node_shape(s->tape, list->nodes[i]);
        bool whole = shape == s->g.shape;
        part.shape = shape;
        part.strides = whole ? s->g.strides : strides;
        if (wanted(s, list->nodes[i]))
            TRY(fad_sweep_give(s->sweep, list->nodes[i], &part, s->owner));
        part.data += shape->dims[list->axis] * strides[list->axis] * (ptrdiff_t)fad_itemsize(part.dtype);
    }
    return FAD_OK;
}

static fad_status reverse_nsum(const step *s)
{
    const fad_list *list = s->tape->side[s->node->aux];
    for (size_t i = 0; i < list->count; i++)
        if (wanted(s, list->nodes[i]))
            TRY(fad_sweep_give(s->sweep, list->nodes[i], &s->g, s->owner));
    return FAD_OK;
}

static fad_status reverse_gather(const step *s)
{
    const fad_array *indices = s->tape->values[s->node->aux].array;
    if (!fad_is_array(s->tape, s->node->a)) /* every index is 0 */
        return give_reduced(s, s->node->a, &s->g, s->owner);
    bool empty;
    fad_array dense;
    TRY(fad_sweep_dense(s->sweep, s->node->a, false, &dense, &empty));
    fad_scatter_add(&dense, &s->g, indices);
    return FAD_OK;
}

/* Adds to `parent` the elements of g at flat indices. */
static fad_status give_gathered(const step *s, uint32_t parent, const fad_array *indices)
{
    fad_array part;
    fad_buffer *buffer = NULL;
    TRY(temporary(s, indices->shape, s->g.dtype, &part, &buffer));
    fad_gather(&part, &s->g, indices);
    fad_status status = fad_sweep_give(s->sweep, parent, &part, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_scatter_add(const step *s)
{
    const fad_scatter *scatter = s->tape->side[s->node->aux];
    return give_gathered(s, s->node->a, s->tape->values[scatter->indices].array);
}

/* Adds g to a's adjoint at the places that were read. */
static fad_status reverse_strided(const step *s)
{
    bool empty;
    fad_array dense;
    TRY(fad_sweep_dense(s->sweep, s->node->a, false, &dense, &empty));
    fad_array part = fad_strided_apply(&dense, s->tape->side[s->node->aux]);
    fad_add(s->tape->loops, &part, &s->g);
    return FAD_OK;
}

static fad_status reverse_strided_add(const step *s)
{
    fad_array whole = s->g;
    fad_buffer *buffer = NULL;
    if (!fad_contiguous(&whole)) {
        TRY(temporary(s, s->g.shape, s->g.dtype, &whole, &buffer));
        fad_copy(&whole, &s->g);
    }
    fad_array part = fad_strided_apply(&whole, s->tape->side[s->node->aux]);
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &part, buffer ? buffer : s->owner);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_update_at(const step *s)
{
    const fad_array *indices = s->tape->values[s->node->aux].array;
    if (wanted(s, s->node->b))
        TRY(give_gathered(s, s->node->b, indices));
    if (!wanted(s, s->node->a))
        return FAD_OK;
    fad_array kept, zeros;
    fad_buffer *buffer = NULL, *zero = NULL;
    ptrdiff_t strides[FAD_MAX_NDIM];
    TRY(cotangent_to_cut(s, &kept, &buffer));
    TRY(temporary(s, s->tape->shapes[0], s->g.dtype, &zeros, &zero));
    fad_fill_zero(&zeros);
    zeros = fad_broadcast_view(&zeros, indices->shape, strides);
    fad_put(&kept, &zeros, indices);
    fad_sweep_release(s->sweep, zero);
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &kept, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

/* Adds x @ y to `parent`, whose shape may lack axes of the stack. */
static fad_status give_product(const step *s, uint32_t parent, const fad_array *x, const fad_array *y)
{
    size_t ndim = s->g.shape->ndim;
    ptrdiff_t dims[FAD_MAX_NDIM];
    memcpy(dims, s->g.shape->dims, ndim * sizeof *dims);
    dims[ndim - 2] = x->shape->dims[x->shape->ndim - 2];
    dims[ndim - 1] = y->shape->dims[y->shape->ndim - 1];
    const fad_shape *shape;
    fad_array product;
    fad_buffer *buffer = NULL;
    TRY(fad_shape_intern(s->tape, ndim, dims, &shape));
    TRY(temporary(s, shape, s->g.dtype, &product, &buffer));
    fad_matmul(s->tape->loops, &product, x, y);
    fad_status status = give_reduced(s, parent, &product, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_matmul(const step *s)
{
    fad_shape shape;
    ptrdiff_t room[2 * FAD_MAX_NDIM];
    const fad_array *a = s->tape->values[s->node->a].array, *b = s->tape->values[s->node->b].array;
    fad_array g = s->g;
    fad_buffer *buffer = NULL;
    if (!fad_contiguous(&g)) { /* a product of an array with zero strides would not be BLAS's */
        TRY(temporary(s, s->g.shape, s->g.dtype, &g, &buffer));
        fad_copy(&g, &s->g);
    }
    if (wanted(s, s->node->b)) {
        fad_array t = fad_matrix_transpose(a, &shape, room);
        TRY(give_product(s, s->node->b, &t, &g));
    }
    if (wanted(s, s->node->a)) {
        fad_array t = fad_matrix_transpose(b, &shape, room);
        TRY(give_product(s, s->node->a, &g, &t));
    }
    fad_sweep_release(s->sweep, buffer);
    return FAD_OK;
}

static fad_status reverse_cumsum(const step *s)
{
    fad_array sums;
    fad_buffer *buffer = NULL;
    TRY(temporary(s, s->g.shape, s->g.dtype, &sums, &buffer));
    fad_cumsum(&sums, &s->g, s->node->aux / 2, !(s->node->aux & 1));
    fad_status status = fad_sweep_give(s->sweep, s->node->a, &sums, buffer);
    fad_sweep_release(s->sweep, buffer);
    return status;
}

static fad_status reverse_structural(const step *s)
{
    fad_tape *tape = s->tape;
    switch (s->node->op) {
    case FAD_RESHAPE:
        return reverse_reshape(s);
    case FAD_VIEW:
        return reverse_view(s);
    case FAD_EMBED:
        return give_view(s, s->node->a, tape->side[s->node->aux]);
    case FAD_UPDATE_VIEW:
        return reverse_update_view(s);
    case FAD_BROADCAST_TO:
        return give_reduced(s, s->node->a, &s->g, s->owner);
    case FAD_SUM_TO:
        return reverse_sum_to(s);
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return reverse_extremum(s);
    case FAD_STACK:
        return reverse_stack(s);
    case FAD_CONCATENATE:
        return reverse_concatenate(s);
    case FAD_NSUM:
        return reverse_nsum(s);
    case FAD_GATHER:
        return reverse_gather(s);
    case FAD_SCATTER_ADD:
        return reverse_scatter_add(s);
    case FAD_STRIDED:
        return reverse_strided(s);
    case FAD_STRIDED_ADD:
        return reverse_strided_add(s);
    case FAD_UPDATE_AT:
        return reverse_update_at(s);
    case FAD_MATMUL:
        return reverse_matmul(s);
    case FAD_CUMSUM:
        return reverse_cumsum(s);
    case FAD_CAST:
        return fad_sweep_give(s->sweep, s->node->a, &s->g, s->owner);
    default:
        return FAD_OK; /* CONSTANT, VARIABLE */
    }
}

/* A CUSTOM node runs when any of its outputs has an adjoint; its further outputs wait for it. */
static fad_status reverse_custom(fad_sweep *sweep, uint32_t index)
{
    fad_tape *tape = sweep->tape;
    const fad_custom *custom = tape->side[tape->nodes[index].aux];
    bool any = false;
    for (uint32_t k = 0; k < custom->outputs; k++) {
        double number;
        fad_array g;
        any |= fad_sweep_get(sweep, index + k, &number, &g);
    }
    return any ? tape->host.sweep(tape->host.context, sweep, custom) : FAD_OK;
}

/* Its adjoint is a number, and scalar code on the elements of an array is full of it: the short way. */
static fad_status reverse_element(fad_sweep *sweep, const fad_node *node, double g)
{
    bool empty;
    fad_array dense;
    if (g == 0)
        return FAD_OK;
    TRY(fad_sweep_dense(sweep, node->a, false, &dense, &empty));
    ((double *)dense.data)[node->aux] += g;
    return FAD_OK;
}

fad_status fad_sweep_node(fad_sweep *sweep, uint32_t index)
{
    fad_tape *tape = sweep->tape;
    const fad_node *node = &tape->nodes[index];
    double number;
    if (!(node->flags & FAD_IS_ACTIVE) || node->op == FAD_OUTPUT || node->op == FAD_VARIABLE)
        return FAD_OK;
    if (node->op == FAD_ELEMENT)
        return reverse_element(sweep, node, sweep->adjoints[index].number);
    if (node->op == FAD_CUSTOM)
        return reverse_custom(sweep, index);
    step s = {sweep, tape, node, index, {0}, NULL};
    if (!fad_sweep_get(sweep, index, &number, &s.g))
        return FAD_OK;
    fad_slot *slot = node->flags & FAD_IS_ARRAY ? sweep->adjoints[index].slot : NULL;
    s.owner = slot ? slot->buffer : NULL;
    TRY(node->op < FAD_ELEMENTWISE_COUNT ? reverse_elementwise(&s) : reverse_structural(&s));
    if (slot && !sweep->keep && !slot->preset) {
        fad_sweep_release(sweep, slot->buffer);
        slot->buffer = NULL;
    }
    return FAD_OK;
}
