/* roll_order.c: where every scalar of a trace is, and in which order nodes are looked at. */
#include "roll.h"
#include "try.h"

/* --- where scalars live --- */

/* The offset in the whole of element `flat` of a view of it. */
static size_t through_view(const fad_view *view, size_t flat)
{
    ptrdiff_t at = 0;
    for (size_t s = 0; s < view->whole->ndim; s++)
        at += view->start[s] * view->whole->strides[s];
    for (size_t i = view->part->ndim; i-- > 0;) {
        ptrdiff_t index = (ptrdiff_t)(flat % (size_t)view->part->dims[i]);
        flat /= (size_t)view->part->dims[i];
        if (view->source[i] >= 0)
            at += index * view->step[i] * view->whole->strides[view->source[i]];
    }
    return (size_t)at;
}

static size_t through_strided(const fad_strided *strided, size_t flat)
{
    ptrdiff_t at = strided->start;
    for (size_t i = strided->part->ndim; i-- > 0;) {
        at += (ptrdiff_t)(flat % (size_t)strided->part->dims[i]) * strided->strides[i];
        flat /= (size_t)strided->part->dims[i];
    }
    return (size_t)at;
}

/* One step from an element of a node that only moves elements to the same element of its operand. */
static bool look_through(const fad_tape *tape, uint32_t *node, size_t *offset)
{
    const fad_node *n = &tape->nodes[*node];
    size_t at = *offset;
    uint32_t to = n->a;
    switch (n->op) {
    case FAD_RESHAPE:
        break;
    case FAD_VIEW:
        at = through_view(tape->side[n->aux], at);
        break;
    case FAD_STRIDED:
        at = through_strided(tape->side[n->aux], at);
        break;
    case FAD_STACK:
        to = ((const fad_list *)tape->side[n->aux])->nodes[at];
        at = 0;
        break;
    default:
        return false;
    }
    if (at > UINT32_MAX)
        return false;
    *node = to;
    *offset = at;
    return true;
}

static roll_place place_of_element(const roll *r, uint32_t element)
{
    uint32_t node = r->from->nodes[element].a;
    size_t offset = r->from->nodes[element].aux;
    while (fad_is_array(r->from, node) && roll_is_dynamic(r, node))
        if (!look_through(r->from, &node, &offset))
            return (roll_place){r->places[node].base, (uint32_t)offset};
    /* A scalar, or (were a dynamic node made of constants alone) an array that is not followed. */
    return fad_is_array(r->from, node) ? (roll_place){ROLL_ALONE, element} : r->places[node];
}

static fad_status find_places(roll *r)
{
    const fad_tape *tape = r->from;
    for (size_t i = 0; i < tape->count; i++) {
        uint32_t node = (uint32_t)i;
        r->places[i] = (roll_place){ROLL_ALONE, node};
        if (!roll_is_dynamic(r, node))
            continue;
        if (fad_is_array(tape, node)) {
            r->places[i].offset = 0;
            TRY(roll_new_base(r, FAD_NODE_NONE, node, &r->places[i].base));
        } else if (tape->nodes[i].op == FAD_ELEMENT) {
            r->places[i] = place_of_element(r, node);
        }
    }
    return FAD_OK;
}

/* The node whose value `node` only reads: an element's array, or the scalar that it is. */
static uint32_t holder(const roll *r, uint32_t node)
{
    roll_place p = r->places[node];
    if (fad_is_array(r->from, node))
        return node;
    return p.base == ROLL_ALONE ? p.offset : p.base == ROLL_CONSTANT ? node : r->bases[p.base].source;
}

static void mark_needed(roll *r, const fad_trace *in)
{
    const fad_tape *tape = r->from;
    for (size_t i = 0; i < in->output_count; i++)
        r->levels[in->outputs[i]] = 1;
    for (size_t i = 0; i < in->guard_count; i++)
        r->levels[in->guards[i]] = 1;
    for (size_t i = tape->count; i-- > 0;) {
        uint32_t p, held = holder(r, (uint32_t)i);
        if (!r->levels[i] || !roll_is_dynamic(r, (uint32_t)i))
            continue;
        if (held != i) {
            r->levels[held] = 1;
            continue;
        }
        for (size_t k = 0; (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            r->levels[p] = 1;
    }
}

/* Constants of one value (bit for bit) have one place. */
static fad_status find_constants(roll *r)
{
    const fad_tape *tape = r->from;
    size_t count = 0, size = 64;
    fad_status status = FAD_OK, ignored = FAD_OK;
    for (size_t i = 0; i < tape->count; i++)
        count += r->levels[i] && !(tape->nodes[i].flags & (FAD_IS_DYNAMIC | FAD_IS_ARRAY));
    while (size < 2 * count)
        size *= 2;
    uint32_t *first = fad_resize(r->to, NULL, 0, size * sizeof *first, &status);
    if (!first)
        return status;
    memset(first, 0xff, size * sizeof *first);
    for (size_t i = 0; i < tape->count; i++) {
        if (!r->levels[i] || tape->nodes[i].flags & (FAD_IS_DYNAMIC | FAD_IS_ARRAY))
            continue;
        uint64_t bits;
        memcpy(&bits, &tape->values[i].number, sizeof bits);
        size_t at = (size_t)((bits * 0x9e3779b97f4a7c15u) >> 20) & (size - 1);
        while (first[at] != FAD_NODE_NONE && memcmp(&tape->values[first[at]].number, &bits, sizeof bits) != 0)
            at = (at + 1) & (size - 1);
        if (first[at] == FAD_NODE_NONE)
            first[at] = (uint32_t)i;
        r->places[i] = (roll_place){ROLL_CONSTANT, first[at]};
    }
    fad_resize(r->to, first, size * sizeof *first, 0, &ignored);
    return FAD_OK;
}

/* --- levels and order --- */

/* Appended to the new tape in its turn: not what is an element of something else, a constant or an input. */
static bool is_in_order(const roll *r, uint32_t node)
{
    const fad_node *n = &r->from->nodes[node];
    if (!r->levels[node] || n->op == FAD_OUTPUT)
        return false;
    if (!(n->flags & FAD_IS_DYNAMIC))
        return (n->flags & FAD_IS_ARRAY) != 0;
    return n->op != FAD_VARIABLE && holder(r, node) == node;
}

static uint32_t find_levels(roll *r)
{
    const fad_tape *tape = r->from;
    uint32_t most = 1;
    for (size_t i = 0; i < tape->count; i++) {
        uint32_t p, level = 1, held = holder(r, (uint32_t)i);
        if (!r->levels[i] || !roll_is_dynamic(r, (uint32_t)i))
            continue;
        if (held != i)
            level = r->levels[held];
        for (size_t k = 0; held == i && (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            level = r->levels[p] >= level ? r->levels[p] + (tape->nodes[i].op != FAD_OUTPUT) : level;
        r->levels[i] = level;
        most = level > most ? level : most;
    }
    return most;
}

/* Nodes of one level and kind are looked at together: scalar nodes of one op, others of one op. */
static size_t kind_of(const roll *r, uint32_t node)
{
    return r->from->nodes[node].op + (roll_is_scalar_op(r->from, node) ? 0u : FAD_OP_COUNT);
}

/* A node in the order of the tape within its level. */
typedef struct {
    uint32_t kind, node;
} kinded;

enum { KINDS = 2 * FAD_OP_COUNT, SHORT = 32 };

/* starts[l] becomes where level l starts. */
static void count_levels(const roll *r, size_t *starts, uint32_t most)
{
    memset(starts, 0, ((size_t)most + 2) * sizeof *starts);
    for (size_t i = 0; i < r->from->count; i++)
        if (is_in_order(r, (uint32_t)i))
            starts[r->levels[i] + 1]++;
    for (size_t l = 0; l <= most; l++)
        starts[l + 1] += starts[l];
}

static void insertion_sort(kinded *nodes, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        kinded moved = nodes[i];
        size_t at = i;
        for (; at && nodes[at - 1].kind > moved.kind; at--)
            nodes[at] = nodes[at - 1];
        nodes[at] = moved;
    }
}

/* Appends the n nodes of a level to r->order by kind, and where each kind ends to r->groups. */
static void append_level(roll *r, kinded *nodes, size_t n)
{
    uint32_t *order = r->order + r->ordered;
    size_t ends[KINDS + 1] = {0};
    if (n < SHORT) {
        insertion_sort(nodes, n);
        for (size_t i = 0; i < n; i++) {
            if (i && nodes[i].kind != nodes[i - 1].kind)
                r->groups[r->group_count++] = (uint32_t)(r->ordered + i);
            order[i] = nodes[i].node;
        }
        if (n)
            r->groups[r->group_count++] = (uint32_t)(r->ordered + n);
    } else {
        for (size_t i = 0; i < n; i++)
            ends[nodes[i].kind + 1]++;
        for (size_t k = 0; k < KINDS; k++) {
            if (ends[k + 1])
                r->groups[r->group_count++] = (uint32_t)(r->ordered + ends[k] + ends[k + 1]);
            ends[k + 1] += ends[k];
        }
        for (size_t i = 0; i < n; i++)
            order[ends[nodes[i].kind]++] = nodes[i].node;
    }
    r->ordered += n;
}

/* Needed nodes by level, then kind, then place on the tape. */
static fad_status sort_nodes(roll *r, uint32_t most)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t bytes = ((size_t)most + 2) * sizeof(size_t), start = 0;
    kinded *nodes = (kinded *)r->uses; /* which nobody has counted yet */
    size_t *starts = fad_resize(r->to, NULL, 0, bytes, &status);
    if (!starts)
        return status;
    count_levels(r, starts, most);
    for (size_t i = 0; i < r->from->count; i++)
        if (is_in_order(r, (uint32_t)i))
            nodes[starts[r->levels[i]]++] = (kinded){(uint32_t)kind_of(r, (uint32_t)i), (uint32_t)i};
    for (size_t l = 0; l <= most; start = starts[l++])
        append_level(r, nodes + start, starts[l] - start);
    fad_resize(r->to, starts, bytes, 0, &ignored);
    return FAD_OK;
}

/* The size of the largest group, or of the longest list of scalars. */
static size_t largest_room(const roll *r)
{
    const fad_tape *tape = r->from;
    size_t most = 0;
    for (size_t g = 0, start = 0; g < r->group_count; start = r->groups[g++]) {
        uint16_t op = tape->nodes[r->order[start]].op;
        most = r->groups[g] - start > most ? r->groups[g] - start : most;
        for (size_t i = start; i < r->groups[g] && (op == FAD_NSUM || op == FAD_STACK); i++) {
            size_t count = ((const fad_list *)tape->side[tape->nodes[r->order[i]].aux])->count;
            most = count > most ? count : most;
        }
    }
    return most + 1;
}

fad_status roll_order(roll *r, const fad_trace *in)
{
    TRY(find_places(r));
    mark_needed(r, in);
    TRY(find_constants(r));
    TRY(sort_nodes(r, find_levels(r)));
    r->room = largest_room(r);
    return FAD_OK;
}
