/* pass_reassociate.c: chains and trees of additions become n-ary sums, so that a loop's accumulator is one node and
 * not a recurrence. An intermediate sum that somebody else reads stays a node of its own; so does a short sum of arrays,
 * which is added up as its terms become known. */
#include "fastad.h"
#include "try.h"

/* A difference costs a negation as a term of an n-ary sum: worth it only in long chains. */
enum { FEWEST_TERMS = 3, LONG = 8 };

typedef struct {
    uint32_t terms;     /* of the sum that the node is, with the sums below it written out */
    uint32_t consumer;  /* the last one found: the only one where uses is 1 */
    uint8_t uses;       /* by nodes that are needed, outputs and guards; 2 is many */
    bool link;          /* a sum of operands of its own shape and type */
    bool absorbed;      /* written out in its consumer */
    bool is_long;       /* the sum that it belongs to has many terms */
} facts;

typedef struct {
    const fad_tape *from;
    fad_tape *to;
    facts *facts;
    uint32_t *map;
    uint64_t *stack;    /* operands to be written out, the first on top; NEGATIVE is set on those with a minus */
    uint32_t *terms;    /* nodes of `to` */
} reassociation;

#define NEGATIVE (UINT64_C(1) << 32)

static void count_uses(const fad_trace *in, facts *known)
{
    const fad_tape *tape = in->tape;
    for (size_t i = 0; i < in->output_count; i++)
        known[in->outputs[i]].uses = 2; /* an output is no intermediate sum */
    for (size_t i = 0; i < in->guard_count; i++)
        known[in->guards[i]].uses = 2;
    for (size_t i = tape->count; i-- > 0;) {
        uint32_t p;
        if (known[i].uses == 0 || !(tape->nodes[i].flags & FAD_IS_DYNAMIC))
            continue;
        for (size_t k = 0; (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++) {
            if (known[p].uses < 2)
                known[p].uses++;
            known[p].consumer = (uint32_t)i;
        }
    }
}

static bool is_link(const fad_tape *tape, uint32_t i)
{
    const fad_node *n = &tape->nodes[i];
    if (!(n->flags & FAD_IS_DYNAMIC) || (n->op != FAD_ADD && n->op != FAD_SUB && n->op != FAD_NSUM))
        return false;
    if (n->op == FAD_NSUM)
        return true;
    const fad_shape *shape = fad_node_shape(tape, i);
    int dtype = fad_node_dtype(tape, i);
    return fad_node_shape(tape, n->a) == shape && fad_node_dtype(tape, n->a) == dtype &&
           fad_node_shape(tape, n->b) == shape && fad_node_dtype(tape, n->b) == dtype;
}

/* How many operands of `node` enter with a plus: the first ones. */
static size_t positive_count(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    return n->op == FAD_SUB ? 1 : n->op == FAD_ADD ? 2 : ((const fad_list *)tape->side[n->aux])->count;
}

static bool may_be_absorbed(const facts *known, uint32_t node) { return known[node].link && known[node].uses == 1; }

static void find_sums(const fad_tape *tape, facts *known)
{
    for (size_t i = 0; i < tape->count; i++) {
        known[i].link = known[i].uses && is_link(tape, (uint32_t)i);
        if (!known[i].link)
            continue;
        size_t positive = positive_count(tape, (uint32_t)i), terms = tape->nodes[i].op == FAD_SUB;
        for (size_t k = 0; k < positive; k++) {
            uint32_t p = fad_parent(tape, (uint32_t)i, k);
            terms += may_be_absorbed(known, p) ? known[p].terms : 1;
        }
        known[i].link = terms < UINT32_MAX; /* a sum of more is not written out */
        known[i].terms = known[i].link ? (uint32_t)terms : 0;
    }
    for (size_t i = tape->count; i-- > 0;) {
        if (!known[i].link)
            continue;
        uint32_t c = known[i].consumer;
        bool inside = may_be_absorbed(known, (uint32_t)i) && known[c].link;
        bool difference = tape->nodes[i].op == FAD_SUB || (inside && tape->nodes[c].op == FAD_SUB);
        inside = inside && !(tape->nodes[c].op == FAD_SUB && tape->nodes[c].b == i);
        bool array = tape->nodes[i].flags & FAD_IS_ARRAY; /* summed as soon as its terms are known, not when all are */
        known[i].absorbed = inside && ((!difference && !array) || known[c].is_long);
        known[i].is_long = known[i].absorbed ? known[c].is_long : known[i].terms >= LONG;
    }
}

/* Whether adding it changes nothing (but the sign of a zero). */
static bool is_zero(const fad_tape *tape, uint32_t node)
{
    return !(tape->nodes[node].flags & (FAD_IS_DYNAMIC | FAD_IS_ARRAY)) && tape->values[node].number == 0;
}

/* The operands of `root` with the absorbed sums written out, from left to right, as nodes of `to`. */
static fad_status write_out(reassociation *r, uint32_t root, size_t *count)
{
    size_t depth = 0;
    *count = 0;
    r->stack[depth++] = root;
    while (depth) {
        uint64_t entry = r->stack[--depth];
        uint32_t node = (uint32_t)entry, term;
        if (node == root || (r->facts[node].absorbed && !(entry & NEGATIVE))) {
            size_t positive = positive_count(r->from, node);
            if (r->from->nodes[node].op == FAD_SUB)
                r->stack[depth++] = r->from->nodes[node].b | NEGATIVE;
            while (positive-- > 0)
                r->stack[depth++] = fad_parent(r->from, node, positive);
        } else if (!is_zero(r->from, node)) {
            term = r->map[node];
            if (entry & NEGATIVE)
                TRY(fad_record_elementwise(r->to, FAD_NEG, &term, -1, &term));
            r->terms[(*count)++] = term;
        }
    }
    return FAD_OK;
}

static fad_status copy_sum(reassociation *r, uint32_t root, uint32_t *out)
{
    size_t count;
    TRY(write_out(r, root, &count));
    if (count >= FEWEST_TERMS)
        return fad_record_nsum(r->to, count, r->terms, out);
    if (count == 2)
        return fad_record_elementwise(r->to, FAD_ADD, r->terms, -1, out);
    *out = r->terms[0]; /* a dynamic sum has a dynamic term */
    return FAD_OK;
}

static bool is_worth_it(const reassociation *r, uint32_t root)
{
    const facts *f = &r->facts[root];
    return f->link && f->terms >= FEWEST_TERMS && (r->from->nodes[root].op != FAD_SUB || f->is_long);
}

static fad_status copy_all(reassociation *r)
{
    const fad_tape *from = r->from;
    for (size_t i = 0; i < from->count; i++) {
        const facts *f = &r->facts[i];
        bool is_input = from->nodes[i].op == FAD_VARIABLE && from->nodes[i].flags & FAD_IS_DYNAMIC;
        if (f->uses == 0 || f->absorbed || is_input)
            continue;
        TRY(is_worth_it(r, (uint32_t)i) ? copy_sum(r, (uint32_t)i, &r->map[i])
                                        : fad_trace_copy(r->to, from, (uint32_t)i, r->map, &r->map[i]));
    }
    return FAD_OK;
}

static fad_status run(reassociation *r, const fad_trace *in, fad_trace *out, size_t most)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t map_size = (r->from->count + 1) * sizeof *r->map, room = most * (sizeof *r->stack + sizeof *r->terms);
    r->map = fad_resize(r->to, NULL, 0, map_size, &status);
    r->stack = r->map ? fad_resize(r->to, NULL, 0, room, &status) : NULL;
    if (r->stack) {
        r->terms = (uint32_t *)(r->stack + most);
        for (size_t i = 0; i < in->input_count; i++)
            r->map[in->inputs[i]] = out->inputs[i];
        status = copy_all(r);
        if (status == FAD_OK)
            fad_trace_finish(out, in, r->map);
        fad_resize(r->to, r->stack, room, 0, &ignored);
    }
    if (r->map)
        fad_resize(r->to, r->map, map_size, 0, &ignored);
    return status;
}

fad_status fad_pass_reassociate(const fad_trace *in, fad_trace *out)
{
    const fad_tape *from = in->tape;
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t size = (from->count + 1) * sizeof(facts), most = 2;
    TRY(fad_trace_begin(out, out->tape, in));
    TRY(fad_tape_reserve(out->tape, from->count));
    reassociation r = {.from = from, .to = out->tape};
    r.facts = fad_resize(r.to, NULL, 0, size, &status);
    if (!r.facts)
        return status;
    memset(r.facts, 0, size);
    count_uses(in, r.facts);
    find_sums(from, r.facts);
    for (size_t i = 0; i < from->count; i++)
        if (r.facts[i].terms >= most)
            most = (size_t)r.facts[i].terms + 1;
    status = run(&r, in, out, most);
    fad_resize(r.to, r.facts, size, 0, &ignored);
    return status;
}
