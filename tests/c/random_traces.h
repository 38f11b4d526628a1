/* random_traces.h: traces of random operations on random inputs, and an allocator that fails when told to. */
#ifndef FAD_TESTS_RANDOM_TRACES_H
#define FAD_TESTS_RANDOM_TRACES_H

#include "traces.h"

/* --- random traces --- */

typedef struct {
    recording r;
    uint64_t state;
    bool smooth, special;     /* only what rounding does not make jump; infinities, NaN and zeros among the inputs */
    uint32_t pool[256];
    size_t count;
} generator;

static inline unsigned pick(generator *g, unsigned n)
{
    g->state = g->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(g->state >> 33) % n;
}

static inline double sample(generator *g)
{
    static const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1.0, -1.0, 1e-300};
    if (g->special && pick(g, 3) == 0)
        return odd[pick(g, 8)];
    return ((double)pick(g, 4001) - 2000.0) / 1000.0;
}

static inline double sample_constant(generator *g)
{
    static const double usual[] = {0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -2.0, 100.0, 0.1, INFINITY, NAN};
    return usual[pick(g, g->smooth ? 10 : 12)];
}

static inline void keep(generator *g, uint32_t node)
{
    if (g->count < 256)
        g->pool[g->count++] = node;
}

static inline const fad_shape *random_shape(generator *g)
{
    static const ptrdiff_t shapes[][3] = {{3}, {1}, {4, 3}, {1, 3}, {4, 1}, {2, 4, 3}, {3, 4}, {12}};
    static const size_t ndims[] = {1, 1, 2, 2, 2, 3, 2, 1};
    unsigned i = pick(g, 8);
    return shape_of(g->r.trace.tape, ndims[i], shapes[i]);
}

static inline uint32_t random_array(generator *g, int op)
{
    const fad_shape *shape = random_shape(g);
    double values[24], same = sample_constant(g);
    bool even = op == FAD_CONSTANT && pick(g, 2);
    for (size_t i = 0; i < shape->size; i++)
        values[i] = even ? same : sample(g);
    return array(g->r.trace.tape, op, shape, values);
}

static inline uint32_t operand(generator *g)
{
    unsigned recent = g->count > 8 && pick(g, 2) ? 8 : (unsigned)g->count;
    return g->pool[g->count - 1 - pick(g, recent)];
}

/* Small integers above, so that few of what is made is huge. */
static inline int random_op(generator *g)
{
    static const int likely[] = {FAD_ADD, FAD_SUB,  FAD_MUL,    FAD_NEG,  FAD_ZMUL, FAD_SMUL,
                                 FAD_SQUARE, FAD_POS, FAD_MUL, FAD_ADD, FAD_NEG, FAD_ZMUL};
    static const int smooth[] = {FAD_SIN, FAD_TANH, FAD_COSH, FAD_ABS, FAD_MAXIMUM, FAD_FABS};
    if (pick(g, 3))
        return likely[pick(g, 12)];
    int op = g->smooth ? smooth[pick(g, 6)] : (int)pick(g, FAD_ELEMENTWISE_COUNT);
    return op == FAD_SIGNBIT || op == FAD_COPYSIGN ? FAD_NEG : op; /* they see the sign of a NaN */
}

static inline void random_elementwise(generator *g)
{
    fad_tape *t = g->r.trace.tape;
    int op = random_op(g);
    uint32_t x[3] = {operand(g), operand(g), operand(g)}, out;
    if (pick(g, 4) == 0 && fad_ops[op].arity > 1)
        x[pick(g, 2)] = pick(g, 2) ? number(t, sample_constant(g)) : random_array(g, FAD_CONSTANT);
    if (g->smooth && pick(g, 12) == 0) {
        static const double exponents[] = {0, 1, 2, 3, 4};
        op = FAD_POW;
        x[1] = number(t, exponents[pick(g, 5)]);
    }
    if (g->smooth && pick(g, 12) == 0) {
        op = FAD_DIV;
        x[1] = number(t, 1.0 + pick(g, 4));
    }
    if (g->smooth && op == FAD_COSH)
        x[0] = un(t, FAD_TANH, x[0]);
    if (op == FAD_MAXIMUM && g->smooth)
        x[1] = x[0]; /* another tie is broken by rounding */
    if (fad_record_elementwise(t, op, x, -1, &out) == FAD_OK)
        keep(g, out);
}

static inline fad_status random_view(generator *g, uint32_t a, uint32_t *side)
{
    fad_tape *t = g->r.trace.tape;
    const fad_shape *whole = fad_node_shape(t, a);
    ptrdiff_t dims[4], start[4], step[4];
    int source[4], axes[3] = {0, 1, 2};
    size_t ndim = 0;
    for (size_t s = 0; s < whole->ndim; s++) {
        size_t other = s + pick(g, (unsigned)(whole->ndim - s));
        int axis = axes[s];
        axes[s] = axes[other];
        axes[other] = axis;
    }
    for (size_t s = 0; s < whole->ndim; s++) {
        ptrdiff_t size = whole->dims[axes[s]], dim = 1 + (ptrdiff_t)pick(g, (unsigned)size);
        if (pick(g, 2))
            dim = size;
        ptrdiff_t most = dim > 1 ? (size - 1) / (dim - 1) : 1;
        ptrdiff_t by = most > 0 ? 1 + (ptrdiff_t)pick(g, (unsigned)most) : 1, span = (dim - 1) * by;
        bool back = pick(g, 3) == 0;
        start[axes[s]] = (ptrdiff_t)pick(g, (unsigned)(size - span)) + (back ? span : 0);
        if (pick(g, 4) == 0 && ndim < 4) {
            dims[ndim] = 1;
            step[ndim] = 1;
            source[ndim++] = -1;
        }
        if (ndim == 4 || pick(g, 4) == 0)
            continue; /* one index, the axis goes */
        dims[ndim] = dim;
        step[ndim] = back ? -by : by;
        source[ndim++] = axes[s];
    }
    return ndim > 3 ? FAD_BAD_SHAPE : fad_make_view(t, whole, ndim, dims, start, step, source, side);
}

static inline fad_status random_indices(generator *g, const fad_shape *shape, size_t most, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    TRY(fad_new_array(t, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, out));
    int64_t *at = (int64_t *)t->values[*out].array->data;
    unsigned first = pick(g, (unsigned)most), step = pick(g, 3);
    for (size_t i = 0; i < shape->size; i++)
        at[i] = step ? (int64_t)((first + i * step) % most) : (int64_t)pick(g, (unsigned)most);
    return FAD_OK;
}

static inline fad_status random_strided(generator *g, uint32_t a, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    const fad_shape *part = random_shape(g);
    ptrdiff_t strides[3], most = (ptrdiff_t)fad_node_shape(t, a)->size, start = (ptrdiff_t)pick(g, (unsigned)most);
    uint32_t side;
    for (size_t i = 0; i < part->ndim; i++)
        strides[i] = pick(g, 2) ? part->strides[i] * (pick(g, 3) ? 1 : -1) : (ptrdiff_t)pick(g, 5) - 2;
    if (pick(g, 2))
        start = 0;
    TRY(fad_make_strided(t, fad_node_shape(t, a), part->ndim, part->dims, start, strides, &side));
    TRY(fad_record_strided(t, a, side, out));
    keep(g, *out);
    return fad_record_strided_add(t, pick(g, 2) ? *out : operand(g), side, out);
}

static inline fad_status random_list(generator *g, uint32_t a, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    uint32_t nodes[4] = {a, a, a, a};
    size_t count = 1 + pick(g, 4);
    if (fad_is_array(t, a) && pick(g, 2))
        return fad_record_concatenate(t, count, nodes, pick(g, 3), out);
    if (fad_is_array(t, a) && fad_node_dtype(t, a) == FAD_F64 && pick(g, 2)) {
        unsigned first = pick(g, (unsigned)fad_node_shape(t, a)->size), step = pick(g, 3);
        for (size_t i = 0; i < count; i++)
            TRY(fad_record_element(t, a, (first + i * step) % fad_node_shape(t, a)->size, &nodes[i]));
        return fad_record_stack(t, count, nodes, out);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t b = operand(g);
        if (fad_node_shape(t, b) == fad_node_shape(t, a) && fad_node_dtype(t, b) == fad_node_dtype(t, a))
            nodes[i] = b;
    }
    return fad_is_array(t, a) || pick(g, 2) ? fad_record_nsum(t, count, nodes, out)
                                            : fad_record_stack(t, count, nodes, out);
}

static inline fad_status random_structural(generator *g, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    uint32_t a = operand(g), b = operand(g), side, indices;
    const fad_shape *shape = fad_node_shape(t, a);
    switch (pick(g, 17)) {
    case 0:
    case 1:
        return fad_record_broadcast_to(t, a, random_shape(g), out);
    case 2:
        return fad_record_sum_to(t, a, pick(g, 2) ? t->shapes[0] : random_shape(g), out);
    case 3:
        return fad_record_reshape(t, a, random_shape(g), out);
    case 4:
    case 5:
        TRY(random_view(g, a, &side));
        TRY(fad_record_view(t, a, side, out));
        keep(g, *out);
        return fad_record_embed(t, pick(g, 2) ? *out : b, side, out);
    case 6:
        TRY(random_view(g, a, &side));
        TRY(fad_record_update_view(t, a, b, side, out));
        keep(g, *out);
        return fad_record_view(t, *out, side, out);
    case 7:
        return fad_record_element(t, a, pick(g, (unsigned)shape->size), out);
    case 8:
    case 9:
        return random_list(g, a, out);
    case 10:
        TRY(random_indices(g, random_shape(g), shape->size, &indices));
        TRY(fad_record_gather(t, a, indices, out));
        keep(g, *out);
        return fad_record_scatter_add(t, *out, indices, shape, out);
    case 14:
    case 15:
    case 16:
        return random_strided(g, a, out);
    case 11:
        return fad_record_cast(t, a, pick(g, 2) ? FAD_F32 : FAD_F64, out);
    case 12:
        return pick(g, 2) ? fad_record_matmul(t, a, b, out) : fad_record_cumsum(t, a, pick(g, 2), pick(g, 2), out);
    default:
        TRY(random_indices(g, fad_node_shape(t, b), shape->size, &indices));
        return fad_record_update_at(t, a, b, indices, out);
    }
}

/* Whether rounding in `node` stays below the tolerance: it is neither large nor float32. */
static inline bool is_tame(const fad_tape *t, uint32_t node, bool infinite)
{
    fad_array a = fad_value_array(t, node);
    for (size_t i = 0; i < a.shape->size; i++)
        if (fabs(element(&a, i)) > 1e3 && !(infinite && isinf(element(&a, i))))
            return false;
    return a.dtype == FAD_F64 && a.shape->size <= 64;
}

static inline void generate(generator *g, uint64_t seed, bool smooth, bool special)
{
    *g = (generator){.state = seed * 0x9e3779b97f4a7c15u + 1, .smooth = smooth, .special = special};
    begin(&g->r);
    fad_tape *t = g->r.trace.tape;
    for (int i = 0; i < 6; i++) {
        uint32_t x = i < 3 ? scalar(t, sample(g)) : random_array(g, FAD_VARIABLE);
        input(&g->r, x);
        keep(g, x);
    }
    unsigned length = 10 + pick(g, 80);
    for (unsigned i = 0; i < length; i++) {
        uint32_t out;
        if (pick(g, 3))
            random_elementwise(g);
        else if (random_structural(g, &out) == FAD_OK)
            keep(g, out);
        while (smooth && !is_tame(t, g->pool[g->count - 1], special))
            g->count--;
    }
    for (int i = 0; i < 4; i++)
        output(&g->r, operand(g));
    g->r.guards[g->r.trace.guard_count++] = g->pool[0];
}

/* The sum of the float64 outputs, squashed. */
static inline uint32_t sum_of_outputs(recording *r)
{
    fad_tape *t = r->trace.tape;
    uint32_t y = number(t, 0);
    for (size_t i = 0; i < r->trace.output_count; i++)
        if (fad_is_float(fad_node_dtype(t, r->outputs[i])))
            y = bin(t, FAD_ADD, y, un(t, FAD_TANH, total(t, r->outputs[i])));
    return y;
}

#endif
