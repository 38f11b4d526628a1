/* roll_pattern.c: order in lists of places. */
#include "roll.h"

enum { MOST_PERIOD = 512, MOST_TESTED = 4096 };

static bool same_base(const roll_place *places, size_t n)
{
    uint32_t other = 0;
    for (size_t i = 1; i < n; i++)
        other |= places[i].base ^ places[0].base;
    return !other;
}

static ptrdiff_t step_at(const roll_place *places, size_t i, size_t step)
{
    return (ptrdiff_t)places[i + step].offset - (ptrdiff_t)places[i].offset;
}

/* How many of `count` places, `step` apart, are `d` apart each from the last. */
static size_t run_length(const roll_place *places, size_t count, size_t step, ptrdiff_t d)
{
    size_t c = 1;
    while (c < count && step_at(places, (c - 1) * step, step) == d)
        c++;
    return c;
}

bool roll_fit(const roll_place *places, size_t n, roll_affine *out)
{
    ptrdiff_t dims[ROLL_NEST], strides[ROLL_NEST];
    size_t depth = 0, step = 1, count = n;
    if (n == 0 || !same_base(places, n))
        return false;
    for (; count > 1 && depth < ROLL_NEST; depth++) {
        ptrdiff_t d = step_at(places, 0, step);
        size_t c = run_length(places, count, step, d);
        if (count % c)
            return false;
        for (size_t g = c; g < count; g += c)
            if (run_length(places + g * step, c, step, d) != c)
                return false;
        dims[depth] = (ptrdiff_t)c;
        strides[depth] = d;
        step *= c;
        count /= c;
    }
    if (count > 1)
        return false;
    out->start = places[0].offset;
    out->ndim = depth ? depth : 1;
    out->dims[0] = 1;
    out->strides[0] = 0;
    for (size_t i = 0; i < depth; i++) {
        out->dims[i] = dims[depth - 1 - i];
        out->strides[i] = strides[depth - 1 - i];
    }
    return true;
}

ptrdiff_t roll_offset(const roll_affine *affine, size_t flat)
{
    ptrdiff_t at = affine->start;
    for (size_t d = affine->ndim; d-- > 0;) {
        at += (ptrdiff_t)(flat % (size_t)affine->dims[d]) * affine->strides[d];
        flat /= (size_t)affine->dims[d];
    }
    return at;
}

bool roll_refine(const roll_affine *affine, size_t ndim, const ptrdiff_t *dims, ptrdiff_t *strides)
{
    size_t block = 1, d = affine->ndim;
    ptrdiff_t left = 1; /* of the affine loop d, in elements of the blocks of `dims` */
    for (size_t i = ndim; i-- > 0;) {
        strides[i] = dims[i] > 1 ? roll_offset(affine, block) - affine->start : 0;
        while (left == 1 && d > 0)
            left = affine->dims[--d];
        if (dims[i] > 1 && left % dims[i])
            return false;
        left = dims[i] > 1 ? left / dims[i] : left;
        block *= (size_t)dims[i];
    }
    return left == 1;
}

size_t roll_stretch(const roll_place *places, size_t n)
{
    size_t c = 1;
    if (places[0].base < ROLL_FIRST_ARRAY) {
        while (c < n && places[c].base == places[0].base)
            c++;
        return c;
    }
    if (n == 1 || places[1].base != places[0].base)
        return 1;
    ptrdiff_t d = step_at(places, 0, 1);
    while (c < n && places[c].base == places[0].base && step_at(places, c - 1, 1) == d)
        c++;
    if (c != 2 || n < 4 || places[2].base != places[0].base || places[3].base != places[0].base)
        return c;
    return step_at(places, 1, 1) == step_at(places, 2, 1) ? 1 : 2; /* the second belongs to what follows */
}

size_t roll_piece(const roll_place *places, size_t n, roll_affine *affine)
{
    size_t c = 1;
    while (c < n && places[c].base == places[0].base)
        c++;
    if (places[0].base >= ROLL_FIRST_ARRAY && !roll_fit(places, c, affine))
        c = roll_stretch(places, n);
    return c;
}

static size_t count_pieces(const roll_place *places, size_t n, size_t most)
{
    size_t pieces = 0;
    roll_affine unused;
    for (size_t i = 0; i < n && pieces <= most; pieces++)
        i += roll_piece(places + i, n - i, &unused);
    return pieces;
}

/* Whether places[0 .. width-1] go on in the same way in each of the n / row rows. */
static bool repeats_in_rows(const roll_place *places, size_t n, size_t row, size_t width)
{
    ptrdiff_t step = step_at(places, 0, row);
    bool array = places[0].base >= ROLL_FIRST_ARRAY;
    for (size_t i = row; i < n; i += row)
        for (size_t j = 0; j < width; j++) {
            if (places[i + j].base != places[j].base)
                return false;
            if (array && step_at(places, i + j - row, row) != step)
                return false;
        }
    return true;
}

static bool are_rows(const roll_place *places, size_t n, size_t row, const size_t *ends, size_t parts)
{
    size_t start = 0;
    bool all = n % row == 0 && n > row;
    for (size_t k = 0; k < parts && all; start = ends[k++])
        all = repeats_in_rows(places + start, n - start, row, ends[k] - start);
    return all;
}

size_t roll_rows(const roll_place *places, size_t n, size_t *ends, size_t *parts)
{
    size_t end = 0;
    for (size_t k = 0; k < ROLL_FEW_PIECES && end < n; k++) {
        ends[k] = end += roll_stretch(places + end, n - end);
        *parts = k + 1;
        if (k > 0 && are_rows(places, n, end, ends, k + 1))
            return end;
    }
    return 0;
}

void roll_make_plan(const roll_place *places, size_t n, size_t min_width, roll_plan *plan)
{
    bool one = same_base(places, n);
    plan->base = places[0].base;
    plan->parts = 1;
    if (one && roll_fit(places, n, &plan->affine)) {
        bool uniform = true;
        for (size_t d = 0; d < plan->affine.ndim; d++)
            uniform = uniform && plan->affine.strides[d] == 0;
        plan->kind = uniform ? ROLL_UNIFORM : plan->base < ROLL_FIRST_ARRAY ? ROLL_LISTED : ROLL_AFFINE;
        return;
    }
    if (one && plan->base < ROLL_FIRST_ARRAY) {
        plan->kind = ROLL_LISTED;
        return;
    }
    size_t most = n / min_width + 1 < ROLL_MOST_PIECES ? n / min_width + 1 : ROLL_MOST_PIECES;
    size_t ends[ROLL_FEW_PIECES];
    plan->parts = count_pieces(places, n, most);
    if (plan->parts > ROLL_FEW_PIECES || plan->parts > most) {
        size_t parts;
        plan->row = roll_rows(places, n, ends, &parts);
        if (plan->row) {
            plan->kind = ROLL_ROWS;
            plan->parts = parts;
            return;
        }
    }
    plan->kind = plan->parts <= most ? ROLL_PIECES : ROLL_GATHER;
    if (plan->kind == ROLL_PIECES)
        return;
    plan->parts = 1;
    for (size_t i = 1; i < n; i++)
        plan->parts += places[i].base != places[i - 1].base;
}

typedef enum { ANY_SCALAR, SAME_SCALAR, ARRAY } slot_demand;

/* Whether the places `p` apart differ by the same all along, for every one of the first p. */
static bool repeats(const roll_place *places, size_t n, size_t p, slot_demand demand)
{
    size_t end = n - 2 * p < MOST_TESTED ? n - 2 * p : MOST_TESTED;
    for (size_t i = 0; i < end; i++) {
        if (places[i].base != places[i + p].base || places[i].base != places[i + 2 * p].base)
            return false;
        ptrdiff_t d = step_at(places, i, p);
        if (demand == ARRAY ? step_at(places, i + p, p) != d : demand == SAME_SCALAR && d)
            return false;
    }
    return true;
}

size_t roll_period(const roll_place *const *places, const roll_plan *plans, size_t slots, size_t n, size_t min_width)
{
    bool disordered = false;
    for (size_t k = 0; k < slots; k++)
        disordered = disordered || plans[k].kind >= ROLL_PIECES;
    slot_demand of_listed = disordered ? ANY_SCALAR : SAME_SCALAR;
    for (size_t p = 2; p <= n / min_width && p <= MOST_PERIOD && 3 * p <= n; p++) {
        bool all = n % p == 0;
        for (size_t k = 0; k < slots && all; k++)
            all = repeats(places[k], n, p, places[k]->base < ROLL_FIRST_ARRAY ? of_listed : ARRAY);
        if (all)
            return p;
    }
    return 0;
}
