/* pass_again.c: what is read long after it was made is computed again there, where that costs little; and nothing is
 * computed long before what was recorded before it.
 *
 * A gradient reads the values of a loop's turns when all turns are through: memory that is written, and read when the
 * caches hold it no more. Where several of them are a few products and sums of one that is there anyway (the stages of a
 * step, of the state it begins with), the late reader gets copies of those nodes, and the first ones' memory is used
 * again at once. A copy that could be computed with the original would be: so it names a node that it waits for.
 *
 * So does an array that could be computed long before others of the recording that come before it. The adjoints of linear
 * steps depend on no value of theirs: beside the steps, they would be kept until the steps come to where they belong,
 * and all of one half of the steps would be read in the other.
 *
 * The same operations on the same operands: no bit changes, but where a product is rounded before a sum in one of the
 * two alone (not under strict). */
#include "fastad.h"
#include "try.h"

enum {
    FAR = 32,              /* levels after which a reading is late */
    NEAR = 16,             /* levels within which readers share a copy */
    MOST_NODES = 24,       /* that are copied for one */
    MOST_OPERANDS = 8,     /* of one that is copied */
    SMALL = 1 << 11,       /* bytes of an array that is not worth it, but kept */
};

#define FOREVER (UINT32_MAX - NEAR)
#define MANY (FAD_NODE_NONE - 1)  /* in the place of a node: more than one */

typedef struct {
    uint32_t level;        /* how often something must be complete before it can be computed */
    uint32_t last;         /* level of its last reading, also through windows */
    uint32_t source;       /* the one array that is kept of which it can be computed; FAD_NODE_NONE: of inputs; or MANY */
    uint32_t until;        /* level up to which that is kept */
    uint32_t wanted;       /* level up to which it is kept for what can be computed of it */
    uint32_t copy, at;     /* the latest copy, and its level */
    uint32_t after;        /* a node recorded before it that it waits for, or FAD_NODE_NONE */
    uint8_t cost;          /* nodes to be copied; 0: it is kept */
    uint8_t readers;       /* up to 2 */
    bool given;            /* an input, or a window of inputs: there in any case */
    bool window;           /* a join that is made in the margins of what it joins */
    bool before, behind;   /* one of its margins is taken */
} history;

typedef struct {
    const fad_trace *in;
    fad_trace *out;
    history *all;
    uint32_t *map;         /* of nodes of `in` */
    uint32_t *now;         /* the same for the node at hand: copies where it reads late */
    uint32_t *after;       /* of nodes of `out`: what they wait for */
    size_t after_room;
    size_t saved;          /* bytes */
    bool copies;           /* enough of them that late readers get copies */
    bool waits;            /* some node does, for what was recorded before it */
} again;

/* --- what there is --- */

static uint64_t bytes_of(const fad_tape *tape, uint32_t node)
{
    return (uint64_t)fad_node_shape(tape, node)->size * fad_itemsize(fad_node_dtype(tape, node));
}

/* Element-wise, and no more than arithmetic. */
static bool is_arithmetic(const fad_node *n)
{
    return n->op == FAD_NSUM ||
           (n->op < FAD_ELEMENTWISE_COUNT && (fad_ops[n->op].kind == FAD_LINEAR || fad_ops[n->op].kind == FAD_BILINEAR));
}

static bool only_moves(const fad_node *n)
{
    return n->op == FAD_VIEW || n->op == FAD_RESHAPE || n->op == FAD_BROADCAST_TO || n->op == FAD_CONCATENATE || n->op == FAD_EMBED;
}

/* Reads memory where it is, perhaps with others' elements around it. */
static bool is_window(const again *s, uint32_t node)
{
    const fad_node *n = &s->in->tape->nodes[node];
    return only_moves(n) && ((n->op != FAD_CONCATENATE && n->op != FAD_EMBED) || s->all[node].window);
}

static bool is_large(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    return n->flags & FAD_IS_ARRAY && n->flags & FAD_IS_DYNAMIC && n->op != FAD_VARIABLE && bytes_of(tape, node) >= SMALL;
}

/* Whether there may be something to do: large arrays of more bytes than that. */
static bool is_worth_a_look(const fad_tape *tape, size_t least)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < tape->count && bytes <= least; i++)
        if (tape->nodes[i].flags & FAD_IS_ARRAY && is_arithmetic(&tape->nodes[i]) && is_large(tape, i))
            bytes += bytes_of(tape, i);
    return bytes > least;
}

static uint32_t later(uint32_t x, uint32_t y) { return x > y ? x : y; }

/* The largest operand of a join, and whether the join has elements before it and behind it. False: they do not lie end to
 * end. */
static bool find_part(const fad_tape *tape, uint32_t node, uint32_t *part, bool *before, bool *behind)
{
    const fad_node *n = &tape->nodes[node];
    const fad_shape *whole = fad_node_shape(tape, node);
    if (n->op == FAD_EMBED) {
        const fad_view *view = tape->side[n->aux];
        size_t d = 0;
        *part = n->a;
        while (d < whole->ndim && whole->dims[d] == 1) /* the axis that is cut */
            d++;
        if (view->part->ndim != whole->ndim || d == whole->ndim)
            return false;
        for (size_t k = 0; k < whole->ndim; k++)
            if (view->source[k] != (int)k || view->step[k] != 1 || (k != d && view->part->dims[k] != whole->dims[k]))
                return false;
        *before = view->start[d] > 0;
        *behind = view->start[d] + view->part->dims[d] < whole->dims[d];
        return true;
    }
    const fad_list *list = tape->side[n->aux];
    size_t at = 0;
    for (size_t k = 1; k < list->count; k++)
        at = bytes_of(tape, list->nodes[k]) > bytes_of(tape, list->nodes[at]) ? k : at;
    *part = list->nodes[at];
    *before = at > 0;
    *behind = at + 1 < list->count;
    return fad_joins_end_to_end(list, whole);
}

/* An array has one margin before it and one behind it (lower_margins.c): other joins of it are memory of their own. */
static void note_join(again *s, uint32_t node)
{
    const fad_tape *tape = s->in->tape;
    uint32_t part;
    bool before, behind;
    if (tape->nodes[node].op != FAD_CONCATENATE && tape->nodes[node].op != FAD_EMBED)
        return;
    if (!find_part(tape, node, &part, &before, &behind) || bytes_of(tape, part) < bytes_of(tape, node) / 2)
        return;
    while (tape->nodes[part].op == FAD_VIEW || tape->nodes[part].op == FAD_RESHAPE)
        part = tape->nodes[part].a;
    history *root = &s->all[part];
    s->all[node].window = !(before && root->before) && !(behind && root->behind);
    root->before |= s->all[node].window && before;
    root->behind |= s->all[node].window && behind;
}

/* Whether all large operands are `given`. */
static bool reads_inputs_alone(const again *s, uint32_t node)
{
    uint32_t p;
    for (size_t k = 0; (p = fad_parent(s->in->tape, node, k)) != FAD_NODE_NONE; k++)
        if (is_large(s->in->tape, p) && !s->all[p].given)
            return false;
    return true;
}

/* `front`: the node recorded before it that is computed last. What is computed of other arrays does not wait: they would
 * have to be kept. */
static void note_order(again *s, uint32_t node, bool waiting, uint32_t *front)
{
    history *h = &s->all[node];
    const fad_node *n = &s->in->tape->nodes[node];
    h->given = n->op == FAD_VARIABLE || (only_moves(n) && reads_inputs_alone(s, node));
    if (!is_arithmetic(n) || !is_large(s->in->tape, node))
        return;
    if (*front == FAD_NODE_NONE || h->level >= s->all[*front].level) {
        *front = node;
    } else if (waiting && h->level + FAR < s->all[*front].level && reads_inputs_alone(s, node)) {
        h->after = *front;
        h->level = s->all[*front].level;
        s->waits = true;
    }
}

/* `waiting`: some nodes do, for what was recorded before them. */
static void note_levels(again *s, bool waiting)
{
    const fad_tape *tape = s->in->tape;
    uint32_t p, front = FAD_NODE_NONE;
    for (uint32_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        history none = {.copy = FAD_NODE_NONE, .after = FAD_NODE_NONE};
        s->all[i] = none;
        if (!(n->flags & FAD_IS_DYNAMIC))
            continue;
        note_join(s, i);
        for (size_t k = 0; (p = fad_parent(tape, i, k)) != FAD_NODE_NONE; k++)
            s->all[i].level = later(s->all[i].level, s->all[p].level);
        s->all[i].level += n->op >= FAD_ELEMENTWISE_COUNT && n->op != FAD_NSUM && n->op != FAD_VARIABLE;
        note_order(s, i, waiting, &front);
    }
}

static void note_readings(again *s)
{
    const fad_tape *tape = s->in->tape;
    uint32_t p;
    for (size_t i = 0; i < s->in->output_count; i++)
        s->all[s->in->outputs[i]].last = FOREVER;
    for (uint32_t i = (uint32_t)tape->count; i-- > 0;) {
        const fad_node *n = &tape->nodes[i];
        uint32_t at = is_window(s, i) ? later(s->all[i].last, s->all[i].level) : s->all[i].level;
        if (!(n->flags & FAD_IS_DYNAMIC))
            continue;
        for (size_t k = 0; (p = fad_parent(tape, i, k)) != FAD_NODE_NONE; k++) {
            s->all[p].last = later(s->all[p].last, at);
            s->all[p].readers += s->all[p].readers < 2;
        }
    }
}

/* Bytes that are kept for readers, on average over all levels. */
static double average_bytes(const again *s)
{
    const fad_tape *tape = s->in->tape;
    double bytes = 0;
    uint32_t levels = 1;
    for (uint32_t i = 0; i < tape->count; i++) {
        const history *h = &s->all[i];
        levels = later(levels, h->level);
        if (is_large(tape, i) && !is_window(s, i) && h->last != FOREVER && h->last > h->level)
            bytes += (double)bytes_of(tape, i) * (h->last - h->level);
    }
    return bytes / levels;
}

/* Nodes wait unless that keeps more: a tangent is read with the value that it goes with, an adjoint against the order of
 * values. */
static void choose_order(again *s)
{
    const double MORE = 1.25;
    note_levels(s, false);
    note_readings(s);
    double least = average_bytes(s);
    note_levels(s, true);
    note_readings(s);
    if (!s->waits || average_bytes(s) <= MORE * least)
        return;
    s->waits = false;
    note_levels(s, false);
    note_readings(s);
}

/* --- what is kept --- */

static void add_operand(history *to, const history *from)
{
    unsigned cost = (unsigned)to->cost + from->cost;
    to->cost = (uint8_t)(cost > MOST_NODES ? MOST_NODES + 1 : cost);
    to->until = to->until < from->until ? to->until : from->until;
    if (to->source == FAD_NODE_NONE)
        to->source = from->source;
    else if (from->source != FAD_NODE_NONE && from->source != to->source)
        to->source = MANY;
}

/* What it would cost to compute `node` again. */
static void note_cost(again *s, uint32_t node)
{
    const fad_tape *tape = s->in->tape;
    const fad_node *n = &tape->nodes[node];
    history *h = &s->all[node];
    uint32_t p;
    size_t count = 0;
    h->cost = 0;
    h->source = FAD_NODE_NONE;
    h->until = FOREVER;
    if (!is_large(tape, node))
        return;
    for (; (p = fad_parent(tape, node, count)) != FAD_NODE_NONE && count < MOST_OPERANDS; count++)
        add_operand(h, &s->all[p]);
    if (!(is_arithmetic(n) || is_window(s, node)) || fad_parent(tape, node, count) != FAD_NODE_NONE)
        h->cost = MOST_NODES + 1;
    else if (h->cost <= MOST_NODES) /* a window of what is kept is there, too */
        h->cost += h->cost || !is_window(s, node);
}

static bool is_cheap(const history *h) { return h->cost <= MOST_NODES && h->source != MANY && h->until + NEAR >= h->last; }

/* The one operand of an element-wise node that is not kept, if others read that too. */
static uint32_t own_source(const again *s, uint32_t node)
{
    const fad_tape *tape = s->in->tape;
    uint32_t p, found = FAD_NODE_NONE;
    for (size_t k = 0; (p = fad_parent(tape, node, k)) != FAD_NODE_NONE; k++) {
        if (s->all[p].cost == 0 && s->all[p].source == FAD_NODE_NONE)
            continue;
        if (found != FAD_NODE_NONE || !is_arithmetic(&tape->nodes[p]) || s->all[p].cost == 0 || s->all[p].readers < 2)
            return FAD_NODE_NONE;
        found = p;
    }
    return found;
}

/* Decides which arrays are kept until they are read late, and which are computed again. Where the former is made of
 * another that would do for more, `wanted` says so for the next time. */
static void decide(again *s)
{
    const fad_tape *tape = s->in->tape;
    s->saved = 0;
    for (uint32_t i = 0; i < tape->count; i++) {
        history *h = &s->all[i];
        note_cost(s, i);
        if (h->cost == 0 || is_window(s, i) || (h->last <= h->level + FAR && !h->wanted))
            continue;
        if (!h->wanted && h->last != FOREVER && is_cheap(h)) {
            s->saved += (size_t)bytes_of(tape, i);
            continue;
        }
        uint32_t from = is_arithmetic(&tape->nodes[i]) ? own_source(s, i) : FAD_NODE_NONE;
        if (from != FAD_NODE_NONE && h->last != FOREVER)
            s->all[from].wanted = later(s->all[from].wanted, h->last);
        h->cost = 0;
        h->source = i;
        h->until = later(h->last, h->wanted);
    }
}

/* --- copies --- */

static fad_status wait_for(again *s, uint32_t node, uint32_t after)
{
    fad_status status = FAD_OK;
    if (node >= s->after_room) {
        size_t room = 2 * (size_t)node + 64;
        uint32_t *grown = fad_resize(s->out->tape, s->after, s->after_room * sizeof *grown, room * sizeof *grown, &status);
        if (!grown)
            return status;
        memset(grown + s->after_room, 0xff, (room - s->after_room) * sizeof *grown);
        s->after = grown;
        s->after_room = room;
    }
    s->after[node] = after;
    return FAD_OK;
}

/* A copy of `node` for a reader at `level`, where it is not kept; its operands are, or have copies: no deeper than
 * MOST_NODES. */
static fad_status copy_again(again *s, uint32_t node, uint32_t level, uint32_t after, uint32_t *out)
{
    history *h = &s->all[node];
    uint32_t p;
    if (h->cost == 0) {
        *out = s->map[node];
        return FAD_OK;
    }
    bool is_near = h->copy != FAD_NODE_NONE && h->at <= level + NEAR && level <= h->at + NEAR;
    if (!is_near) {
        uint32_t operands[MOST_OPERANDS];
        size_t count = 0;
        for (; (p = fad_parent(s->in->tape, node, count)) != FAD_NODE_NONE; count++)
            TRY(copy_again(s, p, level, after, &operands[count]));
        for (size_t k = 0; k < count; k++)
            s->now[fad_parent(s->in->tape, node, k)] = operands[k];
        TRY(fad_trace_copy(s->out->tape, s->in->tape, node, s->now, &h->copy));
        TRY(wait_for(s, h->copy, after));
        h->at = level;
    }
    *out = h->copy;
    return FAD_OK;
}

static bool is_late(const again *s, uint32_t operand, uint32_t reader)
{
    const history *h = &s->all[operand];
    return h->cost && h->cost <= MOST_NODES && h->source != MANY && s->all[reader].level > h->level + FAR;
}

/* The operand that an element-wise reader waits for, if it is made shortly before; else FAD_NODE_NONE. */
static uint32_t latest_operand(const again *s, uint32_t reader)
{
    uint32_t p, latest = FAD_NODE_NONE;
    for (size_t k = 0; (p = fad_parent(s->in->tape, reader, k)) != FAD_NODE_NONE; k++)
        if (!is_late(s, p, reader) && (latest == FAD_NODE_NONE || s->all[p].level > s->all[latest].level))
            latest = p;
    return latest != FAD_NODE_NONE && s->all[latest].level + NEAR >= s->all[reader].level ? latest : FAD_NODE_NONE;
}

static fad_status copy_reader(again *s, uint32_t node)
{
    const fad_tape *tape = s->in->tape;
    uint32_t p, operands[3], latest = FAD_NODE_NONE;
    size_t count = 0;
    if (s->copies && is_large(tape, node) && tape->nodes[node].op < FAD_ELEMENTWISE_COUNT)
        latest = latest_operand(s, node);
    if (latest == FAD_NODE_NONE)
        return fad_trace_copy(s->out->tape, tape, node, s->map, &s->map[node]);
    for (; (p = fad_parent(tape, node, count)) != FAD_NODE_NONE; count++) {
        operands[count] = s->map[p];
        if (is_late(s, p, node))
            TRY(copy_again(s, p, s->all[node].level, s->map[latest], &operands[count]));
    }
    for (size_t k = 0; k < count; k++)
        s->now[fad_parent(tape, node, k)] = operands[k];
    return fad_trace_copy(s->out->tape, tape, node, s->now, &s->map[node]);
}

static fad_status copy_all(again *s)
{
    const fad_trace *in = s->in;
    fad_status status = FAD_OK;
    TRY(fad_trace_begin(s->out, s->out->tape, in));
    for (size_t i = 0; i < in->input_count; i++)
        s->map[in->inputs[i]] = s->out->inputs[i];
    for (uint32_t i = 0; i < in->tape->count; i++) {
        if (in->tape->nodes[i].op == FAD_VARIABLE && in->tape->nodes[i].flags & FAD_IS_DYNAMIC)
            continue;
        TRY(copy_reader(s, i));
        if (s->all[i].after != FAD_NODE_NONE)
            TRY(wait_for(s, s->map[i], s->map[s->all[i].after]));
    }
    fad_trace_finish(s->out, in, s->map);
    size_t count = s->out->tape->count, known = s->after_room < count ? s->after_room : count;
    uint32_t *after = fad_arena_alloc(s->out->tape, &s->out->tape->arena, (count + 1) * sizeof *after, &status);
    if (!after)
        return status;
    memset(after, 0xff, (count + 1) * sizeof *after);
    if (known)
        memcpy(after, s->after, known * sizeof *after);
    s->out->after = after;
    return FAD_OK;
}

fad_status fad_pass_again(const fad_trace *in, fad_trace *out, size_t least)
{
    fad_tape *tape = out->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    again s = {.in = in, .out = out};
    size_t count = in->tape->count, bytes = (count + 1) * (sizeof *s.all + 2 * sizeof *s.map);
    if (!is_worth_a_look(in->tape, least))
        return FAD_OK;
    s.all = fad_resize(tape, NULL, 0, bytes, &status);
    if (!s.all)
        return status;
    s.map = (uint32_t *)(void *)(s.all + count + 1);
    s.now = s.map + count + 1;
    memset(s.map, 0, 2 * (count + 1) * sizeof *s.map);
    choose_order(&s);
    decide(&s);
    decide(&s); /* with what is wanted */
    s.copies = s.saved > least;
    if (s.copies || s.waits)
        status = copy_all(&s);
    fad_resize(tape, s.after, s.after_room * sizeof *s.after, 0, &ignored);
    fad_resize(tape, s.all, bytes, 0, &ignored);
    return status;
}
