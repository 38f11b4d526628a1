/* pass_writes.c: arrays that are written element by element, or row by row, are joined of what was written.
 *
 * Each write of a recording is an array of its own (UPDATE_VIEW): as a program, a copy of all of it. Here a chain of
 * writes is one list of what was written where. Whoever reads one place has the value that was written there; whoever
 * reads the array has a join of all values since somebody read it before, and of what lies between them. So a loop of n
 * writes is n values and one join, which other passes take for what it is: a loop over scalars, with an array of its
 * results. Moves alone: no bit changes.
 *
 * All places of an array are of one form: the array is taken for one of three axes (outer, places, inner), and a write
 * goes to one index of the second: a place of neighbours has no outer axis, a column no inner one. */
#include "fastad.h"
#include "pass.h"
#include "record.h"
#include "try.h"

#include <stdlib.h>

#define NONE FAD_NODE_NONE

enum { FEW = 16 }; /* places that are read as single ones */

typedef struct {
    size_t outer, inner;
} form;

/* Arrays of which each is the one before with one place written. */
typedef struct {
    uint32_t base, newest;     /* the array before all writes, and that after all */
    uint32_t made;             /* the newest of those that are in the new trace */
    form form;
} chain;

/* An UPDATE_VIEW of the old trace. */
typedef struct {
    uint32_t node, chain;
    uint32_t number;           /* of the writes of its chain, from 1 on */
    uint32_t earlier;          /* the write before it to the same place, or NONE */
    size_t place;
} one_write;

typedef struct {
    const fad_trace *in;
    fad_trace *out;
    uint32_t *map;             /* of nodes of `in`; NONE: not there yet */
    uint32_t *written;         /* of nodes of `in`: its write, or NONE */
    chain *chains;
    size_t chain_count, chain_room;
    one_write *writes;
    size_t write_count, write_room;
    uint32_t *known;           /* the latest write of a chain to a place: open addressing, a power of two; 0: none, else
                                * its number + 1 */
    size_t known_size;
} writing;

/* --- lists --- */

static fad_status grow(fad_tape *tape, void *array, size_t item, size_t count, size_t *room)
{
    void **p = array;
    if (count < *room)
        return FAD_OK;
    fad_status status = FAD_OK;
    size_t larger = *room ? 2 * *room : 64;
    if (count >= NONE - 1 || larger > SIZE_MAX / item)
        return FAD_TOO_MANY;
    void *grown = fad_resize(tape, *p, *room * item, larger * item, &status);
    if (!grown)
        return status;
    *p = grown;
    *room = larger;
    return FAD_OK;
}

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
static fad_status number_of(const writing *w, uint32_t write, uint32_t *out)
{
    uint32_t value = w->map[node_of(w, w->writes[write].node)->b];
    *out = value;
    return fad_is_array(w->out->tape, value) ? fad_record_element(w->out->tape, value, 0, out) : FAD_OK;
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
            TRY(number_of(w, w->written[sorted[i].node], &p->numbers[p->number_count++]));
        else
            TRY(in_form(tape, f, w->map[node_of(w, sorted[i].node)->b], &p->nodes[p->count++]));
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
    if (count == 1) { /* `before` is its operand */
        c->made = ahead ? version : c->made;
        return fad_trace_copy(tape, w->in->tape, version, w->map, &w->map[version]);
    }
    size_t bytes = count * sizeof(one_write) + (3 * count + 1) * sizeof(uint32_t);
    one_write *sorted = fad_resize(tape, NULL, 0, bytes, &status);
    if (!sorted)
        return status;
    size_t k = count;
    for (uint32_t i = version; k > 0; i = node_of(w, i)->a)
        sorted[--k] = w->writes[w->written[i]];
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

/* --- the walk --- */

static fad_status need(writing *w, uint32_t node)
{
    if (w->map[node] != NONE)
        return FAD_OK;
    if (w->written[node] != NONE)
        return make(w, node);
    return fad_trace_copy(w->out->tape, w->in->tape, node, w->map, &w->map[node]); /* a constant */
}

static fad_status add_write(writing *w, uint32_t node)
{
    const fad_node *n = node_of(w, node);
    uint32_t before = w->written[n->a], number = NONE;
    form f;
    size_t place;
    find_place(w->in->tape->side[n->aux], &f, &place);
    TRY(need(w, n->b));
    if (before != NONE) {
        const chain *c = &w->chains[w->writes[before].chain];
        if (c->newest == n->a && same_form(c->form, f))
            number = w->writes[before].chain;
    }
    if (number == NONE) {
        TRY(need(w, n->a));
        TRY(grow(w->out->tape, &w->chains, sizeof *w->chains, w->chain_count, &w->chain_room));
        chain c = {n->a, n->a, n->a, f};
        number = (uint32_t)w->chain_count;
        w->chains[w->chain_count++] = c;
        before = NONE;
    }
    TRY(grow(w->out->tape, &w->writes, sizeof *w->writes, w->write_count, &w->write_room));
    TRY(grow_known(w));
    one_write one = {node, number, before == NONE ? 1 : w->writes[before].number + 1, NONE, place};
    size_t at = slot(w, number, one.place);
    one.earlier = w->known[at] ? w->known[at] - 1 : NONE;
    w->written[node] = (uint32_t)w->write_count;
    w->writes[w->write_count++] = one;
    w->known[at] = (uint32_t)w->write_count;
    w->chains[number].newest = node;
    return FAD_OK;
}

/* Element `at` of a version, as a scalar. */
static fad_status element(const writing *w, uint32_t version, size_t at, uint32_t *out)
{
    const chain *c = &w->chains[w->writes[w->written[version]].chain];
    size_t inner = c->form.inner, places = fad_node_shape(w->in->tape, version)->size / c->form.outer / inner;
    uint32_t write = find(w, version, at / inner % places);
    if (write == NONE)
        return fad_record_element(w->out->tape, w->map[c->base], at, out);
    if (c->form.outer * inner == 1)
        return number_of(w, write, out);
    at = at / (inner * places) * inner + at % inner;
    return fad_record_element(w->out->tape, w->map[node_of(w, w->writes[write].node)->b], at, out);
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
    uint32_t write = find(w, n->a, place);
    if (write != NONE)
        return shaped_like(w, node, w->map[node_of(w, w->writes[write].node)->b], out);
    TRY(in_form(w->out->tape, f, w->map[c->base], out));
    TRY(cut(w->out->tape, f, *out, place, place + 1, out));
    return shaped_like(w, node, *out, out);
}

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

static fad_status copy_all(writing *w)
{
    const fad_trace *in = w->in;
    TRY(fad_trace_begin(w->out, w->out->tape, in));
    for (size_t i = 0; i < in->input_count; i++)
        w->map[in->inputs[i]] = w->out->inputs[i];
    for (uint32_t i = 0; i < in->tape->count; i++) /* constants when they are asked for: not all have a value */
        if (w->map[i] == NONE && in->tape->nodes[i].flags & FAD_IS_DYNAMIC)
            TRY(is_write(in->tape, i) ? add_write(w, i) : copy(w, i));
    for (size_t i = 0; i < in->output_count; i++)
        TRY(need(w, in->outputs[i]));
    for (size_t i = 0; i < in->guard_count; i++)
        TRY(need(w, in->guards[i]));
    fad_trace_finish(w->out, in, w->map);
    return FAD_OK;
}

/* Whether a write follows another. */
static bool is_worth_a_look(const fad_tape *tape)
{
    for (uint32_t i = 0; i < tape->count; i++)
        if (tape->nodes[i].op == FAD_UPDATE_VIEW && tape->nodes[tape->nodes[i].a].op == FAD_UPDATE_VIEW)
            return true;
    return false;
}

fad_status fad_pass_writes(const fad_trace *in, fad_trace *out)
{
    fad_tape *tape = out->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    writing w = {.in = in, .out = out};
    size_t count = in->tape->count, bytes = 2 * (count + 1) * sizeof *w.map;
    if (!is_worth_a_look(in->tape))
        return FAD_OK;
    w.map = fad_resize(tape, NULL, 0, bytes, &status);
    if (!w.map)
        return status;
    w.written = w.map + count + 1;
    memset(w.map, 0xff, bytes);
    status = copy_all(&w);
    fad_resize(tape, w.known, w.known_size * sizeof *w.known, 0, &ignored);
    fad_resize(tape, w.writes, w.write_room * sizeof *w.writes, 0, &ignored);
    fad_resize(tape, w.chains, w.chain_room * sizeof *w.chains, 0, &ignored);
    fad_resize(tape, w.map, bytes, 0, &ignored);
    return status;
}
