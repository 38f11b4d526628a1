/* pass_views.c: identities of basic indexing: VIEW, its transpose EMBED, and UPDATE_VIEW. All are exact. */
#include "pass.h"
#include "record.h"
#include "try.h"
#include "update.h"

/* How far to look through a chain of updates for the one that wrote what is read. */
enum { MOST_UPDATES = 64 };

fad_status fad_make_part(fad_rewriter *r, uint32_t a, uint32_t side, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_view(r->to, a, side, out));
    return fad_settle(r, mark, *out, out);
}

fad_status fad_make_whole(fad_rewriter *r, uint32_t a, uint32_t side, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_embed(r->to, a, side, out));
    return fad_settle(r, mark, *out, out);
}

/* --- what a view reads --- */

size_t fad_view_reads(const fad_view *view, size_t in_part)
{
    ptrdiff_t at = 0;
    for (size_t s = 0; s < view->whole->ndim; s++)
        at += view->start[s] * view->whole->strides[s];
    for (size_t i = view->part->ndim; i-- > 0;) {
        size_t dim = (size_t)view->part->dims[i];
        ptrdiff_t step = view->source[i] < 0 || dim == 1 ? 0 : view->step[i];
        at += (ptrdiff_t)(in_part % dim) * step * (step ? view->whole->strides[view->source[i]] : 0);
        in_part /= dim;
    }
    return (size_t)at;
}

/* Where along output axis `i` (-1: none) index `at` of source axis `s` is read; -1: nowhere. */
static ptrdiff_t find_along(const fad_view *view, size_t s, int i, ptrdiff_t at)
{
    ptrdiff_t from = at - view->start[s], step = i < 0 || view->part->dims[i] == 1 ? 0 : view->step[i];
    if (step == 0)
        return from == 0 ? 0 : -1;
    return from % step == 0 && from / step >= 0 && from / step < view->part->dims[i] ? from / step : -1;
}

static int output_axis(const fad_view *view, size_t s)
{
    for (size_t i = 0; i < view->part->ndim; i++)
        if (view->source[i] == (int)s)
            return (int)i;
    return -1;
}

bool fad_view_finds(const fad_view *view, size_t at, size_t *in_part)
{
    size_t found = 0;
    if (view->part->size == 0)
        return false;
    for (size_t s = view->whole->ndim; s-- > 0;) {
        size_t dim = (size_t)view->whole->dims[s];
        int i = output_axis(view, s);
        ptrdiff_t index = find_along(view, s, i, (ptrdiff_t)(at % dim));
        if (index < 0)
            return false;
        found += i < 0 ? 0 : (size_t)(index * view->part->strides[i]);
        at /= dim;
    }
    *in_part = found;
    return true;
}

/* First and last index that `view` reads of axis `s`, in order, and the distance between them. */
static void range_along(const fad_view *view, size_t s, ptrdiff_t *low, ptrdiff_t *high, ptrdiff_t *step)
{
    int i = output_axis(view, s);
    ptrdiff_t count = i < 0 ? 1 : view->part->dims[i];
    *step = count > 1 ? view->step[i] : 0;
    *low = *high = view->start[s];
    if (*step < 0)
        *low += (count - 1) * *step;
    else
        *high += (count - 1) * *step;
    *step = *step < 0 ? -*step : *step;
}

/* Whether no element is in both. May say false where one would have to search. */
static bool are_disjoint(const fad_view *v, const fad_view *w)
{
    for (size_t s = 0; s < v->whole->ndim; s++) {
        ptrdiff_t low[2], high[2], step[2];
        range_along(v, s, &low[0], &high[0], &step[0]);
        range_along(w, s, &low[1], &high[1], &step[1]);
        if (high[0] < low[1] || high[1] < low[0])
            return true;
        if (step[0] == step[1] && step[0] > 1 && (low[0] - low[1]) % step[0] != 0)
            return true;
    }
    return false;
}

/* Whether `view` leaves the elements in their order: axes of one element come and go. */
static bool keeps_order(const fad_view *view)
{
    int last = -1;
    for (size_t i = 0; i < view->part->ndim && view->bijective; i++) {
        if (view->part->dims[i] == 1)
            continue;
        if (view->source[i] <= last || view->step[i] != 1)
            return false;
        last = view->source[i];
    }
    return view->bijective;
}

/* --- views made of views --- */

/* The view that reads what `w` reads of what `v` reads. */
static fad_status compose(fad_tape *tape, const fad_view *v, const fad_view *w, uint32_t *side)
{
    ptrdiff_t start[FAD_MAX_NDIM], step[FAD_MAX_NDIM];
    int source[FAD_MAX_NDIM];
    for (size_t s = 0; s < v->whole->ndim; s++)
        start[s] = v->start[s];
    for (size_t s = 0; s < v->part->ndim; s++)
        if (v->source[s] >= 0 && v->part->dims[s] > 1)
            start[v->source[s]] += w->start[s] * v->step[s];
    for (size_t i = 0; i < w->part->ndim; i++) {
        int s = w->source[i];
        source[i] = s < 0 ? -1 : v->source[s];
        step[i] = w->part->dims[i] > 1 ? w->step[i] * v->step[s] : 1;
    }
    return fad_make_view(tape, v->whole, w->part->ndim, w->part->dims, start, step, source, side);
}

/* The view by which the part of `v`, which is a permutation, is read as the whole again. */
static fad_status invert(fad_tape *tape, const fad_view *v, uint32_t *side)
{
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step[FAD_MAX_NDIM];
    int source[FAD_MAX_NDIM];
    for (size_t s = 0; s < v->whole->ndim; s++) {
        source[s] = output_axis(v, s);
        step[s] = source[s] < 0 || v->whole->dims[s] == 1 ? 1 : v->step[source[s]];
        if (step[s] < 0)
            start[source[s]] = v->whole->dims[s] - 1;
    }
    return fad_make_view(tape, v->part, v->whole->ndim, v->whole->dims, start, step, source, side);
}

/* --- the rewrites --- */

/* The array whose elements `view` reads, past the updates that wrote elsewhere. */
static uint32_t before_updates(const fad_tape *tape, uint32_t a, const fad_view *view)
{
    for (int i = 0; i < MOST_UPDATES; i++) {
        const fad_node *n = &tape->nodes[a];
        if (n->op != FAD_UPDATE_VIEW || !are_disjoint(view, tape->side[n->aux]))
            break;
        a = n->a;
    }
    return a;
}

/* A read of one number is an ELEMENT, however it was written: its transpose is less than an array. */
static fad_status read_number(fad_rewriter *r, uint32_t node, uint32_t a, const fad_view *view, uint32_t *out)
{
    size_t at = fad_view_reads(view, 0), mark = r->to->count;
    if (!fad_is_array(r->to, a) || fad_node_dtype(r->to, a) != FAD_F64 || at > UINT32_MAX || fad_is_array(r->to, node))
        return FAD_OK;
    TRY(fad_record_element(r->to, a, at, out));
    return fad_settle(r, mark, *out, out);
}

fad_status fad_rewrite_view(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node];
    const fad_view *view = tape->side[n.aux];
    uint32_t a = before_updates(tape, n.a, view), side = n.aux;
    fad_node of = tape->nodes[a];
    if (view->part->size == 0)
        return FAD_OK;
    if (keeps_order(view) && (of.op == FAD_RESHAPE || view->whole == view->part)) {
        size_t mark = tape->count;
        TRY(fad_record_reshape(tape, a, view->part, out));
        return fad_settle(r, mark, *out, out);
    }
    if ((of.op == FAD_UPDATE_VIEW || of.op == FAD_EMBED) && fad_same_side(FAD_VIEW, view, tape->side[of.aux]))
        return fad_stand_in(r, node, of.op == FAD_EMBED ? of.a : of.b, out);
    if (of.op == FAD_EMBED && are_disjoint(view, tape->side[of.aux]))
        return fad_fill_like(r, node, 0.0, out);
    if (of.op == FAD_BROADCAST_TO && fad_node_shape(tape, of.a)->ndim == 0)
        return fad_stand_in(r, node, of.a, out);
    if (of.op == FAD_VIEW) {
        TRY(compose(tape, tape->side[of.aux], view, &side));
        return fad_make_part(r, of.a, side, out);
    }
    if (view->part->ndim == 0)
        TRY(read_number(r, node, a, view, out));
    return *out != node || a == n.a ? FAD_OK : fad_make_part(r, a, side, out);
}

fad_status fad_rewrite_embed(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node], of = tape->nodes[n.a];
    const fad_view *view = tape->side[n.aux];
    uint32_t side;
    if (view->part->size == 0)
        return FAD_OK;
    if (view->bijective) {
        TRY(invert(tape, view, &side));
        return fad_make_part(r, n.a, side, out);
    }
    if (of.op != FAD_EMBED)
        return FAD_OK;
    TRY(compose(tape, view, tape->side[of.aux], &side));
    return fad_make_whole(r, of.a, side, out);
}

fad_status fad_rewrite_update_view(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node], of = tape->nodes[n.a];
    const fad_view *view = tape->side[n.aux];
    double c, zero = 0;
    size_t mark = tape->count;
    if (view->part->size == 0)
        return fad_stand_in(r, node, n.a, out);
    if (view->bijective || (fad_is_number(tape, n.a, &c) && memcmp(&c, &zero, sizeof c) == 0))
        return fad_make_whole(r, n.b, n.aux, out);
    if (of.op != FAD_UPDATE_VIEW || !fad_same_side(FAD_VIEW, view, tape->side[of.aux]))
        return FAD_OK;
    TRY(fad_record_update_view(tape, of.a, n.b, n.aux, &n.b));
    return fad_settle(r, mark, n.b, out);
}
