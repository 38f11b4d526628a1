/* batch.c: what was recorded for one lane, over all lanes: one rule a row of structural.def, one for all of ops.def.
 *
 * The lane axis leads. A scalar becomes a contiguous vector of lanes; an array of shape (4, 3) one of (lanes, 4, 3).
 * Batched nodes have the type of the node they repeat, but for predicates of scalars, which stay truth values until a
 * structural row wants the number. */
#include "batch.h"

#include "record.h"
#include "try.h"
#include "update.h"

typedef struct {
    fad_tape *tape;
    size_t start, end, lanes;
    uint8_t *wanted; /* of nodes start .. end-1: whether an output depends on it */
    uint32_t *over;  /* of the same: the node over all lanes; FAD_NODE_NONE: the same in every lane */
} batcher;

static uint32_t over(const batcher *b, uint32_t node)
{
    return node >= b->start && node < b->end ? b->over[node - b->start] : FAD_NODE_NONE;
}

static bool varies(const batcher *b, uint32_t node) { return over(b, node) != FAD_NODE_NONE; }

/* --- operands over lanes --- */

/* The shape (lanes, 1, ..., 1, dims) of `axes` axes after the first. */
static fad_status lane_shape(const batcher *b, const fad_shape *shape, size_t axes, const fad_shape **out)
{
    ptrdiff_t dims[FAD_MAX_NDIM + 1];
    if (axes >= FAD_MAX_NDIM)
        return FAD_BAD_SHAPE;
    dims[0] = (ptrdiff_t)b->lanes;
    for (size_t i = 0; i < axes; i++)
        dims[i + 1] = i + shape->ndim < axes ? 1 : shape->dims[i + shape->ndim - axes];
    return fad_shape_intern(b->tape, axes + 1, dims, out);
}

/* `a` with one-element axes after its first, where `shape` has them. */
static fad_status insert_axes(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    const fad_shape *own = fad_node_shape(tape, a);
    if (fad_contiguous(tape->values[a].array))
        return fad_record_reshape(tape, a, shape, out);
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step[FAD_MAX_NDIM];
    int source[FAD_MAX_NDIM];
    size_t new = shape->ndim - own->ndim;
    uint32_t side;
    for (size_t i = 0; i < shape->ndim; i++) {
        step[i] = 1;
        source[i] = i == 0 ? 0 : i <= new ? -1 : (int)(i - new);
    }
    TRY(fad_make_view(tape, own, shape->ndim, shape->dims, start, step, source, &side));
    return fad_record_view(tape, a, side, out);
}

/* An operand to broadcast against others of `axes` axes in a lane. */
static fad_status aligned(const batcher *b, uint32_t node, size_t axes, uint32_t *out)
{
    const fad_shape *own = fad_node_shape(b->tape, node), *shape;
    *out = node;
    if (!varies(b, node))
        return FAD_OK;
    *out = over(b, node);
    if (own->ndim == axes)
        return FAD_OK;
    TRY(lane_shape(b, own, axes, &shape));
    return insert_axes(b->tape, *out, shape, out);
}

/* A varying operand over all lanes, in its own type. */
static fad_status typed(const batcher *b, uint32_t node, uint32_t *out)
{
    return fad_record_cast(b->tape, over(b, node), fad_node_dtype(b->tape, node), out);
}

/* Any operand over all lanes, repeated where it does not vary. */
static fad_status repeated(const batcher *b, uint32_t node, uint32_t *out)
{
    const fad_shape *shape, *own = fad_node_shape(b->tape, node);
    if (varies(b, node))
        return typed(b, node, out);
    TRY(lane_shape(b, own, own->ndim, &shape));
    return fad_record_broadcast_to(b->tape, node, shape, out);
}

/* --- element-wise --- */

static fad_status batch_elementwise(const batcher *b, uint32_t index, uint32_t *out)
{
    fad_tape *tape = b->tape;
    int op = tape->nodes[index].op, dtype = FAD_F64; /* the type it was computed in: that of its array operands */
    size_t axes = fad_node_shape(tape, index)->ndim;
    uint32_t operands[3] = {0, 0, 0};
    for (size_t k = 0; k < fad_ops[op].arity; k++) {
        uint32_t operand = fad_parent(tape, index, k);
        if (fad_is_array(tape, operand) && !(op == FAD_SELECT && k == 0))
            dtype = fad_node_dtype(tape, operand);
        TRY(aligned(b, operand, axes, &operands[k]));
    }
    return fad_record_elementwise(tape, op, operands, dtype, out);
}

/* --- views --- */

/* The view that does in every lane what `view` does. */
static fad_status lane_view(const batcher *b, const fad_view *view, uint32_t *side)
{
    size_t axes = view->part->ndim;
    const fad_shape *whole, *part;
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step[FAD_MAX_NDIM];
    int source[FAD_MAX_NDIM];
    TRY(lane_shape(b, view->whole, view->whole->ndim, &whole));
    TRY(lane_shape(b, view->part, axes, &part));
    memcpy(start + 1, view->start, view->whole->ndim * sizeof *start);
    step[0] = 1;
    source[0] = 0;
    for (size_t i = 0; i < axes; i++) {
        step[i + 1] = view->step[i];
        source[i + 1] = view->source[i] < 0 ? -1 : view->source[i] + 1;
    }
    return fad_make_view(b->tape, whole, axes + 1, part->dims, start, step, source, side);
}

/* The places of a nest of loops in every lane: one loop more, over the lanes. */
static fad_status lane_strided(const batcher *b, const fad_strided *strided, uint32_t *side)
{
    size_t loops = strided->part->ndim;
    const fad_shape *whole, *part;
    ptrdiff_t strides[FAD_MAX_NDIM];
    TRY(lane_shape(b, strided->whole, strided->whole->ndim, &whole));
    TRY(lane_shape(b, strided->part, loops, &part));
    strides[0] = (ptrdiff_t)strided->whole->size;
    memcpy(strides + 1, strided->strides, loops * sizeof *strides);
    return fad_make_strided(b->tape, whole, loops + 1, part->dims, strided->start, strides, side);
}

/* One element of every lane, as a vector of lanes. */
static fad_status batch_element(const batcher *b, const fad_node *n, uint32_t a, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(b->tape, n->a), *whole = fad_node_shape(b->tape, a);
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step = 1;
    int source = 0;
    size_t rest = n->aux;
    uint32_t side;
    for (size_t i = shape->ndim; i-- > 0;) {
        start[i + 1] = (ptrdiff_t)(rest % (size_t)shape->dims[i]);
        rest /= (size_t)shape->dims[i];
    }
    TRY(fad_make_view(b->tape, whole, 1, whole->dims, start, &step, &source, &side));
    return fad_record_view(b->tape, a, side, out);
}

/* SUM_TO, MAX_TO and MIN_TO. */
static fad_status batch_reduction(const batcher *b, uint32_t index, uint32_t a, uint32_t *out)
{
    fad_tape *tape = b->tape;
    int op = tape->nodes[index].op;
    const fad_shape *shape = fad_node_shape(tape, index), *kept, *result;
    TRY(lane_shape(b, shape, fad_node_shape(tape, a)->ndim - 1, &kept));
    TRY(lane_shape(b, shape, shape->ndim, &result));
    TRY(op == FAD_SUM_TO ? fad_record_sum_to(tape, a, kept, out) : fad_record_extremum_to(tape, op, a, kept, out));
    return fad_record_reshape(tape, *out, result, out);
}

static fad_status batch_broadcast_to(const batcher *b, uint32_t index, uint32_t parent, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(b->tape, index), *whole;
    TRY(lane_shape(b, shape, shape->ndim, &whole));
    TRY(aligned(b, parent, shape->ndim, out));
    TRY(fad_record_cast(b->tape, *out, fad_node_dtype(b->tape, parent), out));
    return fad_record_broadcast_to(b->tape, *out, whole, out);
}

/* --- lists --- */

/* Scalars side by side: their vectors end to end, read as the columns of a matrix. */
static fad_status stack_vectors(const batcher *b, size_t count, const uint32_t *vectors, uint32_t *out)
{
    static const int swapped[2] = {1, 0};
    const ptrdiff_t dims[2] = {(ptrdiff_t)count, (ptrdiff_t)b->lanes};
    const fad_shape *rows;
    TRY(fad_shape_intern(b->tape, 2, dims, &rows));
    TRY(fad_record_concatenate(b->tape, count, vectors, 0, out));
    TRY(fad_record_reshape(b->tape, *out, rows, out));
    return fad_record_transpose(b->tape, *out, swapped, out);
}

static fad_status batch_list(const batcher *b, const fad_node *n, uint32_t *out)
{
    fad_tape *tape = b->tape;
    const fad_list *list = tape->side[n->aux];
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t bytes = list->count * sizeof(uint32_t) + 1;
    uint32_t *nodes = fad_resize(tape, NULL, 0, bytes, &status);
    if (!nodes)
        return status;
    for (size_t i = 0; i < list->count && status == FAD_OK; i++)
        status = repeated(b, list->nodes[i], &nodes[i]);
    if (status == FAD_OK)
        status = n->op == FAD_STACK ? stack_vectors(b, list->count, nodes, out)
                 : n->op == FAD_CONCATENATE
                     ? fad_record_concatenate(tape, list->count, nodes, (size_t)list->axis + 1, out)
                     : fad_record_nsum(tape, list->count, nodes, out);
    fad_resize(tape, nodes, bytes, 0, &ignored);
    return status;
}

/* --- indexed access --- */

/* Indices that vary, moved on by `stride` a lane. Their arithmetic is that of float64, exact below 2**53. */
static fad_status move_varying(const batcher *b, uint32_t indices, size_t stride, uint32_t *out)
{
    fad_tape *tape = b->tape;
    const fad_shape *scalar = tape->shapes[0], *shape;
    uint32_t both[2];
    TRY(repeated(b, indices, &both[0]));
    TRY(fad_record_cast(tape, both[0], FAD_F64, &both[0]));
    TRY(lane_shape(b, scalar, fad_node_shape(tape, indices)->ndim, &shape));
    TRY(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_F64, shape, &both[1]));
    double *offset = (double *)tape->values[both[1]].array->data;
    for (size_t lane = 0; lane < b->lanes; lane++)
        offset[lane] = (double)lane * (double)stride;
    TRY(fad_record_elementwise(tape, FAD_ADD, both, FAD_F64, out));
    return fad_record_cast(tape, *out, FAD_I64, out);
}

/* Flat indices into one lane as flat indices into all: moved on by `stride` a lane. */
static fad_status lane_indices(const batcher *b, uint32_t indices, size_t stride, uint32_t *out)
{
    fad_tape *tape = b->tape;
    const fad_shape *own = fad_node_shape(tape, indices), *shape;
    if (varies(b, indices) || !fad_has_value(tape, indices))
        return move_varying(b, indices, stride, out);
    TRY(lane_shape(b, own, own->ndim, &shape));
    TRY(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, out));
    const int64_t *from = (const int64_t *)tape->values[indices].array->data;
    int64_t *to = (int64_t *)tape->values[*out].array->data;
    for (size_t lane = 0; lane < b->lanes; lane++)
        for (size_t i = 0; i < own->size; i++)
            *to++ = from[i] + (int64_t)(lane * stride);
    return FAD_OK;
}

static fad_status batch_gather(const batcher *b, const fad_node *n, uint32_t *out)
{
    uint32_t a = n->a, indices;
    if (!varies(b, n->a)) {
        TRY(move_varying(b, n->aux, 0, &indices)); /* contiguous, as GATHER wants them */
        return fad_record_gather(b->tape, a, indices, out);
    }
    TRY(typed(b, n->a, &a));
    TRY(lane_indices(b, n->aux, fad_node_shape(b->tape, n->a)->size, &indices));
    return fad_record_gather(b->tape, a, indices, out);
}

static fad_status batch_scatter_add(const batcher *b, const fad_node *n, uint32_t *out)
{
    const fad_scatter *scatter = b->tape->side[n->aux];
    const fad_shape *shape;
    uint32_t a, indices;
    TRY(lane_shape(b, scatter->shape, scatter->shape->ndim, &shape));
    TRY(repeated(b, n->a, &a));
    TRY(lane_indices(b, scatter->indices, scatter->shape->size, &indices));
    return fad_record_scatter_add(b->tape, a, indices, shape, out);
}

/* Where one lane's value took over its operand's buffer nothing later depends on the operand, in any lane. */
static fad_status batch_update_at(const batcher *b, uint32_t index, const fad_node *n, uint32_t *out)
{
    uint32_t x, y, indices;
    TRY(repeated(b, n->a, &x));
    TRY(repeated(b, n->b, &y));
    TRY(lane_indices(b, n->aux, fad_node_shape(b->tape, n->a)->size, &indices));
    return (fad_took_over(b->tape, index) ? fad_assign_at : fad_record_update_at)(b->tape, x, y, indices, out);
}

static fad_status batch_update_view(const batcher *b, uint32_t index, const fad_node *n, uint32_t *out)
{
    uint32_t x, y, side;
    TRY(repeated(b, n->a, &x));
    TRY(repeated(b, n->b, &y));
    TRY(lane_view(b, b->tape->side[n->aux], &side));
    return (fad_took_over(b->tape, index) ? fad_assign_view : fad_record_update_view)(b->tape, x, y, side, out);
}

/* --- matrix product --- */

/* The vectors along the last axis of `a` (or all of it, where its last axis has one element each) as rows of a matrix
 * with `columns` columns. */
static fad_status as_rows(fad_tape *tape, uint32_t a, ptrdiff_t columns, uint32_t *out)
{
    const fad_shape *rows;
    size_t size = fad_node_shape(tape, a)->size;
    ptrdiff_t dims[2] = {columns ? (ptrdiff_t)size / columns : 0, columns};
    TRY(fad_shape_intern(tape, 2, dims, &rows));
    return fad_record_reshape(tape, a, rows, out);
}

static fad_status batch_matmul(const batcher *b, uint32_t index, const fad_node *n, uint32_t *out)
{
    static const int swapped[2] = {1, 0};
    fad_tape *tape = b->tape;
    const fad_shape *x = fad_node_shape(tape, n->a), *y = fad_node_shape(tape, n->b);
    const fad_shape *own = fad_node_shape(tape, index), *shape;
    uint32_t operands[2], rows;
    ptrdiff_t inner = x->dims[x->ndim - 1];
    TRY(lane_shape(b, own, own->ndim, &shape));
    if (shape->size && inner && !varies(b, n->b) && y->ndim == 2) { /* one product of all rows */
        TRY(as_rows(tape, over(b, n->a), inner, &rows));
        TRY(fad_record_matmul(tape, rows, n->b, out));
        return fad_record_reshape(tape, *out, shape, out);
    }
    if (shape->size && inner && !varies(b, n->a) && x->ndim == 2 && y->dims[y->ndim - 1] == 1) { /* of all columns */
        TRY(as_rows(tape, over(b, n->b), inner, &rows));
        TRY(fad_record_transpose(tape, n->a, swapped, &operands[1]));
        TRY(fad_record_matmul(tape, rows, operands[1], out));
        return fad_record_reshape(tape, *out, shape, out);
    }
    TRY(aligned(b, n->a, own->ndim, &operands[0]));
    TRY(aligned(b, n->b, own->ndim, &operands[1]));
    return fad_record_matmul(tape, operands[0], operands[1], out);
}

/* --- custom rules --- */

/* Puts all outputs of a CUSTOM node in place. */
static fad_status batch_custom(batcher *b, uint32_t index)
{
    fad_tape *tape = b->tape;
    const fad_custom *custom = tape->side[tape->nodes[index].aux];
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t bytes = (custom->count + custom->outputs + 1) * sizeof(uint32_t);
    if (!tape->host.emit_batch)
        return FAD_BAD_OPERAND;
    uint32_t *nodes = fad_resize(tape, NULL, 0, bytes, &status);
    if (!nodes)
        return status;
    uint32_t *results = nodes + custom->count;
    for (size_t i = 0; i < custom->count && status == FAD_OK; i++) {
        nodes[i] = FAD_NODE_NONE;
        if (varies(b, custom->nodes[i]))
            status = typed(b, custom->nodes[i], &nodes[i]);
    }
    if (status == FAD_OK)
        status = tape->host.emit_batch(tape->host.context, tape, custom, b->lanes, nodes, results);
    for (size_t k = 0; k < custom->outputs && status == FAD_OK; k++)
        if (index + k < b->end)
            b->over[index + k - b->start] = results[k];
    fad_resize(tape, nodes, bytes, 0, &ignored);
    return status;
}

/* --- all rows --- */

static fad_status batch_unary(const batcher *b, uint32_t index, const fad_node *n, uint32_t *out)
{
    fad_tape *tape = b->tape;
    const fad_shape *shape = fad_node_shape(tape, index);
    uint32_t a, side;
    TRY(typed(b, n->a, &a));
    switch (n->op) {
    case FAD_RESHAPE:
        TRY(lane_shape(b, shape, shape->ndim, &shape));
        return fad_record_reshape(tape, a, shape, out);
    case FAD_VIEW:
        TRY(lane_view(b, tape->side[n->aux], &side));
        return fad_record_view(tape, a, side, out);
    case FAD_EMBED:
        TRY(lane_view(b, tape->side[n->aux], &side));
        return fad_record_embed(tape, a, side, out);
    case FAD_STRIDED:
        TRY(lane_strided(b, tape->side[n->aux], &side));
        return fad_record_strided(tape, a, side, out);
    case FAD_STRIDED_ADD:
        TRY(lane_strided(b, tape->side[n->aux], &side));
        return fad_record_strided_add(tape, a, side, out);
    case FAD_SUM_TO:
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return batch_reduction(b, index, a, out);
    case FAD_ELEMENT:
        return batch_element(b, n, a, out);
    case FAD_CUMSUM:
        return fad_record_cumsum(tape, a, n->aux / 2 + 1, n->aux & 1, out);
    default:
        return FAD_BAD_OPERAND;
    }
}

static fad_status batch_node(const batcher *b, uint32_t index, uint32_t *out)
{
    fad_node n = b->tape->nodes[index];
    if (n.op < FAD_ELEMENTWISE_COUNT)
        return batch_elementwise(b, index, out);
    switch (n.op) {
    case FAD_CAST: /* of a truth value to itself: nothing */
        return fad_record_cast(b->tape, over(b, n.a), fad_node_dtype(b->tape, index), out);
    case FAD_BROADCAST_TO:
        return batch_broadcast_to(b, index, n.a, out);
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM:
        return batch_list(b, &n, out);
    case FAD_GATHER:
        return batch_gather(b, &n, out);
    case FAD_SCATTER_ADD:
        return batch_scatter_add(b, &n, out);
    case FAD_UPDATE_AT:
        return batch_update_at(b, index, &n, out);
    case FAD_UPDATE_VIEW:
        return batch_update_view(b, index, &n, out);
    case FAD_MATMUL:
        return batch_matmul(b, index, &n, out);
    default:
        return batch_unary(b, index, &n, out);
    }
}

/* `depends`: of nodes start .. end-1, whether it does on a seed. Holds the others that such a node has as operands. */
static fad_status hold_shared(fad_tape *tape, size_t start, size_t end, uint8_t *depends)
{
    for (size_t i = start; i < end; i++) {
        uint32_t p;
        bool is_seed = depends[i - start];
        for (size_t k = 0; !is_seed && (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            depends[i - start] |= p >= start && depends[p - start];
        if (is_seed || !depends[i - start])
            continue;
        for (size_t k = 0; (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            if (!(p >= start && depends[p - start]) && fad_is_superseded(tape, p))
                TRY(fad_hold(tape, p));
    }
    return FAD_OK;
}

fad_status fad_hold_shared(fad_tape *tape, size_t start, size_t end, size_t seed_count, const uint32_t *seeds)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    uint8_t *depends = fad_resize(tape, NULL, 0, end - start + 1, &status);
    if (!depends)
        return status;
    memset(depends, 0, end - start + 1);
    for (size_t i = 0; i < seed_count; i++)
        if (seeds[i] >= start && seeds[i] < end)
            depends[seeds[i] - start] = 1;
    status = hold_shared(tape, start, end, depends);
    fad_resize(tape, depends, end - start + 1, 0, &ignored);
    return status;
}

static bool depends_on_seed(const batcher *b, uint32_t index)
{
    uint32_t parent;
    for (size_t k = 0; (parent = fad_parent(b->tape, index, k)) != FAD_NODE_NONE; k++)
        if (varies(b, parent))
            return true;
    return false;
}

static void want(batcher *b, uint32_t node)
{
    if (node >= b->start && node < b->end)
        b->wanted[node - b->start] = 1;
}

static void mark_wanted(batcher *b, size_t output_count, const uint32_t *outputs)
{
    for (size_t i = 0; i < output_count; i++)
        want(b, outputs[i]);
    for (size_t i = b->end; i-- > b->start;) {
        uint32_t parent;
        if (b->wanted[i - b->start])
            for (size_t k = 0; (parent = fad_parent(b->tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
                want(b, parent);
    }
}

static fad_status batch_all(batcher *b)
{
    for (size_t i = b->start; i < b->end; i++) {
        uint32_t index = (uint32_t)i;
        uint16_t op = b->tape->nodes[i].op;
        if (!b->wanted[i - b->start] || varies(b, index) || op == FAD_OUTPUT || !depends_on_seed(b, index))
            continue;
        if (op == FAD_CUSTOM)
            TRY(batch_custom(b, index));
        else
            TRY(batch_node(b, index, &b->over[i - b->start]));
    }
    return FAD_OK;
}

static fad_status result_of(const batcher *b, uint32_t output, uint32_t *out)
{
    *out = FAD_NODE_NONE;
    return varies(b, output) ? typed(b, output, out) : FAD_OK;
}

fad_status fad_emit_batch(fad_tape *tape, size_t start, size_t end, size_t lanes, size_t seed_count,
                          const uint32_t *seeds, const uint32_t *batched, size_t output_count, const uint32_t *outputs,
                          uint32_t *results)
{
    if (start > end || end > tape->count || lanes > PTRDIFF_MAX)
        return FAD_BAD_OPERAND;
    TRY(fad_hold_shared(tape, start, end, seed_count, seeds));
    for (size_t i = 0; i < seed_count; i++)
        TRY(fad_pin(tape, batched[i]));
    batcher b = {.tape = tape, .start = start, .end = end, .lanes = lanes};
    size_t bytes = (end - start) * sizeof *b.over + 1;
    fad_status status = FAD_OK, ignored = FAD_OK;
    b.over = fad_resize(tape, NULL, 0, bytes, &status);
    b.wanted = b.over ? fad_resize(tape, NULL, 0, end - start + 1, &status) : NULL;
    if (b.wanted) {
        memset(b.over, 0xff, bytes);
        memset(b.wanted, 0, end - start + 1);
        mark_wanted(&b, output_count, outputs);
        for (size_t i = 0; i < seed_count && status == FAD_OK; i++) {
            const fad_shape *shape = fad_node_shape(tape, seeds[i]);
            if (seeds[i] < start || seeds[i] >= end)
                status = FAD_BAD_OPERAND;
            else if ((status = lane_shape(&b, shape, shape->ndim, &shape)) == FAD_OK)
                status = fad_node_shape(tape, batched[i]) == shape ? FAD_OK : FAD_BAD_SHAPE;
            if (status == FAD_OK)
                b.over[seeds[i] - start] = batched[i];
        }
        if (status == FAD_OK)
            status = batch_all(&b);
        for (size_t i = 0; i < output_count && status == FAD_OK; i++)
            status = result_of(&b, outputs[i], &results[i]);
    }
    fad_resize(tape, b.wanted, b.wanted ? end - start + 1 : 0, 0, &ignored);
    fad_resize(tape, b.over, b.over ? bytes : 0, 0, &ignored);
    return status;
}
