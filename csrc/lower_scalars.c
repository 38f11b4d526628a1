/* lower_scalars.c: a block of scalars, one instruction each; stretches that repeat become REPEAT steps, and where little
 * does, groups of one op GROUPS steps. */
#include "lower_emit.h"
#include "try.h"

enum {
    SHORTEST_BLOCK = 64,   /* of which stretches are looked for */
    MANY = 512,            /* instructions: another order may do with less */
    MOST_REPEATED = 2      /* the part of a block that REPEATs may save if it is to be in groups: one in so many */
};

/* --- operands --- */

/* What was loaded from an input or a constant stays there, and is best read where its neighbours are. */
fad_argument fad_emit_number(const fad_emitter *e, uint32_t node)
{
    uint32_t root = e->l->root[node];
    bool has_room = e->state[node] & FAD_HAS_ROOM;
    fad_argument own = {FAD_AT_MEMORY, FAD_F64, 0, FAD_IN_WORKSPACE, e->where[node]};
    if (has_room && root == node && e->l->source[node] != FAD_FROM_INPUT)
        return own;
    fad_argument memory = fad_emit_memory(e, root, fad_lower_window(e->l, node).offset);
    return has_room && memory.base == FAD_IN_WORKSPACE ? own : memory;
}

static fad_status load(fad_emitter *e, uint32_t node)
{
    fad_argument from = fad_emit_memory(e, e->l->root[node], fad_lower_window(e->l, node).offset);
    e->state[node] |= FAD_HAS_ROOM;
    TRY(fad_emit_take_scalar(e, &e->where[node]));
    return fad_emit_load(e, &from, e->where[node]);
}

fad_status fad_emit_unit(fad_emitter *e, uint32_t node, uint32_t *unit)
{
    uint32_t holder = e->l->number[node];
    if (!(e->state[holder] & FAD_HAS_ROOM)) /* a REPEAT reads it where it is */
        TRY(load(e, holder));
    *unit = (uint32_t)(e->where[holder] / sizeof(double));
    return FAD_OK;
}

typedef struct {
    fad_emitter *e;
    fad_status status;
} freeing;

static void free_reading(void *context, uint32_t node)
{
    freeing *f = context;
    fad_emitter *e = f->e;
    uint32_t root = e->l->root[node], number = e->l->number[node];
    if (f->status == FAD_OK && number != FAD_NO_INDEX && !fad_lower_is_array(e->l, number))
        f->status = fad_emit_free_room(e, number);
    if (f->status == FAD_OK && root != number)
        f->status = fad_emit_free_room(e, root);
}

fad_status fad_emit_free_operands(fad_emitter *e, const fad_item *item)
{
    freeing f = {e, FAD_OK};
    fad_lower_reads(e->l, item, free_reading, &f);
    return f.status;
}

/* --- one by one --- */

/* Operands of an instruction of an NSUM, the sum so far at its place among them. */
static size_t with_sum(uint32_t *operands, size_t count, uint32_t sum)
{
    if (count == 1)
        operands[1] = operands[0];
    operands[count == 1 ? 0 : 2] = sum;
    return count + 1;
}

static fad_status emit_nsum(fad_emitter *e, uint32_t node)
{
    size_t terms = fad_lower_scalar_count(e->l, node), count;
    uint64_t to = e->where[node];
    uint32_t operands[3], units[3] = {0, 0, 0}, sum;
    int op = fad_lower_scalar_op(e->l, node, 0, operands, &count);
    TRY(fad_emit_unit(e, operands[0], &sum));
    if (terms == 1)
        return fad_emit_scalar(e, op, to, sum, 0, 0);
    for (size_t i = 1; i < terms; i++) {
        op = fad_lower_scalar_op(e->l, node, i, operands, &count);
        for (size_t k = 0; k < count; k++)
            TRY(fad_emit_unit(e, operands[k], &units[k]));
        with_sum(units, count, sum);
        TRY(fad_emit_scalar(e, op, to, units[0], units[1], units[2]));
        sum = (uint32_t)(to / sizeof(double));
    }
    return FAD_OK;
}

static fad_status emit_store(fad_emitter *e, const fad_item *item)
{
    const fad_lowering *l = e->l;
    uint32_t from;
    TRY(fad_emit_unit(e, item->source, &from));
    if (!item->to_output)
        TRY(fad_emit_make_room(e, item->node));
    fad_argument to = fad_emit_target(e, item, item->window == FAD_NO_INDEX ? 0 : l->windows[item->window].offset);
    if (to.base == FAD_IN_WORKSPACE)
        return fad_emit_scalar(e, FAD_POS, to.offset, from, 0, 0);
    return fad_emit_scalar(e, FAD_SCALAR_STORE, (uint64_t)from * sizeof(double), to.base, (uint32_t)(to.offset >> 32),
                           (uint32_t)to.offset);
}

/* An element-wise op reads before it writes: its result may take an operand's place. */
static fad_status emit_op(fad_emitter *e, const fad_item *item)
{
    uint32_t operands[3], units[3] = {0, 0, 0};
    size_t count;
    int op = fad_lower_scalar_op(e->l, item->node, 0, operands, &count);
    for (size_t k = 0; k < count; k++)
        TRY(fad_emit_unit(e, operands[k], &units[k]));
    TRY(fad_emit_free_operands(e, item));
    TRY(fad_emit_make_room(e, item->node));
    return fad_emit_scalar(e, op, e->where[item->node], units[0], units[1], units[2]);
}

fad_status fad_emit_item(fad_emitter *e, const fad_item *item)
{
    if (item->kind == FAD_ITEM_COMPUTE && e->tape->nodes[item->node].op != FAD_NSUM)
        return emit_op(e, item);
    if (item->kind == FAD_ITEM_STORE) {
        TRY(emit_store(e, item));
    } else if (item->kind == FAD_ITEM_LOAD) {
        TRY(load(e, item->node));
    } else {
        TRY(fad_emit_make_room(e, item->node));
        TRY(emit_nsum(e, item->node));
    }
    return fad_emit_free_operands(e, item);
}

/* --- entries --- */

typedef struct {
    fad_emitter *e;
    fad_entry *all;
    size_t count, capacity;
} entries;

static uint32_t operand_of(const fad_emitter *e, uint32_t node)
{
    uint32_t holder = e->l->number[node];
    return e->place_region[holder] == e->region ? e->place[holder] : holder | FAD_OUTSIDE;
}

static fad_status add_entry(entries *to, const fad_entry *entry)
{
    fad_emitter *e = to->e;
    TRY(fad_make_room(e->tape, &to->all, sizeof *to->all, to->count + 1, &to->capacity));
    if (entry->node != FAD_NO_INDEX) {
        e->place[entry->node] = (uint32_t)to->count;
        e->place_region[entry->node] = e->region;
    }
    to->all[to->count++] = *entry;
    return FAD_OK;
}

static fad_status add_nsum(entries *to, fad_entry *entry)
{
    const fad_emitter *e = to->e;
    uint32_t node = entry->node, sum = 0;
    size_t terms = fad_lower_scalar_count(e->l, node), count;
    entry->op = (uint16_t)fad_lower_scalar_op(e->l, node, 0, &sum, &count);
    entry->operands[0] = sum = operand_of(e, sum);
    entry->count = 1;
    if (terms == 1)
        return add_entry(to, entry);
    for (size_t i = 1; i < terms; i++) {
        entry->op = (uint16_t)fad_lower_scalar_op(e->l, node, i, entry->operands, &count);
        for (size_t k = 0; k < count; k++)
            entry->operands[k] = operand_of(e, entry->operands[k]);
        entry->count = (uint8_t)with_sum(entry->operands, count, sum);
        entry->partial = i + 1 < terms;
        entry->node = entry->partial ? FAD_NO_INDEX : node;
        sum = (uint32_t)to->count;
        TRY(add_entry(to, entry));
    }
    return FAD_OK;
}

static fad_status add_item(entries *to, uint32_t number)
{
    const fad_emitter *e = to->e;
    const fad_item *item = &e->l->items[number];
    uint32_t operands[3] = {0, 0, 0};
    size_t count = 0;
    fad_entry entry = {.item = number, .node = item->node, .time = e->time};
    if (item->kind == FAD_ITEM_LOAD) {
        entry.op = FAD_SCALAR_LOAD;
    } else if (item->kind == FAD_ITEM_STORE) {
        entry.op = FAD_SCALAR_STORE;
        entry.node = FAD_NO_INDEX;
        operands[count++] = item->source;
    } else if (e->tape->nodes[item->node].op == FAD_NSUM) {
        return add_nsum(to, &entry);
    } else {
        entry.op = (uint16_t)fad_lower_scalar_op(e->l, item->node, 0, operands, &count);
    }
    entry.count = (uint8_t)count;
    for (size_t k = 0; k < count; k++)
        entry.operands[k] = operand_of(e, operands[k]);
    return add_entry(to, &entry);
}

static fad_status reserve(entries *to, size_t count)
{
    fad_status status = FAD_OK;
    to->all = fad_resize(to->e->tape, NULL, 0, count * sizeof *to->all, &status);
    to->capacity = to->all ? count : 0;
    return status;
}

static void release(entries *block, fad_records *stretches)
{
    fad_status ignored;
    fad_resize(block->e->tape, block->all, block->capacity * sizeof *block->all, 0, &ignored);
    fad_resize(block->e->tape, stretches->data, stretches->capacity * stretches->item, 0, &ignored);
}

static fad_status add_items(entries *to, const fad_region *r)
{
    fad_emitter *e = to->e;
    uint32_t before = e->time;
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next) {
        e->time++;
        TRY(add_item(to, i));
    }
    e->time = before;
    return FAD_OK;
}

/* --- a block --- */

static fad_status emit_term(fad_emitter *e, const fad_entry *all, uint32_t operand, uint32_t *unit)
{
    bool outside = operand & FAD_OUTSIDE;
    if (!outside && all[operand].partial) {
        *unit = (uint32_t)(e->partial / sizeof(double));
        return FAD_OK;
    }
    return fad_emit_unit(e, outside ? operand & ~FAD_OUTSIDE : all[operand].node, unit);
}

/* A sum term by term, of which a REPEAT may have done some. */
static fad_status emit_partial(fad_emitter *e, const fad_entry *all, const fad_entry *x)
{
    uint32_t units[3] = {0, 0, 0};
    bool goes_on = fad_entry_goes_on(all, x);
    uint64_t to = e->partial;
    for (int k = 0; k < x->count; k++)
        TRY(emit_term(e, all, x->operands[k], &units[k]));
    if (!x->partial) {
        TRY(fad_emit_make_room(e, x->node));
        to = e->where[x->node];
    } else if (!goes_on) {
        TRY(fad_emit_take_scalar(e, &to));
        e->partial = to;
    }
    TRY(fad_emit_scalar(e, x->op, to, units[0], units[1], units[2]));
    if (x->partial)
        return FAD_OK;
    if (goes_on)
        TRY(fad_emit_give_scalar(e, e->partial));
    return fad_emit_free_operands(e, &e->l->items[x->item]);
}

static fad_status emit_entries(fad_emitter *e, const fad_entry *all, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        const fad_entry *x = &all[i];
        e->time = x->time;
        if (x->partial || fad_entry_goes_on(all, x))
            TRY(emit_partial(e, all, x));
        else
            TRY(fad_emit_item(e, &e->l->items[x->item]));
    }
    return FAD_OK;
}

static fad_status emit_stretch(fad_emitter *e, const fad_entry *all, const fad_stretch *s, size_t *before)
{
    size_t done;
    for (size_t i = 0; i < s->count;) {
        TRY(fad_emit_repeat(e, all, s, i, before, &done));
        if (done == 0) {
            size_t first = s->first + i * s->period;
            TRY(emit_entries(e, all, first, first + s->period));
            done = 1;
        }
        i += done;
    }
    return FAD_OK;
}

static fad_status emit_block(fad_emitter *e, const entries *block, const fad_records *stretches, size_t *before)
{
    size_t at = 0;
    for (size_t i = 0; i < stretches->count; i++) {
        const fad_stretch *s = (const fad_stretch *)stretches->data + i;
        TRY(emit_entries(e, block->all, at, s->first));
        TRY(emit_stretch(e, block->all, s, before));
        at = s->first + s->period * s->count;
    }
    return emit_entries(e, block->all, at, block->count);
}

/* Instructions of a block, if its stretches are what they promise. */
static size_t instructions(size_t count, const fad_records *stretches)
{
    const fad_stretch *s = stretches->data;
    for (size_t i = 0; i < stretches->count; i++)
        count -= (s[i].count - 1) * s[i].period;
    return count;
}

static void swap(void *x, void *y, size_t size)
{
    char z[64];
    memcpy(z, x, size);
    memcpy(x, y, size);
    memcpy(y, z, size);
}

/* Looks for stretches, in another order too where this one has few. */
static fad_status find_stretches(fad_emitter *e, entries *block, fad_records *stretches)
{
    TRY(fad_find_stretches(e, block->all, block->count, stretches));
    size_t found = instructions(block->count, stretches);
    if (found <= MANY)
        return FAD_OK;
    entries other = {.e = e};
    fad_records others = {.item = sizeof(fad_stretch)};
    fad_status status = reserve(&other, block->count);
    if (status == FAD_OK)
        status = fad_sort_by_demand(e, block->all, block->count, other.all);
    if (status == FAD_OK)
        status = fad_find_stretches(e, other.all, block->count, &others);
    if (status == FAD_OK && instructions(block->count, &others) < found - found / 4) {
        fad_note_sorted(e, block->all, other.all, block->count);
        other.count = block->count;
        swap(block, &other, sizeof other);
        swap(stretches, &others, sizeof others);
    }
    release(&other, &others);
    return status;
}

/* A block in which little repeats, as groups; not `done`, and nothing emitted, where they are too narrow. */
static fad_status emit_as_groups(fad_emitter *e, const entries *block, size_t *before, bool *done)
{
    fad_status status = FAD_OK, ignored;
    entries sorted = {.e = e};
    size_t bytes = block->count * sizeof(uint32_t);
    fad_grouping groups = {.ends = fad_resize(e->tape, NULL, 0, bytes, &status)};
    if (status == FAD_OK)
        status = reserve(&sorted, block->count);
    groups.sorted = sorted.all;
    if (status == FAD_OK)
        status = fad_find_groups(e, block->all, block->count, &groups);
    *done = status == FAD_OK && groups.count;
    if (*done) {
        fad_note_sorted(e, block->all, groups.sorted, block->count);
        status = fad_emit_groups(e, &groups, before);
    }
    fad_resize(e->tape, groups.ends, groups.ends ? bytes : 0, 0, &ignored);
    fad_resize(e->tape, sorted.all, sorted.capacity * sizeof *sorted.all, 0, &ignored);
    return status;
}

static fad_status emit_one_by_one(fad_emitter *e, const fad_region *r)
{
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = e->l->items[i].next) {
        e->time++;
        TRY(fad_emit_item(e, &e->l->items[i]));
    }
    return FAD_OK;
}

fad_status fad_emit_scalars(fad_emitter *e, const fad_region *r)
{
    size_t before = e->scalars.count;
    if (r->count < SHORTEST_BLOCK || e->l->room >= FAD_OUTSIDE) {
        TRY(emit_one_by_one(e, r));
        return fad_emit_flush_scalars(e, before);
    }
    entries block = {.e = e};
    fad_records stretches = {.item = sizeof(fad_stretch)};
    fad_status status = reserve(&block, r->count);
    if (status == FAD_OK)
        status = add_items(&block, r);
    if (status == FAD_OK)
        status = find_stretches(e, &block, &stretches);
    bool done = false;
    if (status == FAD_OK && instructions(block.count, &stretches) > block.count - block.count / MOST_REPEATED)
        status = emit_as_groups(e, &block, &before, &done);
    if (status == FAD_OK && !done)
        status = emit_block(e, &block, &stretches, &before);
    if (status == FAD_OK)
        status = fad_emit_flush_scalars(e, before);
    release(&block, &stretches);
    return status;
}
