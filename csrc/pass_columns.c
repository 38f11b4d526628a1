/* pass_columns.c: arrays of many rows of few elements are taken apart into their columns.
 *
 * A sum over the three elements of every row, or one of them, asks for a walk over memory, and for another region. As
 * vectors over the rows the three elements go through one region of strips, and what is done to each of them is simplified
 * by itself: the zeros of an EMBED go, common subexpressions are found. So the nodes that rows.c chooses have a list of
 * columns in place of a node, and become an array again where somebody else reads them. A column without axes is the
 * same in every row. Not strict: sums over a row are taken in another order. */
#include "fastad.h"
#include "rows.h"
#include "try.h"

typedef struct {
    fad_rewriter r;
    const fad_tape *from;
    uint32_t *map;             /* FAD_NODE_NONE: there are only its columns */
    const uint32_t **columns;  /* of nodes that are taken apart */
    uint32_t base;             /* of the GATHER at hand: the least index of every row */
} separation;

/* --- recorded and settled --- */

static fad_status element_of(separation *s, uint32_t a, size_t at, uint32_t *out)
{
    fad_tape *to = s->r.to;
    const fad_shape *shape = fad_node_shape(to, a);
    ptrdiff_t start[FAD_MAX_NDIM];
    uint32_t side;
    *out = a;
    if (shape->ndim == 0)
        return FAD_OK;
    for (size_t i = shape->ndim; i-- > 0;) {
        start[i] = (ptrdiff_t)(at % (size_t)shape->dims[i]);
        at /= (size_t)shape->dims[i];
    }
    TRY(fad_make_view(to, shape, 0, NULL, start, NULL, NULL, &side));
    return fad_make_part(&s->r, a, side, out);
}

/* Element `at` of every row. */
static fad_status read_column(separation *s, uint32_t a, size_t at, uint32_t *out)
{
    fad_tape *to = s->r.to;
    const fad_shape *shape = fad_node_shape(to, a);
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step = 1;
    int source = 0;
    uint32_t side;
    *out = a;
    if (shape->ndim == 1)
        return FAD_OK;
    for (size_t i = shape->ndim; i-- > 1;) {
        start[i] = (ptrdiff_t)(at % (size_t)shape->dims[i]);
        at /= (size_t)shape->dims[i];
    }
    TRY(fad_make_view(to, shape, 1, shape->dims, start, &step, &source, &side));
    return fad_make_part(&s->r, a, side, out);
}

static fad_status reshaped(separation *s, uint32_t a, size_t ndim, const ptrdiff_t *dims, uint32_t *out)
{
    const fad_shape *shape;
    TRY(fad_shape_intern(s->r.to, ndim, dims, &shape));
    return fad_make_reshape(&s->r, a, shape, out);
}

static fad_status joined(separation *s, size_t count, const uint32_t *nodes, size_t axis, uint32_t *out)
{
    size_t mark = s->r.to->count;
    TRY(fad_record_concatenate(s->r.to, count, nodes, axis, out));
    return fad_settle(&s->r, mark, *out, out);
}

/* A column as a vector of `rows` elements of type `dtype`. */
static fad_status as_vector(separation *s, uint32_t column, ptrdiff_t rows, int dtype, uint32_t *out)
{
    fad_tape *to = s->r.to;
    size_t mark = to->count;
    const fad_shape *shape;
    *out = column;
    if (fad_node_dtype(to, column) != dtype) {
        TRY(fad_record_cast(to, column, dtype, out));
        TRY(fad_settle(&s->r, mark, *out, out));
    }
    if (fad_node_shape(to, column)->ndim)
        return FAD_OK;
    mark = to->count;
    TRY(fad_shape_intern(to, 1, &rows, &shape));
    TRY(fad_record_broadcast_to(to, *out, shape, out));
    return fad_settle(&s->r, mark, *out, out);
}

/* --- columns of operands --- */

/* Of each row of `node` element `at`. */
static fad_status column_of(separation *s, uint32_t node, size_t at, uint32_t *out)
{
    *out = FAD_NODE_NONE;
    if (s->columns[node])
        *out = s->columns[node][at];
    return *out == FAD_NODE_NONE ? read_column(s, s->map[node], at, out) : FAD_OK;
}

/* Of an operand, which may be the same for all rows of `shape`: element `at` of the first row, as a column. */
static fad_status operand_column(separation *s, uint32_t node, const fad_shape *shape, size_t at, uint32_t *out)
{
    return fad_has_rows_of(fad_node_shape(s->from, node), shape) ? column_of(s, node, at, out)
                                                                 : element_of(s, s->map[node], at, out);
}

/* --- what is done to columns --- */

/* Numbers alone are computed in float64 and have no truth values: then the first stands for a vector. */
static fad_status compute(separation *s, uint32_t node, uint32_t *operands, uint32_t *out)
{
    const fad_tape *from = s->from;
    int op = from->nodes[node].op, dtype = fad_node_dtype(from, node), own = FAD_F64;
    bool predicate = fad_ops[op].kind == FAD_PREDICATE, numbers = true;
    for (size_t k = 0; k < fad_ops[op].arity; k++) {
        numbers = numbers && fad_node_shape(s->r.to, operands[k])->ndim == 0;
        if (fad_is_array(from, fad_parent(from, node, k)) && !(op == FAD_SELECT && k == 0))
            own = fad_node_dtype(from, fad_parent(from, node, k));
    }
    if (numbers && (predicate || dtype != FAD_F64)) {
        size_t first = op == FAD_SELECT;
        TRY(as_vector(s, operands[first], fad_node_shape(from, node)->dims[0], predicate ? own : dtype,
                      &operands[first]));
    }
    return fad_make(&s->r, op, operands[0], operands[1], operands[2], predicate ? -1 : dtype, out);
}

static fad_status each_elementwise(separation *s, uint32_t node, size_t j, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(s->from, node);
    uint32_t operands[3] = {0, 0, 0};
    for (size_t k = 0; k < fad_ops[s->from->nodes[node].op].arity; k++) {
        uint32_t p = fad_parent(s->from, node, k);
        TRY(operand_column(s, p, shape, fad_spread_from(fad_node_shape(s->from, p), shape, j), &operands[k]));
    }
    return compute(s, node, operands, out);
}

static fad_status add_to(separation *s, uint32_t term, int dtype, uint32_t *sum)
{
    if (*sum != FAD_NODE_NONE)
        return fad_make(&s->r, FAD_ADD, *sum, term, 0, dtype, sum);
    *sum = term;
    return FAD_OK;
}

/* CAST, BROADCAST_TO, NSUM and what is element-wise. */
static fad_status each(separation *s, uint32_t node, size_t j, uint32_t *out)
{
    const fad_shape *shape = fad_node_shape(s->from, node);
    int op = s->from->nodes[node].op, dtype = fad_node_dtype(s->from, node);
    uint32_t p, term;
    if (op < FAD_ELEMENTWISE_COUNT)
        return each_elementwise(s, node, j, out);
    *out = FAD_NODE_NONE;
    for (size_t k = 0; (p = fad_parent(s->from, node, k)) != FAD_NODE_NONE; k++) {
        TRY(operand_column(s, p, shape, fad_spread_from(fad_node_shape(s->from, p), shape, j), &term));
        TRY(add_to(s, term, dtype, out));
    }
    return op == FAD_CAST ? as_vector(s, *out, shape->dims[0], dtype, out) : FAD_OK;
}

static fad_status sum_of_mapped(separation *s, uint32_t node, const size_t *at, size_t j, uint32_t *out)
{
    uint32_t a = s->from->nodes[node].a, term;
    size_t count = fad_row_size(fad_node_shape(s->from, a));
    int dtype = fad_node_dtype(s->from, node);
    *out = FAD_NODE_NONE;
    for (size_t i = 0; i < count; i++) {
        if (at[i] != j)
            continue;
        TRY(column_of(s, a, i, &term));
        TRY(add_to(s, term, dtype, out));
    }
    return *out == FAD_NODE_NONE ? fad_make_number(&s->r, 0.0, out) : FAD_OK;
}

/* Not a number where one of them is none, as in the extremum. */
static fad_status best_of_mapped(separation *s, uint32_t node, const size_t *at, size_t j, uint32_t *out)
{
    const fad_node *n = &s->from->nodes[node];
    size_t count = fad_row_size(fad_node_shape(s->from, n->a));
    int dtype = fad_node_dtype(s->from, node), op = n->op == FAD_MAX_TO ? FAD_MAXIMUM : FAD_MINIMUM;
    uint32_t term;
    *out = FAD_NODE_NONE;
    for (size_t i = 0; i < count; i++) {
        if (at[i] != j)
            continue;
        TRY(column_of(s, n->a, i, &term));
        if (*out == FAD_NODE_NONE)
            *out = term;
        else
            TRY(fad_make(&s->r, op, *out, term, 0, dtype, out));
    }
    return FAD_OK;
}

static fad_status put(separation *s, uint32_t node, const size_t *at, size_t j, uint32_t *out)
{
    const fad_node *n = &s->from->nodes[node];
    for (size_t i = fad_row_size(fad_node_shape(s->from, n->b)); i-- > 0;)
        if (at[i] == j)
            return column_of(s, n->b, i, out);
    return column_of(s, n->a, j, out);
}

/* Element `j` of operands end to end. */
static fad_status joined_column(separation *s, uint32_t node, size_t j, uint32_t *out)
{
    const fad_list *list = s->from->side[s->from->nodes[node].aux];
    const fad_shape *shape = fad_node_shape(s->from, node);
    size_t axis = (size_t)list->axis, inner = (size_t)shape->strides[axis], dim = (size_t)shape->dims[axis];
    size_t index = j / inner % dim, outer = j / inner / dim;
    for (size_t i = 0; i < list->count; i++) {
        size_t own = (size_t)fad_node_shape(s->from, list->nodes[i])->dims[axis];
        if (index < own)
            return column_of(s, list->nodes[i], (outer * own + index) * inner + j % inner, out);
        index -= own;
    }
    return FAD_BAD_OPERAND;
}

/* Which element of a matrix in a stack of `own` broadcasts to element `j` of the product `shape`: with index `inner`
 * along the axis that is summed over, the last one of the left operand and the last but one of the right. */
static size_t factor_of(const fad_shape *own, const fad_shape *shape, size_t j, size_t inner, bool right)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    size_t missing = shape->ndim - own->ndim, summed = own->ndim - (right ? 2 : 1);
    for (size_t i = 0; i < shape->ndim; i++)
        strides[i] = i < missing || own->dims[i - missing] == 1 || i - missing == summed ? 0 : own->strides[i - missing];
    return fad_strided_offset(shape, strides, j) + inner * (size_t)own->strides[summed];
}

static fad_status product(separation *s, uint32_t node, size_t j, uint32_t *out)
{
    const fad_node *n = &s->from->nodes[node];
    const fad_shape *shape = fad_node_shape(s->from, node);
    const fad_shape *x = fad_node_shape(s->from, n->a), *y = fad_node_shape(s->from, n->b);
    int dtype = fad_node_dtype(s->from, node);
    *out = FAD_NODE_NONE;
    for (size_t i = 0; i < (size_t)x->dims[x->ndim - 1]; i++) {
        uint32_t both[2], term;
        TRY(operand_column(s, n->a, shape, factor_of(x, shape, j, i, false), &both[0]));
        TRY(operand_column(s, n->b, shape, factor_of(y, shape, j, i, true), &both[1]));
        TRY(fad_make(&s->r, FAD_MUL, both[0], both[1], 0, dtype, &term));
        TRY(add_to(s, term, dtype, out));
    }
    return FAD_OK;
}

/* The least index of each row of a GATHER. */
static fad_status find_base(separation *s, uint32_t node)
{
    fad_tape *to = s->r.to;
    const fad_array *indices = s->from->values[s->from->nodes[node].aux].array;
    const int64_t *index = (const int64_t *)indices->data;
    size_t mark = to->count, own = fad_row_size(indices->shape);
    const fad_shape *shape;
    TRY(fad_shape_intern(to, 1, indices->shape->dims, &shape));
    TRY(fad_new_array(to, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, &s->base));
    int64_t *least = (int64_t *)to->values[s->base].array->data;
    for (size_t i = 0; i < shape->size; i++) {
        least[i] = index[i * own];
        for (size_t j = 1; j < own; j++)
            least[i] = index[i * own + j] < least[i] ? index[i * own + j] : least[i];
    }
    return fad_settle(&s->r, mark, s->base, &s->base);
}

/* Elements `at` places after the least of every row, of an array with one axis that ends `most` - `at` places early. */
static fad_status gathered(separation *s, uint32_t a, size_t at, size_t most, uint32_t *out)
{
    fad_tape *to = s->r.to;
    ptrdiff_t size = (ptrdiff_t)fad_node_shape(to, a)->size, dim = size - (ptrdiff_t)most;
    ptrdiff_t start = (ptrdiff_t)at, step = 1;
    int source = 0;
    uint32_t side;
    TRY(reshaped(s, a, 1, &size, &a));
    TRY(fad_make_view(to, fad_node_shape(to, a), 1, &dim, &start, &step, &source, &side));
    TRY(fad_make_part(&s->r, a, side, &a));
    size_t mark = to->count;
    TRY(fad_record_gather(to, a, s->base, out));
    return fad_settle(&s->r, mark, *out, out);
}

static fad_status gathered_column(separation *s, uint32_t node, const size_t *at, size_t j, uint32_t *out)
{
    size_t most = 0;
    for (size_t k = 0; k < fad_row_size(fad_node_shape(s->from, node)); k++)
        most = at[k] > most ? at[k] : most;
    return gathered(s, s->map[s->from->nodes[node].a], at[j], most, out);
}

static fad_status make_column(separation *s, uint32_t node, fad_row_kind kind, const size_t *at, size_t j,
                              uint32_t *out)
{
    switch (kind) {
    case FAD_ROW_EACH:
        return each(s, node, j, out);
    case FAD_ROW_READ:
        return column_of(s, s->from->nodes[node].a, at[j], out);
    case FAD_ROW_ADD:
        return sum_of_mapped(s, node, at, j, out);
    case FAD_ROW_BEST:
        return best_of_mapped(s, node, at, j, out);
    case FAD_ROW_PUT:
        return put(s, node, at, j, out);
    case FAD_ROW_JOIN:
        return joined_column(s, node, j, out);
    case FAD_ROW_PRODUCT:
        return product(s, node, j, out);
    case FAD_ROW_GATHER:
        return gathered_column(s, node, at, j, out);
    default:
        return FAD_BAD_OPERAND;
    }
}

/* --- arrays of columns --- */

/* Makes `node` an array again. */
static fad_status put_together(separation *s, uint32_t node)
{
    const fad_shape *shape = fad_node_shape(s->from, node);
    uint32_t vectors[FAD_MOST_COLUMNS];
    if (s->map[node] != FAD_NODE_NONE)
        return FAD_OK; /* perhaps no array of rows at all */
    size_t count = fad_row_size(shape);
    ptrdiff_t one[2] = {shape->dims[0], 1};
    for (size_t j = 0; j < count; j++) {
        TRY(as_vector(s, s->columns[node][j], shape->dims[0], fad_node_dtype(s->from, node), &vectors[j]));
        if (count > 1)
            TRY(reshaped(s, vectors[j], 2, one, &vectors[j]));
    }
    s->map[node] = vectors[0];
    if (count > 1)
        TRY(joined(s, count, vectors, 1, &s->map[node]));
    return reshaped(s, s->map[node], shape->ndim, shape->dims, &s->map[node]);
}

/* --- nodes --- */

static fad_status take_apart(separation *s, uint32_t node, bool shared)
{
    const fad_shape *shape = fad_node_shape(s->from, node);
    size_t at[FAD_MOST_COLUMNS], count = fad_row_size(shape);
    fad_row_kind kind = fad_row_kind_of(s->from, node, at);
    fad_status status = FAD_OK;
    uint32_t *own = fad_arena_alloc(s->r.to, &s->r.to->arena, count * sizeof *own, &status);
    if (!own)
        return status;
    if (kind == FAD_ROW_GATHER) {
        TRY(put_together(s, s->from->nodes[node].a));
        TRY(find_base(s, node));
    }
    for (size_t j = 0; j < count; j++) {
        TRY(make_column(s, node, kind, at, j, &own[j]));
        if (shared)
            s->r.to->nodes[own[j]].flags |= FAD_MARKED;
    }
    s->columns[node] = own;
    return FAD_OK;
}

/* Sum over all rows of what `node`, a SUM_TO, adds to its element `e`: an array of one axis. */
static fad_status total(separation *s, uint32_t node, size_t e, uint32_t *out)
{
    fad_tape *to = s->r.to;
    uint32_t a = s->from->nodes[node].a, sum = FAD_NODE_NONE;
    const fad_shape *wide = fad_node_shape(s->from, a), *narrow = fad_node_shape(s->from, node), *one;
    int dtype = fad_node_dtype(s->from, node);
    ptrdiff_t dim = 1;
    for (size_t j = 0; j < fad_row_size(wide); j++)
        if (fad_spread_from(narrow, wide, j) == e)
            TRY(add_to(s, s->columns[a][j], dtype, &sum));
    TRY(as_vector(s, sum, wide->dims[0], dtype, &sum));
    TRY(fad_shape_intern(to, 1, &dim, &one));
    size_t mark = to->count;
    TRY(fad_record_sum_to(to, sum, one, out));
    return fad_settle(&s->r, mark, *out, out);
}

/* A sum over rows, of each column by itself. */
static fad_status sum_columns(separation *s, uint32_t node)
{
    const fad_shape *shape = fad_node_shape(s->from, node);
    uint32_t parts[FAD_MOST_COLUMNS], *out = &s->map[node];
    for (size_t e = 0; e < shape->size; e++)
        TRY(total(s, node, e, &parts[e]));
    *out = parts[0];
    if (shape->size > 1)
        TRY(joined(s, shape->size, parts, 0, out));
    return reshaped(s, *out, shape->ndim, shape->dims, out);
}

/* --- the walk --- */

static fad_status copy(separation *s, uint32_t node)
{
    const fad_node *n = &s->from->nodes[node];
    uint32_t p;
    if (n->flags & FAD_IS_DYNAMIC) {
        if (n->op == FAD_SUM_TO && s->columns[n->a] && s->map[n->a] == FAD_NODE_NONE &&
            !fad_has_rows_of(fad_node_shape(s->from, node), fad_node_shape(s->from, n->a)))
            return sum_columns(s, node);
        for (size_t k = 0; (p = fad_parent(s->from, node, k)) != FAD_NODE_NONE; k++)
            TRY(put_together(s, p));
    }
    return fad_copy_settled(&s->r, s->from, node, s->map, &s->map[node]);
}

static fad_status walk(separation *s, const fad_trace *in, fad_trace *out, const uint8_t *uses, const uint8_t *apart)
{
    for (size_t i = 0; i < in->input_count; i++)
        s->map[in->inputs[i]] = out->inputs[i];
    for (uint32_t i = 0; i < in->tape->count; i++) {
        const fad_node *n = &in->tape->nodes[i];
        if (!uses[i])
            continue;
        if (apart[i])
            TRY(take_apart(s, i, uses[i] == FAD_USED_OFTEN));
        else if (n->op != FAD_VARIABLE || !(n->flags & FAD_IS_DYNAMIC))
            TRY(copy(s, i));
        if (uses[i] == FAD_USED_OFTEN && !apart[i])
            s->r.to->nodes[s->map[i]].flags |= FAD_MARKED;
    }
    for (size_t i = 0; i < in->output_count; i++)
        TRY(put_together(s, in->outputs[i]));
    for (size_t i = 0; i < in->guard_count; i++)
        TRY(put_together(s, in->guards[i]));
    fad_trace_finish(out, in, s->map);
    return FAD_OK;
}

static fad_status separate(const fad_trace *in, fad_trace *out, const uint8_t *uses, const uint8_t *apart)
{
    fad_tape *tape = out->tape;
    size_t count = in->tape->count, bytes = count * (sizeof(uint32_t *) + sizeof(uint32_t)) + 1;
    fad_status status = FAD_OK, ignored = FAD_OK;
    separation s = {.r = {.to = tape}, .from = in->tape};
    TRY(fad_trace_begin(out, tape, in));
    s.columns = fad_resize(tape, NULL, 0, bytes, &status);
    if (!s.columns)
        return status;
    s.map = (uint32_t *)(s.columns + count);
    memset(s.columns, 0, count * sizeof *s.columns);
    memset(s.map, 0xff, count * sizeof *s.map);
    status = fad_expect_nodes(&s.r, count);
    if (status == FAD_OK)
        status = walk(&s, in, out, uses, apart);
    fad_resize(tape, s.columns, bytes, 0, &ignored);
    fad_resize(tape, s.r.known, s.r.known_size * sizeof *s.r.known, 0, &ignored);
    return status == FAD_OK ? fad_drop_dead(out) : status;
}

fad_status fad_pass_columns(const fad_trace *in, fad_trace *out, bool last)
{
    uint8_t *uses;
    size_t count = in->tape->count;
    fad_status status = FAD_OK, ignored = FAD_OK;
    bool any = false;
    TRY(fad_count_uses(in, out->tape, &uses));
    uint8_t *apart = fad_resize(out->tape, NULL, 0, count + 1, &status);
    if (apart)
        status = fad_choose_rows(in, out->tape, uses, last, apart, &any);
    if (status == FAD_OK && any)
        status = separate(in, out, uses, apart);
    fad_resize(out->tape, apart, apart ? count + 1 : 0, 0, &ignored);
    fad_resize(out->tape, uses, count + 1, 0, &ignored);
    return status;
}
