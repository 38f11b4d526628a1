/* pass_roll.c: loops of scalar nodes become array nodes.
 *
 * Scalar nodes are taken level by level (a node's level is one more than the highest of its operands), and within a
 * level op by op. Nodes of one level and op that do the same thing (roll_class.c) are a run, in the order of
 * recording; a run becomes one array node, whose operands come in as the pattern of their places says
 * (roll_pattern.c, roll_operand.c). What is too narrow, or has no order in it, stays scalar. */
#include "fastad.h"
#include "roll.h"

#define TRY(call)                    \
    do {                             \
        fad_status s_ = (call);      \
        if (s_ != FAD_OK)            \
            return s_;               \
    } while (0)

/* --- nodes one by one --- */

static void settle_array(roll *r, uint32_t node)
{
    if (fad_is_array(r->from, node) && roll_is_dynamic(r, node))
        r->bases[r->places[node].base].node = r->map[node];
}

/* A STACK of scalars that are elements of something. */
static fad_status copy_stack(roll *r, uint32_t node)
{
    const fad_list *list = r->from->side[r->from->nodes[node].aux];
    const fad_shape *shape;
    roll_place *places = r->operands[0];
    roll_plan plan;
    ptrdiff_t dim = (ptrdiff_t)list->count;
    for (size_t i = 0; i < list->count; i++)
        places[i] = roll_place_of(r, list->nodes[i]);
    if (list->count)
        roll_make_plan(places, list->count, r->min_width, &plan);
    if (list->count < r->min_width || !roll_is_worth_it(r, places, list->count, &plan)) {
        for (size_t i = 0; i < list->count; i++)
            TRY(roll_scalar(r, list->nodes[i], &r->classes[i]));
        return fad_record_stack(r->to, list->count, r->classes, &r->map[node]);
    }
    TRY(roll_build(r, places, list->count, &plan, 1, &dim, false, &r->map[node]));
    TRY(fad_shape_intern(r->to, 1, &dim, &shape));
    return fad_record_broadcast_to(r->to, r->map[node], shape, &r->map[node]);
}

static fad_status copy_other(roll *r, uint32_t node)
{
    const fad_tape *tape = r->from;
    const fad_node *n = &tape->nodes[node];
    uint32_t p, unused;
    for (size_t k = 0; roll_is_dynamic(r, node) && (p = fad_parent(tape, node, k)) != FAD_NODE_NONE; k++)
        if (!fad_is_array(tape, p))
            TRY(roll_scalar(r, p, &unused));
    TRY(fad_trace_copy(r->to, tape, node, r->map, &r->map[node]));
    for (uint32_t k = 1; n->op == FAD_CUSTOM && roll_is_dynamic(r, node) && k < ((const fad_custom *)tape->side[n->aux])->outputs; k++)
        if (node + k < tape->count) {
            r->map[node + k] = r->map[node] + k;
            settle_array(r, node + k);
        }
    return FAD_OK;
}

static fad_status copy_one(roll *r, uint32_t node)
{
    const fad_tape *tape = r->from;
    uint32_t operands[3] = {0, 0, 0};
    bool scalar = roll_is_scalar_op(tape, node);
    if (scalar && tape->nodes[node].op == FAD_NSUM)
        return roll_one_sum(r, node);
    if (scalar) {
        for (size_t k = 0; k < fad_ops[tape->nodes[node].op].arity; k++)
            TRY(roll_scalar(r, roll_operand(tape, node, k), &operands[k]));
        return fad_record_elementwise(r->to, tape->nodes[node].op, operands, -1, &r->map[node]);
    }
    TRY(tape->nodes[node].op == FAD_STACK && roll_is_dynamic(r, node) ? copy_stack(r, node) : copy_other(r, node));
    settle_array(r, node);
    return FAD_OK;
}

static fad_status copy_each(roll *r, const uint32_t *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TRY(copy_one(r, nodes[i]));
    return FAD_OK;
}

/* --- runs --- */

void roll_fill(const roll *r, const uint32_t *members, size_t n, size_t slot, roll_place *places)
{
    for (size_t i = 0; i < n; i++)
        places[i] = roll_place_of(r, roll_operand(r->from, members[i], slot));
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
    for (size_t i = 0; i < n; i++)
        r->places[members[i]] = (roll_place){base, (uint32_t)i};
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
    bool logical = op == FAD_LOGICAL_AND || op == FAD_LOGICAL_OR || op == FAD_LOGICAL_XOR || op == FAD_LOGICAL_NOT;
    ptrdiff_t dims[ROLL_NEST + 1];
    size_t ndim = roll_common_nest(r, plans, arity, n, dims);
    uint32_t operands[3] = {0, 0, 0}, node;
    for (size_t k = 0; k < arity; k++) {
        bool truth = logical || (op == FAD_SELECT && k == 0);
        TRY(roll_build(r, r->operands[k], n, &plans[k], ndim, dims, truth, &operands[k]));
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
    return copy_each(r, members + kept, n - kept);
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
        return done ? FAD_OK : copy_each(r, members, n);
    }
    size_t arity = make_plans(r, members, n, plans), period = 0;
    bool ordered = true;
    for (size_t k = 0; k < arity; k++)
        ordered = ordered && (plans[k].kind == ROLL_AFFINE || plans[k].kind == ROLL_UNIFORM);
    if (!ordered)
        period = roll_period(places, plans, arity, n, r->min_width);
    return period ? roll_interleaved(r, members, n, period) : roll_regular(r, members, n, arity, plans);
}

static fad_status roll_group(roll *r, size_t at, size_t n)
{
    size_t count, start = 0;
    if (n < r->min_width || !roll_is_scalar_op(r->from, r->order[at]))
        return copy_each(r, r->order + at, n);
    memcpy(r->members, r->order + at, n * sizeof *r->members);
    TRY(roll_classify(r, n, &count));
    for (size_t c = 0; c + 1 < count; c++) {
        TRY(roll_run(r, r->members + start, r->list[c] - start));
        start = r->list[c];
    }
    return copy_each(r, r->members + start, n - start);
}

/* --- the pass --- */

/* Scalar inputs side by side are an array. */
static fad_status stack_inputs(roll *r, const fad_trace *in, const fad_trace *out)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t count = 0, bytes = (in->input_count + 1) * sizeof(uint32_t);
    uint32_t node = 0, base = 0, *nodes = fad_resize(r->to, NULL, 0, bytes, &status);
    if (!nodes)
        return status;
    for (size_t i = 0; i < in->input_count; i++) {
        r->map[in->inputs[i]] = out->inputs[i];
        settle_array(r, in->inputs[i]);
        if (r->levels[in->inputs[i]] && !fad_is_array(r->from, in->inputs[i]))
            nodes[count++] = out->inputs[i];
    }
    if (count >= r->min_width) {
        status = fad_record_stack(r->to, count, nodes, &node);
        if (status == FAD_OK)
            status = roll_new_base(r, node, FAD_NODE_NONE, &base);
        count = 0;
        for (size_t i = 0; i < in->input_count && status == FAD_OK; i++)
            if (r->levels[in->inputs[i]] && !fad_is_array(r->from, in->inputs[i]))
                r->places[in->inputs[i]] = (roll_place){base, (uint32_t)count++};
    }
    fad_resize(r->to, nodes, bytes, 0, &ignored);
    return status;
}

static fad_status append_all(roll *r)
{
    for (size_t g = 0, start = 0; g < r->group_count; start = r->groups[g++])
        TRY(roll_group(r, start, r->groups[g] - start));
    return FAD_OK;
}

/* Memory for `count` items, given back at the end; `pointer` is the address of a pointer. */
static fad_status take(roll *r, void *pointer, size_t count, size_t item)
{
    fad_status status = FAD_OK;
    if (count > SIZE_MAX / item)
        return FAD_NO_MEMORY;
    void *p = fad_resize(r->to, NULL, 0, count * item, &status);
    if (!p)
        return status;
    r->blocks[r->block_count].p = p;
    r->blocks[r->block_count++].size = count * item;
    memcpy(pointer, &p, sizeof p);
    return FAD_OK;
}

static void give_back(roll *r)
{
    fad_status ignored = FAD_OK;
    for (size_t i = 0; i < r->block_count; i++)
        fad_resize(r->to, r->blocks[i].p, r->blocks[i].size, 0, &ignored);
    fad_resize(r->to, r->bases, r->base_capacity * sizeof *r->bases, 0, &ignored);
    fad_resize(r->to, r->slices, r->slice_capacity * sizeof *r->slices, 0, &ignored);
}

static fad_status prepare(roll *r, const fad_trace *in)
{
    size_t count = r->from->count + ROLL_FIRST_ARRAY + 1; /* bases too: no more than nodes, and the stacked inputs */
    uint32_t unused;
    TRY(take(r, &r->places, count, sizeof *r->places));
    TRY(take(r, &r->map, count, sizeof *r->map));
    TRY(take(r, &r->scratch, count, sizeof *r->scratch));
    TRY(take(r, &r->levels, count, sizeof *r->levels));
    TRY(take(r, &r->order, count, sizeof *r->order));
    TRY(take(r, &r->groups, count, sizeof *r->groups));
    TRY(take(r, &r->uses, count, sizeof *r->uses));
    memset(r->map, 0xff, count * sizeof *r->map);
    memset(r->scratch, 0xff, count * sizeof *r->scratch);
    memset(r->levels, 0, count * sizeof *r->levels);
    memset(r->uses, 0, count * sizeof *r->uses);
    for (int i = 0; i < ROLL_FIRST_ARRAY; i++)
        TRY(roll_new_base(r, FAD_NODE_NONE, FAD_NODE_NONE, &unused));
    TRY(roll_order(r, in));
    roll_find_uses(r);
    for (int k = 0; k < 4; k++)
        TRY(take(r, &r->operands[k], r->room, sizeof *r->operands[k]));
    TRY(take(r, &r->keys, r->room, sizeof *r->keys));
    TRY(take(r, &r->classes, r->room, sizeof *r->classes));
    TRY(take(r, &r->members, r->room, sizeof *r->members));
    return take(r, &r->list, r->room, sizeof *r->list);
}

static fad_status finish(roll *r, const fad_trace *in, fad_trace *out)
{
    for (size_t i = 0; i < in->output_count; i++)
        if (!fad_is_array(r->from, in->outputs[i]))
            TRY(roll_scalar(r, in->outputs[i], &out->outputs[i]));
    for (size_t i = 0; i < in->guard_count; i++)
        if (!fad_is_array(r->from, in->guards[i]))
            TRY(roll_scalar(r, in->guards[i], &out->guards[i]));
    fad_trace_finish(out, in, r->map);
    return FAD_OK;
}

fad_status fad_pass_roll(const fad_trace *in, fad_trace *out, size_t min_width, bool strict)
{
    TRY(fad_trace_begin(out, out->tape, in));
    roll r = {.from = in->tape, .to = out->tape, .min_width = min_width < 2 ? 2 : min_width, .strict = strict};
    fad_status status = prepare(&r, in);
    if (status == FAD_OK)
        status = stack_inputs(&r, in, out);
    if (status == FAD_OK)
        status = append_all(&r);
    if (status == FAD_OK)
        status = finish(&r, in, out);
    give_back(&r);
    return status;
}
