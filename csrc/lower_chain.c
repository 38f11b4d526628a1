/* lower_chain.c: regions in a row become one that reads its own values at shifted places.
 *
 * Lowering lets whoever reads an array at other places than its own wait for all of it. But strips run in order: what lies
 * behind (y[i - 1]) was computed by this strip or one before, and where strips run from the last to the first, so was
 * what lies ahead (y[i + 1]). So the stages of a recurrence along an axis, and those of its adjoint, go strip by strip
 * through the first-level cache, several of them at a time, instead of each through all of memory. */
#include "lower.h"
#include "try.h"

enum {
    MOST = 8,            /* regions that become fewer at a time: arrays that one strip keeps in the cache */
};

/* How a region reads its own values. */
enum { IN_PLACE = 0, BEHIND = 1, AHEAD = 2, COMPLETE = 4 };

typedef struct {
    fad_lowering *l;
    uint32_t *order;
    uint32_t *made;      /* of roots: which of the new regions is the last to write it; FAD_NO_INDEX: none of them */
    uint8_t *to;         /* of items: which of the new regions does it */
    uint32_t mains[MOST], main_count;
    uint8_t ways[MOST];  /* of the new regions */
    uint32_t count;      /* of the new regions */
    /* the item at hand: the first new region that may do it, and how it reads what that region makes */
    size_t n;
    uint32_t least;
    uint8_t way;
} chaining;

/* --- what can be in a chain --- */

static bool is_plain(const fad_lowering *l, const fad_region *r, const fad_item *item)
{
    if (item->kind == FAD_ITEM_STORE)
        return item->window == FAD_NO_INDEX && item->indices == FAD_NO_INDEX && !item->to_output &&
               (item->code == FAD_DO_STORE || item->code == FAD_DO_ADD) && fad_lower_shape(l, item->source)->size == r->n;
    return item->kind == FAD_ITEM_COMPUTE && fad_lower_is_array(l, item->node) &&
           (item->node >= l->count || l->tape->nodes[item->node].op != FAD_GATHER);
}

/* A region whose items all do element i of something at element i. Those that several threads run stay alone. */
static bool is_main(const fad_lowering *l, const fad_region *r)
{
    if (r->kind != FAD_STEP_REGION || r->n < 2 || r->first == FAD_NO_INDEX || r->n >= FAD_LEAST_WORK / r->count)
        return false;
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = l->items[i].next)
        if (!is_plain(l, r, &l->items[i]))
            return false;
    return true;
}

/* A store to a margin, of what no region computes. */
static bool fills_margin(const fad_lowering *l, const fad_item *item)
{
    int source = l->source[l->root[item->source]];
    if (item->kind != FAD_ITEM_STORE || item->code != FAD_DO_STORE || item->to_output || item->indices != FAD_NO_INDEX ||
        item->window == FAD_NO_INDEX || l->margin[item->node] == FAD_NO_INDEX ||
        (source != FAD_FROM_CONSTANT && source != FAD_FROM_INPUT && source != FAD_FROM_SCALARS))
        return false;
    const fad_window *w = &l->windows[item->window];
    const fad_shape *shape = fad_lower_shape(l, item->source);
    for (size_t d = 0; d < shape->ndim; d++)
        if (shape->dims[d] > 1 && w->strides[d] != shape->strides[d])
            return false;
    return w->offset + (ptrdiff_t)shape->size <= 0 || w->offset >= (ptrdiff_t)fad_lower_shape(l, item->node)->size;
}

/* What may run before all regions of a chain: nobody else writes there. */
static bool is_filling(const fad_lowering *l, const fad_region *r)
{
    if (r->kind == FAD_STEP_ZERO || r->first == FAD_NO_INDEX)
        return true;
    if (r->kind != FAD_STEP_REGION)
        return false;
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = l->items[i].next)
        if (!fills_margin(l, &l->items[i]))
            return false;
    return true;
}

/* --- which new region does what --- */

static void need(chaining *c, uint32_t region, uint8_t way)
{
    if (region == FAD_NO_INDEX)
        return;
    if (way & COMPLETE) {
        region++;
        way = IN_PLACE;
    }
    if (region > c->least) {
        c->least = region;
        c->way = IN_PLACE;
    }
    c->way |= region == c->least ? way : IN_PLACE;
}

static void note_reading(void *context, uint32_t node)
{
    chaining *c = context;
    const fad_lowering *l = c->l;
    uint32_t root = l->root[node];
    uint8_t way = COMPLETE;
    if (l->source[root] == FAD_FROM_REGION && fad_lower_is_array(l, node) && fad_lower_shape(l, node)->size == c->n &&
        fad_lower_shape(l, root)->size == c->n && fad_lower_is_dense(l, node)) {
        ptrdiff_t offset = fad_lower_window(l, node).offset;
        way = offset < 0 ? BEHIND : offset > 0 ? AHEAD : l->window[node] == FAD_NO_INDEX ? IN_PLACE : COMPLETE;
    }
    need(c, c->made[root], way);
}

/* Puts an item into a new region. False: there would be too many. */
static bool put(chaining *c, uint32_t number)
{
    const fad_item *item = &c->l->items[number];
    c->least = 0;
    c->way = IN_PLACE;
    fad_lower_reads(c->l, item, note_reading, c);
    if (item->kind == FAD_ITEM_STORE)
        need(c, c->made[item->node], IN_PLACE); /* in the order of the stores */
    uint32_t at = c->least;
    if (at < c->count && c->way && c->ways[at] && c->ways[at] != c->way) {
        at++;
        c->way = IN_PLACE;
    }
    if (c->way == (BEHIND | AHEAD)) {
        at++;
        c->way = IN_PLACE;
    }
    if (2 * (at + 1) > c->main_count)
        return false;
    for (; c->count <= at; c->count++)
        c->ways[c->count] = IN_PLACE;
    c->ways[at] |= c->way;
    c->made[item->node] = at;
    c->to[number] = (uint8_t)at;
    return true;
}

static bool put_all(chaining *c)
{
    const fad_lowering *l = c->l;
    bool fits = true;
    c->count = 0;
    c->n = l->regions[c->mains[0]].n;
    for (uint32_t k = 0; fits && k < c->main_count; k++)
        for (uint32_t i = l->regions[c->mains[k]].first; fits && i != FAD_NO_INDEX; i = l->items[i].next)
            fits = put(c, i);
    for (uint32_t k = 0; k < c->main_count; k++)
        for (uint32_t i = l->regions[c->mains[k]].first; i != FAD_NO_INDEX; i = l->items[i].next)
            c->made[l->items[i].node] = FAD_NO_INDEX;
    bool shifted = false;
    for (uint32_t k = 0; k < c->count; k++)
        shifted = shifted || c->ways[k];
    return fits && shifted;
}

/* --- the new order --- */

static void append(fad_lowering *l, fad_region *r, uint32_t item)
{
    if (r->first == FAD_NO_INDEX)
        r->first = item;
    else
        l->items[r->last].next = item;
    r->last = item;
    r->count++;
    l->items[item].next = FAD_NO_INDEX;
}

static void make_empty(fad_region *r)
{
    r->first = r->last = FAD_NO_INDEX;
    r->count = 0;
}

/* The new regions take the places of the first old ones. */
static void rebuild(chaining *c)
{
    fad_lowering *l = c->l;
    fad_region made[MOST];
    for (uint32_t k = 0; k < c->count; k++) {
        made[k] = l->regions[c->mains[k]];
        make_empty(&made[k]);
        made[k].chained = c->ways[k] != IN_PLACE;
        made[k].backwards = c->ways[k] == AHEAD;
    }
    for (uint32_t k = 0; k < c->main_count; k++) {
        for (uint32_t next, i = l->regions[c->mains[k]].first; i != FAD_NO_INDEX; i = next) {
            next = l->items[i].next;
            append(l, &made[c->to[i]], i);
            if (l->items[i].kind == FAD_ITEM_COMPUTE)
                l->region[l->items[i].node] = c->mains[c->to[i]];
        }
        make_empty(&l->regions[c->mains[k]]);
    }
    for (uint32_t k = 0; k < c->count; k++)
        l->regions[c->mains[k]] = made[k];
}

/* Fillings first, those of one length together. */
static void fill_first(chaining *c, size_t begin, size_t end)
{
    fad_lowering *l = c->l;
    size_t at = begin;
    fad_region *before = NULL;
    for (size_t i = begin; i < end; i++) {
        uint32_t number = c->order[i];
        fad_region *r = &l->regions[number];
        if (!is_filling(l, r))
            continue;
        memmove(&c->order[at + 1], &c->order[at], (i - at) * sizeof *c->order);
        c->order[at++] = number;
        if (before && before->kind == r->kind && before->n == r->n) {
            for (uint32_t next, k = r->first; k != FAD_NO_INDEX; k = next) {
                next = l->items[k].next;
                append(l, before, k);
            }
            make_empty(r);
        } else if (r->kind == FAD_STEP_REGION && r->first != FAD_NO_INDEX) {
            before = r;
        }
    }
}

/* The regions from place `begin` on of which some, all of one length, may become fewer; the others only fill margins.
 * Gives the place after them. */
static size_t find_batch(chaining *c, size_t begin)
{
    const fad_lowering *l = c->l;
    c->main_count = 0;
    size_t at = begin;
    for (; at < l->region_count; at++) {
        const fad_region *r = &l->regions[c->order[at]];
        if (is_filling(l, r))
            continue;
        if (c->main_count == MOST || !is_main(l, r) || (c->main_count && r->n != l->regions[c->mains[0]].n))
            break;
        c->mains[c->main_count++] = c->order[at];
    }
    return at;
}

fad_status fad_lower_chain(fad_lowering *l, uint32_t *order)
{
    fad_status status = FAD_OK;
    chaining c = {.l = l, .order = order};
    if (l->margin_count == 0) /* without them no two arrays of one length are read at shifted places */
        return FAD_OK;
    c.made = fad_arena_alloc(l->tape, &l->arena, (l->room + 1) * sizeof *c.made, &status);
    c.to = c.made ? fad_arena_alloc(l->tape, &l->arena, l->item_count + 1, &status) : NULL;
    if (!c.to)
        return status;
    memset(c.made, 0xff, (l->room + 1) * sizeof *c.made);
    for (size_t begin = 0, end; begin < l->region_count; begin = end) {
        end = find_batch(&c, begin);
        if (c.main_count > 1 && put_all(&c)) {
            rebuild(&c);
            fill_first(&c, begin, end);
        }
        end = end > begin ? end : begin + 1;
    }
    return FAD_OK;
}
