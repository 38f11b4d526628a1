/* lower_demand.c: another order for a block of scalars: each just before it is first read.
 *
 * The passes may leave a loop's scalars by level, and then two chains of different depth drift apart: what one reads of
 * the other is further and further away. On demand the two advance together. */
#include "lower_emit.h"

/* A sum of many terms is many entries that stay together: `last` is the one that has its value. */
typedef struct {
    uint32_t last, at, operand;
} visit;

typedef struct {
    const fad_entry *all;
    fad_entry *sorted;
    size_t count, made;
    uint32_t *place;       /* of each entry among the sorted, plus one */
    visit *stack;
    size_t depth;
    uint8_t *read;
} walk;

static uint32_t start_of(const fad_entry *all, uint32_t last)
{
    while (last > 0 && all[last - 1].partial)
        last--;
    return last;
}

static void enter(walk *w, uint32_t entry)
{
    visit v = {entry, start_of(w->all, entry), 0};
    w->stack[w->depth++] = v;
}

static void leave(walk *w, uint32_t last)
{
    for (uint32_t i = start_of(w->all, last); i <= last; i++) {
        w->sorted[w->made++] = w->all[i];
        w->place[i] = (uint32_t)w->made;
    }
    w->depth--;
}

static void demand(walk *w, uint32_t entry)
{
    enter(w, entry);
    while (w->depth) {
        visit *v = &w->stack[w->depth - 1];
        const fad_entry *x = &w->all[v->at];
        if (v->operand < x->count) {
            uint32_t operand = x->operands[v->operand++];
            if (!(operand & FAD_OUTSIDE) && !w->all[operand].partial && !w->place[operand])
                enter(w, operand);
        } else if (v->at < v->last) {
            v->at++;
            v->operand = 0;
        } else {
            leave(w, v->last);
        }
    }
}

fad_status fad_sort_by_demand(const fad_emitter *e, const fad_entry *all, size_t count, fad_entry *sorted)
{
    fad_status status = FAD_OK, ignored;
    size_t bytes = count * (sizeof(uint32_t) + sizeof(visit) + 1);
    char *room = fad_resize(e->tape, NULL, 0, bytes, &status);
    if (!room)
        return status;
    memset(room, 0, bytes);
    walk w = {.all = all, .sorted = sorted, .count = count};
    w.place = (uint32_t *)(void *)room;
    w.stack = (visit *)(void *)(room + count * sizeof(uint32_t));
    w.read = (uint8_t *)(w.stack + count);
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < all[i].count; k++)
            if (!(all[i].operands[k] & FAD_OUTSIDE))
                w.read[all[i].operands[k]] = 1;
    for (size_t i = 0; i < count; i++)
        if (!w.read[i])
            demand(&w, (uint32_t)i);
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < sorted[i].count; k++)
            if (!(sorted[i].operands[k] & FAD_OUTSIDE))
                sorted[i].operands[k] = w.place[sorted[i].operands[k]] - 1;
    fad_resize(e->tape, room, bytes, 0, &ignored);
    return FAD_OK;
}

/* All that is read later than in this block keeps its time; the rest is read when the sorted entries say. */
void fad_note_sorted(const fad_emitter *e, const fad_entry *before, fad_entry *all, size_t count)
{
    uint32_t time = before[0].time, end = before[count - 1].time;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            fad_entry *x = &all[i];
            if (pass)
                x->time = time;
            time += pass && !x->partial;
            for (int k = -1; k < x->count; k++) {
                uint32_t node = k < 0                           ? x->node
                                : x->operands[k] & FAD_OUTSIDE ? x->operands[k] & ~FAD_OUTSIDE
                                                                : all[x->operands[k]].node;
                if (node == FAD_NO_INDEX)
                    continue;
                uint32_t *last[2] = {&e->last[node], &e->last[e->l->root[node]]};
                for (int m = 0; m < 2; m++)
                    if (*last[m] <= end)
                        *last[m] = pass ? x->time : 0;
            }
        }
    }
}
