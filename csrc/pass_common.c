/* pass_common.c: common subexpressions. A node is known by what it does: its op, operands, type and shape, and what
 * its side record says. Two that do the same are one. CUSTOM nodes are never merged: their rules may remember.
 *
 * Rows that the table lets swap match in either order, under strict as well where the table says bit for bit (x + y
 * and y + x differ only in which NaN they give). A node keeps the order it was written in: sorting its operands would
 * make the copies of a loop's body unlike one another. */
#include "pass.h"
#include "try.h"

/* --- hashing --- */

static inline uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t mix_bytes(uint64_t h, const char *bytes, size_t count)
{
    uint64_t word;
    for (; count >= sizeof word; count -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        h = mix(h, word);
    }
    for (; count; count--)
        h = mix(h, (unsigned char)*bytes++);
    return h;
}

static uint64_t mix_nodes(uint64_t h, size_t count, const uint32_t *nodes)
{
    h = mix(h, count);
    for (size_t i = 0; i < count; i++)
        h = mix(h, nodes[i]);
    return h;
}

static uint64_t mix_view(uint64_t h, const fad_view *view)
{
    h = mix(h, (uint64_t)view->whole->id << 32 | view->part->id);
    for (size_t s = 0; s < view->whole->ndim; s++)
        h = mix(h, (uint64_t)view->start[s]);
    for (size_t i = 0; i < view->part->ndim; i++)
        h = mix(mix(h, (uint64_t)view->step[i]), (uint64_t)view->source[i]);
    return h;
}

static uint64_t mix_strided(uint64_t h, const fad_strided *s)
{
    h = mix(mix(h, (uint64_t)s->whole->id << 32 | s->part->id), (uint64_t)s->start);
    for (size_t i = 0; i < s->part->ndim; i++)
        h = mix(h, (uint64_t)s->strides[i]);
    return h;
}

static uint64_t mix_side(uint64_t h, int op, const void *side)
{
    const fad_list *list = side;
    switch (op) {
    case FAD_VIEW:
    case FAD_EMBED:
    case FAD_UPDATE_VIEW:
        return mix_view(h, side);
    case FAD_STRIDED:
    case FAD_STRIDED_ADD:
        return mix_strided(h, side);
    case FAD_SCATTER_ADD:
        return mix(h, ((const fad_scatter *)side)->indices);
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM:
        return mix_nodes(mix(h, (uint64_t)list->axis), list->count, list->nodes);
    default: /* a row that nobody described here: fad_same_side finds no two alike */
        return h;
    }
}

/* How many bytes say what a constant is: one element's, where they are all the same. */
static size_t constant_bytes(const fad_array *a)
{
    return (fad_repeats(a) ? 1 : a->shape->size) * fad_itemsize(a->dtype);
}

static uint64_t mix_constant(uint64_t h, const fad_tape *tape, uint32_t node)
{
    const fad_array *a = tape->values[node].array;
    uint64_t bits;
    if (fad_is_array(tape, node))
        return mix_bytes(h, a->data, constant_bytes(a));
    memcpy(&bits, &tape->values[node].number, sizeof bits);
    return mix(h, bits);
}

static inline bool swaps(const fad_rewriter *r, int op)
{
    return fad_ops[op].swap == FAD_SWAP_YES || (fad_ops[op].swap == FAD_SWAP_LOOSE && !r->strict);
}

static uint64_t mix_operands(uint64_t h, const fad_rewriter *r, const fad_node *n)
{
    const fad_op_info *info = &fad_ops[n->op];
    uint64_t a = n->a, b = info->arity == 2 || info->arity == 3 ? n->b : 0;
    if (info->arity == 0 || info->arity == FAD_MANY)
        return h;
    bool turned = a > b && swaps(r, n->op);
    return mix(h, turned ? b << 32 | a : a << 32 | b);
}

static uint32_t hash(const fad_rewriter *r, uint32_t node)
{
    const fad_tape *tape = r->to;
    const fad_node *n = &tape->nodes[node];
    const fad_op_info *info = &fad_ops[n->op];
    uint64_t h = mix_operands(n->op, r, n);
    if (n->flags & FAD_IS_ARRAY) {
        const fad_array *a = tape->values[node].array;
        h = mix(h, (uint64_t)a->shape->id << 8 | a->dtype | 128);
    }
    if (info->aux == FAD_AUX_NODE || info->aux == FAD_AUX_NUMBER)
        h = mix(h, n->aux);
    else if (info->aux == FAD_AUX_SIDE)
        h = mix_side(h, n->op, tape->side[n->aux]);
    else if (n->op == FAD_CONSTANT)
        h = mix_constant(h, tape, node);
    return (uint32_t)(h >> 32);
}

/* --- comparing --- */

static bool same_view(const fad_view *v, const fad_view *w)
{
    if (v->whole != w->whole || v->part != w->part)
        return false;
    for (size_t s = 0; s < v->whole->ndim; s++)
        if (v->start[s] != w->start[s])
            return false;
    for (size_t i = 0; i < v->part->ndim; i++)
        if (v->step[i] != w->step[i] || v->source[i] != w->source[i])
            return false;
    return true;
}

static bool same_strided(const fad_strided *s, const fad_strided *t)
{
    if (s->whole != t->whole || s->part != t->part || s->start != t->start)
        return false;
    for (size_t i = 0; i < s->part->ndim; i++)
        if (s->strides[i] != t->strides[i])
            return false;
    return true;
}

static bool same_list(const fad_list *v, const fad_list *w)
{
    return v->axis == w->axis && v->count == w->count && memcmp(v->nodes, w->nodes, v->count * sizeof *v->nodes) == 0;
}

bool fad_same_side(int op, const void *x, const void *y)
{
    switch (op) {
    case FAD_VIEW:
    case FAD_EMBED:
    case FAD_UPDATE_VIEW:
        return same_view(x, y);
    case FAD_STRIDED:
    case FAD_STRIDED_ADD:
        return same_strided(x, y);
    case FAD_SCATTER_ADD:
        return ((const fad_scatter *)x)->indices == ((const fad_scatter *)y)->indices;
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM:
        return same_list(x, y);
    default:
        return false;
    }
}

static bool same_constant(const fad_tape *tape, uint32_t i, uint32_t j)
{
    const fad_value *v = &tape->values[i], *w = &tape->values[j];
    if (!fad_is_array(tape, i))
        return memcmp(&v->number, &w->number, sizeof v->number) == 0;
    size_t bytes = constant_bytes(v->array);
    return bytes == constant_bytes(w->array) && memcmp(v->array->data, w->array->data, bytes) == 0;
}

static bool same_operands(const fad_rewriter *r, const fad_node *n, const fad_node *m)
{
    const fad_op_info *info = &fad_ops[n->op];
    if (info->arity == 0 || info->arity == FAD_MANY)
        return true;
    if (info->arity == 1)
        return n->a == m->a;
    return (n->a == m->a && n->b == m->b) ||
           (n->a == m->b && n->b == m->a && swaps(r, n->op));
}

static bool same(const fad_rewriter *r, uint32_t i, uint32_t j)
{
    const fad_tape *tape = r->to;
    const fad_node *n = &tape->nodes[i], *m = &tape->nodes[j];
    const fad_op_info *info = &fad_ops[n->op];
    if (n->op != m->op || (n->flags ^ m->flags) & FAD_IS_ARRAY || !same_operands(r, n, m))
        return false;
    if (n->flags & FAD_IS_ARRAY) {
        const fad_array *v = tape->values[i].array, *w = tape->values[j].array;
        if (v->shape != w->shape || v->dtype != w->dtype)
            return false;
    }
    if (info->aux == FAD_AUX_NODE || info->aux == FAD_AUX_NUMBER)
        return n->aux == m->aux;
    if (info->aux == FAD_AUX_SIDE)
        return fad_same_side(n->op, tape->side[n->aux], tape->side[m->aux]);
    return n->op != FAD_CONSTANT || same_constant(tape, i, j);
}

/* --- the table of what is known ---
 * Recordings are local: operands are mostly recent. So a node is looked for near a place that goes with its youngest
 * operand, in a window that is in the cache, and only where that is crowded at a place that goes with its hash. */

enum { WINDOW = 256, LOCAL_PROBES = 8 };

static uint32_t youngest_operand(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    const fad_op_info *info = &fad_ops[n->op];
    if (info->arity == FAD_MANY) {
        const fad_list *list = tape->side[n->aux];
        return list->count ? list->nodes[list->count - 1] : 0;
    }
    uint32_t youngest = info->arity == 0 ? 0 : n->a;
    if (info->arity > 1 && n->b > youngest)
        youngest = n->b;
    return info->arity == 3 && n->aux > youngest ? n->aux : youngest;
}

static inline fad_known *slot_of(const fad_rewriter *r, size_t anchor, uint32_t h, size_t probe)
{
    size_t at = probe < LOCAL_PROBES ? (anchor * r->known_spacing >> 16) + (h + probe) % WINDOW
                                     : (h * (size_t)0x9e3779b97f4a7c15u >> 16) + probe;
    return &r->known[at & (r->known_size - 1)];
}

static fad_known *free_slot(const fad_rewriter *r, uint32_t node, uint32_t h)
{
    size_t anchor = youngest_operand(r->to, node), probe = 0;
    while (slot_of(r, anchor, h, probe)->node)
        probe++;
    return slot_of(r, anchor, h, probe);
}

/* A larger table; `expected`: nodes in all, as far as one knows. */
static fad_status new_table(fad_rewriter *r, size_t size, size_t expected)
{
    fad_status status = FAD_OK;
    fad_known *known = r->known;
    size_t old_size = r->known_size;
    if (size > SIZE_MAX / sizeof *known)
        return FAD_NO_MEMORY;
    r->known = fad_resize(r->to, NULL, 0, size * sizeof *known, &status);
    if (!r->known) {
        r->known = known;
        return status;
    }
    memset(r->known, 0, size * sizeof *known);
    r->known_size = size;
    r->known_spacing = (size << 16) / expected;
    for (size_t i = 0; i < old_size; i++)
        if (known[i].node)
            *free_slot(r, known[i].node - 1, known[i].hash) = known[i];
    fad_resize(r->to, known, old_size * sizeof *known, 0, &status);
    return FAD_OK;
}

fad_status fad_expect_nodes(fad_rewriter *r, size_t count)
{
    size_t size = 2 * WINDOW;
    while (size / 4 * 3 < count)
        size *= 2;
    return new_table(r, size, count + 1);
}

fad_status fad_unify(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    if (r->known_count >= r->known_size / 4 * 3)
        TRY(new_table(r, r->known_size * 2, r->known_size));
    uint32_t h = hash(r, node);
    size_t anchor = youngest_operand(tape, node);
    fad_known *at;
    for (size_t probe = 0; (at = slot_of(r, anchor, h, probe))->node; probe++) {
        uint32_t older = at->node - 1;
        if (at->hash != h || !same(r, older, node))
            continue;
        tape->nodes[older].flags |= FAD_MARKED;
        if (node + 1 == tape->count)
            tape->count--;
        *out = older;
        return FAD_OK;
    }
    *at = (fad_known){h, node + 1};
    r->known_count++;
    *out = node;
    return FAD_OK;
}
