/* strips.c: the 'strips' reading of ops.def. A partial is evaluated over runs of at most STRIP elements: every call in
 * its cell is one inner loop over the run, with the intermediate results in the first-level cache. */
#include "array.h"
#include "sweep.h"

enum { STRIP = 512, TEMPORARIES = FAD_MOST_CALLS, CONSTANTS = 2 * FAD_MOST_CALLS + 2 };

typedef struct {
    const fad_loops *loops;
    int dtype;
    ptrdiff_t count;
    size_t temporaries, constants;
    double constant[CONSTANTS];
    double room[TEMPORARIES][STRIP];
} workspace;

/* A run of operands: what a function of this reading takes and gives. */
typedef struct {
    workspace *w;
    char *data;
    ptrdiff_t step;
} strip;

static strip constant(workspace *w, double value)
{
    double *room = &w->constant[w->constants++];
    if (w->dtype == FAD_F64)
        *room = value;
    else
        *(float *)room = (float)value;
    strip s = {w, (char *)room, 0};
    return s;
}

static strip apply(int op, size_t arity, const strip *x)
{
    workspace *w = x[0].w;
    char *args[4];
    ptrdiff_t steps[4], count = 1;
    for (size_t k = 0; k < arity; k++) {
        args[k] = x[k].data;
        steps[k] = x[k].step;
        if (steps[k])
            count = w->count; /* else all are constant over the run, and so is the result */
    }
    strip result = {w, (char *)w->room[w->temporaries++], 0};
    ptrdiff_t size = fad_ops[op].kind == FAD_PREDICATE ? 1 : (ptrdiff_t)fad_itemsize(w->dtype);
    args[arity] = result.data;
    steps[arity] = size;
    w->loops->elementwise[op][w->dtype].loop(args, &count, steps, w->loops->elementwise[op][w->dtype].data);
    result.step = count == 1 ? 0 : size;
    return result;
}

#define VALUE strip
#define MAKER workspace
#include "reading.h"
#undef VALUE
#undef MAKER

/* --- result (+)= strong-zero product --- */

#define VARIANT(G, P, PRODUCT)                                      \
    if (add)                                                        \
        for (ptrdiff_t i = 0; i < n; i++) {                         \
            out[i] += PRODUCT(G, P);                                \
        }                                                           \
    else                                                            \
        for (ptrdiff_t i = 0; i < n; i++) {                         \
            out[i] = PRODUCT(G, P);                                 \
        }
#define STRONG(g, p) ((g) == 0 ? 0 : (g) * (p))
#define PLAIN(g, p) ((g) * (p))

/* The four combinations of running and constant operands, each a loop that the compiler vectorises; steps that
 * are neither go element by element. A result with step 0 takes the sum. */
#define MULTIPLY_INTO(SUFFIX, T)                                                                                   \
    FAD_SIMD static void multiply_into_##SUFFIX(ptrdiff_t n, const char *g, ptrdiff_t g_step, const char *p,       \
                                                ptrdiff_t p_step, char *to, ptrdiff_t to_step, bool add)           \
    {                                                                                                              \
        const ptrdiff_t size = sizeof(T);                                                                          \
        const T *restrict gs = (const T *)g, *restrict ps = (const T *)p;                                          \
        T *out = (T *)to;                                                                                          \
        if (to_step == size && g_step == size && p_step == size) {                                                 \
            VARIANT(gs[i], ps[i], STRONG)                                                                          \
        } else if (to_step == size && g_step == 0 && p_step == size) {                                             \
            const T one = *gs;                                                                                     \
            if (one == 0) {                                                                                        \
                if (!add)                                                                                          \
                    memset(to, 0, (size_t)(n * size));                                                             \
                return;                                                                                            \
            }                                                                                                      \
            VARIANT(one, ps[i], PLAIN)                                                                             \
        } else if (to_step == size && g_step == size && p_step == 0) {                                             \
            const T factor = *ps;                                                                                  \
            VARIANT(gs[i], factor, STRONG)                                                                         \
        } else if (to_step == 0) {                                                                                 \
            double sum = 0;                                                                                        \
            for (ptrdiff_t i = 0; i < n; i++) {                                                                    \
                T gi = *(const T *)(g + i * g_step), pi = *(const T *)(p + i * p_step);                            \
                sum += STRONG(gi, pi);                                                                             \
            }                                                                                                      \
            *out = (T)(add ? *out + sum : sum);                                                                    \
        } else {                                                                                                   \
            for (ptrdiff_t i = 0; i < n; i++) {                                                                    \
                T gi = *(const T *)(g + i * g_step), pi = *(const T *)(p + i * p_step);                            \
                T *at = (T *)(to + i * to_step);                                                                   \
                *at = add ? *at + STRONG(gi, pi) : STRONG(gi, pi);                                                 \
            }                                                                                                      \
        }                                                                                                          \
    }
MULTIPLY_INTO(f64, double)
MULTIPLY_INTO(f32, float)

typedef struct {
    workspace w;
    int op;
    size_t k;
    bool add, sum_to_double;
} job;

enum { G, X0, Y0, Z0, V0, TO, OPERANDS };

static void accumulate_run(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    job *j = context;
    char *at[OPERANDS];
    memcpy(at, data, sizeof at);
    for (ptrdiff_t done = 0; done < count; done += STRIP) {
        workspace *w = &j->w;
        ptrdiff_t n = count - done < STRIP ? count - done : STRIP;
        w->count = n;
        w->temporaries = w->constants = 0;
        strip operands[4];
        for (int i = 0; i < 4; i++) {
            strip s = {w, at[X0 + i], steps[X0 + i]};
            operands[i] = s;
        }
        strip p = partial(w, j->op, j->k, operands[0], operands[1], operands[2], operands[3]);
        strip g = {w, at[G], steps[G]};
        if (FAD_IS_STRONG(j->op)) {
            strip both[] = {g, p};
            g = apply(FAD_SMUL, 2, both);
            p = ONE;
        }
        if (j->sum_to_double) {
            float part = 0;
            multiply_into_f32(n, g.data, g.step, p.data, p.step, (char *)&part, 0, false);
            *(double *)at[TO] += part;
        } else if (w->dtype == FAD_F64) {
            multiply_into_f64(n, g.data, g.step, p.data, p.step, at[TO], steps[TO], j->add || (done && !steps[TO]));
        } else {
            multiply_into_f32(n, g.data, g.step, p.data, p.step, at[TO], steps[TO], j->add || (done && !steps[TO]));
        }
        for (int i = 0; i < OPERANDS; i++)
            at[i] += n * steps[i];
    }
}

/* A scalar node's number as an operand of type `dtype`. */
static fad_array operand(const fad_tape *tape, uint32_t node, int dtype, float *room)
{
    fad_array a = fad_value_array(tape, node);
    if (!fad_is_array(tape, node) && dtype == FAD_F32) {
        *room = (float)tape->values[node].number;
        a.data = (char *)room;
        a.dtype = FAD_F32;
    }
    return a;
}

static bool is_uniform(const fad_array *a)
{
    for (size_t i = 0; i < a->shape->ndim; i++)
        if (a->shape->dims[i] > 1 && a->strides[i] != 0)
            return false;
    return true;
}

bool fad_strips_uniform(const fad_tape *tape, uint32_t index, size_t k, const fad_array *cotangent)
{
    const fad_node *n = &tape->nodes[index];
    unsigned uses = tape->loops->partial_uses[n->op][k];
    const uint32_t used[4] = {n->a, n->b, n->aux, index};
    if (!is_uniform(cotangent))
        return false;
    for (int i = 0; i < 4; i++)
        if (uses >> i & 1 && fad_is_array(tape, used[i]) && !is_uniform(tape->values[used[i]].array))
            return false;
    return true;
}

/* Over `shape`: the node's, or a scalar's for the first element alone. */
static void accumulate(fad_tape *tape, uint32_t index, size_t k, const fad_shape *shape, const fad_array *cotangent,
                       const fad_array *result, bool add)
{
    const fad_node *n = &tape->nodes[index];
    int dtype = fad_node_dtype(tape, index);
    size_t arity = fad_ops[n->op].arity;
    uint32_t parents[3] = {n->a, arity > 1 ? n->b : n->a, arity > 2 ? n->aux : n->a};
    float room[5];
    uint8_t truth;
    double nothing = 0;
    const fad_array unused = {(char *)&nothing, tape->shapes[0], tape->shapes[0]->strides, (uint8_t)dtype};
    fad_array arrays[OPERANDS];
    const fad_array *pointers[OPERANDS];
    char *data[OPERANDS];
    unsigned uses = tape->loops->partial_uses[n->op][k];
    arrays[G] = *cotangent;
    for (int i = 0; i < 3; i++)
        arrays[X0 + i] = uses >> i & 1 ? operand(tape, parents[i], dtype, &room[i]) : unused;
    if (n->op == FAD_SELECT && uses & FAD_USES_X && !fad_is_array(tape, n->a)) {
        truth = tape->values[n->a].number != 0;
        arrays[X0].data = (char *)&truth;
        arrays[X0].dtype = FAD_BOOL;
    }
    arrays[V0] = uses & FAD_USES_V ? operand(tape, index, dtype, &room[3]) : unused;
    arrays[TO] = *result;
    job j;
    j.w.loops = tape->loops;
    j.w.dtype = dtype;
    j.op = n->op;
    j.k = k;
    j.add = add;
    j.sum_to_double = dtype == FAD_F32 && result->dtype == FAD_F64;
    for (int i = 0; i < OPERANDS; i++) {
        if (shape->ndim == 0) {
            arrays[i].shape = shape;
            arrays[i].strides = shape->strides;
        }
        pointers[i] = &arrays[i];
        data[i] = arrays[i].data;
    }
    fad_nest nest;
    fad_nest_init(&nest, shape, OPERANDS, pointers);
    fad_nest_run(&nest, data, accumulate_run, &j);
}

void fad_strips_accumulate(fad_tape *tape, uint32_t index, size_t k, const fad_array *cotangent,
                           const fad_array *result, bool add)
{
    accumulate(tape, index, k, fad_node_shape(tape, index), cotangent, result, add);
}

void fad_strips_first(fad_tape *tape, uint32_t index, size_t k, const fad_array *cotangent, const fad_array *result)
{
    accumulate(tape, index, k, tape->shapes[0], cotangent, result, false);
}
