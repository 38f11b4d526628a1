/* lower_place.c: what one later region alone reads is computed there, and never in memory.
 *
 * Lowering computes each value as soon as its operands are there. If only a region of a later stage reads it, element by
 * element, it would be written to memory and read again: more than to read the operands later. So it moves, and what
 * it alone reads moves with it. */
#include "lower.h"
#include "try.h"

/* Who reads a root: a region, or more than one and whatever wants all of it at once. */
#define NOBODY    UINT32_C(0xffffffff)
#define ANYBODY   UINT32_C(0xfffffffe)

enum { MOST_OPERANDS = 3 };

typedef struct {
    fad_lowering *l;
    uint32_t *reader;      /* of roots: the region, NOBODY or ANYBODY */
    uint32_t *item;        /* of nodes that a region computes: their item */
    uint8_t *moved;
    uint32_t region;       /* that reads */
} placing;

static bool is_array_of_region(const fad_lowering *l, const fad_item *item)
{
    return item->kind == FAD_ITEM_COMPUTE && item->node < l->count && l->source[item->node] == FAD_FROM_REGION &&
           fad_lower_is_array(l, item->node);
}

static void note_reading(void *context, uint32_t node)
{
    placing *p = context;
    const fad_lowering *l = p->l;
    uint32_t root = l->root[node], *reader = &p->reader[root];
    const fad_region *r = &l->regions[p->region];
    bool by_element = r->kind == FAD_STEP_REGION && l->window[node] == FAD_NO_INDEX && fad_lower_is_array(l, node) &&
                      r->n == fad_lower_shape(l, root)->size;
    *reader = by_element && (*reader == NOBODY || *reader == p->region) ? p->region : ANYBODY;
}

/* A GATHER reads its first operand wherever its indices say. */
static void note_item(placing *p, const fad_item *item)
{
    const fad_lowering *l = p->l;
    fad_lower_reads(l, item, note_reading, p);
    if (item->kind == FAD_ITEM_COMPUTE && item->node < l->count && l->tape->nodes[item->node].op == FAD_GATHER)
        p->reader[l->root[fad_lower_step_operand(l, item->node, l->tape->nodes[item->node].a)]] = ANYBODY;
}

/* Scalars read arrays by what they load. */
static void note_items(placing *p)
{
    fad_lowering *l = p->l;
    for (p->region = 0; p->region < l->region_count; p->region++) {
        bool scalars = l->regions[p->region].kind == FAD_STEP_SCALARS;
        for (uint32_t i = l->regions[p->region].first; i != FAD_NO_INDEX; i = l->items[i].next) {
            if (is_array_of_region(l, &l->items[i]))
                p->item[l->items[i].node] = i;
            else if (!scalars || l->items[i].kind == FAD_ITEM_LOAD)
                note_item(p, &l->items[i]);
        }
    }
}

/* Whether no operand has to go to memory for it: what others of the same region read as it is made. */
static bool may_leave(const placing *p, uint32_t node)
{
    const fad_lowering *l = p->l;
    uint32_t q;
    size_t count = 0;
    for (size_t k = 0; (q = fad_parent(l->tape, node, k)) != FAD_NODE_NONE; k++, count++) {
        uint32_t root = l->root[q];
        if (l->source[root] == FAD_FROM_REGION && l->region[root] == l->region[node] && p->reader[root] == l->region[node] &&
            l->output[root] == FAD_NO_INDEX)
            return false;
    }
    return count <= MOST_OPERANDS;
}

/* Readers come before what they read. */
static void choose_regions(placing *p)
{
    fad_lowering *l = p->l;
    for (uint32_t node = (uint32_t)l->count; node-- > 0;) {
        if (p->item[node] == FAD_NO_INDEX)
            continue;
        uint32_t to = p->reader[node];
        if (to < ANYBODY && to != l->region[node] && l->output[node] == FAD_NO_INDEX && may_leave(p, node)) {
            l->region[node] = to;
            l->stage[node] = l->regions[to].stage;
            p->moved[node] = 1;
        }
        p->region = l->region[node];
        note_item(p, &l->items[p->item[node]]);
    }
}

/* Takes out of its list what has left the region. */
static void drop_moved(const placing *p, uint32_t region)
{
    fad_lowering *l = p->l;
    fad_region *r = &l->regions[region];
    uint32_t *link = &r->first;
    r->last = FAD_NO_INDEX;
    for (uint32_t i = r->first; i != FAD_NO_INDEX; i = l->items[i].next) {
        if (is_array_of_region(l, &l->items[i]) && p->moved[l->items[i].node]) {
            r->count--;
            continue;
        }
        *link = r->last = i;
        link = &l->items[i].next;
    }
    *link = FAD_NO_INDEX;
}

static void move_items(placing *p)
{
    fad_lowering *l = p->l;
    for (uint32_t i = 0; i < l->region_count; i++)
        if (l->regions[i].kind == FAD_STEP_REGION)
            drop_moved(p, i);
    for (uint32_t node = (uint32_t)l->count; node-- > 0;) {
        if (!p->moved[node])
            continue;
        fad_region *r = &l->regions[l->region[node]];
        l->items[p->item[node]].next = r->first;
        r->first = p->item[node];
        r->last = r->last == FAD_NO_INDEX ? r->first : r->last;
        r->count++;
    }
}

fad_status fad_lower_place(fad_lowering *l)
{
    fad_status status = FAD_OK;
    placing p = {.l = l};
    size_t regions = 0;
    for (size_t i = 0; i < l->region_count; i++)
        regions += l->regions[i].kind == FAD_STEP_REGION;
    if (regions < 2)
        return FAD_OK;
    p.reader = fad_arena_alloc(l->tape, &l->arena, (l->room + 1) * sizeof *p.reader, &status);
    p.item = p.reader ? fad_arena_alloc(l->tape, &l->arena, (l->count + 1) * sizeof *p.item, &status) : NULL;
    p.moved = p.item ? fad_arena_alloc(l->tape, &l->arena, l->count + 1, &status) : NULL;
    if (!p.moved)
        return status;
    memset(p.reader, 0xff, (l->room + 1) * sizeof *p.reader);
    memset(p.item, 0xff, (l->count + 1) * sizeof *p.item);
    memset(p.moved, 0, l->count + 1);
    note_items(&p);
    choose_regions(&p);
    move_items(&p);
    return FAD_OK;
}
