/* roll_sum.c: n-ary sums of scalars as sums over axes of arrays. */
#include "record.h"
#include "roll.h"
#include "try.h"

/* From so many equally spaced slots on, a sum over an axis is shorter than a term a slot. */
enum { FEWEST_SLOTS = 3 };

static fad_status sum_to(roll *r, uint32_t a, size_t ndim, const ptrdiff_t *dims, uint32_t *out)
{
    const fad_shape *shape;
    TRY(fad_shape_intern(r->to, ndim, dims, &shape));
    return fad_record_sum_to(r->to, a, shape, out);
}

/* Terms of a list as one node: of shape `dims` unless there is only one, which may broadcast to it. */
static fad_status add_terms(roll *r, size_t count, uint32_t *terms, size_t ndim, const ptrdiff_t *dims, uint32_t *out)
{
    const fad_shape *shape;
    *out = terms[0];
    if (count == 1)
        return FAD_OK;
    if (count == 2 && !r->strict)
        return fad_record_elementwise(r->to, FAD_ADD, terms, -1, out);
    TRY(fad_shape_intern(r->to, ndim, dims, &shape));
    for (size_t i = 0; i < count; i++)
        TRY(fad_record_broadcast_to(r->to, terms[i], shape, &terms[i]));
    return fad_record_nsum(r->to, count, terms, out);
}

/* --- sums of one arity, side by side --- */

typedef struct {
    size_t arity, ndim;
    ptrdiff_t dims[ROLL_NEST + 1];
    roll_plan *plans;     /* by slot */
    uint32_t *terms;
    size_t term_count;
} sums;

static bool differs_by(const roll_plan *x, const roll_plan *y, ptrdiff_t *d)
{
    const roll_affine *a = &x->affine, *b = &y->affine;
    bool affine = (x->kind == ROLL_AFFINE || x->kind == ROLL_UNIFORM) && x->base >= ROLL_FIRST_ARRAY;
    if (!affine || y->kind != x->kind || x->base != y->base || a->ndim != b->ndim)
        return false;
    *d = b->start - a->start;
    return memcmp(a->dims, b->dims, a->ndim * sizeof *a->dims) == 0 &&
           memcmp(a->strides, b->strides, a->ndim * sizeof *a->strides) == 0;
}

/* How many slots from `slot` on read equally spaced parts of one array; *d is the spacing. */
static size_t spaced_slots(const sums *s, size_t slot, ptrdiff_t *d)
{
    ptrdiff_t next;
    size_t c = 1;
    *d = 0;
    if (slot + 1 == s->arity || !differs_by(&s->plans[slot], &s->plans[slot + 1], d))
        return 1;
    while (slot + c < s->arity && differs_by(&s->plans[slot + c - 1], &s->plans[slot + c], &next) && next == *d)
        c++;
    return c;
}

/* Sum over `c` parts of one array, `d` apart. The new axis is the last where it is dense in memory, else the first,
 * so that the sum runs over whole rows. */
static fad_status sum_over_slots(roll *r, const roll_plan *plan, size_t c, ptrdiff_t d, size_t ndim,
                                 const ptrdiff_t *dims, uint32_t *out)
{
    roll_affine nest = plan->affine;
    size_t n = nest.ndim;
    bool last = d == 1 || d == -1;
    if (plan->kind == ROLL_UNIFORM)
        n = 0;
    if (!last) {
        memmove(nest.dims + 1, nest.dims, n * sizeof *nest.dims);
        memmove(nest.strides + 1, nest.strides, n * sizeof *nest.strides);
    }
    nest.dims[last ? n : 0] = (ptrdiff_t)c;
    nest.strides[last ? n : 0] = d;
    nest.ndim = n + 1;
    TRY(roll_slice(r, plan->base, &nest, false, out));
    nest.dims[n] = last ? 1 : nest.dims[n];
    if (n == 0)
        return sum_to(r, *out, 0, NULL, out);
    TRY(last ? sum_to(r, *out, n + 1, nest.dims, out) : sum_to(r, *out, n, nest.dims + 1, out));
    return roll_reshape(r, *out, ndim, dims, out);
}

static fad_status plan_slots(roll *r, const uint32_t *members, size_t n, sums *s, bool *done)
{
    roll_place *places = r->operands[0];
    for (size_t k = 0; k < s->arity && *done; k++) {
        roll_fill(r, members, n, k, places);
        roll_make_plan(places, n, r->min_width, &s->plans[k]);
        *done = roll_is_worth_it(r, places, n, &s->plans[k]);
    }
    return FAD_OK;
}

static fad_status build_terms(roll *r, const uint32_t *members, size_t n, sums *s)
{
    ptrdiff_t d;
    for (size_t k = 0; k < s->arity;) {
        uint32_t *term = &s->terms[s->term_count++];
        size_t c = r->strict ? 1 : spaced_slots(s, k, &d);
        if (c >= FEWEST_SLOTS) {
            TRY(sum_over_slots(r, &s->plans[k], c, d, s->ndim, s->dims, term));
            k += c;
            continue;
        }
        roll_fill(r, members, n, k, r->operands[0]);
        TRY(roll_build(r, r->operands[0], n, &s->plans[k], s->ndim, s->dims, false, term));
        k++;
    }
    return FAD_OK;
}

static fad_status roll_planned(roll *r, const uint32_t *members, size_t n, sums *s, bool *done)
{
    uint32_t node;
    TRY(plan_slots(r, members, n, s, done));
    if (!*done)
        return FAD_OK;
    s->ndim = roll_common_nest(r, s->plans, s->arity, n, s->dims);
    TRY(build_terms(r, members, n, s));
    TRY(add_terms(r, s->term_count, s->terms, s->ndim, s->dims, &node));
    return roll_settle(r, members, n, s->ndim, s->dims, node);
}

fad_status roll_sums(roll *r, const uint32_t *members, size_t n, bool *done)
{
    sums s = {.arity = roll_arity(r->from, members[0])};
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t item = sizeof *s.plans + sizeof *s.terms;
    *done = s.arity <= SIZE_MAX / item;
    for (size_t i = 1; i < n && *done; i++)
        *done = roll_arity(r->from, members[i]) == s.arity;
    if (!*done)
        return FAD_OK;
    s.plans = fad_resize(r->to, NULL, 0, s.arity * item, &status);
    if (!s.plans)
        return status;
    s.terms = (uint32_t *)(s.plans + s.arity);
    status = roll_planned(r, members, n, &s, done);
    fad_resize(r->to, s.plans, s.arity * item, 0, &ignored);
    return status;
}

/* --- one long sum --- */

/* Sorts 64-bit keys by bytes; bytes that are the same in all are skipped. Returns where they ended up. */
static uint64_t *sort_keys(uint64_t *keys, uint64_t *other, size_t n)
{
    uint64_t varying = 0;
    bool sorted = true;
    for (size_t i = 1; i < n; i++) {
        varying |= keys[i] ^ keys[0];
        sorted = sorted && keys[i - 1] <= keys[i];
    }
    for (int shift = 0; shift < 64 && !sorted; shift += 8) {
        size_t starts[257] = {0};
        if (!(varying >> shift & 255))
            continue;
        for (size_t i = 0; i < n; i++)
            starts[(keys[i] >> shift & 255) + 1]++;
        for (size_t b = 0; b < 256; b++)
            starts[b + 1] += starts[b];
        for (size_t i = 0; i < n; i++)
            other[starts[keys[i] >> shift & 255]++] = keys[i];
        uint64_t *swap = keys;
        keys = other;
        other = swap;
    }
    return keys;
}

typedef struct {
    uint32_t *terms;
    size_t count;
} term_list;

static fad_status sum_part(roll *r, uint32_t base, const roll_affine *affine, term_list *t)
{
    uint32_t part;
    TRY(roll_slice(r, base, affine, false, &part));
    return sum_to(r, part, 0, NULL, &t->terms[t->count++]);
}

static fad_status add_scalars(roll *r, const roll_place *places, size_t n, term_list *t)
{
    for (size_t i = 0; i < n; i++)
        TRY(roll_scalar_at(r, places[i], &t->terms[t->count++]));
    return FAD_OK;
}

/* Elements of one array, in order: a few sums over stretches, or one over all that are gathered. */
static fad_status sum_base(roll *r, const roll_place *places, size_t n, term_list *t)
{
    roll_affine affine;
    size_t pieces = 0, c;
    if (roll_fit(places, n, &affine))
        return sum_part(r, places[0].base, &affine, t);
    for (size_t i = 0; i < n; i += roll_stretch(places + i, n - i))
        pieces++;
    if (pieces > n / r->min_width + 1) {
        uint32_t part;
        TRY(roll_gather(r, places, n, &part));
        return sum_to(r, part, 0, NULL, &t->terms[t->count++]);
    }
    for (size_t i = 0; i < n; i += c) {
        c = roll_stretch(places + i, n - i);
        TRY(c >= r->min_width && roll_fit(places + i, c, &affine) ? sum_part(r, places[i].base, &affine, t)
                                                                  : add_scalars(r, places + i, c, t));
    }
    return FAD_OK;
}

/* Operand places of `node` by base and offset. */
static const roll_place *sorted_places(roll *r, uint32_t node, size_t n)
{
    uint64_t *keys = r->keys;
    for (size_t k = 0; k < n; k++) {
        roll_place p = roll_place_of(r, roll_operand(r->from, node, k));
        keys[k] = (uint64_t)p.base << 32 | p.offset;
    }
    keys = sort_keys(keys, (uint64_t *)r->operands[1], n);
    roll_place *places = r->operands[0];
    for (size_t k = 0; k < n; k++)
        places[k] = (roll_place){(uint32_t)(keys[k] >> 32), (uint32_t)keys[k]};
    return places;
}

fad_status roll_one_sum(roll *r, uint32_t node)
{
    size_t n = roll_arity(r->from, node), c;
    term_list t = {r->classes, 0};
    bool plain = r->strict || n < r->min_width;
    for (size_t k = 0; k < n && plain; k++)
        TRY(roll_scalar(r, roll_operand(r->from, node, k), &t.terms[t.count++]));
    const roll_place *places = plain ? NULL : sorted_places(r, node, n);
    for (size_t i = 0; i < n && !plain; i += c) {
        for (c = 1; i + c < n && places[i + c].base == places[i].base;)
            c++;
        bool wide = c >= r->min_width && places[i].base >= ROLL_FIRST_ARRAY;
        TRY(wide ? sum_base(r, places + i, c, &t) : add_scalars(r, places + i, c, &t));
    }
    if (plain)
        return fad_record_nsum(r->to, t.count, t.terms, &r->map[node]);
    return add_terms(r, t.count, t.terms, 0, NULL, &r->map[node]);
}
