/* pass_roll.c: loops of scalar nodes become array nodes.
 *
 * Scalar nodes are taken level by level (a node's level is one more than the highest of its operands), and within a
 * level op by op. Nodes of one level and op that do the same thing (roll_class.c) are a run, in the order of
 * recording; a run becomes one array node, whose operands come in as the pattern of their places says
 * (roll_pattern.c, roll_operand.c). What is too narrow, or has no order in it, stays scalar. */
#include "fastad.h"
#include "roll.h"
#include "try.h"

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
    if (n->op != FAD_CUSTOM || !roll_is_dynamic(r, node))
        return FAD_OK;
    const fad_custom *custom = tape->side[n->aux];
    for (uint32_t k = 1; k < custom->outputs; k++) {
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

fad_status roll_copy_each(roll *r, const uint32_t *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TRY(copy_one(r, nodes[i]));
    return FAD_OK;
}

/* --- the pass --- */

static fad_status roll_group(roll *r, size_t at, size_t n)
{
    size_t count;
    if (n < r->min_width || !roll_is_scalar_op(r->from, r->order[at]))
        return roll_copy_each(r, r->order + at, n);
    memcpy(r->members, r->order + at, n * sizeof *r->members);
    TRY(roll_classify(r, n, &count));
    TRY(roll_classes(r, count - 1));
    size_t rolled = count > 1 ? r->list[count - 2] : 0;
    return roll_copy_each(r, r->members + rolled, n - rolled);
}

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
    if (r->block_count == ROLL_MOST_BLOCKS)
        return FAD_TOO_MANY;
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

uint32_t *roll_scratch(roll *r)
{
    if (!r->scratch_is_clear)
        memset(r->scratch, 0xff, (r->from->count + ROLL_FIRST_ARRAY + 1) * sizeof *r->scratch);
    r->scratch_is_clear = true;
    return r->scratch;
}

static fad_status prepare(roll *r, const fad_trace *in)
{
    size_t count = r->from->count + ROLL_FIRST_ARRAY + 1; /* bases too: no more than nodes, and the stacked inputs */
    uint32_t unused;
    TRY(take(r, &r->uses, count, sizeof *r->uses)); /* the largest first: it fits where less is free */
    TRY(take(r, &r->places, count, sizeof *r->places));
    TRY(take(r, &r->map, count, sizeof *r->map));
    TRY(take(r, &r->levels, count, sizeof *r->levels));
    TRY(take(r, &r->order, count, sizeof *r->order));
    TRY(take(r, &r->groups, count, sizeof *r->groups));
    TRY(take(r, &r->scratch, count, sizeof *r->scratch));
    memset(r->map, 0xff, count * sizeof *r->map);
    memset(r->levels, 0, count * sizeof *r->levels);
    for (int i = 0; i < ROLL_FIRST_ARRAY; i++)
        TRY(roll_new_base(r, FAD_NODE_NONE, FAD_NODE_NONE, &unused));
    TRY(roll_order(r, in));
    roll_find_uses(r);
    for (int k = 0; k < 4; k++)
        TRY(take(r, &r->operands[k], r->room, sizeof *r->operands[k]));
    TRY(take(r, &r->keys, r->room, sizeof *r->keys));
    TRY(take(r, &r->used, r->room, sizeof *r->used));
    TRY(take(r, &r->classes, r->room, sizeof *r->classes));
    TRY(take(r, &r->members, r->room, sizeof *r->members));
    TRY(take(r, &r->merged, r->room, sizeof *r->merged));
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
