/* roll_run.c: runs of scalar nodes that do the same thing, each as one array node. */
#include "record.h"
#include "roll.h"
#include "try.h"

/* --- one run --- */

void roll_fill(const roll *r, const uint32_t *members, size_t n, size_t slot, roll_place *places)
{
    for (size_t i = 0; i < n; i++) {
        roll_look_ahead(r, members, n, i);
        places[i] = roll_place_of(r, roll_operand(r->from, members[i], slot));
    }
}

/* Block sizes of loops, each a multiple of the one before. */
typedef struct {
    size_t count, blocks[ROLL_NEST - 1];
} blocks;

static void add_block(blocks *b, size_t block, size_t n)
{
    size_t at = 0;
    if (block <= 1 || block >= n || n % block || b->count == ROLL_NEST - 1)
        return;
    for (size_t i = 0; i < b->count; i++) {
        size_t other = b->blocks[i];
        if (block == other || (block % other && other % block))
            return;
        at += other < block;
    }
    memmove(b->blocks + at + 1, b->blocks + at, (b->count - at) * sizeof *b->blocks);
    b->blocks[at] = block;
    b->count++;
}

static void add_blocks(blocks *b, size_t ndim, const ptrdiff_t *dims, size_t n)
{
    size_t block = 1;
    for (size_t d = ndim; d-- > 0;) {
        block *= (size_t)dims[d];
        add_block(b, block, n);
    }
}

size_t roll_common_nest(const roll *r, const roll_plan *plans, size_t slots, size_t n, ptrdiff_t *dims)
{
    blocks b = {0};
    for (size_t k = 0; k < slots; k++)
        if (plans[k].kind == ROLL_AFFINE)
            add_blocks(&b, plans[k].affine.ndim, plans[k].affine.dims, n);
    for (size_t k = 0; k < slots; k++)
        if (plans[k].kind == ROLL_ROWS)
            add_block(&b, plans[k].row, n);
    /* A whole array keeps its own axes, if they do no harm. */
    for (size_t k = 0; k < slots; k++) {
        if (plans[k].kind != ROLL_AFFINE || plans[k].affine.ndim != 1)
            continue;
        const fad_shape *whole = fad_node_shape(r->to, r->bases[plans[k].base].node);
        if (whole->size == n && plans[k].affine.strides[0] == 1 && whole->ndim <= ROLL_NEST)
            add_blocks(&b, whole->ndim, whole->dims, n);
    }
    size_t outer = n;
    for (size_t i = b.count; i-- > 0;) {
        dims[b.count - 1 - i] = (ptrdiff_t)(outer / b.blocks[i]);
        outer = b.blocks[i];
    }
    dims[b.count] = (ptrdiff_t)outer;
    return b.count + 1;
}

fad_status roll_settle(roll *r, const uint32_t *members, size_t n, size_t ndim, const ptrdiff_t *dims, uint32_t node)
{
    const fad_shape *shape;
    uint32_t base;
    if (!fad_is_array(r->to, node)) { /* all members are the same */
        for (size_t i = 0; i < n; i++)
            r->places[members[i]] = (roll_place){ROLL_ALONE, members[0]};
        r->map[members[0]] = node;
        return FAD_OK;
    }
    TRY(fad_shape_intern(r->to, ndim, dims, &shape));
    TRY(fad_record_broadcast_to(r->to, node, shape, &node));
    TRY(roll_new_base(r, node, FAD_NODE_NONE, &base));
    for (size_t i = 0; i < n; i++) {
        if (i + ROLL_FAR < n)
            FAD_PREFETCH(&r->places[members[i + ROLL_FAR]]);
        r->places[members[i]] = (roll_place){base, (uint32_t)i};
    }
    return FAD_OK;
}

static size_t make_plans(roll *r, const uint32_t *members, size_t n, roll_plan *plans)
{
    size_t arity = roll_arity(r->from, members[0]);
    for (size_t k = 0; k < arity; k++) {
        roll_fill(r, members, n, k, r->operands[k]);
        roll_make_plan(r->operands[k], n, r->min_width, &plans[k]);
    }
    return arity;
}

static fad_status append_run(roll *r, const uint32_t *members, size_t n, const roll_plan *plans)
{
    int op = r->from->nodes[members[0]].op;
    size_t arity = fad_ops[op].arity;
    ptrdiff_t dims[ROLL_NEST + 1];
    size_t ndim = roll_common_nest(r, plans, arity, n, dims);
    uint32_t operands[3] = {0, 0, 0}, node;
    for (size_t k = 0; k < arity; k++) {
        TRY(roll_build(r, r->operands[k], n, &plans[k], ndim, dims, fad_takes_truth(op, (unsigned)k), &operands[k]));
    }
    TRY(fad_record_elementwise(r->to, op, operands, -1, &node));
    return roll_settle(r, members, n, ndim, dims, node);
}

/* The base of more than half of the places, if there is one. */
static uint32_t main_base(const roll_place *places, size_t n)
{
    uint32_t base = 0;
    size_t votes = 0;
    for (size_t i = 0; i < n; i++) {
        if (votes == 0)
            base = places[i].base;
        votes = places[i].base == base ? votes + 1 : votes - 1;
    }
    return base;
}

/* Moves members whose operands are not where most members' are behind the others; returns how many are left. */
static size_t part_outliers(roll *r, uint32_t *members, size_t n, size_t arity)
{
    uint32_t bases[3];
    size_t kept = 0, out = 0;
    for (size_t k = 0; k < arity; k++)
        bases[k] = main_base(r->operands[k], n);
    for (size_t i = 0; i < n; i++) {
        bool fits = true;
        for (size_t k = 0; k < arity; k++)
            fits = fits && r->operands[k][i].base == bases[k];
        if (fits)
            members[kept++] = members[i];
        else
            r->classes[out++] = members[i];
    }
    memcpy(members + kept, r->classes, out * sizeof *members);
    return kept;
}

static bool are_worth_it(roll *r, size_t n, size_t arity, roll_plan *plans)
{
    bool all = true;
    for (size_t k = 0; k < arity; k++)
        all = all && roll_is_worth_it(r, r->operands[k], n, &plans[k]);
    return all;
}

/* A run with plans made: one array node, but for members that are in its way. */
static fad_status roll_regular(roll *r, uint32_t *members, size_t n, size_t arity, roll_plan *plans)
{
    size_t kept = n;
    bool mixed = false;
    for (size_t k = 0; k < arity; k++)
        mixed = mixed || (plans[k].kind == ROLL_GATHER && plans[k].parts > 1);
    if (mixed) {
        kept = part_outliers(r, members, n, arity);
        if (4 * kept < 3 * n || kept < r->min_width)
            kept = n;
        make_plans(r, members, kept, plans);
    }
    if (are_worth_it(r, kept, arity, plans))
        TRY(append_run(r, members, kept, plans));
    else
        kept = 0;
    return roll_copy_each(r, members + kept, n - kept);
}

/* Every p-th member, from each of the first p on: p runs side by side. */
static fad_status roll_interleaved(roll *r, uint32_t *members, size_t n, size_t p)
{
    size_t each = n / p;
    for (size_t i = 0; i < n; i++)
        r->classes[i % p * each + i / p] = members[i];
    memcpy(members, r->classes, n * sizeof *members);
    for (size_t i = 0; i < p; i++) {
        roll_plan plans[3];
        size_t arity = make_plans(r, members + i * each, each, plans);
        TRY(roll_regular(r, members + i * each, each, arity, plans));
    }
    return FAD_OK;
}

static fad_status roll_run(roll *r, uint32_t *members, size_t n)
{
    roll_plan plans[3];
    const roll_place *places[3] = {r->operands[0], r->operands[1], r->operands[2]};
    if (r->from->nodes[members[0]].op == FAD_NSUM) {
        bool done;
        TRY(roll_sums(r, members, n, &done));
        return done ? FAD_OK : roll_copy_each(r, members, n);
    }
    size_t arity = make_plans(r, members, n, plans), period = 0;
    bool ordered = true;
    for (size_t k = 0; k < arity; k++)
        ordered = ordered && (plans[k].kind == ROLL_AFFINE || plans[k].kind == ROLL_UNIFORM ||
                              (plans[k].kind == ROLL_ROWS && plans[k].row >= 4 * plans[k].parts));
    if (!ordered)
        period = roll_period(places, plans, arity, n, r->min_width);
    return period ? roll_interleaved(r, members, n, period) : roll_regular(r, members, n, arity, plans);
}

/* --- classes --- */

/* A few members at the edge of what the others are (of a stencil, say) are better in their run, with operands in
 * pieces, than a run of their own: what reads them would be split likewise, and so on. */
enum { MOST_COMPARED = 64, TIMES_SMALLER = 4 };

static size_t class_start(const roll *r, size_t class) { return class ? r->list[class - 1] : 0; }

static size_t class_size(const roll *r, size_t class) { return r->list[class] - class_start(r, class); }

/* Whether class `small` looks like an edge of class `large`: one operand alike, and no use that the others have not. */
static bool is_edge_of(const roll *r, size_t small, size_t large)
{
    uint32_t a = r->members[class_start(r, small)], b = r->members[class_start(r, large)];
    size_t arity = roll_arity(r->from, a);
    if (class_size(r, small) * TIMES_SMALLER > class_size(r, large) || arity != roll_arity(r->from, b))
        return false;
    if (r->uses[a].kinds & ~r->uses[b].kinds)
        return false;
    for (size_t k = 0; k < arity; k++) {
        uint32_t base = roll_place_of(r, roll_operand(r->from, a, k)).base;
        if (base >= ROLL_FIRST_ARRAY && base == roll_place_of(r, roll_operand(r->from, b, k)).base)
            return true;
    }
    return false;
}

/* The members of the classes whose host is `host`, in the order of recording. */
static size_t merge(roll *r, const uint8_t *hosts, size_t classes, size_t host)
{
    size_t n = 0;
    for (size_t c = 0; c < classes; c++) {
        size_t from = class_start(r, c), end = r->list[c], old = n, to;
        if (hosts[c] != host)
            continue;
        /* Merged from the back, where there is room. */
        n += end - from;
        for (to = n; end > from;)
            r->merged[--to] = old && r->merged[old - 1] > r->members[end - 1] ? r->merged[--old] : r->members[--end];
    }
    return n;
}

static bool has_order(roll *r, const uint32_t *members, size_t n, size_t slot)
{
    roll_plan plan;
    roll_fill(r, members, n, slot, r->operands[0]);
    roll_make_plan(r->operands[0], n, r->min_width, &plan);
    return plan.kind != ROLL_GATHER;
}

/* Rolls a class with its edges if there is order in all of that together. */
static fad_status roll_merged(roll *r, size_t n, bool *done)
{
    roll_plan plans[3];
    size_t arity = roll_arity(r->from, r->merged[0]);
    *done = true;
    for (size_t k = 0; k < arity && *done; k++)
        *done = has_order(r, r->merged, n, k);
    if (!*done)
        return FAD_OK;
    if (r->from->nodes[r->merged[0]].op == FAD_NSUM)
        return roll_sums(r, r->merged, n, done);
    make_plans(r, r->merged, n, plans);
    return roll_regular(r, r->merged, n, arity, plans);
}

/* hosts[c]: the class that c may be an edge of, or c. */
static void find_hosts(const roll *r, uint8_t *hosts, size_t classes)
{
    for (size_t c = 0; c < classes; c++) {
        hosts[c] = (uint8_t)c;
        for (size_t other = 0; other < classes && hosts[c] == c; other++)
            if (is_edge_of(r, c, other))
                hosts[c] = (uint8_t)other;
    }
    for (size_t c = 0; c < classes; c++)
        while (hosts[hosts[c]] != hosts[c]) /* each host is larger than its guests */
            hosts[c] = hosts[hosts[c]];
}

static fad_status roll_with_edges(roll *r, const uint8_t *hosts, size_t classes, size_t host)
{
    size_t guests = 0;
    bool done = false;
    for (size_t c = 0; c < classes; c++)
        guests += c != host && hosts[c] == host;
    if (guests)
        TRY(roll_merged(r, merge(r, hosts, classes, host), &done));
    for (size_t c = 0; c < classes && !done; c++)
        if (hosts[c] == host)
            TRY(roll_run(r, r->members + class_start(r, c), class_size(r, c)));
    return FAD_OK;
}

fad_status roll_classes(roll *r, size_t classes)
{
    uint8_t hosts[MOST_COMPARED];
    if (classes == 0)
        return FAD_OK;
    if (classes > MOST_COMPARED) {
        for (size_t c = 0; c < classes; c++)
            TRY(roll_run(r, r->members + class_start(r, c), class_size(r, c)));
        return FAD_OK;
    }
    find_hosts(r, hosts, classes);
    for (size_t c = 0; c < classes; c++)
        if (hosts[c] == c)
            TRY(roll_with_edges(r, hosts, classes, c));
    return FAD_OK;
}
