/* lower_emit.c: memory, steps and instructions of a program, region by region in the order they run. */
#include "array.h"
#include "lower_emit.h"
#include "try.h"

enum { LINE = FAD_CACHE_LINE, PAGE = 4096, GAP = 5 * LINE, STRIP_BUDGET = 3 << 13, SHORTEST = 128, LONGEST = 1024 };

fad_status fad_emit_push(fad_emitter *e, fad_records *to, const void *record)
{
    TRY(fad_make_room(e->tape, &to->data, to->item, to->count + 1, &to->capacity));
    memcpy((char *)to->data + to->count++ * to->item, record, to->item);
    return FAD_OK;
}

/* --- memory of the workspace --- */

static int size_class(uint64_t size, uint64_t *rounded)
{
    if (size <= LINE) {
        *rounded = LINE;
        return 0;
    }
    int octave = 63 - __builtin_clzll((unsigned long long)(size - 1));
    uint64_t quarter = UINT64_C(1) << (octave - 2), steps = (size - 1) >> (octave - 2);
    *rounded = (steps + 1) * quarter;
    return (octave - 6) * 4 + (int)(steps - 4) + 1;
}

static fad_status release(fad_emitter *e, fad_free_block **to, uint64_t at)
{
    fad_status status = FAD_OK;
    fad_free_block *block = e->spare_blocks;
    if (block)
        e->spare_blocks = block->next;
    else
        block = fad_arena_alloc(e->tape, &e->l->arena, sizeof *block, &status);
    if (!block)
        return status;
    block->at = at;
    block->next = *to;
    *to = block;
    return FAD_OK;
}

static bool reuse(fad_emitter *e, fad_free_block **from, uint64_t *at)
{
    fad_free_block *block = *from;
    if (!block)
        return false;
    *from = block->next;
    *at = block->at;
    block->next = e->spare_blocks;
    e->spare_blocks = block;
    return true;
}

fad_status fad_emit_take_scalar(fad_emitter *e, uint64_t *at)
{
    if (reuse(e, &e->scalars_free, at))
        return FAD_OK;
    *at = e->top;
    e->top += sizeof(double);
    return e->top / sizeof(double) < FAD_NO_INDEX ? FAD_OK : FAD_TOO_MANY;
}

static uint64_t bytes_of(const fad_emitter *e, uint32_t node)
{
    return (uint64_t)fad_lower_shape(e->l, node)->size * fad_itemsize(fad_lower_dtype(e->l, node));
}

fad_status fad_emit_give_scalar(fad_emitter *e, uint64_t at) { return release(e, &e->scalars_free, at); }

fad_status fad_emit_take_block(fad_emitter *e, uint64_t size, uint64_t *at)
{
    uint64_t rounded;
    if (reuse(e, &e->blocks_free[size_class(size, &rounded)], at))
        return FAD_OK;
    *at = (e->top + LINE - 1) & ~(uint64_t)(LINE - 1);
    e->top = *at + rounded + (rounded < PAGE ? 0 : GAP); /* arrays that lie alike in their pages wait for one another */
    return e->top < PTRDIFF_MAX ? FAD_OK : FAD_NO_MEMORY;
}

/* Memory that is small beside the largest array is not used again, up to a part of that array: what a small one is
 * for would otherwise have to wait until all of the large one has been read (program_bands.c). */
fad_status fad_emit_give_block(fad_emitter *e, uint64_t size, uint64_t at)
{
    enum { SMALL = 64, PART = 8 };
    uint64_t rounded;
    if (size <= e->largest / SMALL && e->held + size <= e->largest / PART) {
        e->held += size;
        return FAD_OK;
    }
    return release(e, &e->blocks_free[size_class(size, &rounded)], at);
}

/* Bytes of an array with its margins, and of the margin before it: of whole lines, as the array begins one. */
static uint64_t bytes_around(const fad_emitter *e, uint32_t root, uint64_t *before)
{
    fad_margins margins = fad_lower_margins(e->l, root);
    uint64_t item = fad_itemsize(fad_lower_dtype(e->l, root));
    *before = (margins.before * item + LINE - 1) & ~(uint64_t)(LINE - 1);
    return *before + bytes_of(e, root) + margins.behind * item;
}

fad_status fad_emit_make_room(fad_emitter *e, uint32_t root)
{
    uint64_t before;
    if (e->state[root] & FAD_HAS_ROOM || e->l->output[root] != FAD_NO_INDEX)
        return FAD_OK;
    e->state[root] |= FAD_HAS_ROOM;
    if (!fad_lower_is_array(e->l, root))
        return fad_emit_take_scalar(e, &e->where[root]);
    uint32_t from = e->l->takes[root];
    if (from != FAD_NO_INDEX && (e->state[from] & (FAD_HAS_ROOM | FAD_IS_FREE)) == FAD_HAS_ROOM) {
        e->state[from] |= FAD_IS_FREE; /* not to be given back: it is `root`'s now */
        e->where[root] = e->where[from];
        return FAD_OK;
    }
    TRY(fad_emit_take_block(e, bytes_around(e, root, &before), &e->where[root]));
    e->where[root] += before;
    return FAD_OK;
}

fad_status fad_emit_free_room(fad_emitter *e, uint32_t owner)
{
    if ((e->state[owner] & (FAD_HAS_ROOM | FAD_IS_FREE)) != FAD_HAS_ROOM || e->last[owner] > e->time)
        return FAD_OK;
    if (e->l->source[owner] == FAD_FROM_CONSTANT)
        return FAD_OK;
    e->state[owner] |= FAD_IS_FREE;
    if (!fad_lower_is_array(e->l, owner))
        return fad_emit_give_scalar(e, e->where[owner]);
    uint64_t before, size = bytes_around(e, owner, &before);
    return fad_emit_give_block(e, size, e->where[owner] - before);
}

/* --- constants --- */

fad_status fad_emit_constant(fad_emitter *e, const void *bytes, size_t size, uint64_t *at)
{
    fad_records *to = &e->constants;
    uint64_t begin = (to->count + LINE - 1) & ~(uint64_t)(LINE - 1);
    if (size <= sizeof(double))
        begin = (to->count + 7) & ~(uint64_t)7;
    if (size > PTRDIFF_MAX - begin)
        return FAD_NO_MEMORY;
    if (begin + size > to->capacity) {
        size_t larger = to->capacity * 2 > begin + size ? to->capacity * 2 : (size_t)(begin + size);
        fad_status status = FAD_OK;
        void *grown = fad_resize(e->tape, to->data, to->capacity, larger, &status);
        if (!grown)
            return status;
        to->data = grown;
        to->capacity = larger;
    }
    char *data = to->data;
    if (begin > to->count)
        memset(data + to->count, 0, (size_t)begin - to->count);
    if (size)
        memcpy(data + begin, bytes, size);
    to->count = (size_t)begin + size;
    *at = begin;
    return FAD_OK;
}

/* Where the value of a constant array lies among the constants. */
static fad_status place_constant(fad_emitter *e, uint32_t node)
{
    if (e->state[node] & FAD_HAS_ROOM)
        return FAD_OK;
    e->state[node] |= FAD_HAS_ROOM;
    const fad_array *array = e->tape->values[node].array;
    if (fad_repeats(array))
        return fad_emit_constant(e, array->data, fad_itemsize(array->dtype), &e->where[node]);
    if (fad_contiguous(array))
        return fad_emit_constant(e, array->data, (size_t)bytes_of(e, node), &e->where[node]);
    fad_status status = FAD_OK;
    size_t size = (size_t)bytes_of(e, node);
    fad_array dense = {NULL, array->shape, array->shape->strides, array->dtype};
    dense.data = fad_resize(e->tape, NULL, 0, size + 1, &status);
    if (!dense.data)
        return status;
    fad_copy(&dense, array);
    fad_status ignored = FAD_OK;
    status = fad_emit_constant(e, dense.data, size, &e->where[node]);
    fad_resize(e->tape, dense.data, size + 1, 0, &ignored);
    return status;
}

/* A scalar constant has a place at the start of the workspace. */
static fad_status place_number(fad_emitter *e, uint32_t node)
{
    if (e->state[node] & FAD_HAS_ROOM)
        return FAD_OK;
    e->state[node] |= FAD_HAS_ROOM;
    e->where[node] = e->scalar_constants.count * sizeof(double);
    return fad_emit_push(e, &e->scalar_constants, &e->tape->values[node].number);
}

/* --- reading --- */

typedef struct {
    fad_emitter *e;
    const fad_item *item;
    fad_status status;
} survey;

/* What an item reads: when for the last time, and whether a strip would do. */
static void note_reading(void *context, uint32_t node)
{
    survey *s = context;
    fad_emitter *e = s->e;
    fad_lowering *l = e->l;
    uint32_t root = l->root[node];
    e->last[root] = e->time;
    if (l->number[node] != FAD_NO_INDEX)
        e->last[l->number[node]] = e->time;
    if (l->source[root] == FAD_FROM_REGION) {
        const fad_region *r = &l->regions[e->region];
        bool whole = l->window[node] == FAD_NO_INDEX && fad_lower_is_array(l, node); /* a scalar is read from memory */
        if (r->kind != FAD_STEP_REGION || l->region[root] != e->region || !whole)
            l->in_memory[root] = 1;
    } else if (l->source[root] == FAD_FROM_CONSTANT && s->status == FAD_OK) {
        s->status = fad_lower_is_array(l, root) ? place_constant(e, root) : place_number(e, root);
    }
}

static fad_status survey_regions(fad_emitter *e, const uint32_t *order)
{
    fad_lowering *l = e->l;
    for (size_t r = 0; r < l->region_count; r++) {
        e->region = order[r];
        uint64_t bytes = (uint64_t)l->regions[order[r]].n * sizeof(double);
        e->largest = bytes > e->largest ? bytes : e->largest;
        for (uint32_t i = l->regions[order[r]].first; i != FAD_NO_INDEX; i = l->items[i].next) {
            survey s = {e, &l->items[i], FAD_OK};
            e->time++;
            fad_lower_reads(l, &l->items[i], note_reading, &s);
            TRY(s.status);
            if (l->items[i].kind == FAD_ITEM_LOAD || l->items[i].kind == FAD_ITEM_COMPUTE)
                e->last[l->items[i].node] = e->last[l->items[i].node] > e->time ? e->last[l->items[i].node] : e->time;
        }
    }
    e->top = e->scalar_constants.count * sizeof(double);
    e->time = 0;
    return FAD_OK;
}

fad_argument fad_emit_memory(const fad_emitter *e, uint32_t root, ptrdiff_t offset)
{
    const fad_lowering *l = e->l;
    int dtype = fad_lower_dtype(l, root);
    fad_argument a = {FAD_AT_MEMORY, (uint8_t)dtype, 0, FAD_IN_WORKSPACE, 0};
    uint64_t at = e->where[root];
    if (l->output[root] != FAD_NO_INDEX) {
        a.base = (uint32_t)(FAD_FIRST_INPUT + l->trace->input_count + l->output[root]);
        at = l->output_at[root] * fad_itemsize(dtype);
    } else if (l->source[root] == FAD_FROM_CONSTANT && fad_lower_is_array(l, root)) {
        a.base = FAD_IN_CONSTANTS;
    } else if (l->source[root] == FAD_FROM_INPUT) {
        a.base = FAD_FIRST_INPUT + l->region[root];
        at = 0;
    }
    a.offset = at + (uint64_t)(offset * (ptrdiff_t)fad_itemsize(dtype));
    return a;
}

/* --- affine places --- */

static fad_status new_affine(fad_emitter *e, const fad_shape *shape, const ptrdiff_t *strides, size_t item, uint32_t *out)
{
    int64_t dims[FAD_MAX_NDIM], steps[FAD_MAX_NDIM];
    uint32_t n = 0;
    for (size_t i = 0; i < shape->ndim; i++) {
        int64_t step = strides[i] * (int64_t)item;
        if (shape->dims[i] == 1)
            continue;
        if (n && steps[n - 1] == step * shape->dims[i]) {
            dims[n - 1] *= shape->dims[i];
            steps[n - 1] = step;
        } else {
            dims[n] = shape->dims[i];
            steps[n++] = step;
        }
    }
    if (n == 0) {
        dims[0] = 1;
        steps[n++] = 0;
    }
    fad_affine a = {n, (uint32_t)e->numbers.count};
    for (uint32_t i = 0; i < n; i++)
        TRY(fad_emit_push(e, &e->numbers, &dims[i]));
    for (uint32_t i = 0; i < n; i++)
        TRY(fad_emit_push(e, &e->numbers, &steps[i]));
    *out = (uint32_t)e->affines.count;
    return fad_emit_push(e, &e->affines, &a);
}

/* --- instructions of a region --- */

static fad_status new_strip(fad_emitter *e, int dtype, fad_argument *out)
{
    uint32_t unknown = 0;
    fad_argument a = {FAD_AT_STRIP, (uint8_t)dtype, 0, 0, e->strip_count++};
    *out = a;
    e->strip_last.count = e->strip_count - 1;
    return fad_emit_push(e, &e->strip_last, &unknown);
}

static fad_status add_instruction(fad_emitter *e, const fad_instruction *instruction)
{
    return fad_emit_push(e, &e->instructions, instruction);
}

static bool spread(const fad_shape *own, const ptrdiff_t *strides, const fad_shape *to, ptrdiff_t *out)
{
    size_t missing = to->ndim - own->ndim;
    bool fixed = true;
    for (size_t i = 0; i < to->ndim; i++) {
        out[i] = i < missing || own->dims[i - missing] == 1 ? 0 : strides[i - missing];
        fixed = fixed && (out[i] == 0 || to->dims[i] == 1);
    }
    return fixed;
}

static bool runs_through(const fad_shape *shape, const ptrdiff_t *strides)
{
    for (size_t i = 0; i < shape->ndim; i++)
        if (shape->dims[i] > 1 && strides[i] != shape->strides[i])
            return false;
    return true;
}

fad_status fad_emit_scalar(fad_emitter *e, int op, uint64_t to, uint32_t a, uint32_t b, uint32_t c)
{
    fad_scalar_instruction s = {(uint16_t)op, 0, (uint32_t)(to / sizeof(double)), a, b, c};
    return fad_emit_push(e, &e->scalars, &s);
}

/* `number` of memory into a scalar. */
fad_status fad_emit_load(fad_emitter *e, const fad_argument *from, uint64_t to)
{
    if (from->base == FAD_IN_WORKSPACE)
        return fad_emit_scalar(e, FAD_POS, to, (uint32_t)(from->offset / sizeof(double)), 0, 0);
    return fad_emit_scalar(e, FAD_SCALAR_LOAD, to, from->base, (uint32_t)(from->offset >> 32),
                              (uint32_t)from->offset);
}

/* A scalar node as an operand of type `dtype`, the same for all elements. */
static fad_status fixed_scalar(fad_emitter *e, uint32_t node, int dtype, fad_argument *out)
{
    uint32_t root = e->l->root[node];
    ptrdiff_t offset = fad_lower_window(e->l, node).offset;
    *out = fad_emit_memory(e, root, offset);
    out->place = FAD_AT_FIXED;
    if (dtype == out->dtype)
        return FAD_OK;
    double number = e->tape->values[node < e->l->count ? node : 0].number;
    if (e->l->source[root] == FAD_FROM_CONSTANT) {
        union {
            float f32;
            int64_t i64;
            uint8_t truth;
            uint64_t all;
        } bits = {.all = 0};
        if (dtype == FAD_F32)
            bits.f32 = (float)number;
        else if (dtype == FAD_I64)
            bits.i64 = (int64_t)number;
        else
            bits.truth = number != 0;
        out->base = FAD_IN_CONSTANTS;
        out->dtype = (uint8_t)dtype;
        return fad_emit_constant(e, &bits, sizeof bits, &out->offset);
    }
    uint64_t from, to;
    TRY(fad_emit_take_scalar(e, &from));
    TRY(fad_emit_take_scalar(e, &to));
    TRY(fad_emit_load(e, out, from));
    TRY(fad_emit_scalar(e,
                           dtype == FAD_F32   ? FAD_SCALAR_TO_F32
                           : dtype == FAD_I64 ? FAD_SCALAR_TO_I64
                                              : FAD_SCALAR_TO_BOOL,
                           to, (uint32_t)(from / sizeof(double)), 0, 0));
    fad_argument a = {FAD_AT_FIXED, (uint8_t)dtype, 0, FAD_IN_WORKSPACE, to};
    *out = a;
    return FAD_OK;
}

/* `node`, broadcast to `shape`, as an operand of the region at hand. */
static fad_status operand(fad_emitter *e, uint32_t node, const fad_shape *shape, int dtype, fad_argument *out)
{
    fad_lowering *l = e->l;
    uint32_t root = l->root[node];
    ptrdiff_t strides[FAD_MAX_NDIM];
    if (!fad_lower_is_array(l, node))
        return fixed_scalar(e, node, dtype, out);
    if (e->place_region[node] == e->region && fad_lower_shape(l, node)->size == shape->size) {
        fad_argument held = {FAD_AT_STRIP, (uint8_t)fad_lower_dtype(l, node), 0, 0, e->place[node]};
        *out = held;
        return FAD_OK;
    }
    if (l->window[node] == FAD_NO_INDEX && e->place_region[root] == e->region &&
        fad_lower_shape(l, root)->size == shape->size) {
        fad_argument held = {FAD_AT_STRIP, (uint8_t)fad_lower_dtype(l, node), 0, 0, e->place[root]};
        *out = held;
        return FAD_OK;
    }
    fad_window w = fad_lower_window(l, node);
    bool fixed = spread(fad_lower_shape(l, node), w.strides, shape, strides);
    if (fixed && !fad_lower_is_array(l, root)) {
        TRY(fixed_scalar(e, root, fad_lower_dtype(l, node), out));
        return FAD_OK;
    }
    *out = fad_emit_memory(e, root, w.offset);
    if (fixed) {
        out->place = FAD_AT_FIXED;
        return FAD_OK;
    }
    if (runs_through(shape, strides))
        return FAD_OK;
    fad_instruction load = {.code = FAD_DO_LOAD, .dtype = out->dtype, .count = 2, .arguments[0] = *out};
    TRY(new_affine(e, shape, strides, fad_itemsize(out->dtype), &load.affine));
    TRY(new_strip(e, out->dtype, &load.arguments[1]));
    *out = load.arguments[1];
    if (fad_lower_shape(l, node)->size == shape->size) { /* as others may read it */
        e->place[node] = (uint32_t)out->offset;
        e->place_region[node] = e->region;
    }
    return add_instruction(e, &load);
}

/* Where the result of a root that the region computes goes. */
static fad_status result_of(fad_emitter *e, uint32_t node, fad_argument *out)
{
    if (!e->l->in_memory[node]) {
        TRY(new_strip(e, fad_lower_dtype(e->l, node), out));
        e->place[node] = (uint32_t)out->offset;
        e->place_region[node] = e->region;
        return FAD_OK;
    }
    TRY(fad_emit_make_room(e, node));
    *out = fad_emit_memory(e, node, 0);
    return FAD_OK;
}

/* The type in which an element-wise node computes: its arrays' (a SELECT's condition aside). */
static int computing_dtype(const fad_emitter *e, uint32_t node)
{
    uint16_t op = e->tape->nodes[node].op;
    uint32_t p;
    if (fad_ops[op].kind != FAD_PREDICATE)
        return fad_lower_dtype(e->l, node);
    for (size_t k = 0; (p = fad_parent(e->tape, node, k)) != FAD_NODE_NONE; k++)
        if (fad_lower_is_array(e->l, p))
            return fad_lower_dtype(e->l, p);
    return FAD_F64;
}

static fad_status emit_elementwise(fad_emitter *e, uint32_t node)
{
    uint16_t op = e->tape->nodes[node].op;
    int dtype = computing_dtype(e, node);
    fad_instruction i = {.code = FAD_DO_OP, .dtype = (uint8_t)dtype, .count = (uint8_t)(fad_ops[op].arity + 1), .op = op};
    for (size_t k = 0; k < fad_ops[op].arity; k++)
        TRY(operand(e, fad_parent(e->tape, node, k), fad_lower_shape(e->l, node),
                    op == FAD_SELECT && k == 0 ? FAD_BOOL : dtype, &i.arguments[k]));
    TRY(result_of(e, node, &i.arguments[fad_ops[op].arity]));
    return add_instruction(e, &i);
}

/* CAST, and copies of what is not dense. */
static fad_status emit_copy(fad_emitter *e, uint32_t node, uint32_t from)
{
    fad_instruction i = {.code = FAD_DO_CONVERT, .dtype = (uint8_t)fad_lower_dtype(e->l, node), .count = 2};
    TRY(operand(e, from, fad_lower_shape(e->l, from), fad_lower_dtype(e->l, from), &i.arguments[0]));
    TRY(result_of(e, node, &i.arguments[1]));
    return add_instruction(e, &i);
}

static fad_status emit_nsum(fad_emitter *e, uint32_t node)
{
    const fad_list *terms = e->tape->side[e->tape->nodes[node].aux];
    const fad_shape *shape = fad_lower_shape(e->l, node);
    int dtype = fad_lower_dtype(e->l, node);
    fad_argument sum, result;
    if (terms->count == 1)
        return emit_copy(e, node, terms->nodes[0]);
    TRY(operand(e, terms->nodes[0], shape, dtype, &sum));
    for (size_t k = 1; k < terms->count; k++) {
        fad_instruction add = {.code = FAD_DO_OP, .dtype = (uint8_t)dtype, .count = 3, .op = FAD_ADD};
        add.arguments[0] = sum;
        TRY(operand(e, terms->nodes[k], shape, dtype, &add.arguments[1]));
        if (k + 1 == terms->count)
            TRY(result_of(e, node, &result));
        else
            TRY(new_strip(e, dtype, &result));
        add.arguments[2] = sum = result;
        TRY(add_instruction(e, &add));
    }
    return FAD_OK;
}

static fad_status emit_gather(fad_emitter *e, uint32_t node)
{
    const fad_node *n = &e->tape->nodes[node];
    uint32_t a = e->l->dense[n->a] != FAD_NO_INDEX ? e->l->dense[n->a] : n->a;
    fad_instruction i = {.code = FAD_DO_GATHER, .dtype = (uint8_t)fad_lower_dtype(e->l, node), .count = 3};
    i.limit = fad_lower_shape(e->l, a)->size;
    i.arguments[0] = fad_emit_memory(e, e->l->root[a], fad_lower_window(e->l, a).offset);
    i.arguments[0].place = FAD_AT_FIXED;
    TRY(operand(e, n->aux, fad_lower_shape(e->l, node), FAD_I64, &i.arguments[1]));
    TRY(result_of(e, node, &i.arguments[2]));
    return add_instruction(e, &i);
}

static fad_status emit_compute(fad_emitter *e, uint32_t node)
{
    if (node >= e->l->count)
        return emit_copy(e, node, e->l->copy_of[node - e->l->count]);
    const fad_node *n = &e->tape->nodes[node];
    switch (n->op) {
    case FAD_NSUM:
        return emit_nsum(e, node);
    case FAD_GATHER:
        return emit_gather(e, node);
    case FAD_CAST:
    case FAD_RESHAPE:
        return emit_copy(e, node, n->a);
    default:
        return n->op < FAD_ELEMENTWISE_COUNT ? emit_elementwise(e, node) : FAD_BAD_OPERAND;
    }
}

fad_argument fad_emit_target(const fad_emitter *e, const fad_item *item, ptrdiff_t offset)
{
    if (!item->to_output)
        return fad_emit_memory(e, item->node, offset);
    uint32_t node = e->l->trace->outputs[item->node];
    fad_argument a = {FAD_AT_MEMORY, (uint8_t)fad_lower_dtype(e->l, node), 0,
                      (uint32_t)(FAD_FIRST_INPUT + e->l->trace->input_count + item->node),
                      (uint64_t)(offset * (ptrdiff_t)fad_itemsize(fad_lower_dtype(e->l, node)))};
    return a;
}

static bool same_window(const fad_lowering *l, const fad_item *x, const fad_item *y)
{
    const fad_shape *shape = fad_lower_shape(l, x->source);
    if (x->window == FAD_NO_INDEX || y->window == FAD_NO_INDEX || shape != fad_lower_shape(l, y->source))
        return x->window == y->window && shape == fad_lower_shape(l, y->source);
    const fad_window *v = &l->windows[x->window], *w = &l->windows[y->window];
    for (size_t i = 0; i < shape->ndim; i++)
        if (v->strides[i] != w->strides[i])
            return false;
    return v->offset == w->offset;
}

/* The value to be stored: that of `item`, and of the items after it that add to the same places. `*end` becomes the
 * last item of those. */
static fad_status gathered_operand(fad_emitter *e, const fad_item *item, int dtype, fad_argument *out, uint32_t *end)
{
    const fad_lowering *l = e->l;
    const fad_shape *shape = fad_lower_shape(l, item->source);
    TRY(operand(e, item->source, shape, dtype, out));
    for (uint32_t next = item->next; next != FAD_NO_INDEX; next = l->items[next].next) {
        const fad_item *more = &l->items[next];
        if (l->strict || more->kind != FAD_ITEM_STORE || more->code != FAD_DO_ADD || more->node != item->node ||
            more->to_output != item->to_output || !same_window(l, item, more))
            break;
        fad_instruction add = {.code = FAD_DO_OP, .dtype = (uint8_t)dtype, .count = 3, .op = FAD_ADD};
        add.arguments[0] = *out;
        TRY(operand(e, more->source, shape, dtype, &add.arguments[1]));
        TRY(new_strip(e, dtype, &add.arguments[2]));
        *out = add.arguments[2];
        TRY(add_instruction(e, &add));
        *end = next;
    }
    return FAD_OK;
}

/* Whether what an item stores was made in its place. */
static bool is_in_place(const fad_emitter *e, const fad_item *item, fad_window w)
{
    const fad_lowering *l = e->l;
    uint32_t root = l->root[item->source];
    return item->code == FAD_DO_STORE && !item->to_output && l->output[root] != FAD_NO_INDEX &&
           l->output[root] == l->output[item->node] && fad_lower_is_dense(l, item->source) &&
           runs_through(fad_lower_shape(l, item->source), w.strides) &&
           l->output_at[root] + (uint64_t)fad_lower_window(l, item->source).offset ==
               l->output_at[item->node] + (uint64_t)w.offset;
}

/* A number to a place in memory is a call like others: a walk over one element costs more than its value. */
static fad_status emit_number(fad_emitter *e, const fad_argument *from, fad_argument to)
{
    fad_instruction i = {.code = FAD_DO_OP, .dtype = FAD_F64, .count = 2, .op = FAD_POS};
    i.arguments[0] = *from;
    i.arguments[1] = to;
    i.arguments[1].place = FAD_AT_MEMORY;
    return add_instruction(e, &i);
}

static fad_status emit_store(fad_emitter *e, uint32_t *at)
{
    fad_lowering *l = e->l;
    const fad_item *item = &l->items[*at];
    const fad_shape *shape = fad_lower_shape(l, item->source);
    int dtype = fad_lower_dtype(l, item->source);
    fad_window w = {0, shape->strides};
    if (item->window != FAD_NO_INDEX)
        w = l->windows[item->window];
    if (is_in_place(e, item, w))
        return FAD_OK;
    if (!item->to_output)
        TRY(fad_emit_make_room(e, item->node));
    fad_instruction i = {.code = item->code, .dtype = (uint8_t)dtype, .count = 2};
    i.arguments[0] = fad_emit_target(e, item, w.offset);
    i.arguments[0].place = FAD_AT_FIXED;
    if (item->indices != FAD_NO_INDEX) {
        i.count = 3;
        i.limit = fad_lower_shape(l, item->node)->size;
        TRY(operand(e, item->indices, shape, FAD_I64, &i.arguments[1]));
        TRY(operand(e, item->source, shape, dtype, &i.arguments[2]));
    } else if (item->code == FAD_DO_STORE && shape->size == 1 && dtype == FAD_F64) {
        TRY(gathered_operand(e, item, dtype, &i.arguments[1], at));
        return emit_number(e, &i.arguments[1], i.arguments[0]);
    } else {
        TRY(new_affine(e, shape, w.strides, fad_itemsize(dtype), &i.affine));
        TRY(gathered_operand(e, item, dtype, &i.arguments[1], at));
    }
    return add_instruction(e, &i);
}

/* Number for the result of instruction `i`, and back to the spare ones those that it reads for the last time. */
static void place_strips(const fad_instruction *at, size_t i, const uint32_t *last, uint32_t *place, uint32_t *spare,
                         size_t *spare_count, uint32_t *strips)
{
    const fad_argument *a = at->arguments, *own = &a[at->count - 1];
    uint32_t dying[4], dying_count = 0;
    bool only_read = fad_is_strip(own) && place[own->offset] != FAD_NO_INDEX; /* what is stored */
    for (int k = 0; k < at->count - !only_read; k++) {
        if (!fad_is_strip(&a[k]) || last[a[k].offset] != i)
            continue;
        bool seen = false;
        for (int j = 0; j < k; j++)
            seen = seen || (fad_is_strip(&a[j]) && a[j].offset == a[k].offset);
        if (!seen)
            dying[dying_count++] = (uint32_t)a[k].offset;
    }
    if (fad_is_strip(own) && place[own->offset] == FAD_NO_INDEX) {
        bool in_place = (at->code == FAD_DO_OP || fad_is_fused(at->code)) && dying_count;
        for (int k = 0; k + 1 < at->count; k++)
            in_place = in_place && (!fad_is_strip(&a[k]) || a[k].dtype == own->dtype);
        if (in_place)
            place[own->offset] = place[dying[--dying_count]];
        else
            place[own->offset] = *spare_count ? spare[--*spare_count] : (*strips)++;
        if (last[own->offset] == i) /* nobody reads it */
            spare[(*spare_count)++] = place[own->offset];
    }
    while (dying_count)
        spare[(*spare_count)++] = place[dying[--dying_count]];
}

static void note_last_readings(fad_emitter *e, const fad_instruction *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < all[i].count; k++)
            if (fad_is_strip(&all[i].arguments[k]))
                ((uint32_t *)e->strip_last.data)[all[i].arguments[k].offset] = (uint32_t)i;
}

/* Numbers for the strips, in `place`: one that nobody reads any more is used again. Gives how many there are. */
static uint32_t number_strips(fad_emitter *e, const fad_instruction *all, size_t count, uint32_t *place, size_t bytes)
{
    size_t spare_count = 0;
    uint32_t strips = 0;
    note_last_readings(e, all, count);
    memset(place, 0xff, bytes);
    for (size_t i = 0; i < count; i++)
        place_strips(&all[i], i, e->strip_last.data, place, place + e->strip_count, &spare_count, &strips);
    return strips;
}

/* Whether there are more strips than are near. Of a short range they are: it waits for results, not for memory, and longer
 * where an instruction reads what the one before it makes. */
static bool are_far(uint32_t strips, uint64_t n)
{
    enum { SHORT = 64 };
    return strips > STRIP_BUDGET / (SHORTEST * sizeof(double)) && n >= SHORT;
}

/* The instructions in the order of lower_order.c, if that needs half as many strips or fewer. */
static fad_status sort_strips(fad_emitter *e, fad_instruction *all, size_t count, uint32_t *place, size_t bytes, uint32_t *strips)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    const size_t size = count * sizeof *all;
    fad_instruction *sorted = fad_resize(e->tape, NULL, 0, size, &status);
    if (!sorted)
        return status;
    status = fad_lower_order(e, all, count, e->l->regions[e->region].n, sorted);
    if (status == FAD_OK) {
        const uint32_t fewer = number_strips(e, sorted, count, place, bytes);
        if (fewer <= *strips / 2) {
            memcpy(all, sorted, size);
            *strips = fewer;
        } else {
            number_strips(e, all, count, place, bytes);
        }
    }
    fad_resize(e->tape, sorted, size, 0, &ignored);
    return status;
}

static fad_status assign_strips(fad_emitter *e, uint32_t *strips)
{
    fad_instruction *all = (fad_instruction *)e->instructions.data + e->first_instruction;
    size_t count = e->instructions.count - e->first_instruction;
    fad_status status = FAD_OK, ignored = FAD_OK;
    *strips = 0;
    if (e->strip_count == 0)
        return FAD_OK;
    size_t bytes = 2 * ((size_t)e->strip_count + 4) * sizeof(uint32_t);
    uint32_t *place = fad_resize(e->tape, NULL, 0, bytes, &status);
    if (!place)
        return status;
    if (!e->l->strict && e->l->regions[e->region].stage >= e->l->barrier)
        count = fad_lower_fuse(all, count, e->strip_count, e->l->regions[e->region].n, e->affines.data,
                               e->numbers.data, place);
    e->instructions.count = e->first_instruction + count;
    *strips = number_strips(e, all, count, place, bytes);
    if (are_far(*strips, e->l->regions[e->region].n))
        status = sort_strips(e, all, count, place, bytes, strips);
    for (size_t i = 0; i < count && status == FAD_OK; i++)
        for (int k = 0; k < all[i].count; k++)
            if (fad_is_strip(&all[i].arguments[k]))
                all[i].arguments[k].offset = place[all[i].arguments[k].offset];
    fad_resize(e->tape, place, bytes, 0, &ignored);
    return status;
}

/* Arrays that a chained region writes, and reads again in the same strip. */
static uint32_t kept_in_memory(const fad_emitter *e, const fad_step *step)
{
    uint32_t count = 0;
    for (uint32_t i = step->first; i < step->first + step->count; i++) {
        const fad_instruction *at = (const fad_instruction *)e->instructions.data + i;
        count += at->arguments[at->count - 1].place == FAD_AT_MEMORY;
    }
    return count;
}

/* Elements of a strip of a region of `n`. Of a short range it is no longer than that, in whole lines: thousands of
 * temporaries would lie far apart. */
static uint32_t strip_length(uint32_t strips, uint64_t n)
{
    enum { IN_A_LINE = LINE / sizeof(double) };
    uint32_t length = STRIP_BUDGET / (8 * (strips ? strips : 1)) & ~(uint32_t)63;
    length = length < SHORTEST ? SHORTEST : length > LONGEST ? LONGEST : length;
    return n < length ? (uint32_t)((n + IN_A_LINE - 1) / IN_A_LINE * IN_A_LINE) : length;
}

fad_status fad_emit_flush_scalars(fad_emitter *e, size_t before)
{
    if (e->scalars.count == before)
        return FAD_OK;
    fad_step step = {.kind = FAD_STEP_SCALARS, .first = (uint32_t)before,
                     .count = (uint32_t)(e->scalars.count - before)};
    return fad_emit_push(e, &e->steps, &step);
}

static fad_status emit_region(fad_emitter *e, const fad_region *r)
{
    size_t scalars = e->scalars.count;
    fad_step step = {.kind = FAD_STEP_REGION, .n = r->n};
    e->first_instruction = e->instructions.count;
    e->strip_count = 0;
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next) {
        TRY(e->l->items[i].kind == FAD_ITEM_STORE ? emit_store(e, &i) : emit_compute(e, e->l->items[i].node));
    }
    TRY(assign_strips(e, &step.strips));
    TRY(fad_emit_flush_scalars(e, scalars)); /* conversions of scalars that the region reads */
    step.first = (uint32_t)e->first_instruction;
    step.count = (uint32_t)(e->instructions.count - e->first_instruction);
    step.strip = strip_length(step.strips + (r->chained ? kept_in_memory(e, &step) : 0), r->n);
    if (r->backwards && r->n > step.strip)
        step.kind = FAD_STEP_REGION_BACKWARDS;
    size_t bytes = (size_t)step.strips * step.strip * sizeof(double);
    if (bytes > e->program->strip_bytes)
        e->program->strip_bytes = bytes;
    if (r->n && step.count)
        return fad_emit_push(e, &e->steps, &step);
    e->instructions.count = e->first_instruction; /* of no elements: nothing to do */
    return FAD_OK;
}

/* --- other steps --- */

static fad_status push_shape(fad_emitter *e, const fad_shape *shape)
{
    for (size_t i = 0; i < shape->ndim; i++) {
        int64_t dim = shape->dims[i];
        TRY(fad_emit_push(e, &e->numbers, &dim));
    }
    return FAD_OK;
}

/* Where step `node` has its array `p`, operand or result. */
static fad_argument step_memory(const fad_emitter *e, uint32_t node, uint32_t p)
{
    uint32_t at = fad_lower_step_operand(e->l, node, p);
    return fad_emit_memory(e, e->l->root[at], fad_lower_window(e->l, at).offset);
}

/* A step over arrays, the last of them its result. numbers: ndim, then the dims, of each in turn. */
static fad_status emit_arrays(fad_emitter *e, fad_step *step, int count, const uint32_t *arrays)
{
    TRY(fad_emit_make_room(e, arrays[count - 1]));
    for (int k = 0; k < count; k++) {
        const fad_shape *shape = fad_lower_shape(e->l, arrays[k]);
        int64_t ndim = shape->ndim;
        step->arguments[k] = step_memory(e, arrays[count - 1], arrays[k]);
        TRY(fad_emit_push(e, &e->numbers, &ndim));
        TRY(push_shape(e, shape));
    }
    return FAD_OK;
}

static bool is_dense(const fad_emitter *e, uint32_t node, uint32_t p)
{
    return fad_lower_is_dense(e->l, fad_lower_step_operand(e->l, node, p));
}

static fad_status push_matrices(fad_emitter *e, uint32_t node)
{
    ptrdiff_t strides[FAD_MAX_NDIM];
    fad_lower_matrices(e->l, node, strides);
    for (size_t i = 0; i < fad_lower_shape(e->l, node)->ndim; i++) {
        int64_t stride = strides[i];
        TRY(fad_emit_push(e, &e->numbers, &stride));
    }
    return FAD_OK;
}

/* Operands that are not dense are followed by their strides, of x and then of y. */
static fad_status emit_matmul(fad_emitter *e, uint32_t node)
{
    const fad_node *n = &e->tape->nodes[node];
    uint32_t arrays[3] = {n->a, n->b, node};
    fad_step step = {.kind = FAD_STEP_MATMUL, .dtype = (uint16_t)fad_lower_dtype(e->l, node),
                     .numbers = (uint32_t)e->numbers.count};
    TRY(emit_arrays(e, &step, 3, arrays));
    if (!is_dense(e, node, n->a) || !is_dense(e, node, n->b)) {
        step.kind = FAD_STEP_MATMUL_VIEWS;
        for (int k = 0; k < 2; k++)
            TRY(push_matrices(e, fad_lower_step_operand(e->l, node, arrays[k])));
    }
    return fad_emit_push(e, &e->steps, &step);
}

/* numbers: elements before the axis, along it, after it; whether backwards. */
static fad_status emit_cumsum(fad_emitter *e, uint32_t node)
{
    const fad_node *n = &e->tape->nodes[node];
    const fad_shape *shape = fad_lower_shape(e->l, node);
    size_t axis = n->aux / 2;
    int64_t numbers[4] = {1, shape->dims[axis], 1, n->aux & 1};
    for (size_t i = 0; i < shape->ndim; i++)
        numbers[i < axis ? 0 : 2] *= i == axis ? 1 : shape->dims[i];
    fad_step step = {.kind = FAD_STEP_CUMSUM, .dtype = (uint16_t)fad_lower_dtype(e->l, node),
                     .numbers = (uint32_t)e->numbers.count};
    TRY(fad_emit_make_room(e, node));
    step.arguments[0] = step_memory(e, node, n->a);
    step.arguments[1] = fad_emit_memory(e, node, 0);
    for (int i = 0; i < 4; i++)
        TRY(fad_emit_push(e, &e->numbers, &numbers[i]));
    return fad_emit_push(e, &e->steps, &step);
}

/* EXTREMUM or SUM. */
static fad_status emit_reduction(fad_emitter *e, uint32_t node, int kind)
{
    uint32_t arrays[2] = {e->tape->nodes[node].a, node};
    fad_step step = {.kind = (uint16_t)kind, .dtype = (uint16_t)fad_lower_dtype(e->l, node),
                     .first = e->tape->nodes[node].op == FAD_MAX_TO, .numbers = (uint32_t)e->numbers.count};
    TRY(emit_arrays(e, &step, 2, arrays));
    return fad_emit_push(e, &e->steps, &step);
}

static fad_status new_form(fad_emitter *e, uint32_t node, fad_form *out)
{
    const fad_shape *shape = fad_lower_shape(e->l, node);
    fad_form form = {.dtype = (uint8_t)fad_lower_dtype(e->l, node), .ndim = shape->ndim,
                     .dims = (uint32_t)e->numbers.count, .bytes = bytes_of(e, node)};
    *out = form;
    return push_shape(e, shape);
}

static fad_status emit_call(fad_emitter *e, uint32_t node)
{
    const fad_custom *custom = e->tape->side[e->tape->nodes[node].aux];
    fad_call call = {custom->rule, (uint32_t)custom->count, custom->outputs, (uint32_t)e->call_arguments.count};
    fad_step step = {.kind = FAD_STEP_CALL, .first = (uint32_t)e->calls.count};
    for (uint32_t k = 0; k < custom->count + custom->outputs; k++) {
        uint32_t at = k < custom->count ? custom->nodes[k] : node + (k - (uint32_t)custom->count);
        fad_form form;
        if (k >= custom->count)
            TRY(fad_emit_make_room(e, at));
        fad_argument a = step_memory(e, node, at);
        TRY(fad_emit_push(e, &e->call_arguments, &a));
        TRY(new_form(e, at, &form));
        TRY(fad_emit_push(e, &e->call_forms, &form));
    }
    TRY(fad_emit_push(e, &e->calls, &call));
    return fad_emit_push(e, &e->steps, &step);
}

/* The zero of a margin of one element: one more instruction where the step before is for one element too. */
static fad_status emit_zero_number(fad_emitter *e, const fad_argument *to)
{
    fad_step *last = e->steps.count ? (fad_step *)e->steps.data + e->steps.count - 1 : NULL;
    if (!last || last->kind != FAD_STEP_REGION || last->n != 1 || last->first + (size_t)last->count != e->instructions.count) {
        fad_step step = {.kind = FAD_STEP_REGION, .first = (uint32_t)e->instructions.count, .n = 1, .strip = strip_length(0, 1)};
        TRY(fad_emit_push(e, &e->steps, &step));
        last = (fad_step *)e->steps.data + e->steps.count - 1;
    }
    if (!e->has_zero) {
        const double zero = 0;
        TRY(fad_emit_constant(e, &zero, sizeof zero, &e->zero));
        e->has_zero = true;
    }
    fad_argument from = {FAD_AT_FIXED, FAD_F64, 0, FAD_IN_CONSTANTS, e->zero};
    last->count++;
    return emit_number(e, &from, *to);
}

static fad_status emit_zero(fad_emitter *e, const fad_item *item)
{
    size_t size = fad_itemsize(fad_lower_dtype(e->l, item->node));
    fad_step step = {.kind = FAD_STEP_ZERO, .n = (uint64_t)(item->indices - item->window) * size};
    uint32_t root = e->l->root[item->node];
    TRY(fad_emit_make_room(e, root));
    step.arguments[0] = fad_emit_memory(e, root, fad_lower_window(e->l, item->node).offset + (ptrdiff_t)item->window);
    if (step.n == sizeof(double) && fad_lower_dtype(e->l, item->node) == FAD_F64 && e->l->margin[root] != FAD_NO_INDEX)
        return emit_zero_number(e, &step.arguments[0]);
    return fad_emit_push(e, &e->steps, &step);
}

static fad_status emit_guards(fad_emitter *e, const fad_region *r, const char *seen)
{
    fad_step step = {.kind = FAD_STEP_GUARDS, .first = 0};
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next) {
        uint32_t node = e->l->items[i].node;
        uint64_t bytes = bytes_of(e, node);
        fad_argument a = fad_emit_memory(e, e->l->root[node], fad_lower_window(e->l, node).offset);
        fad_guard guard = {a.base, (uint32_t)bytes, a.offset, 0};
        if (bytes > UINT32_MAX)
            return FAD_TOO_MANY;
        TRY(fad_emit_constant(e, seen, (size_t)bytes, &guard.expected));
        seen += (bytes + 7) & ~(uint64_t)7;
        TRY(fad_emit_push(e, &e->guards, &guard));
    }
    step.count = (uint32_t)e->guards.count;
    return fad_emit_push(e, &e->steps, &step);
}

static fad_status emit_step(fad_emitter *e, const fad_region *r, const char *seen)
{
    uint32_t node = e->l->items[r->first].node;
    switch (r->kind) {
    case FAD_STEP_REGION:
        return emit_region(e, r);
    case FAD_STEP_SCALARS:
        return fad_emit_scalars(e, r);
    case FAD_STEP_MATMUL:
        return emit_matmul(e, node);
    case FAD_STEP_CUMSUM:
        return emit_cumsum(e, node);
    case FAD_STEP_EXTREMUM:
        return emit_reduction(e, node, r->kind);
    case FAD_STEP_SUM:
        return emit_reduction(e, node, r->kind);
    case FAD_STEP_CALL:
        return emit_call(e, node);
    case FAD_STEP_GUARDS:
        return emit_guards(e, r, seen);
    default:
        for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next)
            TRY(emit_zero(e, &e->l->items[i]));
        return FAD_OK;
    }
}

/* After a step: memory that nothing reads any more. */
static fad_status free_after(fad_emitter *e, const fad_region *r)
{
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next) {
        const fad_item *item = &e->l->items[i];
        TRY(fad_emit_free_operands(e, item));
        if (item->kind == FAD_ITEM_COMPUTE && e->state[item->node] & FAD_HAS_ROOM)
            TRY(fad_emit_free_room(e, item->node));
    }
    return FAD_OK;
}

/* --- the program's own memory --- */

static fad_status keep(fad_emitter *e, fad_records *from, void *to, size_t *count)
{
    void **out = to;
    fad_program *p = e->program;
    *count = from->count;
    if (from->count == 0)
        return FAD_OK;
    *out = p->allocator.resize(p->allocator.context, NULL, 0, from->count * from->item);
    if (!*out) {
        *count = 0;
        return FAD_NO_MEMORY;
    }
    memcpy(*out, from->data, from->count * from->item);
    return FAD_OK;
}

static fad_status finish(fad_emitter *e)
{
    fad_program *p = e->program;
    const fad_trace *trace = e->l->trace;
    fad_records inputs = {.item = sizeof(fad_form)}, outputs = inputs;
    fad_status status = FAD_OK, ignored = FAD_OK;
    for (int side = 0; side < 2 && status == FAD_OK; side++)
        for (size_t i = 0; i < (side ? trace->output_count : trace->input_count) && status == FAD_OK; i++) {
            fad_form form = {0};
            status = new_form(e, (side ? trace->outputs : trace->inputs)[i], &form);
            if (status == FAD_OK)
                status = fad_emit_push(e, side ? &outputs : &inputs, &form);
        }
#define KEEP(list, field, count)             \
    if (status == FAD_OK)                    \
        status = keep(e, &(list), &p->field, &p->count)
    KEEP(inputs, inputs, input_count);
    KEEP(outputs, outputs, output_count);
    KEEP(e->steps, steps, step_count);
    KEEP(e->instructions, instructions, instruction_count);
    KEEP(e->scalars, scalars, scalar_count);
    KEEP(e->repeats, repeats, repeat_count);
    KEEP(e->groups, groups, group_count);
    KEEP(e->places, places, place_count);
    KEEP(e->affines, affines, affine_count);
    KEEP(e->numbers, numbers, number_count);
    KEEP(e->guards, guards, guard_count);
    KEEP(e->calls, calls, call_count);
    KEEP(e->call_arguments, call_arguments, call_argument_count);
    KEEP(e->call_forms, call_forms, call_form_count);
    KEEP(e->constants, constants, constant_bytes);
    KEEP(e->scalar_constants, scalar_constants, scalar_constant_count);
#undef KEEP
    fad_resize(e->tape, inputs.data, inputs.capacity * inputs.item, 0, &ignored);
    fad_resize(e->tape, outputs.data, outputs.capacity * outputs.item, 0, &ignored);
    p->room_bytes = fad_program_room_bytes(p);
    p->workspace_bytes = (size_t)((e->top + LINE - 1) & ~(uint64_t)(LINE - 1));
    for (size_t i = 0; status == FAD_OK && i < p->call_count; i++)
        if (p->host.retain)
            p->host.retain(p->host.context, p->calls[i].rule);
    if (status != FAD_OK)
        p->call_count = 0; /* its rules are not held */
    return status;
}

static fad_status emit_all(fad_emitter *e, const uint32_t *order, const char *seen)
{
    fad_lowering *l = e->l;
    TRY(survey_regions(e, order));
    for (size_t i = 0; i < l->region_count; i++) {
        const fad_region *r = &l->regions[order[i]];
        e->region = order[i];
        if (r->first == FAD_NO_INDEX) /* all of it is computed elsewhere */
            continue;
        if (r->kind != FAD_STEP_SCALARS)
            for (uint32_t k = r->first; k != FAD_NO_INDEX; k = l->items[k].next)
                e->time++;
        TRY(emit_step(e, r, seen));
        if (r->kind != FAD_STEP_SCALARS)
            TRY(free_after(e, r));
    }
    return finish(e);
}

static fad_status table(fad_emitter *e, void *out, size_t item, int fill)
{
    void **p = out;
    fad_status status = FAD_OK;
    *p = fad_arena_alloc(e->tape, &e->l->arena, e->l->room * item + 1, &status);
    if (*p)
        memset(*p, fill, e->l->room * item);
    return status;
}

fad_status fad_lower_emit(fad_lowering *l, const uint32_t *order, const char *seen, fad_program *program)
{
    fad_emitter e = {.l = l, .tape = l->tape, .program = program};
    e.steps.item = sizeof(fad_step);
    e.instructions.item = sizeof(fad_instruction);
    e.scalars.item = sizeof(fad_scalar_instruction);
    e.repeats.item = sizeof(fad_repeated);
    e.groups.item = sizeof(fad_group);
    e.places.item = sizeof(uint32_t);
    e.affines.item = sizeof(fad_affine);
    e.numbers.item = sizeof(int64_t);
    e.guards.item = sizeof(fad_guard);
    e.calls.item = sizeof(fad_call);
    e.call_arguments.item = sizeof(fad_argument);
    e.call_forms.item = sizeof(fad_form);
    e.constants.item = 1;
    e.scalar_constants.item = sizeof(double);
    e.strip_last.item = sizeof(uint32_t);
    e.stashes.item = sizeof(fad_stash);
    fad_status status = table(&e, &e.last, sizeof *e.last, 0), ignored = FAD_OK;
    if (status == FAD_OK)
        status = table(&e, &e.where, sizeof *e.where, 0);
    if (status == FAD_OK)
        status = table(&e, &e.state, 1, 0);
    if (status == FAD_OK)
        status = table(&e, &e.place, sizeof *e.place, 0);
    if (status == FAD_OK)
        status = table(&e, &e.place_region, sizeof *e.place_region, 0xff);
    if (status == FAD_OK)
        status = emit_all(&e, order, seen);
    fad_records *all[] = {&e.steps,   &e.instructions, &e.scalars,        &e.repeats,    &e.affines,
                          &e.numbers, &e.guards,       &e.calls,          &e.call_arguments, &e.call_forms,
                          &e.constants, &e.scalar_constants, &e.strip_last, &e.stashes, &e.groups,      &e.places};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fad_resize(l->tape, all[i]->data, all[i]->capacity * all[i]->item, 0, &ignored);
    return status;
}
