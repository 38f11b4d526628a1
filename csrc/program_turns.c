/* program_turns.c: which regions several threads may run, and what their strips have to do in turn.
 *
 * The strips of a region run at the same time if that cannot change a bit. Most of what they write, no other strip reads
 * or writes. Where two instructions may reach the same memory in two strips (sums, additions at shifted places, indexed
 * writes), they are put into one group, and each strip does what a group does when the strip before has done it. So
 * additions have one order for any number of threads. */
#include "program_access.h"

enum {
    MOST_PAIRS = 1 << 22        /* that are compared */
};

#define NONE UINT32_C(0xffffffff)

typedef fad_access access;

static uint64_t size_of(int64_t stride) { return stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride; }


/* Whether different indices are different places: each stride steps over all that smaller ones reach. */
static bool is_injective(const access *x)
{
    const int64_t *dims = fad_access_dims(x), *strides = fad_access_strides(x);
    uint64_t reached = x->item;
    uint32_t left = 0;
    bool done[FAD_MAX_NDIM] = {false};
    if (x->indexed)
        return false;
    for (uint32_t d = 0; d < x->ndim; d++)
        left += !(done[d] = dims[d] == 1);
    for (; left; left--) {
        uint32_t least = NONE;
        for (uint32_t d = 0; d < x->ndim; d++)
            if (!done[d] && (least == NONE || size_of(strides[d]) < size_of(strides[least])))
                least = d;
        if (size_of(strides[least]) < reached)
            return false;
        reached += size_of(strides[least]) * ((uint64_t)dims[least] - 1);
        done[least] = true;
    }
    return true;
}

/* Whether flat index i is at the same place in both, and at no other's: a strip then meets only itself. */
static bool in_step(const access *x, const access *y)
{
    if (x->indexed || y->indexed || x->ndim != y->ndim || x->first != y->first || x->item != y->item)
        return false;
    for (uint32_t d = 0; d < x->ndim; d++)
        if (fad_access_strides(x)[d] != fad_access_strides(y)[d] || (d && fad_access_dims(x)[d] != fad_access_dims(y)[d]))
            return false;
    return is_injective(x) && is_injective(y);
}

/* Whether both go from row to row by the same stride, and reach different parts of the rows. */
static bool in_columns(const access *x, const access *y)
{
    if (x->indexed || y->indexed)
        return false;
    uint64_t stride = size_of(fad_access_strides(x)[0]), rows = (uint64_t)fad_access_dims(x)[0];
    if (fad_access_strides(x)[0] != fad_access_strides(y)[0] || rows != (uint64_t)fad_access_dims(y)[0])
        return false;
    uint64_t x_end = x->end - stride * (rows - 1), y_end = y->end - stride * (rows - 1); /* of the lowest row */
    uint64_t from = x->begin < y->begin ? x->begin : y->begin, to = x_end > y_end ? x_end : y_end;
    return to - from <= stride && (x_end <= y->begin || y_end <= x->begin);
}

/* Whether no strip meets in `y` what another strip does in `x`. */
static bool apart(const access *x, const access *y)
{
    return x->base != y->base || x->end <= y->begin || y->end <= x->begin || in_step(x, y) || in_columns(x, y);
}

/* --- strips --- */

/* Whether each strip holds what an instruction before wrote: then nothing is left of another strip's run. */
static bool strips_are_fresh(const fad_program *p, const fad_step *step, uint8_t *held)
{
    memset(held, 0, step->strips);
    for (uint32_t n = step->first; n < step->first + step->count; n++) {
        const fad_instruction *i = &p->instructions[n];
        for (int k = 0; k < i->count; k++) {
            const fad_argument *a = &i->arguments[k];
            if (a->place != FAD_AT_STRIP)
                continue;
            if (k == i->count - 1 && !fad_code_stores(i->code))
                held[a->offset] = (uint8_t)fad_itemsize(a->dtype);
            else if (held[a->offset] < fad_itemsize(a->dtype))
                return false;
        }
    }
    return true;
}

/* --- groups --- */

static uint32_t leader(uint32_t *group, uint32_t i)
{
    while (group[i] != i)
        i = group[i] = group[group[i]];
    return i;
}

/* The instructions that meet in different strips, in one group; NONE: an instruction that meets none. */
static void join(uint32_t *group, uint32_t i, uint32_t k)
{
    if (group[i] == NONE)
        group[i] = i;
    if (group[k] == NONE)
        group[k] = k;
    i = leader(group, i);
    k = leader(group, k);
    group[i < k ? k : i] = i < k ? i : k;
}

/* False: too many to compare. */
static bool find_groups(const access *all, size_t count, uint32_t *group)
{
    size_t writing = 0;
    for (size_t i = 0; i < count; i++)
        writing += all[i].writes;
    if (writing * (uint64_t)count > MOST_PAIRS)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!all[i].writes)
            continue;
        if (!is_injective(&all[i]))
            join(group, all[i].instruction, all[i].instruction);
        for (size_t k = 0; k < count; k++)
            if (k != i && !apart(&all[i], &all[k]))
                join(group, all[i].instruction, all[k].instruction);
    }
    return true;
}

/* Numbers the groups, and marks where each begins and ends. False: a turn would take more than half of a strip's time. */
static bool mark_turns(uint32_t *group, uint32_t count, fad_turn *turns)
{
    uint32_t first[FAD_MOST_GROUPS + 1] = {0}, last[FAD_MOST_GROUPS + 1] = {0};
    uint8_t groups = 0, *number; /* `ends` of all in a group, until the last is known */
    for (uint32_t i = 0; i < count; i++) {
        if (group[i] == NONE)
            continue;
        uint32_t lead = leader(group, i); /* the first of the group */
        number = &turns[i].ends;
        *number = lead == i ? groups : turns[lead].ends;
        if (lead == i && groups < FAD_MOST_GROUPS) { /* the last one takes the rest */
            turns[i].awaits = *number = ++groups;
            first[groups] = i;
        }
        last[*number] = i;
    }
    for (uint32_t i = 0; i < count; i++)
        if (last[turns[i].ends] != i)
            turns[i].ends = 0;
    for (uint8_t g = 1; g <= groups; g++)
        if (2 * (last[g] - first[g] + 1) > count)
            return false;
    return true;
}

/* --- the whole --- */

static bool is_wide(const fad_step *step, uint64_t least_work)
{
    return step->kind == FAD_STEP_REGION && step->count && step->n > step->strip && step->n >= least_work / step->count;
}

/* Room for the analysis of one region. */
typedef struct {
    access *all;
    uint32_t *group;
    uint8_t *held;
} room;

static bool may_run_together(const fad_program *p, const fad_step *step, const room *r)
{
    size_t count = 0;
    if (!strips_are_fresh(p, step, r->held))
        return false;
    for (uint32_t i = 0; i < step->count; i++)
        for (int k = 0; k < p->instructions[step->first + i].count; k++)
            count += fad_see_access(p, step, i, k, &r->all[count]);
    memset(r->group, 0xff, step->count * sizeof *r->group);
    if (find_groups(r->all, count, r->group) && mark_turns(r->group, step->count, p->turns + step->first))
        return true;
    memset(p->turns + step->first, 0, step->count * sizeof *p->turns);
    return false;
}

static void *allocate(const fad_program *p, size_t bytes)
{
    return p->allocator.resize(p->allocator.context, NULL, 0, bytes);
}

static void deallocate(const fad_program *p, void *memory, size_t bytes)
{
    if (memory)
        p->allocator.resize(p->allocator.context, memory, bytes, 0);
}

fad_status fad_program_turns(fad_program *p, uint64_t least_work)
{
    size_t most = 0, strips = 1;
    deallocate(p, p->turns, p->instruction_count * sizeof *p->turns);
    deallocate(p, p->together, p->step_count);
    p->turns = NULL;
    p->together = NULL;
    for (size_t i = 0; FAD_HAS_THREADS && i < p->step_count; i++)
        if (is_wide(&p->steps[i], least_work)) {
            most = p->steps[i].count > most ? p->steps[i].count : most;
            strips = p->steps[i].strips > strips ? p->steps[i].strips : strips;
        }
    if (most == 0)
        return FAD_OK;
    size_t bytes = 4 * most * sizeof(access), group_bytes = most * sizeof(uint32_t);
    room r = {allocate(p, bytes), allocate(p, group_bytes), allocate(p, strips)};
    p->turns = allocate(p, p->instruction_count * sizeof *p->turns);
    p->together = allocate(p, p->step_count);
    bool enough = r.all && r.group && r.held && p->turns && p->together;
    if (enough) {
        memset(p->turns, 0, p->instruction_count * sizeof *p->turns);
        for (size_t i = 0; i < p->step_count; i++)
            p->together[i] = is_wide(&p->steps[i], least_work) && may_run_together(p, &p->steps[i], &r);
        for (size_t i = 0; i < p->instruction_count; i++)
            if (p->turns[i].awaits || p->turns[i].ends)
                p->bound[i].count = 0;
        for (size_t i = 0; i + 1 < p->instruction_count; i++)
            if (p->bound[i].count == 0 || p->bound[i + 1].count == 0)
                p->bound[i].pair = NULL;
    }
    deallocate(p, r.all, bytes);
    deallocate(p, r.group, group_bytes);
    deallocate(p, r.held, strips);
    return enough ? FAD_OK : FAD_NO_MEMORY;
}
