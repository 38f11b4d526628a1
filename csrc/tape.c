/* tape.c: memory, shapes and appending. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "tape.h"
#include "try.h"

#include <stdlib.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#ifdef FAD_SMALL
enum { FIRST_CHUNK = 64, LARGEST_CHUNK = 1 << 12, FIRST_CAPACITY = 2, LARGE_CAPACITY = 16 };
#else
enum { FIRST_CHUNK = 1 << 16, LARGEST_CHUNK = 1 << 25, FIRST_CAPACITY = 1 << 10, LARGE_CAPACITY = 1 << 20 };
#endif
enum { CHUNK_HEADER = 64, HUGE_PAGE = 1 << 21, PAGE = 1 << 12 };

/* --- memory --- */

static void *resize_with_realloc(void *context, void *p, size_t old_size, size_t size)
{
    (void)context;
    (void)old_size;
    if (size == 0) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

/* Large blocks are worth huge pages: first touches cost 512 times fewer page faults. The advice covers whole pages
 * beyond both ends: inside of them it would cut the mapping in two, and growing it would become a copy. */
static void advise_huge(void *p, size_t size)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= 2 * HUGE_PAGE) {
        uintptr_t from = (uintptr_t)p & ~(uintptr_t)(PAGE - 1);
        uintptr_t to = ((uintptr_t)p + size + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
    }
#else
    (void)p;
    (void)size;
#endif
}

void *fad_resize(fad_tape *tape, void *p, size_t old_size, size_t size, fad_status *status)
{
    size_t rest = tape->bytes - old_size;
    if (size > old_size && tape->limit && (size > tape->limit || rest > tape->limit - size)) {
        *status = FAD_OVER_LIMIT;
        return NULL;
    }
    void *grown = tape->allocator.resize(tape->allocator.context, p, old_size, size);
    if (!grown && size) {
        *status = FAD_NO_MEMORY;
        return NULL;
    }
    tape->bytes = rest + size;
    if (size > old_size)
        advise_huge(grown, size);
    return grown;
}

static char *chunk_data(fad_chunk *chunk) { return (char *)chunk + CHUNK_HEADER; }

static fad_chunk *new_chunk(fad_tape *tape, size_t size, fad_status *status)
{
    if (size > SIZE_MAX - CHUNK_HEADER) {
        *status = FAD_NO_MEMORY;
        return NULL;
    }
    fad_chunk *chunk = fad_resize(tape, NULL, 0, size + CHUNK_HEADER, status);
    if (!chunk)
        return NULL;
    chunk->next = NULL;
    chunk->size = size;
    chunk->used = 0;
    return chunk;
}

static void *take(fad_chunk *chunk, size_t size)
{
    size_t used = (chunk->used + 15) & ~(size_t)15;
    if (used > chunk->size || size > chunk->size - used)
        return NULL;
    chunk->used = used + size;
    return chunk_data(chunk) + used;
}

void *fad_arena_alloc(fad_tape *tape, fad_arena *arena, size_t size, fad_status *status)
{
    void *p = arena->current ? take(arena->current, size) : NULL;
    if (p)
        return p;
    while (arena->current && arena->current->next) {
        arena->current = arena->current->next;
        if ((p = take(arena->current, size)))
            return p;
    }
    size_t wanted = arena->current ? arena->current->size * 2 : FIRST_CHUNK;
    if (wanted > LARGEST_CHUNK)
        wanted = LARGEST_CHUNK;
    if (wanted < size)
        wanted = size;
    fad_chunk *chunk = new_chunk(tape, wanted, status);
    if (!chunk)
        return NULL;
    if (arena->current)
        arena->current->next = chunk;
    else
        arena->first = chunk;
    arena->current = chunk;
    return take(chunk, size);
}

void fad_arena_reset(fad_tape *tape, fad_arena *arena, size_t keep)
{
    fad_status ignored;
    fad_chunk **link = &arena->first;
    for (fad_chunk *chunk = arena->first; chunk;) {
        fad_chunk *next = chunk->next;
        if (chunk->size <= keep) {
            keep -= chunk->size;
            chunk->used = 0;
            link = &chunk->next;
        } else {
            *link = next;
            fad_resize(tape, chunk, chunk->size + CHUNK_HEADER, 0, &ignored);
        }
        chunk = next;
    }
    arena->current = arena->first;
}

void fad_arena_free(fad_tape *tape, fad_arena *arena) { fad_arena_reset(tape, arena, 0); }

/* Grows a table of `item`-sized entries to `wanted` of them. */
static fad_status resize_table(fad_tape *tape, void *table, size_t item, size_t *capacity, size_t wanted)
{
    void **p = table;
    fad_status status = FAD_OK;
    if (wanted > SIZE_MAX / item)
        return FAD_NO_MEMORY;
    void *grown = fad_resize(tape, *p, *capacity * item, wanted * item, &status);
    if (!grown)
        return status;
    *p = grown;
    *capacity = wanted;
    return FAD_OK;
}

fad_status fad_grow_list(fad_tape *tape, void *array, size_t item, size_t wanted, size_t *capacity)
{
    enum { FIRST = 64 };
    size_t larger = *capacity ? *capacity * 2 : FIRST;
    if (wanted > UINT32_MAX)
        return FAD_TOO_MANY;
    return resize_table(tape, array, item, capacity, larger < wanted ? wanted : larger);
}

/* Grows a table that is full. */
static fad_status grow_table(fad_tape *tape, void *table, size_t item, size_t *capacity, size_t most)
{
    /* Doubling while small; by a quarter later, where growing is a move of page tables and slack is real memory. */
    size_t wanted = *capacity == 0 ? FIRST_CAPACITY : *capacity < LARGE_CAPACITY ? *capacity * 2 : *capacity / 4 * 5;
    if (*capacity >= most)
        return FAD_TOO_MANY;
    if (wanted > most)
        wanted = most;
    return resize_table(tape, table, item, capacity, wanted);
}

fad_status fad_tape_grow(fad_tape *tape)
{
    size_t most = FAD_NODE_NONE - 1;
    fad_status status = FAD_OK;
    if (tape->value_capacity == tape->capacity)
        status = grow_table(tape, &tape->values, sizeof *tape->values, &tape->value_capacity, most);
    if (status == FAD_OK)
        status = grow_table(tape, &tape->nodes, sizeof *tape->nodes, &tape->capacity, most);
    return status;
}

fad_status fad_tape_reserve(fad_tape *tape, size_t count)
{
    if (count > FAD_NODE_NONE - 1)
        count = FAD_NODE_NONE - 1;
    if (count > tape->value_capacity)
        TRY(resize_table(tape, &tape->values, sizeof *tape->values, &tape->value_capacity, count));
    if (count > tape->capacity)
        TRY(resize_table(tape, &tape->nodes, sizeof *tape->nodes, &tape->capacity, count));
    return FAD_OK;
}

/* --- life --- */

fad_status fad_tape_create(fad_tape **out, const fad_allocator *allocator, const fad_loops *loops, size_t limit)
{
    fad_allocator from = allocator ? *allocator : (fad_allocator){resize_with_realloc, NULL};
    fad_tape *tape = from.resize(from.context, NULL, 0, sizeof *tape);
    if (!tape)
        return FAD_NO_MEMORY;
    memset(tape, 0, sizeof *tape);
    tape->allocator = from;
    tape->loops = loops;
    tape->limit = limit;
    tape->bytes = sizeof *tape;
    tape->generation = 1;
    const fad_shape *scalar;
    fad_status status = fad_shape_intern(tape, 0, NULL, &scalar);
    if (status != FAD_OK) {
        fad_tape_destroy(tape);
        return status;
    }
    *out = tape;
    return FAD_OK;
}

static void release_rules(fad_tape *tape, size_t from)
{
    if (!tape->host.release)
        return;
    for (size_t i = from; i < tape->count; i++) {
        if (tape->nodes[i].op == FAD_CUSTOM) {
            fad_custom *custom = tape->side[tape->nodes[i].aux];
            tape->host.release(tape->host.context, custom->rule);
        }
    }
}

void fad_tape_destroy(fad_tape *tape)
{
    if (!tape)
        return;
    fad_status ignored;
    release_rules(tape, 0);
    fad_resize(tape, tape->nodes, tape->capacity * sizeof *tape->nodes, 0, &ignored);
    fad_resize(tape, tape->values, tape->value_capacity * sizeof *tape->values, 0, &ignored);
    fad_resize(tape, tape->side, tape->side_capacity * sizeof *tape->side, 0, &ignored);
    fad_resize(tape, tape->shapes, tape->shape_capacity * sizeof *tape->shapes, 0, &ignored);
    fad_resize(tape, tape->shape_table, tape->shape_table_size * sizeof *tape->shape_table, 0, &ignored);
    fad_arena_free(tape, &tape->arena);
    fad_arena_free(tape, &tape->shape_arena);
    tape->allocator.resize(tape->allocator.context, tape, sizeof *tape, 0);
}

void fad_tape_truncate(fad_tape *tape, size_t mark)
{
    if (mark >= tape->count)
        return;
    release_rules(tape, mark);
    tape->count = mark;
    if (tape->leaves > mark)
        tape->leaves = mark;
    for (size_t i = 0; i < FAD_CONSTANT_CACHE; i++)
        if (tape->constants[i].node > mark)
            tape->constants[i].node = 0;
}

fad_bookmark fad_tape_bookmark(const fad_tape *tape)
{
    fad_chunk *chunk = tape->arena.current;
    fad_bookmark mark = {tape->count, tape->side_count, chunk ? chunk->used : 0, chunk};
    return mark;
}

void fad_tape_reset(fad_tape *tape, size_t keep)
{
    fad_status ignored = FAD_OK;
    fad_tape_truncate(tape, 0);
    tape->side_count = 0;
    tape->dry = false;
    tape->generation++;
    fad_arena_reset(tape, &tape->arena, keep);
    if (tape->side_capacity * sizeof *tape->side > keep) {
        fad_resize(tape, tape->side, tape->side_capacity * sizeof *tape->side, 0, &ignored);
        tape->side = NULL;
        tape->side_capacity = 0;
    }
    size_t most = keep / (sizeof *tape->nodes + sizeof *tape->values);
    if (tape->capacity > most) {
        fad_resize(tape, tape->nodes, tape->capacity * sizeof *tape->nodes, 0, &ignored);
        fad_resize(tape, tape->values, tape->value_capacity * sizeof *tape->values, 0, &ignored);
        tape->nodes = NULL;
        tape->values = NULL;
        tape->capacity = 0;
        tape->value_capacity = 0;
    }
}

/* --- shapes --- */

static size_t hash_dims(size_t ndim, const ptrdiff_t *dims)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ ndim;
    for (size_t i = 0; i < ndim; i++) {
        h ^= (uint64_t)dims[i];
        h *= 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return (size_t)h;
}

static fad_status grow_shape_table(fad_tape *tape)
{
    size_t size = tape->shape_table_size ? tape->shape_table_size * 2 : 64;
    fad_status status = FAD_OK;
    uint32_t *table = fad_resize(tape, NULL, 0, size * sizeof *table, &status);
    if (!table)
        return status;
    memset(table, 0, size * sizeof *table);
    for (size_t id = 0; id < tape->shape_count; id++) {
        size_t at = hash_dims(tape->shapes[id]->ndim, tape->shapes[id]->dims) & (size - 1);
        while (table[at])
            at = (at + 1) & (size - 1);
        table[at] = (uint32_t)id + 1;
    }
    fad_resize(tape, tape->shape_table, tape->shape_table_size * sizeof *table, 0, &status);
    tape->shape_table = table;
    tape->shape_table_size = size;
    return FAD_OK;
}

/* Number of elements; false where it does not fit the address space (8 bytes an element). */
static bool size_of(size_t ndim, const ptrdiff_t *dims, size_t *size)
{
    size_t n = 1;
    bool empty = false;
    for (size_t i = 0; i < ndim; i++) {
        if (dims[i] < 0)
            return false;
        if (dims[i] == 0) {
            empty = true;
            continue;
        }
        if (n > (PTRDIFF_MAX / 8) / (size_t)dims[i])
            return false;
        n *= (size_t)dims[i];
    }
    *size = empty ? 0 : n;
    return true;
}

fad_status fad_shape_intern(fad_tape *tape, size_t ndim, const ptrdiff_t *dims, const fad_shape **out)
{
    if (ndim > FAD_MAX_NDIM)
        return FAD_BAD_SHAPE;
    if (2 * (tape->shape_count + 1) > tape->shape_table_size) {
        fad_status status = grow_shape_table(tape);
        if (status != FAD_OK)
            return status;
    }
    size_t at = hash_dims(ndim, dims) & (tape->shape_table_size - 1);
    for (uint32_t id; (id = tape->shape_table[at]) != 0; at = (at + 1) & (tape->shape_table_size - 1)) {
        const fad_shape *s = tape->shapes[id - 1];
        if (s->ndim == ndim && (ndim == 0 || memcmp(s->dims, dims, ndim * sizeof *dims) == 0)) {
            *out = s;
            return FAD_OK;
        }
    }
    size_t size;
    if (!size_of(ndim, dims, &size))
        return FAD_BAD_SHAPE;
    fad_status status = FAD_OK;
    if (tape->shape_count == tape->shape_capacity) {
        status = grow_table(tape, &tape->shapes, sizeof *tape->shapes, &tape->shape_capacity, FAD_NODE_NONE);
        if (status != FAD_OK)
            return status;
    }
    fad_shape *shape =
        fad_arena_alloc(tape, &tape->shape_arena, sizeof *shape + 2 * ndim * sizeof(ptrdiff_t), &status);
    if (!shape)
        return status;
    ptrdiff_t *own = (ptrdiff_t *)(shape + 1), *strides = own + ndim;
    ptrdiff_t stride = 1;
    for (size_t i = ndim; i-- > 0;) {
        own[i] = dims[i];
        strides[i] = stride;
        stride *= dims[i] > 0 ? dims[i] : 1;
    }
    shape->id = (uint32_t)tape->shape_count;
    shape->ndim = (uint32_t)ndim;
    shape->size = size;
    shape->dims = own;
    shape->strides = strides;
    tape->shapes[tape->shape_count++] = shape;
    tape->shape_table[at] = shape->id + 1;
    *out = shape;
    return FAD_OK;
}

fad_status fad_shape_broadcast(fad_tape *tape, const fad_shape *x, const fad_shape *y, const fad_shape **out)
{
    if (x == y || y->ndim == 0) {
        *out = x;
        return FAD_OK;
    }
    if (x->ndim == 0) {
        *out = y;
        return FAD_OK;
    }
    ptrdiff_t dims[FAD_MAX_NDIM];
    size_t ndim = x->ndim > y->ndim ? x->ndim : y->ndim;
    for (size_t i = 0; i < ndim; i++) {
        ptrdiff_t p = i + x->ndim >= ndim ? x->dims[i + x->ndim - ndim] : 1;
        ptrdiff_t q = i + y->ndim >= ndim ? y->dims[i + y->ndim - ndim] : 1;
        if (p != q && p != 1 && q != 1)
            return FAD_BAD_SHAPE;
        dims[i] = p == 1 ? q : p;
    }
    return fad_shape_intern(tape, ndim, dims, out);
}

bool fad_shape_expands(const fad_shape *from, const fad_shape *to)
{
    if (from->ndim > to->ndim)
        return false;
    for (size_t i = 0; i < from->ndim; i++) {
        ptrdiff_t p = from->dims[i], q = to->dims[i + to->ndim - from->ndim];
        if (p != q && p != 1)
            return false;
    }
    return true;
}

/* --- appending --- */

fad_status fad_constant(fad_tape *tape, double value, uint32_t *out)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    size_t at = (size_t)((bits * 0x9e3779b97f4a7c15u) >> 58) % FAD_CONSTANT_CACHE;
    if (tape->constants[at].node && tape->constants[at].bits == bits) {
        *out = tape->constants[at].node - 1;
        return FAD_OK;
    }
    fad_status status = fad_push_scalar(tape, FAD_CONSTANT, 0, 0, 0, 0, value, out);
    if (status == FAD_OK) {
        tape->constants[at].bits = bits;
        tape->constants[at].node = *out + 1;
    }
    return status;
}

fad_status fad_pin_operands(fad_tape *tape, uint32_t node)
{
    fad_node n = tape->nodes[node];
    uint32_t third = n.op < FAD_ELEMENTWISE_COUNT ? n.aux : n.a;
    bool stale;
    if (fad_reads_once(n.op)) /* a VIEW that shares the memory of its operand is fad_new_view's */
        stale = fad_is_superseded(tape, n.a) || fad_is_superseded(tape, n.b);
    else
        stale = fad_pin(tape, n.a) != FAD_OK || fad_pin(tape, n.b) != FAD_OK || fad_pin(tape, third) != FAD_OK;
    if (stale)
        tape->count = node;
    return stale ? FAD_BAD_OPERAND : FAD_OK;
}

fad_status fad_new_view(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux,
                        const fad_array *view, uint32_t *out)
{
    fad_status status = fad_pin(tape, a);
    if (status != FAD_OK)
        return status;
    fad_array *array = fad_arena_alloc(tape, &tape->arena, sizeof *array, &status);
    if (!array)
        return status;
    *array = *view;
    fad_value value;
    value.array = array;
    return fad_push(tape, op, flags | FAD_IS_ARRAY | FAD_HAS_ARRAY, a, b, aux, value, out);
}

fad_status fad_new_array(fad_tape *tape, int op, unsigned flags, uint32_t a, uint32_t b, uint32_t aux, int dtype,
                         const fad_shape *shape, uint32_t *out)
{
    enum { HEADER = (sizeof(fad_array) + 31) & ~(size_t)31 };
    fad_status status = FAD_OK;
    bool empty = tape->dry && flags & FAD_IS_DYNAMIC;
    size_t size = empty ? 0 : shape->size * fad_itemsize(dtype);
    char *p = fad_arena_alloc(tape, &tape->arena, HEADER + size, &status);
    if (!p)
        return status;
    fad_array *array = (fad_array *)p;
    array->data = empty ? NULL : p + HEADER;
    array->shape = shape;
    array->strides = shape->strides;
    array->dtype = (uint8_t)dtype;
    fad_value value;
    value.array = array;
    return fad_push(tape, op, flags | FAD_IS_ARRAY | FAD_HAS_ARRAY, a, b, aux, value, out);
}

fad_status fad_side_add(fad_tape *tape, void *record, uint32_t *out)
{
    if (tape->side_count == tape->side_capacity) {
        fad_status status =
            grow_table(tape, &tape->side, sizeof *tape->side, &tape->side_capacity, FAD_NODE_NONE);
        if (status != FAD_OK)
            return status;
    }
    *out = (uint32_t)tape->side_count;
    tape->side[tape->side_count++] = record;
    return FAD_OK;
}

uint32_t fad_structural_parent(const fad_tape *tape, uint32_t node, size_t k)
{
    const fad_node *n = &tape->nodes[node];
    const fad_op_info *info = &fad_ops[n->op];
    switch (n->op) {
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM: {
        const fad_list *list = tape->side[n->aux];
        return k < list->count ? list->nodes[k] : FAD_NODE_NONE;
    }
    case FAD_CUSTOM: {
        const fad_custom *custom = tape->side[n->aux];
        return k < custom->count ? custom->nodes[k] : FAD_NODE_NONE;
    }
    case FAD_SCATTER_ADD:
        if (k == 1)
            return ((const fad_scatter *)tape->side[n->aux])->indices;
        break;
    default:
        if (info->aux == FAD_AUX_NODE && k == (size_t)info->arity - (info->arity == 3))
            return n->aux;
        break;
    }
    return k >= info->arity ? FAD_NODE_NONE : k == 0 ? n->a : n->b;
}
