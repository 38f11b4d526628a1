/* pass_writes.c: arrays that are written element by element, or row by row, are joined of what was written.
 *
 * Each write of a recording is an array of its own (UPDATE_VIEW): as a program, a copy of all of it. Here a chain of
 * writes is one list of what was written where. Whoever reads one place has the value that was written there; whoever
 * reads the array has a join of all values since somebody read it before, and of what lies between them. So a loop of n
 * writes is n values and one join, which other passes take for what it is: a loop over scalars, with an array of its
 * results. Moves alone: no bit changes.
 *
 * Where a zero may change its sign (not under strict), so may what adds to a few places of such an array: the adjoint of a
 * loop that reads what it has written is a chain of both.
 *
 * All places of an array are of one form: the array is taken for one of three axes (outer, places, inner), and a write
 * goes to one index of the second: a place of neighbours has no outer axis, a column no inner one. */
#include "fastad.h"
#include "pass.h"
#include "record.h"
#include "try.h"

#include <stdlib.h>

#define NONE FAD_NODE_NONE

enum {
    FEW = 16,          /* places that are read as single ones */
    MANY_JOINS = 8,    /* if they are more, */
    WORTH = 16,        /* writes to one join, or all stay as they are: a join is memory of its own */
};

typedef struct {
    size_t outer, inner;
} form;

/* Arrays of which each is the one before with one place written. */
typedef struct {
    uint32_t base, newest;     /* the array before all writes, and that after all */
    uint32_t made;             /* the newest of those that are in the new trace */
    form form;
} chain;

/* What an UPDATE_VIEW of the old trace writes, or a sum at one of its places. */
typedef struct {
    uint32_t chain;
    uint32_t number;           /* of the writes of its chain, from 1 on */
    uint32_t before, earlier;  /* the write before it, and the one before it to the same place, or NONE */
    uint32_t value;            /* in the new trace */
    size_t place;
} one_write;

typedef struct {
    const fad_trace *in;
    fad_trace *out;
    bool strict;
    uint32_t *map;             /* of nodes of `in`; NONE: not there yet */
    uint32_t *written;         /* of nodes of `in`: its last write, or NONE */
    chain *chains;
    size_t chain_count, chain_room;
    one_write *writes;
    size_t write_count, write_room;
    uint32_t *known;           /* the latest write of a chain to a place: open addressing, a power of two; 0: none, else
                                * its number + 1 */
    size_t known_size;
    size_t joined;             /* writes, each as often as it was */
    bool gives_up;             /* they are too many: older and older states are read */
    size_t short_joins;        /* of fewer than WORTH writes, but not of one: that is a write as it was */
} writing;

/* --- the latest writes --- */

static size_t slot(const writing *w, uint32_t number, size_t place)
{
    uint64_t h = (number * UINT64_C(0x9e3779b97f4a7c15)) ^ (place * UINT64_C(0xff51afd7ed558ccd));
    size_t at = (size_t)((h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 20) & (w->known_size - 1);
    for (; w->known[at]; at = (at + 1) & (w->known_size - 1)) {
        const one_write *one = &w->writes[w->known[at] - 1];
        if (one->chain == number && one->place == place)
            break;
    }
    return at;
}

static fad_status grow_known(writing *w)
{
    fad_status status = FAD_OK;
    size_t before = w->known_size, size = before ? 2 * before : 128;
    if (2 * (w->write_count + 1) <= before)
        return FAD_OK;
    uint32_t *known = fad_resize(w->out->tape, NULL, 0, size * sizeof *known, &status);
    if (!known)
        return status;
    fad_resize(w->out->tape, w->known, before * sizeof *known, 0, &status);
    memset(known, 0, size * sizeof *known);
    w->known = known;
    w->known_size = size;
    for (size_t i = 0; i < w->write_count; i++) /* the later of one place stand in the place of the earlier */
        known[slot(w, w->writes[i].chain, w->writes[i].place)] = (uint32_t)i + 1;
    return FAD_OK;
}

/* --- what is a write --- */

/* Whether the elements that `view` shows are neighbours, in their order. */
static bool is_stretch(const fad_view *view)
{
    for (size_t i = 0; i < view->part->ndim; i++) {
        if (view->part->dims[i] == 1)
            continue;
        if (view->source[i] < 0 || view->whole->strides[view->source[i]] * view->step[i] != view->part->strides[i])
            return false;
    }
    return true;
}

/* The one axis of which `view` shows an index, and of all others all, in their order. False: there is none such. */
static bool is_slice(const fad_view *view, size_t *axis)
{
    size_t next = 0, ndim = view->whole->ndim;
    *axis = ndim;
    for (size_t i = 0; i <= view->part->ndim; i++) {
        bool last = i == view->part->ndim;
        if (!last && view->part->dims[i] == 1)
            continue;
        size_t source = last ? ndim : (size_t)view->source[i];
        if (!last && (view->source[i] < 0 || view->step[i] != 1 || view->part->dims[i] != view->whole->dims[source]))
            return false;
        for (; next < source; next++) /* axes that are not shown */
            if (view->whole->dims[next] > 1) {
                if (*axis < ndim)
                    return false;
                *axis = next;
            }
        if (next > source)
            return false;
        next = source + 1;
    }
    return *axis < ndim;
}

/* The place that `view` shows. False: it is none. */
static bool find_place(const fad_view *view, form *f, size_t *place)
{
    const fad_shape *whole = view->whole;
    size_t size = view->part->size, axis, first;
    if (size == 0 || size == whole->size)
        return false;
    first = fad_view_reads(view, 0);
    f->outer = 1;
    f->inner = size;
    *place = first / size;
    if (is_stretch(view) && whole->size % size == 0 && first % size == 0)
        return true;
    if (!is_slice(view, &axis))
        return false;
    f->inner = (size_t)whole->strides[axis];
    f->outer = size / f->inner;
    *place = first / f->inner;
    return true;
}

static bool is_write(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    form f;
    size_t place;
    return n->op == FAD_UPDATE_VIEW && n->flags & FAD_IS_ARRAY && find_place(tape->side[n->aux], &f, &place) &&
           (f.outer * f.inner > 1 || fad_node_dtype(tape, node) == FAD_F64);
}

static bool same_form(form x, form y) { return x.outer == y.outer && x.inner == y.inner; }

/* The write of `version`'s chain to `place` that it shows, or NONE. */
static uint32_t find(const writing *w, uint32_t version, size_t place)
{
    const one_write *newest = &w->writes[w->written[version]];
    uint32_t at = w->known[slot(w, newest->chain, place)];
    for (at = at ? at - 1 : NONE; at != NONE && w->writes[at].number > newest->number;)
        at = w->writes[at].earlier;
    return at;
}

/* --- values --- */

static const fad_node *node_of(const writing *w, uint32_t node) { return &w->in->tape->nodes[node]; }

/* What was written, as a scalar; of a place of one element. */
static fad_status number_of(const writing *w, const one_write *write, uint32_t *out)
{
    *out = write->value;
    return fad_is_array(w->out->tape, *out) ? fad_record_element(w->out->tape, *out, 0, out) : FAD_OK;
}

/* `a` with its outer axis, a second one, and its inner axis; those of one element are left out. */
static fad_status in_form(fad_tape *tape, form f, uint32_t a, uint32_t *out)
{
    const fad_shape *own = fad_node_shape(tape, a), *shape;
    ptrdiff_t dims[3];
    size_t n = 0;
    if (f.outer > 1)
        dims[n++] = (ptrdiff_t)f.outer;
    dims[n++] = (ptrdiff_t)(own->size / f.outer / f.inner);
    if (f.outer > 1 && f.inner > 1)
        dims[n++] = (ptrdiff_t)f.inner;
    else
        dims[n - 1] *= (ptrdiff_t)f.inner;
    TRY(fad_shape_intern(tape, n, dims, &shape));
    *out = a;
    return own == shape ? FAD_OK : fad_record_reshape(tape, a, shape, out);
}

static size_t axis_of(form f) { return f.outer > 1; }

/* Places from .. to-1 of `a`, which is in its form. */
static fad_status cut(fad_tape *tape, form f, uint32_t a, size_t from, size_t to, uint32_t *out)
{
    const fad_shape *whole = fad_node_shape(tape, a);
    const ptrdiff_t step[3] = {1, 1, 1};
    const int source[3] = {0, 1, 2};
    ptrdiff_t start[3] = {0}, dims[3];
    size_t wide = f.outer > 1 ? 1 : f.inner;
    uint32_t side;
    memcpy(dims, whole->dims, whole->ndim * sizeof *dims);
    start[axis_of(f)] = (ptrdiff_t)(from * wide);
    dims[axis_of(f)] = (ptrdiff_t)((to - from) * wide);
    TRY(fad_make_view(tape, whole, whole->ndim, dims, start, step, source, &side));
    return fad_record_view(tape, a, side, out);
}

static fad_status shaped_like(const writing *w, uint32_t like, uint32_t a, uint32_t *out)
{
    const fad_shape *shape;
    TRY(fad_trace_shape(w->out->tape, fad_node_shape(w->in->tape, like), &shape));
    *out = a;
    return fad_node_shape(w->out->tape, a) == shape ? FAD_OK : fad_record_reshape(w->out->tape, a, shape, out);
}

/* --- joins --- */

static int by_place(const void *x, const void *y)
{
    const one_write *a = x, *b = y;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return a->number > b->number ? -1 : a->number < b->number; /* the last of a place first */
}

/* Parts of a join, end to end. */
typedef struct {
    uint32_t *nodes;
    size_t count;
    uint32_t *numbers;         /* those of places of one element that lie side by side */
    size_t number_count;
} parts;

static fad_status add_numbers(fad_tape *tape, parts *p)
{
    size_t count = p->number_count;
    p->number_count = 0;
    return count ? fad_record_stack(tape, count, p->numbers, &p->nodes[p->count++]) : FAD_OK;
}

/* `sorted`: the writes since `before`, one of each place, in order. */
static fad_status join(const writing *w, const one_write *sorted, size_t count, form f, uint32_t before, parts *p,
                       uint32_t *out)
{
    fad_tape *tape = w->out->tape;
    size_t end = 0, places = fad_node_shape(tape, before)->size / f.outer / f.inner;
    uint32_t base = NONE;
    for (size_t i = 0; i <= count; i++) {
        size_t at = i < count ? sorted[i].place : places;
        if (at > end) {
            TRY(add_numbers(tape, p));
            if (base == NONE)
                TRY(in_form(tape, f, before, &base));
            TRY(cut(tape, f, base, end, at, &p->nodes[p->count++]));
        }
        if (i == count)
            break;
        if (f.outer * f.inner == 1)
            TRY(number_of(w, &sorted[i], &p->numbers[p->number_count++]));
        else
            TRY(in_form(tape, f, sorted[i].value, &p->nodes[p->count++]));
        end = at + 1;
    }
    TRY(add_numbers(tape, p));
    *out = p->nodes[0];
    return p->count == 1 ? FAD_OK : fad_record_concatenate(tape, p->count, p->nodes, axis_of(f), out);
}

/* Puts `version` of a chain into the new trace, of what was written since another was. */
static fad_status make(writing *w, uint32_t version)
{
    fad_tape *tape = w->out->tape;
    chain *c = &w->chains[w->writes[w->written[version]].chain];
    fad_status status = FAD_OK, ignored = FAD_OK;
    uint32_t newest = w->writes[w->written[version]].number;
    bool ahead = c->made == c->base || w->writes[w->written[c->made]].number < newest;
    uint32_t before = ahead ? c->made : c->base, joined = NONE;
    size_t count = newest - (before == c->base ? 0 : w->writes[w->written[before]].number), kept = 0;
    if (count == 1) { /* `before` is what it writes to */
        c->made = ahead ? version : c->made;
        return fad_trace_copy(tape, w->in->tape, version, w->map, &w->map[version]);
    }
    size_t bytes = count * sizeof(one_write) + (3 * count + 1) * sizeof(uint32_t);
    w->short_joins += count < WORTH;
    w->joined += count;
    w->gives_up = w->joined / WORTH > w->write_count + FEW;
    if (w->gives_up)
        return FAD_TOO_MANY;
    one_write *sorted = fad_resize(tape, NULL, 0, bytes, &status);
    if (!sorted)
        return status;
    size_t k = count;
    for (uint32_t i = w->written[version]; k > 0; i = w->writes[i].before)
        sorted[--k] = w->writes[i];
    qsort(sorted, count, sizeof *sorted, by_place);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || sorted[i].place != sorted[kept - 1].place)
            sorted[kept++] = sorted[i];
    parts p = {.nodes = (uint32_t *)(void *)(sorted + count)};
    p.numbers = p.nodes + 2 * count + 1;
    status = join(w, sorted, kept, c->form, w->map[before], &p, &joined);
    if (status == FAD_OK)
        status = shaped_like(w, version, joined, &w->map[version]);
    if (ahead)
        c->made = version;
    fad_resize(tape, sorted, bytes, 0, &ignored);
    return status;
}

/* --- writes --- */

static fad_status need(writing *w, uint32_t node)
{
    if (w->map[node] != NONE)
        return FAD_OK;
    if (w->written[node] != NONE)
        return make(w, node);
    return fad_trace_copy(w->out->tape, w->in->tape, node, w->map, &w->map[node]); /* a constant */
}

/* The chain that a write to `array` in places of form `f` goes on with: that of which `array` is the newest state, or
 * another, which begins there. */
static fad_status chain_of(writing *w, uint32_t array, form f, uint32_t *number)
{
    if (w->written[array] != NONE) {
        *number = w->writes[w->written[array]].chain;
        if (w->chains[*number].newest == array && same_form(w->chains[*number].form, f))
            return FAD_OK;
    }
    TRY(need(w, array));
    TRY(fad_make_room(w->out->tape, &w->chains, sizeof *w->chains, w->chain_count + 1, &w->chain_room));
    chain c = {array, array, array, f};
    *number = (uint32_t)w->chain_count;
    w->chains[w->chain_count++] = c;
    return FAD_OK;
}

/* `node` has `value` at a place, and is otherwise the newest of its chain, which it now is. */
static fad_status add_write(writing *w, uint32_t node, uint32_t number, size_t place, uint32_t value)
{
    TRY(fad_make_room(w->out->tape, &w->writes, sizeof *w->writes, w->write_count + 1, &w->write_room));
    TRY(grow_known(w));
    chain *c = &w->chains[number];
    uint32_t before = c->newest == c->base ? NONE : w->written[c->newest];
    one_write one = {number, before == NONE ? 1 : w->writes[before].number + 1, before, NONE, value, place};
    size_t at = slot(w, number, place);
    one.earlier = w->known[at] ? w->known[at] - 1 : NONE;
    w->written[node] = (uint32_t)w->write_count;
    w->writes[w->write_count++] = one;
    w->known[at] = (uint32_t)w->write_count;
    c->newest = node;
    return FAD_OK;
}

static fad_status update(writing *w, uint32_t node)
{
    const fad_node *n = node_of(w, node);
    uint32_t number;
    form f;
    size_t place;
    find_place(w->in->tape->side[n->aux], &f, &place);
    TRY(need(w, n->b));
    TRY(chain_of(w, n->a, f, &number));
    return add_write(w, node, number, place, w->map[n->b]);
}

/* Place `place` of `a`, which is in no chain: an element, or in the shape of its form. */
static fad_status part_at(fad_tape *tape, form f, uint32_t a, size_t place, uint32_t *out)
{
    if (f.outer * f.inner == 1)
        return fad_record_element(tape, a, place, out);
    TRY(in_form(tape, f, a, out));
    return cut(tape, f, *out, place, place + 1, out);
}

/* What is at a place of a version: an element, or in the shape of its form. */
static fad_status at_place(const writing *w, uint32_t version, size_t place, uint32_t *out)
{
    const chain *c = &w->chains[w->writes[w->written[version]].chain];
    uint32_t write = find(w, version, place);
    if (write == NONE)
        return part_at(w->out->tape, c->form, w->map[c->base], place, out);
    return c->form.outer * c->form.inner == 1 ? number_of(w, &w->writes[write], out)
                                              : in_form(w->out->tape, c->form, w->writes[write].value, out);
}

/* Element `at` of a version, as a scalar. */
static fad_status element(const writing *w, uint32_t version, size_t at, uint32_t *out)
{
    const chain *c = &w->chains[w->writes[w->written[version]].chain];
    size_t inner = c->form.inner, places = fad_node_shape(w->in->tape, version)->size / c->form.outer / inner;
    uint32_t write = find(w, version, at / inner % places);
    if (c->form.outer * inner == 1)
        return at_place(w, version, at, out);
    if (write == NONE)
        return fad_record_element(w->out->tape, w->map[c->base], at, out);
    at = at / (inner * places) * inner + at % inner;
    return fad_record_element(w->out->tape, w->writes[write].value, at, out);
}

/* A few places of one element. */
static fad_status few_elements(const writing *w, uint32_t node, const fad_view *view, uint32_t *out)
{
    uint32_t numbers[FEW], list;
    for (size_t k = 0; k < view->part->size; k++)
        TRY(element(w, node_of(w, node)->a, fad_view_reads(view, k), &numbers[k]));
    *out = numbers[0];
    if (!fad_is_array(w->in->tape, node))
        return FAD_OK;
    TRY(fad_record_stack(w->out->tape, view->part->size, numbers, &list));
    return shaped_like(w, node, list, out);
}

/* What ELEMENT or VIEW `node` of a version reads, where that can be said without the version: else `*out` stays NONE. */
static fad_status read(const writing *w, uint32_t node, uint32_t *out)
{
    const fad_node *n = node_of(w, node);
    const chain *c = &w->chains[w->writes[w->written[n->a]].chain];
    if (n->op == FAD_ELEMENT)
        return element(w, n->a, n->aux, out);
    const fad_view *view = w->in->tape->side[n->aux];
    size_t size = view->part->size, most = c->form.outer * c->form.inner == 1 ? FEW : 1, place;
    form f;
    if (fad_node_dtype(w->in->tape, node) == FAD_F64 && size > 0 && size <= most)
        return few_elements(w, node, view, out);
    if (!find_place(view, &f, &place) || !same_form(f, c->form))
        return FAD_OK;
    if (size == 1) /* of a type that has no elements; places are arrays */
        return FAD_OK;
    TRY(at_place(w, n->a, place, out));
    return shaped_like(w, node, *out, out);
}

/* --- sums at places --- */

/* Places of which each has its element of all lanes, and that lie `step` apart. */
typedef struct {
    form form;
    size_t count, first;
    ptrdiff_t step;
} few_places;

static bool find_places(const fad_strided *s, few_places *out)
{
    const fad_shape *part = s->part, *whole = s->whole;
    size_t axis = part->ndim - 1, places;
    if (part->ndim == 0 || part->ndim > 2 || part->size == 0 || part->dims[axis] > FEW)
        return false;
    out->form.inner = 1;
    out->form.outer = part->ndim == 2 ? (size_t)part->dims[0] : 1;
    if (whole->size % out->form.outer)
        return false;
    places = whole->size / out->form.outer;
    if (places < 2 || (out->form.outer > 1 && s->strides[0] != (ptrdiff_t)places))
        return false;
    out->count = (size_t)part->dims[axis];
    out->step = out->count > 1 ? s->strides[axis] : 1;
    ptrdiff_t last = s->start + ((ptrdiff_t)out->count - 1) * out->step, all = (ptrdiff_t)places;
    out->first = (size_t)s->start;
    return out->step != 0 && s->start >= 0 && s->start < all && last >= 0 && last < all;
}

/* Whether `node` adds to a few places of an array: `*array`, and what is added, a STRIDED_ADD. */
static bool is_sum_at_places(const writing *w, uint32_t node, uint32_t *array, uint32_t *added, few_places *places)
{
    const fad_node *n = node_of(w, node);
    if (w->strict || n->op != FAD_ADD || !(n->flags & FAD_IS_ARRAY) || fad_node_dtype(w->in->tape, node) != FAD_F64)
        return false;
    bool first = node_of(w, n->a)->op == FAD_STRIDED_ADD;
    *array = first ? n->b : n->a;
    *added = first ? n->a : n->b;
    const fad_node *s = node_of(w, *added);
    bool same = fad_node_shape(w->in->tape, n->a) == fad_node_shape(w->in->tape, n->b);
    bool written = w->written[*array] != NONE || !(node_of(w, *array)->flags & FAD_IS_DYNAMIC);
    return same && written && s->op == FAD_STRIDED_ADD && s->flags & FAD_IS_DYNAMIC &&
           find_places(w->in->tape->side[s->aux], places);
}

static fad_status add_at_places(writing *w, uint32_t node, uint32_t array, uint32_t added, const few_places *places)
{
    uint32_t part = node_of(w, added)->a, number, pair[2], sum;
    TRY(need(w, part));
    TRY(chain_of(w, array, places->form, &number));
    for (size_t k = 0; k < places->count; k++) {
        size_t place = places->first + (size_t)((ptrdiff_t)k * places->step);
        uint32_t newest = w->chains[number].newest;
        TRY(newest != w->chains[number].base ? at_place(w, newest, place, &pair[0])
                                             : part_at(w->out->tape, places->form, w->map[array], place, &pair[0]));
        TRY(part_at(w->out->tape, places->form, w->map[part], k, &pair[1]));
        TRY(fad_record_elementwise(w->out->tape, FAD_ADD, pair, FAD_F64, &sum));
        TRY(add_write(w, node, number, place, sum));
    }
    return FAD_OK;
}

/* --- the walk --- */

static fad_status copy(writing *w, uint32_t node)
{
    const fad_node *n = node_of(w, node);
    uint32_t p;
    if ((n->op == FAD_VIEW || n->op == FAD_ELEMENT) && w->written[n->a] != NONE) {
        TRY(read(w, node, &w->map[node]));
        if (w->map[node] != NONE)
            return FAD_OK;
    }
    for (size_t k = 0; (p = fad_parent(w->in->tape, node, k)) != NONE; k++)
        TRY(need(w, p));
    return fad_trace_copy(w->out->tape, w->in->tape, node, w->map, &w->map[node]);
}

static fad_status walk(writing *w, uint32_t node)
{
    uint32_t array, added;
    few_places places = {.count = 0};
    if (is_write(w->in->tape, node))
        return update(w, node);
    return is_sum_at_places(w, node, &array, &added, &places) ? add_at_places(w, node, array, added, &places) : copy(w, node);
}

static fad_status copy_all(writing *w)
{
    const fad_trace *in = w->in;
    TRY(fad_trace_begin(w->out, w->out->tape, in));
    for (size_t i = 0; i < in->input_count; i++)
        w->map[in->inputs[i]] = w->out->inputs[i];
    for (uint32_t i = 0; i < in->tape->count; i++) /* constants when they are asked for: not all have a value */
        if (w->map[i] == NONE && in->tape->nodes[i].flags & FAD_IS_DYNAMIC)
            TRY(walk(w, i));
    for (size_t i = 0; i < in->output_count; i++)
        TRY(need(w, in->outputs[i]));
    for (size_t i = 0; i < in->guard_count; i++)
        TRY(need(w, in->guards[i]));
    fad_trace_finish(w->out, in, w->map);
    return FAD_OK;
}

/* Whether a write follows another, or a sum. */
static bool is_worth_a_look(const fad_tape *tape)
{
    for (uint32_t i = 0; i < tape->count; i++)
        if (tape->nodes[i].op == FAD_UPDATE_VIEW &&
            (tape->nodes[tape->nodes[i].a].op == FAD_UPDATE_VIEW || tape->nodes[tape->nodes[i].a].op == FAD_ADD))
            return true;
    return false;
}

fad_status fad_pass_writes(const fad_trace *in, fad_trace *out, bool strict)
{
    fad_tape *tape = out->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    writing w = {.in = in, .out = out, .strict = strict};
    size_t count = in->tape->count, bytes = 2 * (count + 1) * sizeof *w.map;
    if (!is_worth_a_look(in->tape))
        return FAD_OK;
    w.map = fad_resize(tape, NULL, 0, bytes, &status);
    if (!w.map)
        return status;
    w.written = w.map + count + 1;
    memset(w.map, 0xff, bytes);
    status = copy_all(&w);
    if (w.gives_up || (status == FAD_OK && w.short_joins > MANY_JOINS && w.short_joins > w.write_count / WORTH)) {
        fad_tape_reset(tape, 0);
        status = FAD_OK;
    }
    fad_resize(tape, w.known, w.known_size * sizeof *w.known, 0, &ignored);
    fad_resize(tape, w.writes, w.write_room * sizeof *w.writes, 0, &ignored);
    fad_resize(tape, w.chains, w.chain_room * sizeof *w.chains, 0, &ignored);
    fad_resize(tape, w.map, bytes, 0, &ignored);
    return status;
}
