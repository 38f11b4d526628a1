/* pass_dead.c: only what outputs and guards need survives. */
#include "pass.h"
#include "try.h"

static inline void use(uint8_t *uses, uint32_t node) { uses[node] += uses[node] < FAD_USED_OFTEN; }

static void use_list(uint8_t *uses, size_t count, const uint32_t *nodes)
{
    for (size_t i = 0; i < count; i++)
        use(uses, nodes[i]);
}

static void use_operands(const fad_tape *tape, uint32_t node, uint8_t *uses)
{
    const fad_node *n = &tape->nodes[node];
    if (n->op < FAD_ELEMENTWISE_COUNT) {
        uint8_t arity = fad_ops[n->op].arity;
        use(uses, n->a);
        if (arity > 1)
            use(uses, n->b);
        if (arity > 2)
            use(uses, n->aux);
        return;
    }
    uint32_t p;
    for (size_t k = 0; (p = fad_parent(tape, node, k)) != FAD_NODE_NONE; k++)
        use(uses, p);
}

/* A node that does not depend on an input is a constant, whatever it was made of. */
static void use_backwards(const fad_tape *tape, uint8_t *uses)
{
    for (size_t i = tape->count; i-- > 0;) {
        const fad_node *n = &tape->nodes[i];
        if (!uses[i] || !(n->flags & FAD_IS_DYNAMIC))
            continue;
        use_operands(tape, (uint32_t)i, uses);
        if (n->op == FAD_CUSTOM) {
            const fad_custom *custom = tape->side[n->aux];
            for (uint32_t k = 1; k < custom->outputs; k++)
                use(uses, (uint32_t)i + k);
        }
    }
}

fad_status fad_count_uses(const fad_trace *trace, fad_tape *memory, uint8_t **out)
{
    const fad_tape *tape = trace->tape;
    fad_status status = FAD_OK;
    uint8_t *uses = fad_resize(memory, NULL, 0, tape->count + 1, &status);
    if (!uses)
        return status;
    memset(uses, 0, tape->count + 1);
    use_list(uses, trace->input_count, trace->inputs);
    use_list(uses, trace->output_count, trace->outputs);
    use_list(uses, trace->guard_count, trace->guards);
    use_backwards(tape, uses);
    *out = uses;
    return FAD_OK;
}

/* --- copying what lives --- */

static fad_status copy_living(const fad_trace *in, fad_trace *out, const uint8_t *uses, uint32_t *map)
{
    for (size_t i = 0; i < in->input_count; i++)
        map[in->inputs[i]] = out->inputs[i];
    for (size_t i = 0; i < in->tape->count; i++) {
        const fad_node *n = &in->tape->nodes[i];
        if (uses[i] && !(n->op == FAD_VARIABLE && n->flags & FAD_IS_DYNAMIC))
            TRY(fad_trace_copy(out->tape, in->tape, (uint32_t)i, map, &map[i]));
    }
    fad_trace_finish(out, in, map);
    return FAD_OK;
}

fad_status fad_pass_dead(const fad_trace *in, fad_trace *out, bool strict)
{
    uint8_t *uses;
    fad_tape *tape = out->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t count = in->tape->count, bytes = (count + 1) * sizeof(uint32_t);
    (void)strict;
    TRY(fad_trace_begin(out, tape, in));
    TRY(fad_count_uses(in, tape, &uses));
    uint32_t *map = fad_resize(tape, NULL, 0, bytes, &status);
    if (map) {
        status = copy_living(in, out, uses, map);
        fad_resize(tape, map, bytes, 0, &ignored);
    }
    fad_resize(tape, uses, count + 1, 0, &ignored);
    return status;
}

/* --- in place --- */

static void renumber_list(size_t count, uint32_t *nodes, const uint32_t *map)
{
    for (size_t i = 0; i < count; i++)
        nodes[i] = map[nodes[i]];
}

/* A side record that names nodes belongs to one node. */
static void renumber_side(void *side, int op, uint32_t at, const uint32_t *map)
{
    if (op == FAD_STACK || op == FAD_CONCATENATE || op == FAD_NSUM) {
        fad_list *list = side;
        renumber_list(list->count, list->nodes, map);
    } else if (op == FAD_SCATTER_ADD) {
        fad_scatter *scatter = side;
        scatter->indices = map[scatter->indices];
    } else if (op == FAD_CUSTOM) {
        fad_custom *custom = side;
        renumber_list(custom->count, custom->nodes, map);
        custom->first_output = at;
    }
}

static void renumber(fad_tape *tape, fad_node *n, uint32_t at, const uint32_t *map)
{
    const fad_op_info *info = &fad_ops[n->op];
    n->flags &= (uint16_t)~FAD_MARKED;
    if (!(n->flags & FAD_IS_DYNAMIC)) {
        *n = (fad_node){.op = FAD_CONSTANT, .flags = n->flags};
        return;
    }
    if (info->arity >= 1 && info->arity <= 3)
        n->a = map[n->a];
    if (info->arity == 2 || info->arity == 3)
        n->b = map[n->b];
    if (info->aux == FAD_AUX_NODE)
        n->aux = map[n->aux];
    if (info->aux == FAD_AUX_SIDE)
        renumber_side(tape->side[n->aux], n->op, at, map);
}

static void drop(fad_trace *trace, const uint8_t *uses, uint32_t *map)
{
    fad_tape *tape = trace->tape;
    uint32_t at = 0;
    for (size_t i = 0; i < tape->count; i++) {
        fad_node n = tape->nodes[i];
        if (!uses[i]) {
            if (n.op == FAD_CUSTOM && tape->host.release)
                tape->host.release(tape->host.context, ((fad_custom *)tape->side[n.aux])->rule);
            continue;
        }
        renumber(tape, &n, at, map);
        tape->nodes[at] = n;
        tape->values[at] = tape->values[i];
        map[i] = at++;
    }
    tape->count = at;
    memset(tape->constants, 0, sizeof tape->constants);
    renumber_list(trace->input_count, trace->inputs, map);
    renumber_list(trace->output_count, trace->outputs, map);
    renumber_list(trace->guard_count, trace->guards, map);
}

fad_status fad_drop_dead(fad_trace *trace)
{
    uint8_t *uses;
    fad_tape *tape = trace->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t count = tape->count, bytes = (count + 1) * sizeof(uint32_t);
    TRY(fad_count_uses(trace, tape, &uses));
    uint32_t *map = fad_resize(tape, NULL, 0, bytes, &status);
    if (map) {
        drop(trace, uses, map);
        fad_resize(tape, map, bytes, 0, &ignored);
    }
    fad_resize(tape, uses, count + 1, 0, &ignored);
    return status;
}
