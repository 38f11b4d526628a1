/* emit.c: the 'nodes' reading of ops.def, and the transposes of structural.def as nodes. Every function call in a
 * partial appends a node, so derivatives of derivatives need nothing more. */
#include "emit.h"

#include "record.h"
#include "update.h"
#include "try.h"

/* --- the reading --- */

typedef struct {
    fad_tape *tape;
    fad_status status;  /* of the first append that failed; later ones do nothing */
} writer;

typedef struct {
    writer *w;
    uint32_t node;
} expression;

static expression apply(int op, size_t arity, const expression *x)
{
    expression result = {x[0].w, 0};
    uint32_t operands[3] = {0, 0, 0};
    for (size_t k = 0; k < arity; k++)
        operands[k] = x[k].node;
    if (x[0].w->status == FAD_OK)
        x[0].w->status = fad_record_elementwise(x[0].w->tape, op, operands, -1, &result.node);
    return result;
}

static expression constant(writer *w, double value)
{
    expression result = {w, 0};
    if (w->status == FAD_OK)
        w->status = fad_constant(w->tape, value, &result.node);
    return result;
}

#define VALUE expression
#define MAKER writer
#include "reading.h"
#undef VALUE
#undef MAKER

/* Appends product(factor, partial of element-wise node `index` by operand `k`); FAD_NODE_NONE where the partial is 0. */
static fad_status times_partial(fad_tape *tape, int product, uint32_t index, size_t k, uint32_t factor, uint32_t *out)
{
    fad_node n = tape->nodes[index];
    size_t arity = fad_ops[n.op].arity;
    double c = tape->loops->constant_partial[n.op][k];
    writer w = {tape, FAD_OK};
    *out = c == 0 ? FAD_NODE_NONE : factor;
    if (c == 0 || c == 1)
        return FAD_OK;
    expression g = {&w, factor};
    if (c == -1) {
        *out = NEG(g).node;
        return w.status;
    }
    expression x = {&w, n.a}, y = {&w, arity > 1 ? n.b : n.a}, z = {&w, arity > 2 ? n.aux : n.a}, v = {&w, index};
    expression both[] = {g, partial(&w, n.op, k, x, y, z, v)};
    *out = apply(product, 2, both).node;
    return w.status;
}

/* Where the operand of extremum `index` ties for it: equal to it, or a NaN (then the extremum is one as well). Also
 * how many do, over the axes that were reduced. */
static fad_status ties_of(fad_tape *tape, uint32_t index, uint32_t *mask, uint32_t *count)
{
    uint32_t both[2] = {tape->nodes[index].a, index}, number[3];
    int dtype = fad_node_dtype(tape, index);
    TRY(fad_record_elementwise(tape, FAD_TIES, both, -1, mask));
    number[0] = *mask;
    TRY(fad_constant(tape, 1.0, &number[1]));
    TRY(fad_constant(tape, 0.0, &number[2]));
    TRY(fad_record_elementwise(tape, FAD_SELECT, number, dtype, count));
    return fad_record_sum_to(tape, *count, fad_node_shape(tape, index), count);
}

/* `value` where `mask` is true, else 0. */
static fad_status chosen(fad_tape *tape, uint32_t mask, uint32_t value, int dtype, uint32_t *out)
{
    uint32_t all[3] = {mask, value, 0};
    TRY(fad_constant(tape, 0.0, &all[2]));
    return fad_record_elementwise(tape, FAD_SELECT, all, dtype, out);
}

/* --- which nodes depend on the variables --- */

static fad_status mark_dependents(fad_tape *tape, size_t low, size_t end, size_t count, const uint32_t *wrt,
                                  uint8_t **out)
{
    fad_status status = FAD_OK;
    uint8_t *depends = fad_resize(tape, NULL, 0, end - low + 1, &status);
    if (!depends)
        return status;
    memset(depends, 0, end - low + 1);
    for (size_t i = 0; i < count; i++)
        if (wrt[i] < end)
            depends[wrt[i] - low] = 1;
    for (size_t i = low; i < end; i++) {
        if (!(tape->nodes[i].flags & FAD_IS_ACTIVE))
            continue;
        uint32_t p;
        for (size_t k = 0; !depends[i - low] && (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            if (p >= low && depends[p - low])
                depends[i - low] = 1;
    }
    *out = depends;
    return FAD_OK;
}

static size_t first_of(size_t count, const uint32_t *nodes)
{
    size_t low = nodes[0];
    for (size_t i = 1; i < count; i++)
        if (nodes[i] < low)
            low = nodes[i];
    return low;
}

/* --- contributions --- */

#define WHOLE UINT32_C(0xffffffff)

/* One contribution to a node's cotangent: all of it, or (from ELEMENT) one element. */
typedef struct {
    uint32_t node, element, next;
} contribution;

typedef struct {
    fad_tape *tape;
    size_t low, end;
    uint8_t *depends;
    uint32_t *first, *last;      /* contributions of a node, in order; WHOLE: none */
    contribution *pool;
    size_t pool_count, pool_capacity;
    uint32_t *scratch;           /* for lists */
    size_t scratch_capacity;
} emitter;

static fad_status contribute(emitter *e, uint32_t to, uint32_t node, uint32_t element)
{
    if (to < e->low || to >= e->end || !e->depends[to - e->low])
        return FAD_OK;
    if (e->pool_count >= WHOLE)
        return FAD_TOO_MANY;
    TRY(fad_make_room(e->tape, &e->pool, sizeof *e->pool, e->pool_count + 1, &e->pool_capacity));
    uint32_t at = (uint32_t)e->pool_count++;
    contribution c = {node, element, WHOLE};
    e->pool[at] = c;
    if (e->first[to - e->low] == WHOLE)
        e->first[to - e->low] = at;
    else
        e->pool[e->last[to - e->low]].next = at;
    e->last[to - e->low] = at;
    return FAD_OK;
}

static bool wanted(const emitter *e, uint32_t node)
{
    return node >= e->low && node < e->end && e->depends[node - e->low];
}

/* Brings `value` to the shape and type of `to` (summing what broadcasting repeated) and contributes it. */
static fad_status give(emitter *e, uint32_t to, uint32_t value)
{
    if (!wanted(e, to))
        return FAD_OK;
    TRY(fad_record_sum_to(e->tape, value, fad_node_shape(e->tape, to), &value));
    TRY(fad_record_cast(e->tape, value, fad_node_dtype(e->tape, to), &value));
    return contribute(e, to, value, WHOLE);
}

/* Whether the offsets are equally spaced. */
static bool is_spaced(const int64_t *offsets, size_t n)
{
    for (size_t i = 2; i < n; i++)
        if (offsets[i] - offsets[i - 1] != offsets[1] - offsets[0])
            return false;
    return true;
}

/* Few nodes in the order of their offsets, which are then equally spaced more often. */
static void sort_few(size_t n, int64_t *offsets, uint32_t *nodes)
{
    enum { FEW = 64 };
    for (size_t i = 1; i < n && n <= FEW; i++) {
        int64_t offset = offsets[i];
        uint32_t node = nodes[i];
        size_t to = i;
        for (; to > 0 && offsets[to - 1] > offset; to--) {
            offsets[to] = offsets[to - 1];
            nodes[to] = nodes[to - 1];
        }
        offsets[to] = offset;
        nodes[to] = node;
    }
}

/* Zeros of `shape` with `values` added at flat offsets. */
static fad_status add_at(fad_tape *tape, uint32_t values, size_t n, const int64_t *offsets, const fad_shape *shape,
                         uint32_t *out)
{
    uint32_t side;
    ptrdiff_t dim = (ptrdiff_t)n, stride = n > 1 ? (ptrdiff_t)(offsets[1] - offsets[0]) : 0;
    if (is_spaced(offsets, n)) {
        TRY(fad_make_strided(tape, shape, 1, &dim, (ptrdiff_t)offsets[0], &stride, &side));
        return fad_record_strided_add(tape, values, side, out);
    }
    TRY(fad_record_indices(tape, n, offsets, &side));
    return fad_record_scatter_add(tape, values, side, shape, out);
}

/* The elements contributed one by one, as one array. */
static fad_status collect_elements(emitter *e, uint32_t index, size_t count, uint32_t *out)
{
    fad_tape *tape = e->tape;
    const fad_shape *shape = fad_node_shape(tape, index);
    fad_status status = FAD_OK;
    int64_t *offsets = fad_resize(tape, NULL, 0, count * sizeof *offsets, &status);
    if (!offsets)
        return status;
    size_t n = 0;
    for (uint32_t c = e->first[index - e->low]; c != WHOLE; c = e->pool[c].next)
        if (e->pool[c].element != WHOLE) {
            e->scratch[n] = e->pool[c].node;
            offsets[n++] = e->pool[c].element;
        }
    uint32_t values = 0;
    fad_status ignored = FAD_OK;
    sort_few(n, offsets, e->scratch);
    status = fad_record_stack(tape, n, e->scratch, &values);
    if (status == FAD_OK)
        status = add_at(tape, values, n, offsets, shape, out);
    fad_resize(tape, offsets, count * sizeof *offsets, 0, &ignored);
    return status;
}

/* The cotangent of node `index`: the sum of its contributions. FAD_NODE_NONE: it has none. */
static fad_status collect(emitter *e, uint32_t index, uint32_t *out)
{
    size_t all = 0, elements = 0, n = 0;
    for (uint32_t c = e->first[index - e->low]; c != WHOLE; c = e->pool[c].next) {
        all++;
        elements += e->pool[c].element != WHOLE;
    }
    *out = FAD_NODE_NONE;
    if (all == 0)
        return FAD_OK;
    TRY(fad_make_room(e->tape, &e->scratch, sizeof *e->scratch, all + 1, &e->scratch_capacity));
    uint32_t stacked = FAD_NODE_NONE;
    if (elements)
        TRY(collect_elements(e, index, elements, &stacked));
    for (uint32_t c = e->first[index - e->low]; c != WHOLE; c = e->pool[c].next)
        if (e->pool[c].element == WHOLE)
            e->scratch[n++] = e->pool[c].node;
    if (stacked != FAD_NODE_NONE)
        e->scratch[n++] = stacked;
    if (n == 1) {
        *out = e->scratch[0];
        return FAD_OK;
    }
    return n == 2 ? fad_record_elementwise(e->tape, FAD_ADD, e->scratch, -1, out)
                  : fad_record_nsum(e->tape, n, e->scratch, out);
}

/* --- transposes as nodes --- */

static fad_status swap_matrix(fad_tape *tape, uint32_t a, uint32_t *out)
{
    int axes[FAD_MAX_NDIM];
    int ndim = (int)fad_node_shape(tape, a)->ndim;
    for (int i = 0; i < ndim; i++)
        axes[i] = i;
    axes[ndim - 1] = ndim - 2;
    axes[ndim - 2] = ndim - 1;
    return fad_record_transpose(tape, a, axes, out);
}

static fad_status reverse_matmul(emitter *e, const fad_node *n, uint32_t g)
{
    uint32_t t, product;
    if (wanted(e, n->b)) {
        TRY(swap_matrix(e->tape, n->a, &t));
        TRY(fad_record_matmul(e->tape, t, g, &product));
        TRY(give(e, n->b, product));
    }
    if (wanted(e, n->a)) {
        TRY(swap_matrix(e->tape, n->b, &t));
        TRY(fad_record_matmul(e->tape, g, t, &product));
        TRY(give(e, n->a, product));
    }
    return FAD_OK;
}

/* `g` with zeros where an update wrote. */
static fad_status reverse_update(emitter *e, const fad_node *n, uint32_t g)
{
    fad_tape *tape = e->tape;
    bool view = n->op == FAD_UPDATE_VIEW;
    uint32_t part, zeros, kept;
    if (wanted(e, n->b)) {
        TRY(view ? fad_record_view(tape, g, n->aux, &part) : fad_record_gather(tape, g, n->aux, &part));
        TRY(give(e, n->b, part));
    }
    if (!wanted(e, n->a))
        return FAD_OK;
    const fad_shape *shape = view ? ((const fad_view *)tape->side[n->aux])->part : fad_node_shape(tape, n->aux);
    TRY(fad_record_zeros(tape, fad_node_dtype(tape, g), shape, &zeros));
    TRY(view ? fad_record_update_view(tape, g, zeros, n->aux, &kept)
             : fad_record_update_at(tape, g, zeros, n->aux, &kept));
    return give(e, n->a, kept);
}

/* The elements that tie share `g` evenly. */
static fad_status reverse_extremum(fad_tape *tape, uint32_t index, uint32_t g, uint32_t *out)
{
    uint32_t mask, share[2] = {g, 0};
    TRY(ties_of(tape, index, &mask, &share[1]));
    TRY(fad_record_elementwise(tape, FAD_DIV, share, -1, &share[0]));
    return chosen(tape, mask, share[0], fad_node_dtype(tape, index), out);
}

static fad_status reverse_list(emitter *e, const fad_node *n, uint32_t g)
{
    fad_tape *tape = e->tape;
    const fad_list *list = tape->side[n->aux];
    const fad_shape *whole = fad_node_shape(tape, g);
    ptrdiff_t start[FAD_MAX_NDIM] = {0}, step[FAD_MAX_NDIM];
    int source[FAD_MAX_NDIM];
    for (int i = 0; i < (int)whole->ndim; i++) {
        step[i] = 1;
        source[i] = i;
    }
    for (size_t i = 0; i < list->count; i++) {
        uint32_t parent = list->nodes[i], part = g, side;
        const fad_shape *shape = fad_node_shape(tape, parent);
        if (wanted(e, parent)) {
            if (n->op == FAD_STACK)
                TRY(fad_record_element(tape, g, i, &part));
            if (n->op == FAD_CONCATENATE && shape->size) {
                TRY(fad_make_view(tape, whole, shape->ndim, shape->dims, start, step, source, &side));
                TRY(fad_record_view(tape, g, side, &part));
            }
            if (n->op != FAD_CONCATENATE || shape->size)
                TRY(give(e, parent, part));
        }
        if (n->op == FAD_CONCATENATE)
            start[list->axis] += shape->dims[list->axis];
    }
    return FAD_OK;
}

static fad_status reverse_custom(emitter *e, uint32_t index)
{
    fad_tape *tape = e->tape;
    const fad_custom *custom = tape->side[tape->nodes[index].aux];
    size_t room = custom->outputs + custom->count;
    fad_status status = FAD_OK;
    uint32_t *nodes = fad_resize(tape, NULL, 0, (room + 1) * sizeof *nodes, &status);
    if (!nodes)
        return status;
    bool any = false;
    for (uint32_t k = 0; k < custom->outputs && status == FAD_OK; k++) {
        nodes[k] = FAD_NODE_NONE;
        if (index + k < e->end)
            status = collect(e, index + k, &nodes[k]);
        any |= nodes[k] != FAD_NODE_NONE;
    }
    if (status == FAD_OK && any) {
        uint32_t *results = nodes + custom->outputs;
        for (size_t k = 0; k < custom->count; k++)
            results[k] = FAD_NODE_NONE;
        status = tape->host.emit_reverse(tape->host.context, tape, custom, nodes, results);
        for (size_t k = 0; k < custom->count && status == FAD_OK; k++)
            if (results[k] != FAD_NODE_NONE)
                status = give(e, custom->nodes[k], results[k]);
    }
    fad_status ignored = FAD_OK;
    fad_resize(tape, nodes, (room + 1) * sizeof *nodes, 0, &ignored);
    return status;
}

static fad_status reverse_node(emitter *e, uint32_t index, uint32_t g)
{
    fad_tape *tape = e->tape;
    fad_node n = tape->nodes[index];
    uint32_t out = g;
    if (n.op < FAD_ELEMENTWISE_COUNT) {
        for (size_t k = fad_ops[n.op].arity; k-- > 0;) {
            uint32_t parent = fad_parent(tape, index, k);
            if (!wanted(e, parent))
                continue;
            TRY(times_partial(tape, FAD_IS_STRONG(n.op) ? FAD_SMUL : FAD_ZMUL, index, k, g, &out));
            if (out != FAD_NODE_NONE)
                TRY(give(e, parent, out));
        }
        return FAD_OK;
    }
    switch (n.op) {
    case FAD_CONSTANT:
    case FAD_VARIABLE:
        return FAD_OK;
    case FAD_RESHAPE:
        TRY(fad_record_reshape(tape, g, fad_node_shape(tape, n.a), &out));
        break;
    case FAD_VIEW:
        TRY(fad_record_embed(tape, g, n.aux, &out));
        break;
    case FAD_EMBED:
        TRY(fad_record_view(tape, g, n.aux, &out));
        break;
    case FAD_SUM_TO:
        TRY(fad_record_broadcast_to(tape, g, fad_node_shape(tape, n.a), &out));
        break;
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        TRY(reverse_extremum(tape, index, g, &out));
        break;
    case FAD_ELEMENT:
        return contribute(e, n.a, g, n.aux);
    case FAD_GATHER:
        TRY(fad_record_scatter_add(tape, g, n.aux, fad_node_shape(tape, n.a), &out));
        break;
    case FAD_SCATTER_ADD:
        TRY(fad_record_gather(tape, g, ((const fad_scatter *)tape->side[n.aux])->indices, &out));
        break;
    case FAD_STRIDED:
        TRY(fad_record_strided_add(tape, g, n.aux, &out));
        break;
    case FAD_STRIDED_ADD:
        TRY(fad_record_strided(tape, g, n.aux, &out));
        break;
    case FAD_CUMSUM:
        TRY(fad_record_cumsum(tape, g, n.aux / 2, !(n.aux & 1), &out));
        break;
    case FAD_MATMUL:
        return reverse_matmul(e, &n, g);
    case FAD_UPDATE_VIEW:
    case FAD_UPDATE_AT:
        return reverse_update(e, &n, g);
    case FAD_STACK:
    case FAD_CONCATENATE:
    case FAD_NSUM:
        return reverse_list(e, &n, g);
    default: /* BROADCAST_TO and CAST: give() sums and casts */
        break;
    }
    return give(e, n.a, out);
}

static fad_status reverse_all(emitter *e, size_t output_count, const uint32_t *outputs, const uint32_t *cotangents,
                              size_t wrt_count, const uint32_t *wrt, uint32_t *results)
{
    for (size_t i = 0; i < output_count; i++)
        TRY(contribute(e, outputs[i], cotangents[i], WHOLE));
    for (size_t i = e->end; i-- > e->low;) {
        uint32_t g, index = (uint32_t)i;
        if (!e->depends[i - e->low] || e->tape->nodes[i].op == FAD_OUTPUT)
            continue;
        if (e->tape->nodes[i].op == FAD_CUSTOM) {
            TRY(reverse_custom(e, index));
            continue;
        }
        if (e->first[i - e->low] == WHOLE)
            continue;
        TRY(collect(e, index, &g));
        e->pool[e->first[i - e->low]].node = g; /* kept for the results: one whole contribution */
        e->pool[e->first[i - e->low]].element = WHOLE;
        e->pool[e->first[i - e->low]].next = WHOLE;
        TRY(reverse_node(e, index, g));
    }
    for (size_t i = 0; i < wrt_count; i++)
        TRY(wrt[i] < e->end ? collect(e, wrt[i], &results[i]) : FAD_BAD_OPERAND);
    return FAD_OK;
}

fad_status fad_emit_reverse(fad_tape *tape, size_t end, size_t output_count, const uint32_t *outputs,
                            const uint32_t *cotangents, size_t wrt_count, const uint32_t *wrt, uint32_t *results)
{
    if (wrt_count == 0)
        return FAD_OK;
    emitter e = {.tape = tape, .low = first_of(wrt_count, wrt), .end = end};
    for (size_t i = 0; i < wrt_count; i++)
        results[i] = FAD_NODE_NONE;
    if (e.low >= end)
        return FAD_OK;
    size_t bytes = (end - e.low) * sizeof *e.first;
    fad_status status = mark_dependents(tape, e.low, end, wrt_count, wrt, &e.depends), ignored = FAD_OK;
    if (status != FAD_OK)
        return status;
    e.first = fad_resize(tape, NULL, 0, bytes, &status);
    e.last = e.first ? fad_resize(tape, NULL, 0, bytes, &status) : NULL;
    if (e.last) {
        memset(e.first, 0xff, bytes);
        status = reverse_all(&e, output_count, outputs, cotangents, wrt_count, wrt, results);
    }
    fad_resize(tape, e.depends, end - e.low + 1, 0, &ignored);
    fad_resize(tape, e.first, e.first ? bytes : 0, 0, &ignored);
    fad_resize(tape, e.last, e.last ? bytes : 0, 0, &ignored);
    fad_resize(tape, e.pool, e.pool_capacity * sizeof *e.pool, 0, &ignored);
    fad_resize(tape, e.scratch, e.scratch_capacity * sizeof *e.scratch, 0, &ignored);
    return status;
}

/* --- forward mode --- */

typedef struct {
    fad_tape *tape;
    size_t low, end;
    uint32_t *tangents; /* of nodes low .. end-1; FAD_NODE_NONE: zero */
} forward;

static uint32_t tangent_of(const forward *f, uint32_t node)
{
    return node >= f->low && node < f->end ? f->tangents[node - f->low] : FAD_NODE_NONE;
}

/* The tangent, or a node of zeros like `node`. */
static fad_status tangent_or_zeros(const forward *f, uint32_t node, uint32_t *out)
{
    *out = tangent_of(f, node);
    if (*out != FAD_NODE_NONE)
        return FAD_OK;
    return fad_record_zeros(f->tape, fad_node_dtype(f->tape, node), fad_node_shape(f->tape, node), out);
}

static fad_status add_to(fad_tape *tape, uint32_t *sum, uint32_t term)
{
    if (*sum == FAD_NODE_NONE) {
        *sum = term;
        return FAD_OK;
    }
    uint32_t both[2] = {*sum, term};
    return fad_record_elementwise(tape, FAD_ADD, both, -1, sum);
}

static fad_status forward_elementwise(forward *f, uint32_t index, uint32_t *out)
{
    fad_tape *tape = f->tape;
    for (size_t k = 0; k < fad_ops[tape->nodes[index].op].arity; k++) {
        uint32_t t = tangent_of(f, fad_parent(tape, index, k)), term;
        if (t == FAD_NODE_NONE)
            continue;
        TRY(times_partial(tape, FAD_SMUL, index, k, t, &term));
        if (term == FAD_NODE_NONE)
            continue;
        TRY(fad_record_cast(tape, term, fad_node_dtype(tape, index), &term));
        TRY(fad_record_broadcast_to(tape, term, fad_node_shape(tape, index), &term));
        TRY(add_to(tape, out, term));
    }
    return FAD_OK;
}

static fad_status forward_matmul(forward *f, const fad_node *n, uint32_t *out)
{
    uint32_t ta = tangent_of(f, n->a), tb = tangent_of(f, n->b), term;
    if (ta != FAD_NODE_NONE) {
        TRY(fad_record_matmul(f->tape, ta, n->b, &term));
        TRY(add_to(f->tape, out, term));
    }
    if (tb != FAD_NODE_NONE) {
        TRY(fad_record_matmul(f->tape, n->a, tb, &term));
        TRY(add_to(f->tape, out, term));
    }
    return FAD_OK;
}

/* The mean of the tangents of the elements that tie. */
static fad_status forward_extremum(forward *f, uint32_t index, uint32_t t, uint32_t *out)
{
    uint32_t mask, mean[2];
    TRY(ties_of(f->tape, index, &mask, &mean[1]));
    TRY(chosen(f->tape, mask, t, fad_node_dtype(f->tape, index), &mean[0]));
    TRY(fad_record_sum_to(f->tape, mean[0], fad_node_shape(f->tape, index), &mean[0]));
    return fad_record_elementwise(f->tape, FAD_DIV, mean, -1, out);
}

static fad_status forward_list(forward *f, const fad_node *n, uint32_t *out)
{
    fad_tape *tape = f->tape;
    const fad_list *list = tape->side[n->aux];
    fad_status status = FAD_OK;
    size_t bytes = list->count * sizeof(uint32_t);
    uint32_t *nodes = fad_resize(tape, NULL, 0, bytes + 1, &status);
    if (!nodes)
        return status;
    for (size_t i = 0; i < list->count && status == FAD_OK; i++)
        status = tangent_or_zeros(f, list->nodes[i], &nodes[i]);
    if (status == FAD_OK)
        status = n->op == FAD_STACK         ? fad_record_stack(tape, list->count, nodes, out)
                 : n->op == FAD_CONCATENATE ? fad_record_concatenate(tape, list->count, nodes, (size_t)list->axis, out)
                                            : fad_record_nsum(tape, list->count, nodes, out);
    fad_status ignored = FAD_OK;
    fad_resize(tape, nodes, bytes + 1, 0, &ignored);
    return status;
}

/* Puts the tangents of all outputs of a CUSTOM node in place. */
static fad_status forward_custom(forward *f, uint32_t index)
{
    fad_tape *tape = f->tape;
    const fad_custom *custom = tape->side[tape->nodes[index].aux];
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t room = (custom->count + custom->outputs + 1) * sizeof(uint32_t);
    uint32_t *nodes = fad_resize(tape, NULL, 0, room, &status);
    if (!nodes)
        return status;
    uint32_t *results = nodes + custom->count;
    for (size_t i = 0; i < custom->count; i++)
        nodes[i] = tangent_of(f, custom->nodes[i]);
    for (size_t k = 0; k < custom->outputs; k++)
        results[k] = FAD_NODE_NONE;
    status = tape->host.emit_tangent(tape->host.context, tape, custom, nodes, results);
    for (size_t k = 0; k < custom->outputs && status == FAD_OK; k++)
        if (index + k < f->end)
            f->tangents[index + k - f->low] = results[k];
    fad_resize(tape, nodes, room, 0, &ignored);
    return status;
}

static fad_status forward_node(forward *f, uint32_t index, uint32_t *out)
{
    fad_tape *tape = f->tape;
    fad_node n = tape->nodes[index];
    uint32_t t = FAD_NODE_NONE, u = FAD_NODE_NONE;
    if (n.op < FAD_ELEMENTWISE_COUNT)
        return forward_elementwise(f, index, out);
    if (fad_ops[n.op].arity == 1 || fad_ops[n.op].arity == 2)
        TRY(tangent_or_zeros(f, n.a, &t));
    if (fad_ops[n.op].arity == 2)
        TRY(tangent_or_zeros(f, n.b, &u));
    switch (n.op) {
    case FAD_RESHAPE:
        return fad_record_reshape(tape, t, fad_node_shape(tape, index), out);
    case FAD_VIEW:
        return fad_record_view(tape, t, n.aux, out);
    case FAD_EMBED:
        return fad_record_embed(tape, t, n.aux, out);
    /* Where the value took over its operand's buffer nothing later depends on the operand: nor on its tangent. */
    case FAD_UPDATE_VIEW:
        return (fad_took_over(tape, index) ? fad_assign_view : fad_record_update_view)(tape, t, u, n.aux, out);
    case FAD_BROADCAST_TO:
        return fad_record_broadcast_to(tape, t, fad_node_shape(tape, index), out);
    case FAD_SUM_TO:
        return fad_record_sum_to(tape, t, fad_node_shape(tape, index), out);
    case FAD_MAX_TO:
    case FAD_MIN_TO:
        return forward_extremum(f, index, t, out);
    case FAD_ELEMENT:
        return fad_record_element(tape, t, n.aux, out);
    case FAD_GATHER:
        return fad_record_gather(tape, t, n.aux, out);
    case FAD_SCATTER_ADD: {
        const fad_scatter *scatter = tape->side[n.aux];
        return fad_record_scatter_add(tape, t, scatter->indices, scatter->shape, out);
    }
    case FAD_STRIDED:
        return fad_record_strided(tape, t, n.aux, out);
    case FAD_STRIDED_ADD:
        return fad_record_strided_add(tape, t, n.aux, out);
    case FAD_UPDATE_AT:
        return (fad_took_over(tape, index) ? fad_assign_at : fad_record_update_at)(tape, t, u, n.aux, out);
    case FAD_MATMUL:
        return forward_matmul(f, &n, out);
    case FAD_CUMSUM:
        return fad_record_cumsum(tape, t, n.aux / 2, n.aux & 1, out);
    case FAD_CAST:
        return fad_record_cast(tape, t, fad_node_dtype(tape, index), out);
    default:
        return forward_list(f, &n, out);
    }
}

static fad_status forward_all(forward *f, const uint8_t *depends)
{
    for (size_t i = f->low; i < f->end; i++) {
        uint16_t op = f->tape->nodes[i].op;
        if (!depends[i - f->low] || f->tangents[i - f->low] != FAD_NODE_NONE || op == FAD_OUTPUT)
            continue;
        if (op == FAD_CUSTOM)
            TRY(forward_custom(f, (uint32_t)i));
        else if (op != FAD_VARIABLE && op != FAD_CONSTANT) {
            uint32_t out = FAD_NODE_NONE;
            TRY(forward_node(f, (uint32_t)i, &out));
            f->tangents[i - f->low] = out;
        }
    }
    return FAD_OK;
}

fad_status fad_emit_tangent(fad_tape *tape, size_t end, size_t wrt_count, const uint32_t *wrt,
                            const uint32_t *tangents, size_t output_count, const uint32_t *outputs,
                            uint32_t *results)
{
    for (size_t i = 0; i < output_count; i++)
        results[i] = FAD_NODE_NONE;
    if (wrt_count == 0)
        return FAD_OK;
    forward f = {.tape = tape, .low = first_of(wrt_count, wrt), .end = end};
    if (f.low >= end)
        return FAD_OK;
    uint8_t *depends;
    fad_status status = mark_dependents(tape, f.low, end, wrt_count, wrt, &depends), ignored = FAD_OK;
    if (status != FAD_OK)
        return status;
    size_t bytes = (end - f.low) * sizeof *f.tangents;
    f.tangents = fad_resize(tape, NULL, 0, bytes, &status);
    if (f.tangents) {
        memset(f.tangents, 0xff, bytes);
        for (size_t i = 0; i < wrt_count; i++)
            f.tangents[wrt[i] - f.low] = tangents[i];
        status = forward_all(&f, depends);
        for (size_t i = 0; i < output_count && status == FAD_OK; i++)
            results[i] = tangent_of(&f, outputs[i]);
        fad_resize(tape, f.tangents, bytes, 0, &ignored);
    }
    fad_resize(tape, depends, end - f.low + 1, 0, &ignored);
    return status;
}
