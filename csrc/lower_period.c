/* lower_period.c: which stretches of a block of scalars repeat.
 *
 * A place where a window of ops has been seen before suggests a period: the distance. It is one as far as the entries
 * after it do what those a period earlier do, on operands that moved by the same step each time. Long windows are
 * looked for first: what repeats within a loop's body is then part of the body. Where a period holds for a while only,
 * again and again, the distance between its ends is another one. */
#include "lower_emit.h"
#include "try.h"

enum {
    NEAR = 16,             /* operands so near tell entries apart */
    TABLE = 1 << 14,       /* windows remembered, a few places each */
    WAYS = 4,
    BREAKS = 6,
    LONGEST_PERIOD = 1 << 16,
    FEWEST = 6,            /* iterations */
    SHORTEST = 64,         /* entries of a stretch */
    STEPS = 4,             /* of three operands and of memory */
};

static const size_t WINDOWS[] = {1024, 128, 8};
enum { WINDOW_COUNT = sizeof WINDOWS / sizeof *WINDOWS };

typedef struct {
    const fad_emitter *e;
    const fad_entry *all;
    uint32_t *signs;       /* what each entry does */
    uint32_t (*seen)[WAYS];/* by window: where it was, plus one; the latest first */
    int64_t *steps;        /* of the period that is tried: STEPS for each entry of it */
    size_t breaks[BREAKS]; /* where runs that were tried ended; the latest first */
    fad_records *found;
    fad_status status;
} finder;

/* --- two entries --- */

bool fad_entry_is_constant(const fad_emitter *e, uint32_t operand)
{
    return operand & FAD_OUTSIDE && e->l->source[e->l->root[operand & ~FAD_OUTSIDE]] == FAD_FROM_CONSTANT;
}

bool fad_entry_step(const fad_emitter *e, const fad_entry *later, const fad_entry *earlier, int k, int64_t *step)
{
    uint32_t x = later->operands[k], y = earlier->operands[k];
    *step = (int64_t)x - (int64_t)y;
    if (!((x | y) & FAD_OUTSIDE))
        return true;
    if (!(x & y & FAD_OUTSIDE))
        return false;
    bool constant = fad_entry_is_constant(e, x);
    if (constant || x == y) { /* constants that are no steps apart become an array */
        *step = 0;
        return constant == fad_entry_is_constant(e, y);
    }
    if (fad_entry_is_constant(e, y))
        return false;
    fad_argument to = fad_emit_number(e, x & ~FAD_OUTSIDE), from = fad_emit_number(e, y & ~FAD_OUTSIDE);
    *step = (int64_t)(to.offset - from.offset);
    return to.base == from.base;
}

bool fad_entry_goes_on(const fad_entry *all, const fad_entry *entry)
{
    for (int k = 0; k < entry->count; k++)
        if (!(entry->operands[k] & FAD_OUTSIDE) && all[entry->operands[k]].partial)
            return true;
    return false;
}

bool fad_entry_memory(const fad_emitter *e, const fad_entry *entry, fad_argument *out)
{
    const fad_lowering *l = e->l;
    if (entry->op == FAD_SCALAR_LOAD)
        *out = fad_emit_memory(e, l->root[entry->node], fad_lower_window(l, entry->node).offset);
    else if (entry->op == FAD_SCALAR_STORE)
        *out = fad_emit_target(e, &l->items[entry->item],
                               l->items[entry->item].window == FAD_NO_INDEX
                                   ? 0
                                   : l->windows[l->items[entry->item].window].offset);
    else
        return false;
    return true;
}

/* Whether entry `i` is what the one a period earlier is, some steps on. The first two iterations set the steps. */
static bool follows(const finder *f, size_t first, size_t period, size_t i)
{
    const fad_entry *x = &f->all[i], *y = x - period;
    int64_t *steps = f->steps + (i - first) % period * STEPS, step;
    bool sets = i - first < 2 * period;
    fad_argument to, from;
    if (f->signs[i] != f->signs[i - period] || x->op != y->op || x->count != y->count || x->partial != y->partial)
        return false;
    for (int k = 0; k < x->count; k++) {
        if (!fad_entry_step(f->e, x, y, k, &step) || (!sets && steps[k] != step))
            return false;
        if (!(y->operands[k] & FAD_OUTSIDE) && y->operands[k] >= first && step != (int64_t)period)
            return false; /* made within, at another pace */
        steps[k] = step;
    }
    if (fad_entry_memory(f->e, x, &to) && fad_entry_memory(f->e, y, &from)) {
        step = (int64_t)(to.offset - from.offset);
        if (to.base != from.base || (!sets && steps[STEPS - 1] != step))
            return false;
        steps[STEPS - 1] = step;
    }
    return true;
}

/* --- windows --- */

static uint32_t sign_of(const finder *f, size_t i)
{
    const fad_entry *x = &f->all[i];
    uint64_t h = (uint64_t)x->op * 8 + x->count * 2 + x->partial;
    for (int k = 0; k < x->count; k++) {
        uint32_t a = x->operands[k];
        uint64_t sort = a & FAD_OUTSIDE ? NEAR + 1u + fad_entry_is_constant(f->e, a) : i - a < NEAR ? i - a : NEAR;
        h = (h ^ sort) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 31;
    }
    if (x->op == FAD_SCALAR_LOAD)
        h += f->e->l->root[x->node] * UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(h * UINT64_C(0xbf58476d1ce4e5b9) >> 32);
}

/* How far entries from `at` on repeat those a period earlier. */
static size_t run_length(const finder *f, size_t first, size_t period, size_t end)
{
    size_t i = first + period;
    while (i < end && follows(f, first, period, i))
        i++;
    return i - first;
}

/* Adds the stretch that begins at `first`; false: there is none worth it. `*length`: entries that were alike. */
static bool add_stretch(finder *f, size_t first, size_t period, size_t end, size_t *length)
{
    *length = run_length(f, first, period, end);
    if (*length < FEWEST * period || *length < SHORTEST)
        return false;
    fad_stretch s = {first, period, *length / period};
    f->status = fad_make_room(f->e->tape, &f->found->data, f->found->item, f->found->count + 1, &f->found->capacity);
    if (f->status != FAD_OK)
        return false;
    ((fad_stretch *)f->found->data)[f->found->count++] = s;
    *length = s.period * s.count;
    return true;
}

/* Tries the distances between where runs ended, now at `broke`. */
static size_t try_breaks(finder *f, size_t broke, size_t low, size_t end)
{
    size_t length;
    for (size_t k = 0; k < BREAKS; k++) {
        size_t before = f->breaks[k];
        if (before == broke)
            return 0;
        if (before >= low && before < broke && broke - before <= LONGEST_PERIOD &&
            FEWEST * (broke - before) <= end - before && add_stretch(f, before, broke - before, end, &length))
            return before + length;
        if (f->status != FAD_OK)
            return 0;
    }
    memmove(f->breaks + 1, f->breaks, (BREAKS - 1) * sizeof *f->breaks);
    f->breaks[0] = broke;
    return 0;
}

/* Tries the places where the window at `i` was before; the end of the stretch that was found, or 0. `*until`: where to
 * try again. */
static size_t try_window(finder *f, const uint32_t *seen, size_t i, size_t low, size_t end, size_t *until)
{
    size_t length = 0, most = 0;
    for (int way = 0; way < WAYS && seen[way]; way++) {
        size_t first = seen[way] - 1;
        if (first < low || i - first > LONGEST_PERIOD || FEWEST * (i - first) > end - first)
            continue;
        if (add_stretch(f, first, i - first, end, &length))
            return first + length;
        if (f->status != FAD_OK)
            return 0;
        length -= i - first;
        most = length > most ? length : most;
    }
    *until = i + most / 4 + 1;
    return most > 1 ? try_breaks(f, i + most, low, end) : 0;
}

static uint64_t power(uint64_t x, size_t n)
{
    uint64_t y = 1;
    for (; n; n >>= 1, x *= x)
        if (n & 1)
            y *= x;
    return y;
}

/* Stretches among the entries low .. end-1, of which windows of that size occur more than once. */
static fad_status search(finder *f, size_t low, size_t end, size_t window)
{
    const uint64_t base = UINT64_C(0xd6e8feb86659fd93), leaving = power(base, window);
    uint64_t h = 0;
    size_t start = low, until = 0;
    for (int k = 0; k < BREAKS; k++)
        f->breaks[k] = end;
    for (size_t i = low; i < end; i++) { /* the window that ends with entry i */
        h = h * base + f->signs[i];
        if (i - start >= window)
            h -= leaving * f->signs[i - window];
        if (i + 1 - start < window)
            continue;
        size_t at = i + 1 - window;
        uint32_t *seen = f->seen[(h ^ h >> 32) * UINT64_C(0x9e3779b97f4a7c15) >> 50];
        size_t stop = at >= until && seen[0] ? try_window(f, seen, at, low, end, &until) : 0;
        if (f->status != FAD_OK)
            return f->status;
        if (stop) {
            low = start = stop;
            h = 0;
            i = stop - 1;
            continue;
        }
        memmove(seen + 1, seen, (WAYS - 1) * sizeof *seen);
        seen[0] = (uint32_t)at + 1;
    }
    return FAD_OK;
}

/* The stretches that were added from number `from` on go where they belong: both parts are in order. */
static fad_status merge(finder *f, size_t from)
{
    size_t count = f->found->count;
    fad_stretch *all = f->found->data;
    fad_status status = FAD_OK;
    if (from == count || from == 0)
        return FAD_OK;
    size_t bytes = count * sizeof *all;
    fad_stretch *sorted = fad_resize(f->e->tape, NULL, 0, bytes, &status);
    if (!sorted)
        return status;
    for (size_t i = 0, a = 0, b = from; i < count; i++)
        sorted[i] = b == count || (a < from && all[a].first < all[b].first) ? all[a++] : all[b++];
    memcpy(all, sorted, bytes);
    fad_resize(f->e->tape, sorted, bytes, 0, &status);
    return FAD_OK;
}

/* Looks between the stretches that are known. */
static fad_status search_gaps(finder *f, size_t count, size_t window)
{
    size_t low = 0, known = f->found->count;
    memset(f->seen, 0, TABLE * sizeof *f->seen);
    for (size_t k = 0; k <= known; k++) {
        const fad_stretch *s = (const fad_stretch *)f->found->data + k;
        size_t end = k < known ? s->first : count, next = k < known ? s->first + s->period * s->count : count;
        if (end - low >= window + SHORTEST / 2)
            TRY(search(f, low, end, window));
        low = next;
    }
    return merge(f, known);
}

fad_status fad_find_stretches(const fad_emitter *e, const fad_entry *entries, size_t count, fad_records *found)
{
    fad_status status = FAD_OK;
    size_t period = count / FEWEST < LONGEST_PERIOD ? count / FEWEST + 1 : LONGEST_PERIOD;
    size_t signs = count * sizeof(uint32_t), seen = TABLE * sizeof(uint32_t[WAYS]);
    size_t steps = period * STEPS * sizeof(int64_t);
    char *room = fad_resize(e->tape, NULL, 0, steps + seen + signs, &status);
    if (!room)
        return status;
    finder f = {e, entries, NULL, NULL, NULL, {0}, found, FAD_OK};
    f.steps = (int64_t *)(void *)room;
    f.seen = (uint32_t(*)[WAYS])(void *)(room + steps);
    f.signs = (uint32_t *)(void *)(room + steps + seen);
    for (size_t i = 0; i < count; i++)
        f.signs[i] = sign_of(&f, i);
    for (int k = 0; k < WINDOW_COUNT && status == FAD_OK; k++)
        status = search_gaps(&f, count, WINDOWS[k]);
    fad_status ignored;
    fad_resize(e->tape, room, steps + seen + signs, 0, &ignored);
    return status;
}
