/* lower.c: from a trace to a program: where each value lives, and when each is computed.
 *
 * A node is a root, with memory (or a strip, or a scalar) of its own, or a window on a root's. A root is computed at a
 * stage: element-wise nodes over the same range share the stage of their operands and so one region; whatever must be
 * complete before it is read (a sum, a matrix product, an array read at other places) makes its reader wait for the
 * next stage. */
#include "lower.h"
#include "try.h"

/* --- what is known of a node --- */

static uint32_t original(const fad_lowering *l, uint32_t node) { return node < l->count ? node : l->copy_of[node - l->count]; }

const fad_shape *fad_lower_shape(const fad_lowering *l, uint32_t node) { return fad_node_shape(l->tape, original(l, node)); }

int fad_lower_dtype(const fad_lowering *l, uint32_t node) { return fad_node_dtype(l->tape, original(l, node)); }

bool fad_lower_is_array(const fad_lowering *l, uint32_t node) { return fad_is_array(l->tape, original(l, node)); }

fad_window fad_lower_window(const fad_lowering *l, uint32_t node)
{
    if (l->window[node] != FAD_NO_INDEX)
        return l->windows[l->window[node]];
    const fad_shape *shape = fad_lower_shape(l, node);
    fad_window all = {0, shape->strides};
    if (node < l->count && l->source[node] == FAD_FROM_CONSTANT && fad_is_array(l->tape, node) &&
        fad_repeats(l->tape->values[node].array))
        all.strides = l->tape->values[node].array->strides; /* one element stands for all */
    return all;
}

static bool is_dense(const fad_shape *shape, const ptrdiff_t *strides)
{
    for (size_t i = 0; i < shape->ndim; i++)
        if (shape->dims[i] > 1 && strides[i] != shape->strides[i])
            return false;
    return true;
}

bool fad_lower_is_dense(const fad_lowering *l, uint32_t node)
{
    return is_dense(fad_lower_shape(l, node), fad_lower_window(l, node).strides);
}

/* An axis of one element has whatever stride suits. */
bool fad_lower_matrices(const fad_lowering *l, uint32_t node, ptrdiff_t *strides)
{
    const fad_shape *shape = fad_lower_shape(l, node);
    size_t last = shape->ndim - 1;
    ptrdiff_t rows = shape->dims[last - 1], columns = shape->dims[last];
    memcpy(strides, fad_lower_window(l, node).strides, shape->ndim * sizeof *strides);
    if (columns == 1)
        strides[last] = 1;
    else if (rows == 1)
        strides[last - 1] = strides[last] == 1 ? columns : 1;
    return (strides[last] == 1 && strides[last - 1] >= columns) || (strides[last - 1] == 1 && strides[last] >= rows);
}

uint32_t fad_lower_step_operand(const fad_lowering *l, uint32_t node, uint32_t p)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    if (l->dense[p] == FAD_NO_INDEX || (l->tape->nodes[node].op == FAD_MATMUL && fad_lower_matrices(l, p, strides)))
        return p;
    return l->dense[p];
}

static bool is_whole(const fad_lowering *l, uint32_t node)
{
    return l->window[node] == FAD_NO_INDEX ||
           (fad_lower_is_dense(l, node) && l->windows[l->window[node]].offset == 0 &&
            fad_lower_shape(l, node)->size == fad_lower_shape(l, l->root[node])->size);
}

size_t fad_lower_scalar_count(const fad_lowering *l, uint32_t node)
{
    const fad_node *n = &l->tape->nodes[node];
    return n->op == FAD_NSUM ? ((const fad_list *)l->tape->side[n->aux])->count : 1;
}

/* A product that a sum absorbs, added. */
static int fused_op(const fad_node *product, uint32_t *operands)
{
    operands[0] = product->a;
    operands[1] = product->op == FAD_SQUARE ? product->a : product->b;
    return product->op == FAD_ZMUL ? FAD_SCALAR_ZMUL_ADD : FAD_SCALAR_MUL_ADD;
}

static int term_op(const fad_lowering *l, uint32_t node, size_t k, uint32_t *operands, size_t *count)
{
    uint32_t p = fad_parent(l->tape, node, k);
    const fad_node *term = &l->tape->nodes[p];
    bool absorbed = l->absorbed[p] == node;
    if (absorbed && term->op != FAD_NEG) {
        *count = 2;
        return fused_op(term, operands);
    }
    *count = 1;
    operands[0] = absorbed ? term->a : p;
    return k == 0 ? FAD_POS : absorbed ? FAD_SUB : FAD_ADD;
}

int fad_lower_scalar_op(const fad_lowering *l, uint32_t node, size_t i, uint32_t *operands, size_t *count)
{
    const fad_node *n = &l->tape->nodes[node];
    if (n->op == FAD_NSUM)
        return term_op(l, node, i, operands, count);
    *count = fad_ops[n->op].arity;
    for (size_t k = 0; k < *count; k++)
        operands[k] = fad_parent(l->tape, node, k);
    for (size_t k = 0; k < *count; k++) {
        if (l->absorbed[operands[k]] != node)
            continue;
        *count = 3;
        operands[2] = operands[1 - k];
        int op = fused_op(&l->tape->nodes[k == 0 ? n->a : n->b], operands);
        return n->op == FAD_ADD ? op : k == 0 ? FAD_SCALAR_MUL_SUB : FAD_SCALAR_SUB_MUL;
    }
    return n->op;
}

static void read_scalars(const fad_lowering *l, uint32_t node, void (*visit)(void *context, uint32_t node),
                         void *context)
{
    uint32_t operands[3];
    size_t count;
    for (size_t i = 0; i < fad_lower_scalar_count(l, node); i++) {
        fad_lower_scalar_op(l, node, i, operands, &count);
        for (size_t k = 0; k < count; k++)
            visit(context, operands[k]);
    }
}

void fad_lower_reads(const fad_lowering *l, const fad_item *item, void (*visit)(void *context, uint32_t node),
                     void *context)
{
    uint32_t p;
    switch (item->kind) {
    case FAD_ITEM_STORE:
        visit(context, item->source);
        if (item->indices != FAD_NO_INDEX)
            visit(context, item->indices);
        break;
    case FAD_ITEM_COMPUTE:
    case FAD_ITEM_STEP:
        if (item->node >= l->count) {
            visit(context, l->copy_of[item->node - l->count]);
            break;
        }
        if (l->source[item->node] == FAD_FROM_SCALARS) {
            read_scalars(l, item->node, visit, context);
            break;
        }
        for (size_t k = 0; (p = fad_parent(l->tape, item->node, k)) != FAD_NODE_NONE; k++)
        {
            bool dense = item->kind == FAD_ITEM_STEP || (l->tape->nodes[item->node].op == FAD_GATHER && k == 0);
            visit(context, dense ? fad_lower_step_operand(l, item->node, p) : p);
        }
        break;
    case FAD_ITEM_ZERO:
        break;
    default:
        visit(context, item->source);
        break;
    }
}

/* --- a new window --- */

static fad_status new_window(fad_lowering *l, const fad_shape *shape, ptrdiff_t offset, const ptrdiff_t *strides,
                             uint32_t *out)
{
    fad_status status = FAD_OK;
    TRY(fad_make_room(l->tape, &l->windows, sizeof *l->windows, l->window_count + 1, &l->window_capacity));
    ptrdiff_t *own = fad_arena_alloc(l->tape, &l->arena, (shape->ndim + 1) * sizeof *own, &status);
    if (!own)
        return status;
    if (shape->ndim)
        memcpy(own, strides, shape->ndim * sizeof *own);
    fad_window w = {offset, own};
    *out = (uint32_t)l->window_count;
    l->windows[l->window_count++] = w;
    return FAD_OK;
}

/* --- regions --- */

static size_t region_slot(const fad_lowering *l, uint32_t stage, size_t n, int kind)
{
    uint64_t h = (stage * UINT64_C(0x9e3779b97f4a7c15)) ^ (n * UINT64_C(0xff51afd7ed558ccd)) ^ (uint64_t)kind << 7;
    h ^= h >> 29;
    size_t at = (size_t)(h * UINT64_C(0xbf58476d1ce4e5b9) >> 20) & (l->table_size - 1);
    for (; l->table[at] != FAD_NO_INDEX; at = (at + 1) & (l->table_size - 1)) {
        const fad_region *r = &l->regions[l->table[at]];
        if (r->stage == stage && r->n == n && r->kind == kind)
            break;
    }
    return at;
}

static fad_status grow_region_table(fad_lowering *l)
{
    size_t before = l->table_size, size = before ? before * 2 : 64;
    fad_status status = FAD_OK;
    uint32_t *table = fad_resize(l->tape, NULL, 0, size * sizeof *table, &status);
    if (!table)
        return status;
    fad_resize(l->tape, l->table, before * sizeof *table, 0, &status);
    memset(table, 0xff, size * sizeof *table);
    l->table = table;
    l->table_size = size;
    for (size_t i = 0; i < l->region_count; i++) {
        const fad_region *r = &l->regions[i];
        if (r->kind == FAD_STEP_REGION || r->kind == FAD_STEP_SCALARS)
            table[region_slot(l, r->stage, r->n, r->kind)] = (uint32_t)i;
    }
    return FAD_OK;
}

/* The region of that stage and range; one of its own for every other kind of step. */
static fad_status find_region(fad_lowering *l, uint32_t stage, size_t n, int kind, uint32_t *out)
{
    bool shared = kind == FAD_STEP_REGION || kind == FAD_STEP_SCALARS;
    size_t at = 0;
    if (shared) {
        if (2 * (l->region_count + 1) > l->table_size)
            TRY(grow_region_table(l));
        at = region_slot(l, stage, n, kind);
        if (l->table[at] != FAD_NO_INDEX) {
            *out = l->table[at];
            return FAD_OK;
        }
    }
    TRY(fad_make_room(l->tape, &l->regions, sizeof *l->regions, l->region_count + 1, &l->region_capacity));
    fad_region r = {stage, FAD_NO_INDEX, FAD_NO_INDEX, 0, (uint16_t)kind, false, false, n};
    *out = (uint32_t)l->region_count;
    if (shared)
        l->table[at] = *out;
    l->regions[l->region_count++] = r;
    return FAD_OK;
}

static fad_status add_item(fad_lowering *l, uint32_t region, const fad_item *item)
{
    TRY(fad_make_room(l->tape, &l->items, sizeof *l->items, l->item_count + 1, &l->item_capacity));
    uint32_t i = (uint32_t)l->item_count++;
    l->items[i] = *item;
    l->items[i].next = FAD_NO_INDEX;
    fad_region *r = &l->regions[region];
    r->count++;
    if (r->first == FAD_NO_INDEX)
        r->first = i;
    else
        l->items[r->last].next = i;
    r->last = i;
    return FAD_OK;
}

/* --- stages --- */

static uint32_t earliest(const fad_lowering *l, uint32_t node) { return l->needed[original(l, node)] & 2 ? 0 : l->barrier; }

static uint32_t later(uint32_t x, uint32_t y) { return x > y ? x : y; }

enum { ANYWHERE = 0, AS_SCALAR = 1 };

/* First stage at which `node` can be read by a region over `n` elements (ANYWHERE: at any place of its memory). */
static uint32_t readable_at(const fad_lowering *l, uint32_t node, size_t n, bool as_scalar)
{
    uint32_t root = l->root[node], complete = root != node && l->margin[root] != FAD_NO_INDEX ? l->stage[node] : 0;
    switch (l->source[root]) {
    case FAD_FROM_SCALARS:
        return l->stage[root] + !as_scalar;
    case FAD_FROM_REGION: /* a scalar's reader may convert it, with scalar instructions that run before its region */
        return later(complete, l->stage[root] + !(n != ANYWHERE && is_whole(l, node) && fad_lower_is_array(l, root) &&
                                                  fad_lower_shape(l, root)->size == n));
    case FAD_FROM_STORES:
    case FAD_FROM_STEP:
        return later(complete, l->stage[root] + 1);
    default:
        return 0;
    }
}

/* --- reading from memory --- */

/* A dense copy of `node`, where it is not dense. */
static fad_status make_dense(fad_lowering *l, uint32_t node, uint32_t *out)
{
    *out = node;
    if (fad_lower_is_dense(l, node))
        return FAD_OK;
    if (l->dense[node] != FAD_NO_INDEX) {
        *out = l->dense[node];
        return FAD_OK;
    }
    uint32_t copy = (uint32_t)(l->count + l->copies);
    l->copy_of[l->copies++] = node;
    l->dense[node] = copy;
    l->root[copy] = copy;
    l->window[copy] = FAD_NO_INDEX;
    l->source[copy] = FAD_FROM_REGION;
    size_t n = fad_lower_shape(l, node)->size;
    l->stage[copy] = later(earliest(l, node), readable_at(l, node, n, false));
    TRY(find_region(l, l->stage[copy], n, FAD_STEP_REGION, &l->region[copy]));
    fad_item item = {FAD_ITEM_COMPUTE, 0, false, copy, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    *out = copy;
    return add_item(l, l->region[copy], &item);
}

/* The scalar that holds scalar node `node`, read from an array or an input. */
static fad_status make_number(fad_lowering *l, uint32_t node)
{
    uint32_t root = l->root[node];
    if (l->number[node] != FAD_NO_INDEX)
        return FAD_OK;
    l->number[node] = node;
    if (l->source[root] == FAD_FROM_CONSTANT && root == node)
        return FAD_OK;
    if (root != node && !fad_lower_is_array(l, root)) { /* a view of a scalar */
        l->number[node] = root;
        return l->source[root] == FAD_FROM_INPUT ? make_number(l, root) : FAD_OK;
    }
    if (root == node && l->source[root] != FAD_FROM_INPUT)
        return FAD_OK; /* in the workspace already */
    uint32_t region, stage = later(earliest(l, node), readable_at(l, node, ANYWHERE, false));
    l->stage[node] = stage;
    TRY(find_region(l, stage, 1, FAD_STEP_SCALARS, &region));
    fad_item item = {FAD_ITEM_LOAD, 0, false, node, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    return add_item(l, region, &item);
}

/* Stage at which a scalar instruction can read scalar node `node`. */
static fad_status scalar_at(fad_lowering *l, uint32_t node, uint32_t *stage)
{
    TRY(make_number(l, node));
    uint32_t root = l->root[node];
    bool loaded = l->number[node] == node && (root != node || l->source[root] == FAD_FROM_INPUT);
    *stage = loaded ? l->stage[node] : readable_at(l, node, ANYWHERE, true);
    return FAD_OK;
}

/* --- windows --- */

fad_status fad_lower_look_at(fad_lowering *l, uint32_t node, uint32_t on, ptrdiff_t offset, const ptrdiff_t *strides)
{
    const fad_shape *shape = fad_lower_shape(l, node);
    if (l->source[on] == FAD_FROM_VIEW && l->margin[l->root[on]] != FAD_NO_INDEX)
        l->stage[node] = l->stage[on];
    l->root[node] = l->root[on];
    l->source[node] = FAD_FROM_VIEW;
    if (offset == 0 && is_dense(shape, strides) && shape->size == fad_lower_shape(l, l->root[on])->size) {
        l->window[node] = FAD_NO_INDEX;
        return FAD_OK;
    }
    return new_window(l, shape, offset, strides, &l->window[node]);
}

static ptrdiff_t flat_offset(const fad_shape *shape, const ptrdiff_t *strides, size_t flat)
{
    ptrdiff_t offset = 0;
    for (size_t i = shape->ndim; i-- > 0;) {
        offset += (ptrdiff_t)(flat % (size_t)shape->dims[i]) * strides[i];
        flat /= (size_t)shape->dims[i];
    }
    return offset;
}

static ptrdiff_t view_offset(const fad_view *view, const ptrdiff_t *whole, ptrdiff_t *strides)
{
    ptrdiff_t offset = 0;
    for (size_t s = 0; s < view->whole->ndim; s++)
        offset += view->start[s] * whole[s];
    for (size_t i = 0; i < view->part->ndim; i++)
        strides[i] = view->source[i] < 0 ? 0 : whole[view->source[i]] * view->step[i];
    return offset;
}

static fad_status lower_view(fad_lowering *l, uint32_t node)
{
    const fad_node *n = &l->tape->nodes[node];
    fad_window w = fad_lower_window(l, n->a);
    const fad_shape *from = fad_lower_shape(l, n->a), *shape = fad_lower_shape(l, node);
    ptrdiff_t strides[FAD_MAX_NDIM] = {0};
    if (n->op == FAD_VIEW) {
        ptrdiff_t offset = view_offset(l->tape->side[n->aux], w.strides, strides);
        return fad_lower_look_at(l, node, n->a, w.offset + offset, strides);
    }
    if (n->op == FAD_ELEMENT)
        return fad_lower_look_at(l, node, n->a, w.offset + flat_offset(from, w.strides, n->aux), strides);
    size_t missing = shape->ndim - from->ndim; /* BROADCAST_TO */
    for (size_t i = missing; i < shape->ndim; i++)
        strides[i] = from->dims[i - missing] == 1 ? 0 : w.strides[i - missing];
    return fad_lower_look_at(l, node, n->a, w.offset, strides);
}

static fad_status lower_strided(fad_lowering *l, uint32_t node, uint32_t dense)
{
    const fad_strided *strided = l->tape->side[l->tape->nodes[node].aux];
    return fad_lower_look_at(l, node, dense, fad_lower_window(l, dense).offset + strided->start, strided->strides);
}

/* --- stores --- */

/* Stages between which a node is written to. */
typedef struct {
    uint32_t first, last;
} span;

/* The value of `from`, read over its own shape, goes to `to` (a node, or an output). Not before stage `not_before`. */
static fad_status store(fad_lowering *l, uint32_t to, bool to_output, uint32_t from, int code, uint32_t window,
                        uint32_t indices, uint32_t not_before, span *when)
{
    size_t n = fad_lower_shape(l, from)->size;
    uint32_t at = later(not_before, readable_at(l, from, n, false)), region;
    if (indices != FAD_NO_INDEX)
        at = later(at, readable_at(l, indices, n, false));
    TRY(find_region(l, at, n, FAD_STEP_REGION, &region));
    fad_item item = {FAD_ITEM_STORE, (uint8_t)code, to_output, to, from, window, indices, 0};
    when->last = later(when->last, at);
    when->first = at < when->first ? at : when->first;
    return add_item(l, region, &item);
}

static span begin_stores(fad_lowering *l, uint32_t node)
{
    l->root[node] = node;
    l->source[node] = FAD_FROM_STORES;
    span when = {FAD_NO_INDEX, earliest(l, node)};
    return when;
}

/* Before stage `when`, elements `from` .. `to`-1 of `node` are zero. */
static fad_status zero(fad_lowering *l, uint32_t node, span when, size_t from, size_t to)
{
    uint32_t region;
    size_t size = fad_lower_shape(l, node)->size; /* 0, perhaps, where what is embedded begins further on */
    if (to > size)
        to = size;
    if (from >= to)
        return FAD_OK;
    TRY(find_region(l, when.first < when.last ? when.first : when.last, 0, FAD_STEP_ZERO, &region));
    if (to > FAD_NO_INDEX - 1)
        return FAD_TOO_MANY;
    fad_item item = {FAD_ITEM_ZERO, 0, false, node, node, (uint32_t)from, (uint32_t)to, 0};
    return add_item(l, region, &item);
}

/* `zeros`: before anything is written, all of it is zero. */
static fad_status end_stores(fad_lowering *l, uint32_t node, span when, bool zeros)
{
    l->stage[node] = when.last;
    return zeros ? zero(l, node, when, 0, fad_lower_shape(l, node)->size) : FAD_OK;
}

/* Window of the part that `view` shows of the dense array `node`. */
static fad_status part_window(fad_lowering *l, uint32_t node, const fad_view *view, uint32_t *out)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    ptrdiff_t offset = view_offset(view, fad_lower_shape(l, node)->strides, strides);
    return new_window(l, view->part, offset, strides, out);
}

/* What a node is the sum of: `from`, added at the places of a window (FAD_NO_INDEX: all places) or of indices. */
typedef struct {
    uint32_t from, window, indices;
    ptrdiff_t offset;          /* of a window that is one stretch; else -1 */
    bool copied;               /* to places that are distinct: nothing is added there, not even to a zero */
} term;

static term plain_term(uint32_t from)
{
    term all = {from, FAD_NO_INDEX, FAD_NO_INDEX, 0, false};
    return all;
}

/* The stretch that a window over `shape` is, as the offset of its first element; -1 where it is none. */
static ptrdiff_t stretch_at(const fad_lowering *l, uint32_t window, const fad_shape *shape)
{
    return window == FAD_NO_INDEX                          ? 0
           : is_dense(shape, l->windows[window].strides) ? l->windows[window].offset
                                                           : -1;
}

/* What an EMBED, STRIDED_ADD or SCATTER_ADD node adds to `to`. */
static fad_status part_term(fad_lowering *l, uint32_t to, uint32_t part, term *out)
{
    const fad_node *n = &l->tape->nodes[part];
    out->from = n->a;
    out->window = out->indices = FAD_NO_INDEX;
    out->offset = -1;
    out->copied = n->op == FAD_EMBED;
    if (n->op == FAD_SCATTER_ADD) {
        out->indices = ((const fad_scatter *)l->tape->side[n->aux])->indices;
        return FAD_OK;
    }
    if (n->op == FAD_STRIDED_ADD) {
        const fad_strided *strided = l->tape->side[n->aux];
        TRY(new_window(l, strided->part, strided->start, strided->strides, &out->window));
    } else {
        TRY(part_window(l, to, l->tape->side[n->aux], &out->window));
    }
    out->offset = stretch_at(l, out->window, fad_lower_shape(l, n->a));
    return FAD_OK;
}

/* Stage at which a term can be added. */
static uint32_t term_at(const fad_lowering *l, uint32_t node, const term *t)
{
    size_t n = fad_lower_shape(l, t->from)->size;
    uint32_t at = later(earliest(l, node), readable_at(l, t->from, n, false));
    return t->indices == FAD_NO_INDEX ? at : later(at, readable_at(l, t->indices, n, false));
}

/* The term that is known before all others, if it is for all places: it is stored instead of added to zeros. Those of
 * its stage must be for all places too: then its region adds them after it, and no strip stores where one before has
 * added. `count`: there is none. */
static size_t term_to_begin_with(const fad_lowering *l, uint32_t node, const term *terms, size_t count)
{
    size_t first = count;
    uint32_t stage = FAD_NO_INDEX, at;
    for (size_t i = 0; i < count && !l->strict; i++) /* 0 + x is not x where x is -0 */
        if (terms[i].window == FAD_NO_INDEX && terms[i].indices == FAD_NO_INDEX && (at = term_at(l, node, &terms[i])) < stage) {
            first = i;
            stage = at;
        }
    for (size_t i = 0; i < count && first < count; i++) {
        at = term_at(l, node, &terms[i]);
        bool in_step = terms[i].window == FAD_NO_INDEX && terms[i].indices == FAD_NO_INDEX;
        if (at < stage || (at == stage && !in_step))
            return count;
    }
    return first;
}

/* Whether all terms are stretches that one region adds: then the one that lies last is stored instead. Strip by strip,
 * what is stored lies ahead of all that is added. */
static bool one_pass(const fad_lowering *l, const term *terms, size_t count)
{
    size_t n = fad_lower_shape(l, terms[0].from)->size;
    for (size_t i = 0; i < count; i++)
        if (terms[i].offset < 0 || fad_lower_shape(l, terms[i].from)->size != n ||
            readable_at(l, terms[i].from, n, false) != readable_at(l, terms[0].from, n, false))
            return false;
    return !l->strict || (count == 1 && terms[0].copied); /* 0 + x is not x where x is -0 */
}

static fad_status add_terms(fad_lowering *l, uint32_t node, term *terms, size_t count)
{
    span when = begin_stores(l, node);
    size_t begin = term_to_begin_with(l, node, terms, count);
    bool pass = one_pass(l, terms, count);
    if (pass)
        for (size_t i = begin = 0; i < count; i++)
            begin = terms[i].offset > terms[begin].offset ? i : begin;
    bool stored = begin < count;
    if (stored) {
        term first = terms[begin];
        terms[begin] = terms[0];
        terms[0] = first;
    }
    for (size_t i = 0; i < count; i++)
        TRY(store(l, node, false, terms[i].from,
                  terms[i].indices != FAD_NO_INDEX                        ? FAD_DO_SCATTER_ADD
                  : (stored && i == 0) || (count == 1 && terms[0].copied) ? FAD_DO_STORE
                                                                          : FAD_DO_ADD,
                  terms[i].window, terms[i].indices, earliest(l, node), &when));
    if (!stored)
        return end_stores(l, node, when, true);
    size_t from = (size_t)terms[0].offset;
    TRY(zero(l, node, when, 0, from));
    TRY(zero(l, node, when, from + fad_lower_shape(l, terms[0].from)->size, fad_lower_shape(l, node)->size));
    return end_stores(l, node, when, false);
}

/* Makes an EMBED a window on what it embeds, between zeros, where that can be. */
static fad_status surround_by_zeros(fad_lowering *l, uint32_t node, const term *part, bool *done)
{
    *done = false;
    if (!part->copied || part->offset < 0 || l->given[node])
        return FAD_OK;
    TRY(fad_lower_surround(l, node, part->from, part->offset, done));
    if (!*done)
        return FAD_OK;
    uint32_t stage = l->stage[l->root[node]];
    span when = {stage, stage};
    TRY(zero(l, node, when, 0, (size_t)part->offset));
    return zero(l, node, when, (size_t)part->offset + fad_lower_shape(l, part->from)->size, fad_lower_shape(l, node)->size);
}

static fad_status lower_part(fad_lowering *l, uint32_t node)
{
    term only;
    bool done;
    TRY(part_term(l, node, node, &only));
    TRY(surround_by_zeros(l, node, &only, &done));
    return done ? FAD_OK : add_terms(l, node, &only, 1);
}

static fad_status lower_sum_to(fad_lowering *l, uint32_t node)
{
    uint32_t a = l->tape->nodes[node].a, window;
    const fad_shape *wide = fad_lower_shape(l, a), *shape = fad_lower_shape(l, node);
    ptrdiff_t strides[FAD_MAX_NDIM] = {0};
    size_t missing = wide->ndim - shape->ndim;
    for (size_t i = missing; i < wide->ndim; i++)
        strides[i] = shape->dims[i - missing] == 1 ? 0 : shape->strides[i - missing];
    span when = begin_stores(l, node);
    TRY(new_window(l, wide, 0, strides, &window));
    TRY(store(l, node, false, a, FAD_DO_ADD, window, FAD_NO_INDEX, earliest(l, node), &when));
    return end_stores(l, node, when, true);
}

static fad_status lower_update(fad_lowering *l, uint32_t node)
{
    const fad_node *n = &l->tape->nodes[node];
    uint32_t window = FAD_NO_INDEX;
    span when = begin_stores(l, node);
    TRY(store(l, node, false, n->a, FAD_DO_STORE, FAD_NO_INDEX, FAD_NO_INDEX, earliest(l, node), &when));
    uint32_t copied = when.last + 1;
    if (n->op == FAD_UPDATE_AT) {
        TRY(store(l, node, false, n->b, FAD_DO_PUT, FAD_NO_INDEX, n->aux, copied, &when));
    } else {
        TRY(part_window(l, node, l->tape->side[n->aux], &window));
        TRY(store(l, node, false, n->b, FAD_DO_STORE, window, FAD_NO_INDEX, copied, &when));
    }
    return end_stores(l, node, when, false);
}

/* Offset of part `k` in a CONCATENATE. */
static ptrdiff_t part_offset(const fad_lowering *l, const fad_list *list, const fad_shape *shape, size_t k)
{
    ptrdiff_t rows = 0;
    for (size_t i = 0; i < k; i++)
        rows += fad_lower_shape(l, list->nodes[i])->dims[list->axis];
    return rows * shape->strides[list->axis];
}

/* Makes a CONCATENATE a window on its largest part, where that can be. */
static fad_status surround_by_parts(fad_lowering *l, uint32_t node, size_t *kept, bool *done)
{
    const fad_list *list = l->tape->side[l->tape->nodes[node].aux];
    const fad_shape *shape = fad_lower_shape(l, node);
    for (size_t i = *kept = 0; i < list->count; i++)
        if (fad_lower_shape(l, list->nodes[i])->size > fad_lower_shape(l, list->nodes[*kept])->size)
            *kept = i;
    uint32_t part = list->nodes[*kept];
    *done = !l->given[node] && is_dense(fad_lower_shape(l, part), shape->strides);
    return *done ? fad_lower_surround(l, node, part, part_offset(l, list, shape, *kept), done) : FAD_OK;
}

static fad_status lower_concatenate(fad_lowering *l, uint32_t node)
{
    const fad_list *list = l->tape->side[l->tape->nodes[node].aux];
    const fad_shape *shape = fad_lower_shape(l, node);
    size_t kept;
    bool done;
    TRY(surround_by_parts(l, node, &kept, &done));
    uint32_t to = l->root[node], not_before = done ? l->stage[to] : earliest(l, node);
    ptrdiff_t offset = done ? fad_lower_window(l, node).offset : 0;
    span when = {FAD_NO_INDEX, 0};
    if (!done)
        when = begin_stores(l, node);
    for (size_t i = 0; i < list->count; i++) {
        const fad_shape *part = fad_lower_shape(l, list->nodes[i]);
        uint32_t window;
        if (!done || i != kept) {
            TRY(new_window(l, part, offset, shape->strides, &window));
            TRY(store(l, to, false, list->nodes[i], FAD_DO_STORE, window, FAD_NO_INDEX, not_before, &when));
        }
        offset += part->dims[list->axis] * shape->strides[list->axis];
    }
    if (!done)
        return end_stores(l, node, when, false);
    l->stage[node] = when.last + 1;
    return FAD_OK;
}

/* Scalars side by side: an item each, of the interpreter. */
static fad_status lower_stack(fad_lowering *l, uint32_t node)
{
    const fad_list *list = l->tape->side[l->tape->nodes[node].aux];
    const ptrdiff_t none[1] = {0};
    const fad_shape *scalar = l->tape->shapes[0];
    span when = begin_stores(l, node);
    for (size_t i = 0; i < list->count; i++) {
        uint32_t stage, window, region, from = list->nodes[i];
        TRY(scalar_at(l, from, &stage));
        stage = later(stage, earliest(l, node));
        TRY(new_window(l, scalar, (ptrdiff_t)i, none, &window));
        TRY(find_region(l, stage, 1, FAD_STEP_SCALARS, &region));
        fad_item item = {FAD_ITEM_STORE, FAD_DO_STORE, false, node, from, window, FAD_NO_INDEX, 0};
        TRY(add_item(l, region, &item));
        when.last = later(when.last, stage);
    }
    return end_stores(l, node, when, false);
}

/* --- computed roots --- */

static bool is_scalar_op(const fad_lowering *l, uint32_t node)
{
    const fad_node *n = &l->tape->nodes[node];
    uint32_t p;
    if (n->flags & FAD_IS_ARRAY || (n->op >= FAD_ELEMENTWISE_COUNT && n->op != FAD_NSUM))
        return false;
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++)
        if (fad_is_array(l->tape, p))
            return false;
    return true;
}

static fad_status lower_scalar(fad_lowering *l, uint32_t node)
{
    uint32_t at, stage = earliest(l, node), operands[3];
    size_t count;
    for (size_t i = 0; i < fad_lower_scalar_count(l, node); i++) {
        fad_lower_scalar_op(l, node, i, operands, &count);
        for (size_t k = 0; k < count; k++) {
            TRY(scalar_at(l, operands[k], &at));
            stage = later(stage, at);
        }
    }
    l->root[node] = node;
    l->source[node] = FAD_FROM_SCALARS;
    l->stage[node] = stage;
    l->number[node] = node;
    TRY(find_region(l, stage, 1, FAD_STEP_SCALARS, &l->region[node]));
    fad_item item = {FAD_ITEM_COMPUTE, 0, false, node, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    return add_item(l, l->region[node], &item);
}

/* Stage before which `node` waits, as the trace says. What guards are computed by waits only for what is, too. */
static uint32_t awaited(const fad_lowering *l, uint32_t node)
{
    uint32_t after = l->trace->after ? l->trace->after[node] : FAD_NODE_NONE;
    if (after == FAD_NODE_NONE || l->root[after] == FAD_NO_INDEX)
        return 0;
    if (l->absorbed[after] != FAD_NO_INDEX) /* it has no memory: what it adds */
        after = l->tape->nodes[after].a;
    return l->stage[l->root[after]];
}

static fad_status lower_in_region(fad_lowering *l, uint32_t node)
{
    size_t n = fad_lower_shape(l, node)->size;
    uint32_t p, stage = later(earliest(l, node), awaited(l, node));
    uint16_t op = l->tape->nodes[node].op;
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++) {
        bool anywhere = op == FAD_GATHER && k == 0;
        if (anywhere)
            TRY(make_dense(l, p, &p));
        stage = later(stage, readable_at(l, p, anywhere ? ANYWHERE : n, false));
    }
    l->root[node] = node;
    l->source[node] = FAD_FROM_REGION;
    l->stage[node] = stage;
    l->in_memory[node] = !fad_lower_is_array(l, node);
    TRY(find_region(l, stage, n, FAD_STEP_REGION, &l->region[node]));
    fad_item item = {FAD_ITEM_COMPUTE, 0, false, node, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    return add_item(l, l->region[node], &item);
}

/* Terms that are read from memory in any case are terms like others where they can be windows. `*left`: those that the
 * sum still absorbs. */
static fad_status release_terms(fad_lowering *l, uint32_t node, term *terms, size_t count, size_t *left)
{
    uint32_t p;
    bool done;
    *left = 0;
    for (size_t k = 0; k < count; k++) {
        p = fad_parent(l->tape, node, k);
        if (l->absorbed[p] != node)
            continue;
        bool in_memory = l->window[terms[k].from] != FAD_NO_INDEX || l->source[l->root[terms[k].from]] != FAD_FROM_REGION;
        done = false;
        if (in_memory)
            TRY(surround_by_zeros(l, p, &terms[k], &done));
        if (done) {
            l->absorbed[p] = FAD_NO_INDEX;
            terms[k] = plain_term(p);
        }
        *left += !done;
    }
    return FAD_OK;
}

/* Whether `node` is a sum of many values that nobody else reads and that are known one after the other: each is added
 * when it is there, instead of being kept until all are. */
static bool is_spread(const fad_lowering *l, uint32_t node)
{
    enum { MANY = 4 };
    size_t n = fad_lower_shape(l, node)->size, early = 0;
    uint32_t p, last = 0;
    if (l->strict || l->needed[node] & 2 || l->tape->nodes[node].op != FAD_NSUM)
        return false;
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++) {
        if (fad_lower_shape(l, p) != fad_lower_shape(l, node) || l->absorbed[p] != FAD_NO_INDEX)
            return false;
        last = later(last, readable_at(l, p, n, false));
    }
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++)
        early += l->source[p] == FAD_FROM_REGION && l->uses[p] == 1 && l->stage[p] < last;
    return early >= MANY;
}

/* A sum whose terms are added one by one, those that it absorbs at their places. */
static fad_status lower_sum_of_terms(fad_lowering *l, uint32_t node)
{
    uint32_t p;
    size_t count = 0, left;
    fad_status status = FAD_OK;
    while (fad_parent(l->tape, node, count) != FAD_NODE_NONE)
        count++;
    term *terms = fad_arena_alloc(l->tape, &l->arena, count * sizeof *terms, &status);
    if (!terms)
        return status;
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++) {
        terms[k] = plain_term(p);
        if (l->absorbed[p] == node)
            TRY(part_term(l, node, p, &terms[k]));
    }
    if (!one_pass(l, terms, count)) {
        TRY(release_terms(l, node, terms, count, &left));
        if (left == 0 && !is_spread(l, node))
            return lower_in_region(l, node);
    }
    return add_terms(l, node, terms, count);
}

static fad_status lower_step(fad_lowering *l, uint32_t node, int kind)
{
    uint32_t p, stage = earliest(l, node);
    ptrdiff_t strides[FAD_MAX_NDIM];
    for (size_t k = 0; (p = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++) {
        if (kind != FAD_STEP_MATMUL || !fad_lower_matrices(l, p, strides))
            TRY(make_dense(l, p, &p));
        stage = later(stage, readable_at(l, p, ANYWHERE, false));
    }
    l->root[node] = node;
    l->source[node] = FAD_FROM_STEP;
    l->stage[node] = stage;
    TRY(find_region(l, stage, 0, kind, &l->region[node]));
    fad_item item = {FAD_ITEM_STEP, 0, false, node, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    return add_item(l, l->region[node], &item);
}

static fad_status lower_node(fad_lowering *l, uint32_t node)
{
    const fad_node *n = &l->tape->nodes[node];
    uint32_t dense;
    l->root[node] = node;
    if (!(n->flags & FAD_IS_DYNAMIC)) {
        l->source[node] = FAD_FROM_CONSTANT;
        return FAD_OK;
    }
    if (l->absorbed[node] != FAD_NO_INDEX)
        return FAD_OK;
    switch (n->op) {
    case FAD_VARIABLE:
        l->source[node] = FAD_FROM_INPUT;
        return FAD_OK;
    case FAD_VIEW:
    case FAD_ELEMENT:
    case FAD_BROADCAST_TO:
        return lower_view(l, node);
    case FAD_RESHAPE:
        if (fad_lower_is_dense(l, n->a))
            return fad_lower_look_at(l, node, n->a, fad_lower_window(l, n->a).offset, fad_lower_shape(l, node)->strides);
        break;
    case FAD_STRIDED:
        TRY(make_dense(l, n->a, &dense));
        return lower_strided(l, node, dense);
    case FAD_SUM_TO: /* under strict in the order of the recording, of the complete operand */
        return l->strict ? lower_step(l, node, FAD_STEP_SUM) : lower_sum_to(l, node);
    case FAD_EMBED:
    case FAD_STRIDED_ADD:
    case FAD_SCATTER_ADD:
        return lower_part(l, node);
    case FAD_UPDATE_VIEW:
    case FAD_UPDATE_AT:
        return lower_update(l, node);
    case FAD_CONCATENATE:
        return lower_concatenate(l, node);
    case FAD_STACK:
        return lower_stack(l, node);
    case FAD_MATMUL:
        return lower_step(l, node, FAD_STEP_MATMUL);
    case FAD_CUMSUM:
        return lower_step(l, node, FAD_STEP_CUMSUM);
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return lower_step(l, node, FAD_STEP_EXTREMUM);
    case FAD_CUSTOM:
        return lower_step(l, node, FAD_STEP_CALL);
    case FAD_OUTPUT:
        l->source[node] = FAD_FROM_STEP;
        l->stage[node] = l->stage[node - n->aux];
        l->region[node] = l->region[node - n->aux];
        return FAD_OK;
    default:
        break;
    }
    if (l->uses[node] & UINT32_C(0x80000000) || is_spread(l, node))
        return lower_sum_of_terms(l, node);
    return is_scalar_op(l, node) ? lower_scalar(l, node) : lower_in_region(l, node);
}

/* --- what is needed, and what is absorbed --- */

static void need(fad_lowering *l, uint8_t bit)
{
    if (bit == 2 && l->trace->guard_count == 0)
        return;
    for (size_t i = l->count; i-- > 0;) {
        if (!(l->needed[i] & bit))
            continue;
        uint32_t p;
        const fad_node *n = &l->tape->nodes[i];
        if (n->op == FAD_OUTPUT)
            l->needed[i - n->aux] |= bit;
        if (!(n->flags & FAD_IS_DYNAMIC))
            continue;
        for (size_t k = 0; (p = fad_parent(l->tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            l->needed[p] |= bit;
    }
    for (size_t i = 0; l->has_rules && i < l->count; i++) /* the outputs of a rule come together */
        if (l->tape->nodes[i].op == FAD_OUTPUT)
            l->needed[i] |= l->needed[i - l->tape->nodes[i].aux] & bit;
}

static void count_uses(fad_lowering *l)
{
    uint32_t p;
    for (size_t i = 0; i < l->count; i++)
        if (l->needed[i] && l->tape->nodes[i].flags & FAD_IS_DYNAMIC)
            for (size_t k = 0; (p = fad_parent(l->tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
                l->uses[p]++;
    for (size_t i = 0; i < l->trace->output_count; i++)
        l->uses[l->trace->outputs[i]] += 2;
    for (size_t i = 0; i < l->trace->guard_count; i++)
        l->uses[l->trace->guards[i]] += 2;
}

/* A term that a sum of scalars computes itself: a product, or what is taken away, if nobody else reads it. */
static bool may_be_absorbed(const fad_lowering *l, uint32_t p, uint32_t sum)
{
    const fad_node *n = &l->tape->nodes[p];
    bool difference = l->tape->nodes[sum].op == FAD_SUB, list = l->tape->nodes[sum].op == FAD_NSUM;
    bool suits = n->op == FAD_MUL || n->op == FAD_SQUARE || (n->op == FAD_ZMUL && !difference) || (n->op == FAD_NEG && list);
    return suits && !(n->flags & FAD_HAS_ARRAY) && n->flags & FAD_IS_DYNAMIC && l->uses[p] == 1 &&
           l->needed[p] == l->needed[sum];
}

/* A list begins with its first term as it is; of two operands, one is absorbed. */
static void absorb_terms(fad_lowering *l, uint32_t sum)
{
    uint32_t p;
    bool list = l->tape->nodes[sum].op == FAD_NSUM;
    for (size_t k = list; (p = fad_parent(l->tape, sum, k)) != FAD_NODE_NONE; k++) {
        if (!may_be_absorbed(l, p, sum))
            continue;
        l->absorbed[p] = sum;
        if (!list)
            return;
    }
}

/* A part (EMBED, STRIDED_ADD, SCATTER_ADD) that only a sum reads is added by the sum itself; the sum's count of uses is
 * flagged. Not if strict: the part's zeros, which are then not added, would make -0 to 0. */
static void absorb(fad_lowering *l)
{
    uint32_t p;
    for (uint32_t i = 0; i < l->count; i++) {
        const fad_node *n = &l->tape->nodes[i];
        if (!l->needed[i] || !(n->flags & FAD_IS_DYNAMIC))
            continue;
        bool decides = l->needed[i] & 2; /* guards keep the recording's bits */
        bool sums = n->op == FAD_ADD || n->op == FAD_SUB || n->op == FAD_NSUM;
        if (!l->strict && !decides && sums && is_scalar_op(l, i)) {
            absorb_terms(l, i);
            continue;
        }
        if (l->strict || (n->op != FAD_ADD && n->op != FAD_NSUM) || !(n->flags & FAD_IS_ARRAY))
            continue;
        bool same = true, any = false;
        for (size_t k = 0; (p = fad_parent(l->tape, i, k)) != FAD_NODE_NONE; k++)
            same = same && fad_lower_shape(l, p) == fad_lower_shape(l, i);
        for (size_t k = 0; same && (p = fad_parent(l->tape, i, k)) != FAD_NODE_NONE; k++) {
            uint16_t op = l->tape->nodes[p].op;
            if ((op != FAD_EMBED && op != FAD_SCATTER_ADD && op != FAD_STRIDED_ADD) || (l->uses[p] & INT32_MAX) != 1 ||
                l->needed[p] != l->needed[i] || !(l->tape->nodes[p].flags & FAD_IS_DYNAMIC))
                continue;
            l->absorbed[p] = i;
            any = true;
        }
        if (any)
            l->uses[i] |= UINT32_C(0x80000000);
    }
}

/* --- outputs and guards --- */

/* Whether the memory of `node` may be in an output: it is all of a root that has none yet, written after the guards. */
static bool may_be_output(const fad_lowering *l, uint32_t node)
{
    uint32_t root = l->root[node];
    bool own = l->source[root] == FAD_FROM_REGION || l->source[root] == FAD_FROM_STORES ||
               l->source[root] == FAD_FROM_STEP;
    return own && fad_lower_is_array(l, node) && fad_lower_is_array(l, root) && is_whole(l, node) &&
           l->output[root] == FAD_NO_INDEX && !(l->needed[root] & 2) &&
           l->margin[root] == FAD_NO_INDEX;
}

/* The memory of `root` begins at element `at` of output `k`. What is joined end to end is then made in its place. */
static void make_output(fad_lowering *l, uint32_t root, uint32_t k, uint64_t at)
{
    l->output[root] = k;
    l->output_at[root] = at;
    l->in_memory[root] = 1;
    if (root >= l->count || l->tape->nodes[root].op != FAD_CONCATENATE)
        return;
    const fad_list *list = l->tape->side[l->tape->nodes[root].aux];
    const fad_shape *shape = fad_lower_shape(l, root);
    for (size_t i = 0; fad_joins_end_to_end(list, shape) && i < list->count; i++) {
        uint32_t part = list->nodes[i];
        if (may_be_output(l, part))
            make_output(l, l->root[part], k, at);
        at += fad_lower_shape(l, part)->size;
    }
}

static fad_status lower_output(fad_lowering *l, uint32_t k)
{
    uint32_t node = l->trace->outputs[k], stage, region;
    span when = {0, 0};
    if (may_be_output(l, node)) {
        make_output(l, l->root[node], k, 0);
        return FAD_OK;
    }
    if (fad_lower_is_array(l, node))
        return store(l, k, true, node, FAD_DO_STORE, FAD_NO_INDEX, FAD_NO_INDEX, l->barrier, &when);
    TRY(scalar_at(l, node, &stage));
    TRY(find_region(l, later(stage, l->barrier), 1, FAD_STEP_SCALARS, &region));
    fad_item item = {FAD_ITEM_STORE, FAD_DO_STORE, true, k, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
    return add_item(l, region, &item);
}

static fad_status lower_guards(fad_lowering *l)
{
    uint32_t region, stage = 0;
    if (l->trace->guard_count == 0)
        return FAD_OK;
    for (size_t i = 0; i < l->trace->guard_count; i++) {
        uint32_t node;
        TRY(make_dense(l, l->trace->guards[i], &node));
        stage = later(stage, readable_at(l, node, ANYWHERE, true));
    }
    TRY(find_region(l, stage, 0, FAD_STEP_GUARDS, &region));
    for (size_t i = 0; i < l->trace->guard_count; i++) {
        uint32_t node = l->trace->guards[i];
        if (l->dense[node] != FAD_NO_INDEX)
            node = l->dense[node];
        fad_item item = {FAD_ITEM_GUARD, 0, false, node, node, FAD_NO_INDEX, FAD_NO_INDEX, 0};
        TRY(add_item(l, region, &item));
    }
    l->barrier = stage + 1;
    return FAD_OK;
}

/* --- the whole --- */

/* Regions by stage; within one, zeros first and guards last. */
static fad_status order_regions(fad_lowering *l, uint32_t **out)
{
    fad_status status = FAD_OK;
    uint32_t stages = 0;
    for (size_t i = 0; i < l->region_count; i++)
        stages = later(stages, l->regions[i].stage + 1);
    uint32_t *order = fad_arena_alloc(l->tape, &l->arena, (l->region_count + 1) * sizeof *order, &status);
    uint32_t *first = order ? fad_arena_alloc(l->tape, &l->arena, (3 * (size_t)stages + 1) * sizeof *first, &status) : NULL;
    if (!first)
        return status;
    memset(first, 0, (3 * (size_t)stages + 1) * sizeof *first);
#define RANK(r) (3 * (size_t)(r)->stage + ((r)->kind == FAD_STEP_ZERO ? 0 : (r)->kind == FAD_STEP_GUARDS ? 2 : 1))
    for (size_t i = 0; i < l->region_count; i++)
        first[RANK(&l->regions[i]) + 1]++;
    for (size_t s = 0; s < 3 * (size_t)stages; s++)
        first[s + 1] += first[s];
    for (size_t i = 0; i < l->region_count; i++)
        order[first[RANK(&l->regions[i])]++] = (uint32_t)i;
#undef RANK
    *out = order;
    return FAD_OK;
}

static void find_given(fad_lowering *l)
{
    for (size_t i = 0; i < l->trace->output_count; i++)
        l->given[l->trace->outputs[i]] = 1;
    for (uint32_t i = (uint32_t)l->count; i-- > 0;) {
        const fad_node *n = &l->tape->nodes[i];
        if (!l->given[i] || n->op != FAD_CONCATENATE)
            continue;
        const fad_list *list = l->tape->side[n->aux];
        for (size_t k = 0; fad_joins_end_to_end(list, fad_lower_shape(l, i)) && k < list->count; k++)
            l->given[list->nodes[k]] = 1;
    }
}

static fad_status lower_all(fad_lowering *l)
{
    for (size_t i = 0; i < l->trace->input_count; i++)
        l->region[l->trace->inputs[i]] = (uint32_t)i;
    for (size_t i = 0; i < l->trace->guard_count; i++)
        l->needed[l->trace->guards[i]] |= 2;
    for (size_t i = 0; i < l->trace->output_count; i++)
        l->needed[l->trace->outputs[i]] |= 1;
    need(l, 2);
    need(l, 1);
    find_given(l);
    count_uses(l);
    absorb(l);
    for (uint32_t i = 0; i < l->count; i++)
        if (l->needed[i] & 2)
            TRY(lower_node(l, i));
    TRY(lower_guards(l));
    for (uint32_t i = 0; i < l->count; i++)
        if (l->needed[i] == 1)
            TRY(lower_node(l, i));
    for (size_t k = 0; k < l->trace->output_count; k++)
        TRY(lower_output(l, (uint32_t)k));
    return FAD_OK;
}

/* Operands that may have to be copied to be dense. */
static size_t most_copies(fad_lowering *l)
{
    size_t copies = l->trace->guard_count;
    for (size_t i = 0; i < l->count; i++) {
        const fad_node *n = &l->tape->nodes[i];
        l->has_rules |= n->op == FAD_CUSTOM;
        if (n->op < FAD_ELEMENTWISE_COUNT)
            continue;
        if (n->op == FAD_CUSTOM)
            copies += ((const fad_custom *)l->tape->side[n->aux])->count;
        else if (n->op == FAD_MATMUL || n->op == FAD_CUMSUM || n->op == FAD_GATHER || n->op == FAD_STRIDED ||
                 n->op == FAD_MAX_TO || n->op == FAD_MIN_TO || n->op == FAD_SUM_TO)
            copies += 2;
    }
    return copies;
}

/* The tables in one piece: large pages are then large enough for them. Those with numbers of nothing come last. */
static fad_status make_tables(fad_lowering *l)
{
    size_t copies = most_copies(l);
    fad_status status = FAD_OK;
    l->room = l->count + copies;
    const struct {
        void *table;
        size_t item, count;
        bool zeros;
    } all[] = {
        {&l->uses, sizeof *l->uses, l->room, true},        {&l->stage, sizeof *l->stage, l->room, true},
        {&l->output_at, sizeof *l->output_at, l->room, true},
        {&l->needed, 1, l->room, true},                    {&l->source, 1, l->room, true},
        {&l->given, 1, l->room, true},
        {&l->in_memory, 1, l->room, true},                 {&l->root, sizeof *l->root, l->room, false},
        {&l->window, sizeof *l->window, l->room, false},   {&l->region, sizeof *l->region, l->room, false},
        {&l->absorbed, sizeof *l->absorbed, l->room, false}, {&l->dense, sizeof *l->dense, l->room, false},
        {&l->number, sizeof *l->number, l->room, false},   {&l->output, sizeof *l->output, l->room, false},
        {&l->margin, sizeof *l->margin, l->room, false},   {&l->takes, sizeof *l->takes, l->room, false},
        {&l->copy_of, sizeof *l->copy_of, copies, false},
    };
    enum { COUNT = sizeof all / sizeof *all };
    size_t bytes = 0, zeros = 0;
    if (l->room > SIZE_MAX / 64)
        return FAD_NO_MEMORY;
    for (int k = 0; k < COUNT; k++)
        bytes += (all[k].item * all[k].count + 7) & ~(size_t)7;
    char *at = fad_arena_alloc(l->tape, &l->arena, bytes + 1, &status), *start = at;
    if (!at)
        return status;
    for (int k = 0; k < COUNT; k++) {
        *(void **)all[k].table = at;
        at += (all[k].item * all[k].count + 7) & ~(size_t)7;
        zeros = all[k].zeros ? (size_t)(at - start) : zeros;
    }
    memset(start, 0, zeros);
    memset(start + zeros, 0xff, bytes - zeros);
    return FAD_OK;
}

fad_status fad_lower(const fad_trace *trace, const char *seen, bool strict, fad_program **out)
{
    fad_lowering l = {.trace = trace, .tape = trace->tape, .strict = strict, .count = trace->tape->count};
    fad_tape *tape = trace->tape;
    uint32_t *order = NULL;
    fad_status ignored = FAD_OK, status = make_tables(&l);
    fad_program *program = NULL;
    if (status == FAD_OK)
        status = lower_all(&l);
    if (status == FAD_OK)
        status = fad_lower_place(&l);
    if (status == FAD_OK)
        status = order_regions(&l, &order);
    if (status == FAD_OK)
        status = fad_lower_chain(&l, order);
    if (status == FAD_OK)
        status = fad_lower_reuse(&l, order);
    if (status == FAD_OK) {
        program = tape->allocator.resize(tape->allocator.context, NULL, 0, sizeof *program);
        status = program ? FAD_OK : FAD_NO_MEMORY;
    }
    if (status == FAD_OK) {
        memset(program, 0, sizeof *program);
        program->allocator = tape->allocator;
        program->loops = tape->loops;
        program->host = tape->host;
        program->node_count = l.count;
        program->strict = strict;
        status = fad_lower_emit(&l, order, seen, program);
    }
    if (status == FAD_OK)
        status = fad_program_bind(program);
    fad_resize(tape, l.windows, l.window_capacity * sizeof *l.windows, 0, &ignored);
    fad_resize(tape, l.margins, l.margin_capacity * sizeof *l.margins, 0, &ignored);
    fad_resize(tape, l.items, l.item_capacity * sizeof *l.items, 0, &ignored);
    fad_resize(tape, l.regions, l.region_capacity * sizeof *l.regions, 0, &ignored);
    fad_resize(tape, l.table, l.table_size * sizeof *l.table, 0, &ignored);
    fad_arena_free(tape, &l.arena);
    if (status != FAD_OK)
        fad_program_destroy(program);
    else
        *out = program;
    return status;
}
