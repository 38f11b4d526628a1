/* lower_reuse.c: an array that is read for the last time where another is made of it, element by element, has the other's
 * memory, or gives it its own: one array less to write, to read and to keep. */
#include "lower.h"
#include "try.h"

typedef struct {
    fad_lowering *l;
    uint32_t region;       /* that reads, and the node of the item that does */
    uint32_t node;
    uint32_t *reader;      /* of roots: the last region that reads them (FAD_NO_INDEX: none) */
    uint32_t *by;          /* the one node that does there, element by element; or FAD_NO_INDEX */
    uint8_t *kept;         /* whether one reads them that is not in their region: they have memory */
} sharing;

static void note_reading(void *context, uint32_t node)
{
    sharing *s = context;
    const fad_lowering *l = s->l;
    uint32_t root = l->root[node];
    bool whole = l->window[node] == FAD_NO_INDEX && fad_lower_is_array(l, node);
    s->kept[root] |= !whole || l->region[root] != s->region;
    bool by_element = s->node != FAD_NO_INDEX && whole && l->regions[s->region].n == fad_lower_shape(l, root)->size;
    bool again = s->reader[root] == s->region && s->by[root] != s->node;
    s->reader[root] = s->region;
    s->by[root] = by_element && !again ? s->node : FAD_NO_INDEX;
}

/* An element-wise operation on arrays in a region. */
static bool is_by_element(const fad_lowering *l, uint32_t node)
{
    return node < l->count && l->tape->nodes[node].op < FAD_ELEMENTWISE_COUNT && l->source[node] == FAD_FROM_REGION &&
           fad_lower_is_array(l, node);
}

static void note_readings(sharing *s, const uint32_t *order)
{
    const fad_lowering *l = s->l;
    for (size_t r = 0; r < l->region_count; r++) {
        s->region = order[r];
        for (uint32_t i = l->regions[order[r]].first; i != FAD_NO_INDEX; i = l->items[i].next) {
            const fad_item *item = &l->items[i];
            bool known = item->kind == FAD_ITEM_COMPUTE && is_by_element(l, item->node);
            s->node = known ? item->node : FAD_NO_INDEX;
            fad_lower_reads(l, item, note_reading, s);
        }
    }
}

/* Whether `node` may be written where `root` is: `root` is read for the last time as `node` is computed, by `node` or by
 * what becomes part of it (lower_fuse.c): by nothing that may come after it. */
static bool may_take(const sharing *s, uint32_t root, uint32_t node, uint32_t by)
{
    const fad_lowering *l = s->l;
    bool made = l->source[root] == FAD_FROM_REGION || l->source[root] == FAD_FROM_STEP || l->source[root] == FAD_FROM_STORES;
    return made && fad_lower_is_array(l, root) && l->output[root] == FAD_NO_INDEX && l->margin[root] == FAD_NO_INDEX &&
           (l->source[root] != FAD_FROM_REGION || l->region[root] != l->region[node]) &&
           s->reader[root] == l->region[node] && s->by[root] == by &&
           fad_lower_dtype(l, root) == fad_lower_dtype(l, node) &&
           fad_lower_shape(l, root)->size == fad_lower_shape(l, node)->size &&
           fad_lower_shape(l, node)->size > 1; /* one element is read as a number that stays the same */
}

/* Looks at the operands of `by`, which is `node` or an operand that it alone reads. */
static bool find_among(const sharing *s, uint32_t node, uint32_t by, uint32_t *found)
{
    uint32_t p;
    for (size_t k = 0; (p = fad_parent(s->l->tape, by, k)) != FAD_NODE_NONE; k++)
        if (may_take(s, *found = s->l->root[p], node, by))
            return true;
    return false;
}

/* Whether `root` may lie in output `k`, all of which will be `node`: only what a region writes after the guards. */
static bool may_be_in_output(const fad_lowering *l, uint32_t root, uint32_t node, uint32_t k)
{
    return l->source[root] == FAD_FROM_REGION && l->output_at[node] == 0 && l->stage[root] >= l->barrier &&
           !(l->needed[root < l->count ? root : l->copy_of[root - l->count]] & 2) &&
           fad_lower_shape(l, l->trace->outputs[k])->size == fad_lower_shape(l, node)->size;
}

static void reuse(sharing *s, uint32_t node)
{
    fad_lowering *l = s->l;
    uint32_t p, found, k = l->output[node];
    bool any = find_among(s, node, node, &found);
    for (size_t i = 0; !any && (p = fad_parent(l->tape, node, i)) != FAD_NODE_NONE; i++)
        if (is_by_element(l, p) && l->uses[p] == 1 && l->region[p] == l->region[node] && l->output[p] == FAD_NO_INDEX)
            any = find_among(s, node, p, &found);
    if (!any || l->margin[node] != FAD_NO_INDEX || (k != FAD_NO_INDEX && !may_be_in_output(l, found, node, k)))
        return;
    s->by[found] = FAD_NO_INDEX; /* it is taken */
    if (k == FAD_NO_INDEX) {
        l->takes[node] = found;
        return;
    }
    l->output[found] = k;
    l->in_memory[found] = 1;
}

/* Whether the item computes an array that is in memory, element by element. */
static bool is_kept(const sharing *s, const fad_item *item)
{
    return item->kind == FAD_ITEM_COMPUTE && is_by_element(s->l, item->node) &&
           (s->kept[item->node] || s->l->in_memory[item->node] || s->l->output[item->node] != FAD_NO_INDEX);
}

static size_t count_regions(const fad_lowering *l)
{
    size_t count = 0;
    for (size_t i = 0; i < l->region_count; i++)
        count += l->regions[i].kind == FAD_STEP_REGION;
    return count;
}

fad_status fad_lower_reuse(fad_lowering *l, const uint32_t *order)
{
    fad_status status = FAD_OK;
    sharing s = {.l = l};
    size_t bytes = (l->room + 1) * sizeof *s.reader;
    if (count_regions(l) == 0)
        return FAD_OK;
    s.reader = fad_arena_alloc(l->tape, &l->arena, bytes, &status);
    s.by = s.reader ? fad_arena_alloc(l->tape, &l->arena, bytes, &status) : NULL;
    s.kept = s.by ? fad_arena_alloc(l->tape, &l->arena, l->room + 1, &status) : NULL;
    if (!s.kept)
        return status;
    memset(s.kept, 0, l->room + 1);
    memset(s.reader, 0xff, bytes);
    memset(s.by, 0xff, bytes);
    note_readings(&s, order);
    for (size_t r = 0; r < l->region_count; r++)
        for (uint32_t i = l->regions[r].first; i != FAD_NO_INDEX; i = l->items[i].next)
            if (is_kept(&s, &l->items[i]))
                reuse(&s, l->items[i].node);
    return FAD_OK;
}
