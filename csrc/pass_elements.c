/* pass_elements.c: identities of single elements, of lists of them, and of flat indices. */
#include "pass.h"
#include "record.h"
#include "try.h"

/* How many nodes to look through for the one that made an element. */
enum { MOST_STEPS = 64 };

/* --- one element --- */

/* Element `at` of `node`; a scalar node is an element itself. `zero`: it is 0. */
typedef struct {
    uint32_t node;
    size_t at;
    bool zero;
} place;

/* The element that broadcasting to `shape` repeats as element `at`. */
static size_t before_broadcast(const fad_shape *from, const fad_shape *shape, size_t at)
{
    size_t found = 0;
    for (size_t i = shape->ndim; i-- > 0;) {
        size_t index = at % (size_t)shape->dims[i], own = i + from->ndim - shape->ndim;
        at /= (size_t)shape->dims[i];
        if (i + from->ndim >= shape->ndim && from->dims[own] > 1)
            found += index * (size_t)from->strides[own];
    }
    return found;
}

static bool step_concatenate(const fad_tape *tape, const fad_shape *shape, place *p)
{
    const fad_list *list = tape->side[tape->nodes[p->node].aux];
    size_t axis = (size_t)list->axis, inner = (size_t)shape->strides[axis];
    size_t rest = p->at % inner, outer = p->at / inner / (size_t)shape->dims[axis];
    size_t index = p->at / inner % (size_t)shape->dims[axis];
    for (size_t i = 0; i < list->count; i++) {
        size_t dim = (size_t)fad_node_shape(tape, list->nodes[i])->dims[axis];
        if (index < dim) {
            p->node = list->nodes[i];
            p->at = (outer * dim + index) * inner + rest;
            return true;
        }
        index -= dim;
    }
    return false;
}

static bool step_update(const fad_tape *tape, const fad_node *n, place *p)
{
    bool inside = fad_view_finds(tape->side[n->aux], p->at, &p->at);
    if (n->op == FAD_EMBED) {
        p->zero = !inside;
        p->node = n->a;
    } else {
        p->node = inside ? n->b : n->a;
    }
    return true;
}

/* One node back; false where the element is made at `p`. */
static bool step_back(const fad_tape *tape, place *p)
{
    const fad_node *n = &tape->nodes[p->node];
    const fad_shape *shape = fad_node_shape(tape, p->node);
    if (!(n->flags & FAD_IS_ARRAY) || p->zero)
        return false;
    switch (n->op) {
    case FAD_RESHAPE:
        break;
    case FAD_VIEW:
        p->at = fad_view_reads(tape->side[n->aux], p->at);
        break;
    case FAD_BROADCAST_TO:
        p->at = before_broadcast(fad_node_shape(tape, n->a), shape, p->at);
        break;
    case FAD_STACK:
        p->node = ((const fad_list *)tape->side[n->aux])->nodes[p->at];
        return true;
    case FAD_CONCATENATE:
        return step_concatenate(tape, shape, p);
    case FAD_EMBED:
    case FAD_UPDATE_VIEW:
        return step_update(tape, n, p);
    default:
        return false;
    }
    p->node = n->a;
    return true;
}

/* Exact: an element is read where it was made. */
fad_status fad_rewrite_element(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    place p = {tape->nodes[node].a, tape->nodes[node].aux, false};
    for (int i = 0; i < MOST_STEPS && step_back(tape, &p); i++) {
    }
    if (p.zero)
        return fad_make_number(r, 0.0, out);
    if (!fad_is_array(tape, p.node)) {
        *out = p.node;
        return FAD_OK;
    }
    if (p.node == tape->nodes[node].a || p.at > UINT32_MAX)
        return FAD_OK;
    size_t mark = tape->count;
    TRY(fad_record_element(tape, p.node, p.at, out));
    return fad_settle(r, mark, *out, out);
}

/* --- elements in arithmetic progression --- */

typedef struct {
    ptrdiff_t start, step;
} progression;

/* `a` as one axis. */
static fad_status flatten(fad_rewriter *r, uint32_t a, uint32_t *out)
{
    const fad_shape *flat;
    ptrdiff_t size = (ptrdiff_t)fad_node_shape(r->to, a)->size;
    TRY(fad_shape_intern(r->to, 1, &size, &flat));
    return fad_make_reshape(r, a, flat, out);
}

static fad_status flat_view(fad_tape *tape, size_t size, size_t count, progression p, uint32_t *side)
{
    const fad_shape *flat;
    ptrdiff_t all = (ptrdiff_t)size, dim = (ptrdiff_t)count;
    int source = 0;
    TRY(fad_shape_intern(tape, 1, &all, &flat));
    return fad_make_view(tape, flat, 1, &dim, &p.start, &p.step, &source, side);
}

/* Elements start, start + step, ... of `a`, in the shape of `node`. */
static fad_status read_progression(fad_rewriter *r, uint32_t node, uint32_t a, progression p, uint32_t *out)
{
    fad_tape *tape = r->to;
    const fad_shape *shape = fad_node_shape(tape, node);
    uint32_t side, part;
    if (!fad_is_array(tape, a))
        return FAD_OK;
    TRY(flat_view(tape, fad_node_shape(tape, a)->size, shape->size, p, &side));
    TRY(flatten(r, a, &part));
    TRY(fad_make_part(r, part, side, &part));
    return fad_make_reshape(r, part, shape, out);
}

/* Constant indices in arithmetic progression, none twice. */
static bool is_progression(const fad_tape *tape, uint32_t indices, progression *p)
{
    if (tape->nodes[indices].op != FAD_CONSTANT)
        return false;
    const fad_array *array = tape->values[indices].array;
    const int64_t *at = (const int64_t *)array->data;
    size_t count = array->shape->size;
    if (count == 0)
        return false;
    *p = (progression){(ptrdiff_t)at[0], count > 1 ? (ptrdiff_t)(at[1] - at[0]) : 1};
    for (size_t i = 1; i < count; i++)
        if (at[i] - at[i - 1] != p->step)
            return false;
    return p->step != 0;
}

/* Exact. Integers may be indices of another GATHER, which wants them contiguous. */
fad_status fad_rewrite_gather(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    progression p;
    if (fad_node_dtype(r->to, node) == FAD_I64)
        return FAD_OK;
    return is_progression(r->to, n.aux, &p) ? read_progression(r, node, n.a, p, out) : FAD_OK;
}

/* Not strict: 0 + -0 is +0, a copy of -0 is not. */
fad_status fad_rewrite_scatter(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node];
    const fad_scatter *scatter = tape->side[n.aux];
    const fad_shape *shape = scatter->shape;
    progression p;
    uint32_t side, whole;
    if (r->strict || !fad_is_array(tape, n.a) || !is_progression(tape, scatter->indices, &p))
        return FAD_OK;
    TRY(flat_view(tape, shape->size, fad_node_shape(tape, n.a)->size, p, &side));
    TRY(flatten(r, n.a, &whole));
    TRY(fad_make_whole(r, whole, side, &whole));
    return fad_make_reshape(r, whole, shape, out);
}

/* --- lists --- */

/* Elements in arithmetic progression of one array, or (step 0) one scalar again and again. */
static bool is_stacked_progression(const fad_tape *tape, const fad_list *list, uint32_t *of, progression *p)
{
    const fad_node *first = &tape->nodes[list->nodes[0]];
    *p = (progression){first->aux, 0};
    *of = first->a;
    if (first->op != FAD_ELEMENT)
        return false;
    p->step = list->count > 1 ? (ptrdiff_t)tape->nodes[list->nodes[1]].aux - p->start : 1;
    for (size_t i = 1; i < list->count; i++) {
        const fad_node *n = &tape->nodes[list->nodes[i]];
        if (n->op != FAD_ELEMENT || n->a != *of || (ptrdiff_t)n->aux - p->start != (ptrdiff_t)i * p->step)
            return false;
    }
    return p->step != 0;
}

static bool is_repetition(const fad_list *list)
{
    for (size_t i = 1; i < list->count; i++)
        if (list->nodes[i] != list->nodes[0])
            return false;
    return true;
}

/* Exact. */
fad_status fad_rewrite_stack(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    const fad_list *list = r->to->side[r->to->nodes[node].aux];
    uint32_t of;
    progression p;
    if (list->count == 0)
        return FAD_OK;
    if (is_stacked_progression(r->to, list, &of, &p))
        return read_progression(r, node, of, p, out);
    return is_repetition(list) ? fad_stand_in(r, node, list->nodes[0], out) : FAD_OK;
}

/* Exact. */
fad_status fad_rewrite_concatenate(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    const fad_list *list = r->to->side[r->to->nodes[node].aux];
    return list->count == 1 ? fad_stand_in(r, node, list->nodes[0], out) : FAD_OK;
}
