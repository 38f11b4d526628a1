/* lower_repeat.c: a stretch of scalars that repeats becomes a REPEAT step: its body once, and how far each operand and
 * result moves in an iteration.
 *
 * A value that is read for the last time before the next iteration writes its own stays in one place. The others (what
 * a gradient's backward half reads) are stashed: iteration by iteration, side by side. What an iteration reads of those
 * before is, for the first ones, copied to where it would be. Numbers loaded from inputs are read where they are. */
#include "lower_emit.h"
#include "try.h"

enum {
    FEWEST = 6,    /* iterations worth a step */
    FARTHEST = 8,  /* iterations between a value and its reading */
};

/* How an operand moves. */
typedef enum { IS_CONSTANT, IS_ELSEWHERE, IS_WITHIN } sort;

/* Where the results of a body's entry are. */
typedef struct {
    bool stashed, in_place;    /* in_place: what it loads is read where it is */
    bool late;                 /* some are read after the next was written */
    uint8_t varying;           /* bit k: operand k is not one and the same */
    uint32_t back;             /* iterations until its last reading */
    uint32_t last;             /* time of the last reading of any of them */
    fad_moving at;
} home;

typedef struct {
    fad_emitter *e;
    const fad_entry *all;
    size_t first, period, count;
    home *homes;
    uint64_t stash;            /* memory of an iteration's stashed values */
    uint32_t back;
} body;

static const fad_entry *entry_at(const body *b, size_t iteration, size_t j)
{
    return &b->all[b->first + iteration * b->period + j];
}

/* --- as far as operands are affine --- */

static size_t iterations_back(const body *b, size_t maker)
{
    return maker >= b->first ? 0 : (b->first - maker + b->period - 1) / b->period;
}

/* Operand `k` of entry `j`, in the first iteration. What moves with the entries is the body's own, unless too far. */
static sort sort_of(const body *b, size_t j, int k)
{
    uint32_t x = entry_at(b, 0, j)->operands[k], y = entry_at(b, 1, j)->operands[k];
    if (fad_entry_is_constant(b->e, x))
        return IS_CONSTANT;
    if ((x | y) & FAD_OUTSIDE || y - x != b->period || iterations_back(b, x) > FARTHEST)
        return IS_ELSEWHERE;
    const fad_entry *maker = &b->all[x + iterations_back(b, x) * b->period];
    bool kept = maker->node != FAD_NO_INDEX || b->all[x].partial; /* a partial sum is not, but for the next entry */
    return kept ? IS_WITHIN : IS_ELSEWHERE;
}

/* Where an operand that was made before the stretch is. */
static bool locate(const body *b, uint32_t operand, fad_argument *out)
{
    if (!(operand & FAD_OUTSIDE)) {
        if (operand >= b->first || b->all[operand].node == FAD_NO_INDEX)
            return false;
        operand = b->all[operand].node;
    }
    *out = fad_emit_number(b->e, operand & ~FAD_OUTSIDE);
    return true;
}

static bool moves(const fad_argument *to, const fad_argument *from, bool sets, int64_t *step)
{
    int64_t moved = (int64_t)(to->offset - from->offset);
    if (to->base != from->base || (!sets && *step != moved))
        return false;
    *step = moved;
    return true;
}

/* Whether entry `j` of an iteration reads and writes one step from the iteration before. `steps` of the first two. */
static bool follows(const body *b, const sort *sorts, size_t iteration, size_t j, int64_t *steps)
{
    const fad_entry *x = entry_at(b, iteration, j), *y = entry_at(b, iteration - 1, j);
    fad_argument to, from;
    for (int k = 0; k < x->count; k++) {
        if (sorts[k] == IS_WITHIN || (sorts[k] == IS_CONSTANT && fad_entry_is_constant(b->e, x->operands[k])))
            continue;
        if (sorts[k] == IS_CONSTANT || !locate(b, x->operands[k], &to) || !locate(b, y->operands[k], &from) ||
            !moves(&to, &from, iteration == 1, &steps[k]))
            return false;
    }
    return !fad_entry_memory(b->e, x, &to) || !fad_entry_memory(b->e, y, &from) ||
           moves(&to, &from, iteration == 1, &steps[3]);
}

static fad_status make_targets(const body *b, size_t iterations)
{
    for (size_t i = 0; i < iterations * b->period; i++) {
        const fad_entry *x = entry_at(b, 0, i);
        if (x->op == FAD_SCALAR_STORE && !b->e->l->items[x->item].to_output)
            TRY(fad_emit_make_room(b->e, b->e->l->items[x->item].node));
    }
    return FAD_OK;
}

/* How many of `most` iterations have operands that move by the same steps. */
static fad_status affine_iterations(const body *b, size_t most, size_t *out)
{
    fad_status status = FAD_OK, ignored;
    size_t room = b->period * (4 * sizeof(int64_t) + 3 * sizeof(sort)), i = 1;
    *out = 1;
    if (most < FEWEST)
        return FAD_OK;
    TRY(make_targets(b, most));
    int64_t *steps = fad_resize(b->e->tape, NULL, 0, room, &status);
    if (!steps)
        return status;
    sort *sorts = (sort *)(void *)(steps + 4 * b->period);
    for (size_t j = 0; j < b->period; j++)
        for (int k = 0; k < entry_at(b, 0, j)->count; k++)
            sorts[3 * j + (size_t)k] = sort_of(b, j, k);
    for (bool good = true; good && i < most; i += good)
        for (size_t j = 0; good && j < b->period; j++)
            good = follows(b, &sorts[3 * j], i, j, &steps[4 * j]);
    fad_resize(b->e->tape, steps, room, 0, &ignored);
    *out = i;
    return FAD_OK;
}

/* --- where results go --- */

/* How far back values are read. */
static void note_readings(body *b)
{
    for (size_t j = 0; j < b->period; j++) {
        const fad_entry *x = entry_at(b, 0, j);
        for (int k = 0; k < x->count; k++) {
            if (sort_of(b, j, k) != IS_WITHIN)
                continue;
            size_t back = iterations_back(b, x->operands[k]);
            home *h = &b->homes[x->operands[k] + back * b->period - b->first];
            h->back = back > h->back ? (uint32_t)back : h->back;
        }
    }
}

/* When values are read, and which operands are not the same in all iterations. */
static void note_lives(body *b)
{
    const uint32_t *last = b->e->last;
    for (size_t i = 0; i < b->count; i++) {
        for (size_t j = 0; j < b->period; j++) {
            const fad_entry *x = entry_at(b, i, j), *first = entry_at(b, 0, j);
            home *h = &b->homes[j];
            for (int k = 0; k < x->count; k++)
                h->varying |= (uint8_t)((x->operands[k] != first->operands[k]) << k);
            if (x->node == FAD_NO_INDEX)
                continue;
            h->last = last[x->node] > h->last ? last[x->node] : h->last;
            h->late |= i + 1 < b->count && last[x->node] > x[b->period].time;
        }
    }
}

static void choose_home(body *b, size_t j)
{
    const fad_entry *x = entry_at(b, 0, j), *next = entry_at(b, 1, j);
    uint32_t end = entry_at(b, b->count - 1, b->period - 1)->time;
    home *h = &b->homes[j];
    fad_argument from, to;
    if (x->node == FAD_NO_INDEX)
        return;
    if (x->op == FAD_SCALAR_LOAD && h->back == 0 && fad_entry_memory(b->e, x, &from) &&
        fad_entry_memory(b->e, next, &to) && (from.base != FAD_IN_WORKSPACE || h->last <= end)) {
        fad_moving at = {from.base, 0, from.offset, (int64_t)(to.offset - from.offset)};
        h->in_place = true;
        h->at = at;
        return;
    }
    h->stashed = h->back > 1 || h->late;
    if (!h->stashed)
        return;
    h->at.offset = b->stash;
    b->stash += sizeof(double);
    b->back = h->back > b->back ? h->back : b->back;
}

/* Stashes that nobody reads any more make room for others. */
static fad_status free_stashes(fad_emitter *e)
{
    fad_stash *all = e->stashes.data;
    size_t kept = 0;
    for (size_t i = 0; i < e->stashes.count; i++) {
        if (all[i].last < e->time)
            TRY(fad_emit_give_block(e, all[i].size, all[i].at));
        else
            all[kept++] = all[i];
    }
    e->stashes.count = kept;
    return FAD_OK;
}

static fad_status place_stash(body *b)
{
    fad_emitter *e = b->e;
    fad_stash s = {0, b->stash * (b->count + b->back), 0};
    TRY(free_stashes(e));
    TRY(fad_emit_take_block(e, s.size, &s.at));
    for (size_t j = 0; j < b->period; j++) {
        home *h = &b->homes[j];
        if (!h->stashed)
            continue;
        h->at.offset += s.at + b->back * b->stash;
        h->at.stride = (int64_t)b->stash;
        s.last = h->last > s.last ? h->last : s.last;
    }
    return fad_emit_push(e, &e->stashes, &s);
}

static fad_status place_results(body *b)
{
    note_readings(b);
    note_lives(b);
    for (size_t j = 0; j < b->period; j++)
        choose_home(b, j);
    if (b->stash)
        TRY(place_stash(b));
    for (size_t j = 0; j < b->period; j++) {
        home *h = &b->homes[j];
        if (!h->stashed && !h->in_place && entry_at(b, 0, j)->op != FAD_SCALAR_STORE)
            TRY(fad_emit_take_scalar(b->e, &h->at.offset));
    }
    return FAD_OK;
}

/* What the first iterations read of those before. */
static fad_status copy_earlier(body *b)
{
    for (size_t j = 0; j < b->period; j++) {
        const home *h = &b->homes[j];
        for (size_t back = 1; back <= h->back; back++) {
            const fad_entry *x = &b->all[b->first + j - back * b->period];
            uint32_t unit = (uint32_t)(b->e->partial / sizeof(double));
            if (!x->partial)
                TRY(fad_emit_unit(b->e, x->node, &unit));
            else
                TRY(fad_emit_give_scalar(b->e, b->e->partial));
            TRY(fad_emit_scalar(b->e, FAD_POS, h->at.offset - back * (uint64_t)h->at.stride, unit, 0, 0));
        }
    }
    return FAD_OK;
}

/* --- the body --- */

static double number_of(const body *b, size_t iteration, size_t j, int k)
{
    return b->e->tape->values[entry_at(b, iteration, j)->operands[k] & ~FAD_OUTSIDE].number;
}

/* Constants: one in all iterations, or an array of them. */
static fad_status constant_operand(const body *b, size_t j, int k, fad_moving *out)
{
    fad_emitter *e = b->e;
    fad_status status = FAD_OK, ignored;
    uint32_t x = entry_at(b, 0, j)->operands[k];
    size_t size = b->count * sizeof(double);
    out->base = FAD_IN_WORKSPACE;
    out->offset = e->where[x & ~FAD_OUTSIDE];
    if (!(b->homes[j].varying >> k & 1))
        return FAD_OK;
    double *all = fad_resize(e->tape, NULL, 0, size, &status);
    if (!all)
        return status;
    for (size_t i = 0; i < b->count; i++)
        all[i] = number_of(b, i, j, k);
    out->base = FAD_IN_CONSTANTS;
    out->stride = sizeof(double);
    status = fad_emit_constant(e, all, size, &out->offset);
    fad_resize(e->tape, all, size, 0, &ignored);
    return status;
}

static fad_status operand(const body *b, size_t j, int k, fad_moving *out)
{
    uint32_t x = entry_at(b, 0, j)->operands[k];
    fad_argument from, to;
    switch (sort_of(b, j, k)) {
    case IS_CONSTANT:
        return constant_operand(b, j, k, out);
    case IS_WITHIN: {
        size_t back = iterations_back(b, x);
        *out = b->homes[x + back * b->period - b->first].at;
        out->offset -= back * (uint64_t)out->stride;
        return FAD_OK;
    }
    default:
        if (!locate(b, x, &from) || !locate(b, entry_at(b, 1, j)->operands[k], &to))
            return FAD_BAD_OPERAND;
        out->base = from.base;
        out->offset = from.offset;
        out->stride = (int64_t)(to.offset - from.offset);
        return FAD_OK;
    }
}

static bool same_place(const fad_moving *x, const fad_moving *y)
{
    return x->base == y->base && x->offset == y->offset && x->stride == y->stride;
}

static fad_status add_instruction(const body *b, size_t j)
{
    fad_emitter *e = b->e;
    const fad_entry *x = entry_at(b, 0, j);
    const home *h = &b->homes[j];
    fad_repeated r = {.op = x->op, .count = x->count, .to = h->at};
    fad_argument from, to;
    if (h->in_place)
        return FAD_OK;
    for (int k = 0; k < x->count; k++)
        TRY(operand(b, j, k, &r.operands[k]));
    if (fad_entry_memory(e, x, &from) && fad_entry_memory(e, entry_at(b, 1, j), &to)) {
        fad_moving memory = {from.base, 0, from.offset, (int64_t)(to.offset - from.offset)};
        *(x->op == FAD_SCALAR_LOAD ? &r.operands[0] : &r.to) = memory;
        r.op = FAD_POS;
        r.count = 1;
    }
    return fad_emit_push(e, &e->repeats, &r);
}

/* Marks the operands that are the result of the instruction before, which the interpreter still holds. */
static void chain(fad_emitter *e, size_t first)
{
    fad_repeated *all = (fad_repeated *)e->repeats.data + first;
    size_t count = e->repeats.count - first;
    for (size_t i = 0; i < count; i++) {
        fad_moving before = all[i ? i - 1 : count - 1].to;
        if (i == 0) /* of the iteration before */
            before.offset -= (uint64_t)before.stride;
        for (int k = 0; k < all[i].count; k++)
            all[i].chained |= (uint8_t)(same_place(&before, &all[i].operands[k]) << k);
    }
}

static fad_status add_step(body *b)
{
    fad_emitter *e = b->e;
    fad_step step = {.kind = FAD_STEP_REPEAT, .first = (uint32_t)e->repeats.count, .n = b->count};
    for (size_t j = 0; j < b->period; j++)
        TRY(add_instruction(b, j));
    step.count = (uint32_t)(e->repeats.count - step.first);
    chain(e, step.first);
    return step.count ? fad_emit_push(e, &e->steps, &step) : FAD_OK;
}

/* --- afterwards --- */

/* Tells where the results are. A result that the next iteration overwrites has been read. */
static void settle_results(const body *b)
{
    fad_emitter *e = b->e;
    for (size_t i = 0; i < b->count; i++) {
        for (size_t j = 0; j < b->period; j++) {
            const home *h = &b->homes[j];
            uint32_t node = entry_at(b, i, j)->node;
            if (node == FAD_NO_INDEX || h->in_place)
                continue;
            bool last = i + 1 == b->count && !h->stashed;
            e->where[node] = h->at.offset + i * (uint64_t)h->at.stride;
            e->state[node] |= (uint8_t)(last ? FAD_HAS_ROOM : FAD_HAS_ROOM | FAD_IS_FREE);
        }
    }
}

static fad_status free_node(fad_emitter *e, uint32_t node)
{
    TRY(fad_emit_free_room(e, node));
    return e->l->root[node] == node ? FAD_OK : fad_emit_free_room(e, e->l->root[node]);
}

/* Takes back what was read for the last time, and the places of partial sums. */
static fad_status free_operands(const body *b)
{
    fad_emitter *e = b->e;
    for (size_t i = 0; i < b->count * b->period; i++) {
        const fad_entry *x = entry_at(b, 0, i);
        for (int k = 0; k < x->count; k++) {
            uint32_t operand_ = x->operands[k];
            if (operand_ & FAD_OUTSIDE)
                TRY(free_node(e, operand_ & ~FAD_OUTSIDE));
            else if (operand_ < b->first && !b->all[operand_].partial)
                TRY(free_node(e, b->all[operand_].node));
        }
        if (x->op == FAD_SCALAR_LOAD)
            TRY(free_node(e, x->node));
    }
    for (size_t j = 0; j < b->period; j++) {
        const fad_entry *x = entry_at(b, b->count - 1, j);
        if (x->partial && j + 1 == b->period) /* the sum goes on */
            e->partial = b->homes[j].at.offset;
        else if (x->partial)
            TRY(fad_emit_give_scalar(e, b->homes[j].at.offset));
        else if (x->node != FAD_NO_INDEX)
            TRY(fad_emit_free_room(e, x->node));
    }
    return FAD_OK;
}

static fad_status emit_body(body *b, size_t *scalars_before)
{
    fad_emitter *e = b->e;
    TRY(place_results(b));
    TRY(copy_earlier(b));
    TRY(fad_emit_flush_scalars(e, *scalars_before));
    *scalars_before = e->scalars.count;
    TRY(add_step(b));
    settle_results(b);
    const fad_entry *end = entry_at(b, b->count - 1, b->period - 1);
    e->time = end->time - end->partial; /* a sum that goes on may read its terms again */
    return free_operands(b);
}

fad_status fad_emit_repeat(fad_emitter *e, const fad_entry *entries, const fad_stretch *stretch, size_t begin,
                           size_t *scalars_before, size_t *done)
{
    fad_status status = FAD_OK, ignored;
    body b = {e, entries, stretch->first + begin * stretch->period, stretch->period, 0, NULL, 0, 0};
    *done = 0;
    TRY(affine_iterations(&b, stretch->count - begin, &b.count));
    if (b.count < FEWEST)
        return FAD_OK;
    size_t room = b.period * sizeof *b.homes;
    b.homes = fad_resize(e->tape, NULL, 0, room, &status);
    if (!b.homes)
        return status;
    memset(b.homes, 0, room);
    status = emit_body(&b, scalars_before);
    fad_resize(e->tape, b.homes, room, 0, &ignored);
    *done = b.count;
    return status;
}
