/* lower_groups.c: scalars in which nothing repeats, as groups of one op.
 *
 * What is ready - its operands are there - waits with others of its op. Next comes the op of which somebody is waited for
 * by the longest chain of others, with all that are ready of it: so the chain that decides how many groups there are
 * goes on, and whatever it need not wait for gathers meanwhile. */
#include "lower_emit.h"
#include "try.h"

enum {
    NARROWEST = 4,         /* numbers that are worth a group */
    ENOUGH = 4             /* entries in groups that are worth another order: one in so many */
};

/* --- the order --- */

typedef struct {
    uint32_t first, last, count, height;
} queue;

typedef struct {
    const fad_entry *all;
    size_t count;
    uint32_t *height;      /* entries of the longest chain that waits for this one, and itself */
    uint32_t *waits;       /* operands that are not there yet */
    uint32_t *starts;      /* of each entry its readers: starts[i] .. starts[i+1]-1 */
    uint32_t *readers;
    uint32_t *next;        /* in the queue */
    queue queues[FAD_SCALAR_COUNT];
    uint16_t open[FAD_SCALAR_COUNT];
    size_t open_count;
} scheduler;

static bool is_inside(uint32_t operand) { return !(operand & FAD_OUTSIDE); }

/* Readers of each entry, and heights. */
static void link_entries(scheduler *s)
{
    const fad_entry *all = s->all;
    for (size_t i = 0; i < s->count; i++)
        for (int k = 0; k < all[i].count; k++)
            if (is_inside(all[i].operands[k])) {
                s->waits[i]++;
                s->starts[all[i].operands[k] + 1]++;
            }
    for (size_t i = 0; i < s->count; i++)
        s->starts[i + 1] += s->starts[i];
    s->starts[s->count + 1] = s->starts[s->count];
    for (size_t i = s->count; i-- > 0;) {
        s->height[i]++;
        for (int k = 0; k < all[i].count; k++) {
            uint32_t operand = all[i].operands[k];
            if (!is_inside(operand))
                continue;
            if (s->height[operand] < s->height[i])
                s->height[operand] = s->height[i];
            s->readers[--s->starts[operand + 1]] = (uint32_t)i;
        }
    }
    /* Each start has moved to the entry before: the readers of i are now from starts[i+1] up to starts[i+2]. */
}

static void enter(scheduler *s, uint32_t entry)
{
    queue *q = &s->queues[s->all[entry].op];
    if (q->count == 0) {
        s->open[s->open_count++] = s->all[entry].op;
        q->first = entry;
        q->height = 0;
    } else {
        s->next[q->last] = entry;
    }
    q->last = entry;
    q->count++;
    if (q->height < s->height[entry])
        q->height = s->height[entry];
}

static queue leave(scheduler *s)
{
    size_t best = 0;
    for (size_t k = 1; k < s->open_count; k++)
        if (s->queues[s->open[k]].height > s->queues[s->open[best]].height)
            best = k;
    queue *q = &s->queues[s->open[best]], taken = *q;
    q->count = 0;
    s->open[best] = s->open[--s->open_count];
    return taken;
}

static bool is_groupable(int op)
{
    return op < FAD_ELEMENTWISE_COUNT || fad_is_fused_scalar(op);
}

/* Entries in order, ends of groups; returns how many entries are in wide ones. */
static size_t schedule(scheduler *s, uint32_t *place, fad_grouping *out)
{
    size_t made = 0, grouped = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->waits[i] == 0)
            enter(s, (uint32_t)i);
    while (s->open_count) {
        queue q = leave(s);
        uint32_t at = q.first;
        if (q.count >= NARROWEST && is_groupable(s->all[at].op))
            grouped += q.count;
        for (uint32_t k = 0; k < q.count; k++) {
            uint32_t next = s->next[at];
            place[at] = (uint32_t)made;
            out->sorted[made++] = s->all[at];
            for (uint32_t r = s->starts[at + 1]; r < s->starts[at + 2]; r++)
                if (--s->waits[s->readers[r]] == 0)
                    enter(s, s->readers[r]);
            at = next;
        }
        out->ends[out->count++] = (uint32_t)made;
    }
    return grouped;
}

static size_t inner_readings(const fad_entry *all, size_t count)
{
    size_t readings = 0;
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < all[i].count; k++)
            readings += is_inside(all[i].operands[k]);
    return readings;
}

fad_status fad_find_groups(const fad_emitter *e, const fad_entry *entries, size_t count, fad_grouping *out)
{
    fad_status status = FAD_OK, ignored;
    size_t bytes = (4 * count + (count + 2) + inner_readings(entries, count)) * sizeof(uint32_t);
    uint32_t *room = fad_resize(e->tape, NULL, 0, bytes, &status);
    if (!room)
        return status;
    memset(room, 0, bytes);
    scheduler s = {.all = entries, .count = count};
    s.height = room;
    s.waits = s.height + count;
    s.next = s.waits + count;
    uint32_t *place = s.next + count;
    s.starts = place + count;
    s.readers = s.starts + count + 2;
    link_entries(&s);
    size_t grouped = schedule(&s, place, out);
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < out->sorted[i].count; k++)
            if (is_inside(out->sorted[i].operands[k]))
                out->sorted[i].operands[k] = place[out->sorted[i].operands[k]];
    if (grouped < count / ENOUGH)
        out->count = 0;
    fad_resize(e->tape, room, bytes, 0, &ignored);
    return FAD_OK;
}

/* --- instructions --- */

/* Groups, and after them scalar instructions, that no step runs yet. */
typedef struct {
    fad_emitter *e;
    const fad_entry *all;
    uint32_t *partials;    /* units of partial sums, by entry */
    size_t groups, *scalars;
} pending;

static fad_status flush_groups(pending *p)
{
    fad_emitter *e = p->e;
    fad_step step = {.kind = FAD_STEP_GROUPS, .first = (uint32_t)p->groups,
                     .count = (uint32_t)(e->groups.count - p->groups)};
    if (step.count == 0)
        return FAD_OK;
    p->groups = e->groups.count;
    return fad_emit_push(e, &e->steps, &step);
}

static fad_status flush_scalars(pending *p)
{
    TRY(fad_emit_flush_scalars(p->e, *p->scalars));
    *p->scalars = p->e->scalars.count;
    return FAD_OK;
}

static fad_status unit_of(const pending *p, uint32_t operand, uint32_t *unit)
{
    if (is_inside(operand) && p->all[operand].partial) {
        *unit = p->partials[operand];
        return FAD_OK;
    }
    return fad_emit_unit(p->e, is_inside(operand) ? p->all[operand].node : operand & ~FAD_OUTSIDE, unit);
}

/* Takes back the room of what an entry reads for the last time. */
static fad_status free_read(const pending *p, const fad_entry *x)
{
    for (int k = 0; k < x->count; k++)
        if (is_inside(x->operands[k]) && p->all[x->operands[k]].partial)
            TRY(fad_emit_give_scalar(p->e, (uint64_t)p->partials[x->operands[k]] * sizeof(double)));
    return x->partial ? FAD_OK : fad_emit_free_operands(p->e, &p->e->l->items[x->item]);
}

static void settle(const pending *p, size_t entry, uint64_t at)
{
    const fad_entry *x = &p->all[entry];
    if (x->partial) {
        p->partials[entry] = (uint32_t)(at / sizeof(double));
    } else {
        p->e->where[x->node] = at;
        p->e->state[x->node] |= FAD_HAS_ROOM;
    }
}

static fad_status emit_alone(const pending *p, size_t entry)
{
    const fad_entry *x = &p->all[entry];
    uint32_t units[3] = {0, 0, 0};
    uint64_t to;
    p->e->time = x->time;
    if (!x->partial && !fad_entry_goes_on(p->all, x))
        return fad_emit_item(p->e, &p->e->l->items[x->item]);
    for (int k = 0; k < x->count; k++)
        TRY(unit_of(p, x->operands[k], &units[k]));
    TRY(fad_emit_take_scalar(p->e, &to));
    settle(p, entry, to);
    TRY(fad_emit_scalar(p->e, x->op, to, units[0], units[1], units[2]));
    return free_read(p, x);
}

/* Where the operands are is written before any of the results has a place. */
static fad_status emit_group(pending *p, size_t first, size_t end)
{
    fad_emitter *e = p->e;
    fad_group group = {.op = p->all[first].op, .count = (uint32_t)(end - first), .first = e->places.count};
    size_t arity = fad_scalar_arity(group.op);
    for (size_t k = 0; k < arity; k++)
        for (size_t i = first; i < end; i++) {
            uint32_t unit;
            TRY(unit_of(p, p->all[i].operands[k], &unit));
            TRY(fad_emit_push(e, &e->places, &unit));
        }
    if (e->scalars.count > *p->scalars) {
        TRY(flush_groups(p));
        TRY(flush_scalars(p));
    }
    group.to = (uint32_t)(e->top / sizeof(double));
    for (size_t i = first; i < end; i++, e->top += sizeof(double))
        settle(p, i, e->top);
    if (e->top / sizeof(double) >= FAD_NO_INDEX)
        return FAD_TOO_MANY;
    TRY(fad_emit_push(e, &e->groups, &group));
    for (size_t i = first; i < end; i++) {
        e->time = p->all[i].time;
        TRY(free_read(p, &p->all[i]));
    }
    return FAD_OK;
}

static fad_status emit_all(pending *p, const fad_grouping *groups)
{
    size_t first = 0;
    for (size_t g = 0; g < groups->count; first = groups->ends[g++]) {
        size_t end = groups->ends[g];
        if (end - first >= NARROWEST && is_groupable(p->all[first].op)) {
            TRY(emit_group(p, first, end));
            continue;
        }
        for (size_t i = first; i < end; i++)
            TRY(emit_alone(p, i));
    }
    TRY(flush_groups(p));
    return flush_scalars(p);
}

fad_status fad_emit_groups(fad_emitter *e, const fad_grouping *groups, size_t *scalars_before)
{
    fad_status status = FAD_OK, ignored;
    size_t bytes = groups->ends[groups->count - 1] * sizeof(uint32_t);
    pending p = {e, groups->sorted, fad_resize(e->tape, NULL, 0, bytes, &status), e->groups.count, scalars_before};
    if (!p.partials)
        return status;
    status = emit_all(&p, groups);
    fad_resize(e->tape, p.partials, bytes, 0, &ignored);
    return status;
}
