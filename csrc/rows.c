/* rows.c: what nodes do in every row, and where it pays to have the columns of rows as vectors. */
#include "rows.h"

#include "pass.h"
#include "try.h"

/* --- places in a row --- */

size_t fad_strided_offset(const fad_shape *shape, const ptrdiff_t *strides, size_t flat)
{
    size_t offset = 0;
    for (size_t i = shape->ndim; i-- > 0;) {
        offset += flat % (size_t)shape->dims[i] * (size_t)strides[i];
        flat /= (size_t)shape->dims[i];
    }
    return offset;
}

size_t fad_spread_from(const fad_shape *own, const fad_shape *shape, size_t flat)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    size_t missing = shape->ndim - own->ndim;
    for (size_t i = 0; i < shape->ndim; i++)
        strides[i] = i < missing || own->dims[i - missing] == 1 ? 0 : own->strides[i - missing];
    return fad_strided_offset(shape, strides, flat);
}

/* Whether `view` reads all rows, one by one; `at`: where in the whole's row. */
static bool view_map(const fad_view *view, size_t *at)
{
    if (view->source[0] != 0 || view->start[0] != 0 || view->step[0] != 1 ||
        view->part->dims[0] != view->whole->dims[0])
        return false;
    for (size_t j = 0; j < fad_row_size(view->part); j++)
        at[j] = fad_view_reads(view, j);
    return true;
}

static bool strided_map(const fad_strided *s, size_t *at)
{
    ptrdiff_t row = (ptrdiff_t)fad_row_size(s->whole);
    if (s->strides[0] != row)
        return false;
    for (size_t j = 0; j < fad_row_size(s->part); j++) {
        at[j] = (size_t)s->start + fad_strided_offset(s->part, s->strides, j);
        if (at[j] >= (size_t)row)
            return false;
    }
    return true;
}

/* Constant indices that are those of the first row, moved on by `row` in each. */
static bool index_map(const fad_tape *tape, uint32_t indices, size_t row, size_t *at)
{
    if (tape->nodes[indices].flags & FAD_IS_DYNAMIC)
        return false;
    const fad_array *array = tape->values[indices].array;
    const int64_t *index = (const int64_t *)array->data;
    size_t rows = (size_t)array->shape->dims[0], own = fad_row_size(array->shape);
    if (!fad_contiguous(array))
        return false;
    for (size_t j = 0; j < own; j++) {
        if (index[j] < 0 || (size_t)index[j] >= row)
            return false;
        at[j] = (size_t)index[j];
    }
    for (size_t i = 1; i < rows; i++)
        for (size_t j = 0; j < own; j++)
            if (index[i * own + j] != (int64_t)(i * row + at[j]))
                return false;
    return true;
}

/* Constant indices that lie in every row as in the first: `at`, places after the row's least. */
static bool gather_map(const fad_tape *tape, uint32_t indices, size_t *at)
{
    if (tape->nodes[indices].flags & FAD_IS_DYNAMIC)
        return false;
    const fad_array *array = tape->values[indices].array;
    const int64_t *index = (const int64_t *)array->data;
    size_t rows = (size_t)array->shape->dims[0], own = fad_row_size(array->shape);
    int64_t least = index[0];
    for (size_t j = 1; j < own; j++)
        least = index[j] < least ? index[j] : least;
    for (size_t j = 0; j < own; j++)
        at[j] = (size_t)(index[j] - least);
    if (!fad_contiguous(array) || own < 2)
        return false;
    for (size_t i = 1; i < rows; i++)
        for (size_t j = 1; j < own; j++)
            if (index[i * own + j] - index[i * own] != index[j] - index[0])
                return false;
    return true;
}

static bool places(const fad_tape *tape, uint32_t node, const fad_shape *whole, const fad_shape *part, size_t *at)
{
    const fad_node *n = &tape->nodes[node];
    switch (n->op) {
    case FAD_RESHAPE:
        for (size_t j = 0; j < fad_row_size(part); j++)
            at[j] = j;
        return true;
    case FAD_SUM_TO:
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        if (!fad_has_rows_of(whole, part))
            return false;
        for (size_t j = 0; j < fad_row_size(part); j++)
            at[j] = fad_spread_from(whole, part, j);
        return true;
    case FAD_VIEW:
    case FAD_EMBED:
    case FAD_UPDATE_VIEW:
        return view_map(tape->side[n->aux], at);
    case FAD_STRIDED:
    case FAD_STRIDED_ADD:
        return strided_map(tape->side[n->aux], at);
    case FAD_SCATTER_ADD:
        return index_map(tape, ((const fad_scatter *)tape->side[n->aux])->indices, fad_row_size(whole), at);
    default: /* GATHER, UPDATE_AT */
        return index_map(tape, n->aux, fad_row_size(whole), at);
    }
}

/* --- kinds --- */

static bool is_mapped(const fad_tape *tape, uint32_t node, uint32_t whole_node, uint32_t part_node, size_t *at)
{
    const fad_shape *whole = fad_node_shape(tape, whole_node), *part = fad_node_shape(tape, part_node);
    return fad_is_rows(whole) && fad_is_rows(part) && whole->dims[0] == part->dims[0] &&
           places(tape, node, whole, part, at);
}

/* A stack of small products, or rows times one small matrix. */
static bool is_small_product(const fad_tape *tape, uint32_t node)
{
    enum { MOST_PRODUCTS = 64 };
    const fad_node *n = &tape->nodes[node];
    const fad_shape *x = fad_node_shape(tape, n->a), *y = fad_node_shape(tape, n->b), *own = fad_node_shape(tape, node);
    size_t inner = (size_t)x->dims[x->ndim - 1];
    const fad_shape *both[2] = {x, y};
    for (int k = 0; k < 2; k++)
        if (fad_has_rows_of(both[k], own) ? !fad_is_rows(both[k]) : both[k]->size > FAD_MOST_COLUMNS)
            return false;
    return inner && fad_row_size(own) * inner <= MOST_PRODUCTS;
}

static bool is_joined_in_rows(const fad_tape *tape, const fad_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!fad_is_rows(fad_node_shape(tape, list->nodes[i])))
            return false;
    return list->axis > 0;
}

static bool has_indices_among_operands(const fad_tape *tape, uint32_t node)
{
    uint32_t p;
    for (size_t k = 0; (p = fad_parent(tape, node, k)) != FAD_NODE_NONE; k++)
        if (fad_node_dtype(tape, p) == FAD_I64)
            return true;
    return false;
}

fad_row_kind fad_row_kind_of(const fad_tape *tape, uint32_t node, size_t *at)
{
    const fad_node *n = &tape->nodes[node];
    if (!(n->flags & FAD_IS_ARRAY) || !(n->flags & FAD_IS_DYNAMIC) || !fad_is_rows(fad_node_shape(tape, node)) ||
        fad_node_dtype(tape, node) == FAD_I64)
        return FAD_ROW_OTHER;
    bool plain = fad_node_shape(tape, node)->ndim == 1; /* what is done to vectors alone is not ours */
    switch (n->op) {
    case FAD_RESHAPE:
    case FAD_VIEW:
    case FAD_STRIDED:
        return is_mapped(tape, node, n->a, node, at) ? FAD_ROW_READ : FAD_ROW_OTHER;
    case FAD_GATHER:
        return is_mapped(tape, node, n->a, node, at) ? FAD_ROW_READ
               : gather_map(tape, n->aux, at)        ? FAD_ROW_GATHER
                                                     : FAD_ROW_OTHER;
    case FAD_EMBED:
    case FAD_STRIDED_ADD:
    case FAD_SCATTER_ADD:
    case FAD_SUM_TO:
        return is_mapped(tape, node, node, n->a, at) ? FAD_ROW_ADD : FAD_ROW_OTHER;
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return fad_is_float(fad_node_dtype(tape, node)) && is_mapped(tape, node, node, n->a, at) ? FAD_ROW_BEST
                                                                                                 : FAD_ROW_OTHER;
    case FAD_UPDATE_VIEW:
    case FAD_UPDATE_AT:
        return is_mapped(tape, node, node, n->b, at) ? FAD_ROW_PUT : FAD_ROW_OTHER;
    case FAD_CONCATENATE:
        return is_joined_in_rows(tape, tape->side[n->aux]) ? FAD_ROW_JOIN : FAD_ROW_OTHER;
    case FAD_MATMUL:
        return is_small_product(tape, node) ? FAD_ROW_PRODUCT : FAD_ROW_OTHER;
    case FAD_CAST:
    case FAD_BROADCAST_TO:
    case FAD_NSUM:
        break;
    default:
        if (n->op >= FAD_ELEMENTWISE_COUNT)
            return FAD_ROW_OTHER;
    }
    return plain || has_indices_among_operands(tape, node) ? FAD_ROW_OTHER : FAD_ROW_EACH;
}

/* --- what pays ---
 *
 * Nodes of rows hang together in components. Where a node takes elements of a row apart, or brings them together, rows
 * are walked one by one, and what follows is another region: a component without them saves that, and costs the reading
 * and writing of columns where it begins and ends. Both are counted in elements a row. */

enum { STOP = 4, MOST_CELLS = 1 << 14 }; /* what a walk costs beside its elements; columns of a component */

typedef struct {
    uint32_t parent, cells;    /* of all its nodes, at the root */
    int64_t gain;
    bool crosses;
} component;

typedef struct {
    const fad_trace *trace;
    const fad_tape *tape;
    const uint8_t *uses;
    component *all;            /* of every node; parent FAD_NODE_NONE: of none */
    uint8_t *counted;          /* nodes that were counted as a beginning, or an end */
    bool last;
} choice;

/* Ties of a chain of MINIMUM would not share evenly: where derivatives may still be taken, an extremum stays one. */
static fad_row_kind kind_of(const fad_tape *tape, uint32_t node, bool last, size_t *at)
{
    fad_row_kind kind = fad_row_kind_of(tape, node, at);
    return kind == FAD_ROW_BEST && !last ? FAD_ROW_OTHER : kind;
}

static uint32_t find(const choice *c, uint32_t node)
{
    component *all = c->all;
    while (all[node].parent != node)
        node = all[node].parent = all[all[node].parent].parent;
    return node;
}

static bool is_in_one(const choice *c, uint32_t node) { return c->all[node].parent != FAD_NODE_NONE; }

static size_t columns_of(const choice *c, uint32_t node)
{
    const fad_shape *shape = fad_node_shape(c->tape, node);
    return fad_is_rows(shape) ? fad_row_size(shape) : 0;
}

static bool is_identity(const size_t *at, size_t count)
{
    for (size_t j = 0; j < count; j++)
        if (at[j] != j)
            return false;
    return true;
}

/* Whether elements of a row meet, or part. */
static bool crosses(const choice *c, uint32_t node, fad_row_kind kind, const size_t *at)
{
    const fad_shape *own = fad_node_shape(c->tape, node);
    size_t columns = fad_row_size(own);
    uint32_t p;
    switch (kind) {
    case FAD_ROW_READ:
        return columns != columns_of(c, c->tape->nodes[node].a) || !is_identity(at, columns);
    case FAD_ROW_EACH:
        for (size_t k = 0; (p = fad_parent(c->tape, node, k)) != FAD_NODE_NONE; k++)
            if (fad_node_shape(c->tape, p)->ndim && fad_node_shape(c->tape, p) != own)
                return true;
        return false;
    case FAD_ROW_GATHER:
        return false;
    case FAD_ROW_PRODUCT: /* of rows and one matrix: a library is good at it */
        return own->ndim > 2;
    default:
        return true;
    }
}

static void join(choice *c, uint32_t node, fad_row_kind kind)
{
    uint32_t p;
    c->all[node].parent = node;
    if (kind == FAD_ROW_GATHER) /* it reads an array */
        return;
    for (size_t k = 0; (p = fad_parent(c->tape, node, k)) != FAD_NODE_NONE; k++)
        if (is_in_one(c, p))
            c->all[find(c, p)].parent = node;
}

static void count_node(choice *c, uint32_t node, fad_row_kind kind, const size_t *at)
{
    component *whole = &c->all[find(c, node)];
    size_t own = fad_row_size(fad_node_shape(c->tape, node)), widest = own;
    uint32_t p;
    for (size_t k = 0; kind != FAD_ROW_GATHER && (p = fad_parent(c->tape, node, k)) != FAD_NODE_NONE; k++) {
        size_t columns = columns_of(c, p);
        widest = columns > widest ? columns : widest;
        if (columns > 1 && !is_in_one(c, p) && !c->counted[p]) {
            c->counted[p] = 1;
            whole->gain -= (int64_t)columns;
        }
    }
    if (widest > 1 && crosses(c, node, kind, at)) {
        whole->crosses = true;
        whole->gain += (int64_t)(STOP + widest);
    }
    whole->cells += whole->cells > MOST_CELLS ? 0 : (uint32_t)own;
}

static void count_end(choice *c, uint32_t node)
{
    size_t columns = columns_of(c, node);
    if (!is_in_one(c, node) || columns < 2 || c->counted[node])
        return;
    c->counted[node] = 1;
    c->all[find(c, node)].gain -= (int64_t)columns;
}

static void count_ends(choice *c)
{
    const fad_tape *tape = c->tape;
    size_t at[FAD_MOST_COLUMNS];
    uint32_t p;
    for (uint32_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        bool reads = !is_in_one(c, i) || fad_row_kind_of(tape, i, at) == FAD_ROW_GATHER;
        if (!c->uses[i] || !(n->flags & FAD_IS_DYNAMIC) || !reads || n->op == FAD_SUM_TO)
            continue; /* a sum over rows is as good of each column */
        for (size_t k = 0; (p = fad_parent(tape, i, k)) != FAD_NODE_NONE; k++)
            count_end(c, p);
    }
    for (size_t i = 0; i < c->trace->output_count; i++)
        count_end(c, c->trace->outputs[i]);
    for (size_t i = 0; i < c->trace->guard_count; i++)
        count_end(c, c->trace->guards[i]);
}

static bool is_worth_it(const choice *c, uint32_t node)
{
    const component *whole = &c->all[find(c, node)];
    return whole->crosses && whole->gain >= 0 && whole->cells <= MOST_CELLS;
}

/* Most traces have no rows. */
static bool has_candidates(const fad_tape *tape, const uint8_t *uses, bool last)
{
    size_t at[FAD_MOST_COLUMNS];
    for (uint32_t i = 0; i < tape->count; i++)
        if (uses[i] && kind_of(tape, i, last, at) != FAD_ROW_OTHER)
            return true;
    return false;
}

fad_status fad_choose_rows(const fad_trace *trace, fad_tape *memory, const uint8_t *uses, bool last, uint8_t *apart,
                           bool *any)
{
    const fad_tape *tape = trace->tape;
    size_t at[FAD_MOST_COLUMNS], count = tape->count, bytes = count * (sizeof(component) + 1) + 1;
    fad_status status = FAD_OK;
    *any = has_candidates(tape, uses, last);
    if (!*any)
        return FAD_OK;
    component *all = fad_resize(memory, NULL, 0, bytes, &status);
    if (!all)
        return status;
    choice c = {trace, tape, uses, all, (uint8_t *)(all + count), last};
    memset(c.counted, 0, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        all[i] = (component){.parent = FAD_NODE_NONE};
        fad_row_kind kind = uses[i] ? kind_of(tape, i, last, at) : FAD_ROW_OTHER;
        if (kind != FAD_ROW_OTHER)
            join(&c, i, kind);
    }
    for (uint32_t i = 0; i < count; i++)
        if (is_in_one(&c, i))
            count_node(&c, i, fad_row_kind_of(tape, i, at), at);
    count_ends(&c);
    *any = false;
    for (uint32_t i = 0; i < count; i++) {
        apart[i] = is_in_one(&c, i) && is_worth_it(&c, i);
        *any |= apart[i];
    }
    fad_resize(memory, all, bytes, 0, &status);
    return FAD_OK;
}
