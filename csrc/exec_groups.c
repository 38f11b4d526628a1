/* exec_groups.c: runs groups of scalar instructions, made from ops.def: a loop of its own for each op, without a jump
 * from one number to the next. */
#include "exec.h"
#include "scalar.h"

enum { CHUNK = 256 };

/* No operand is among the results. */
typedef void (*group_loop)(const double *w, const uint32_t *a, size_t n, double *restrict to);

#define LOOP(NAME, VALUE)                                                                      \
    static void NAME##_group(const double *w, const uint32_t *a, size_t n, double *restrict to) \
    {                                                                                          \
        const uint32_t *b = a + n, *c = b + n;                                                 \
        (void)b;                                                                               \
        (void)c;                                                                               \
        for (size_t i = 0; i < n; i++)                                                         \
            to[i] = VALUE;                                                                     \
    }
#define LOOP_1(NAME) LOOP(NAME, NAME(w[a[i]]))
#define LOOP_2(NAME) LOOP(NAME, NAME(w[a[i]], w[b[i]]))
#define LOOP_3(NAME) LOOP(NAME, NAME(w[a[i]], w[b[i]], w[c[i]]))
#define OP(NAME, NUMPY, ARITY, ...) LOOP_##ARITY(NAME)
#include "ops.def"
#undef OP
LOOP_3(MUL_ADD)
LOOP_3(MUL_SUB)
LOOP_3(SUB_MUL)
LOOP_3(ZMUL_ADD)

/* A vector function wants its operands side by side. */
static void run_vector(const fad_bound_loop *bound, size_t arity, const double *w, const uint32_t *places, size_t n,
                       double *to)
{
    double operands[2][CHUNK];
    const ptrdiff_t steps[3] = {sizeof(double), sizeof(double), sizeof(double)};
    for (size_t start = 0; start < n; start += CHUNK) {
        size_t count = n - start < CHUNK ? n - start : CHUNK;
        ptrdiff_t length = (ptrdiff_t)count;
        char *data[3] = {(char *)operands[0], (char *)operands[1], NULL};
        for (size_t k = 0; k < arity; k++)
            for (size_t i = 0; i < count; i++)
                operands[k][i] = w[places[k * n + start + i]];
        data[arity] = (char *)(to + start);
        bound->loop(data, &length, steps, bound->data);
    }
}

void fad_run_groups(const fad_group *g, size_t count, const fad_bound_loop *bound, const uint32_t *places, double *w)
{
    static const group_loop loops[FAD_SCALAR_COUNT] = {
#define OP(NAME, ...) NAME##_group,
#include "ops.def"
#undef OP
        [FAD_SCALAR_MUL_ADD] = MUL_ADD_group,
        [FAD_SCALAR_MUL_SUB] = MUL_SUB_group,
        [FAD_SCALAR_SUB_MUL] = SUB_MUL_group,
        [FAD_SCALAR_ZMUL_ADD] = ZMUL_ADD_group,
    };
    for (const fad_group *end = g + count; g < end; g++, bound++) {
        if (bound->loop)
            run_vector(bound, fad_ops[g->op].arity, w, places + g->first, g->count, w + g->to);
        else
            loops[g->op](w, places + g->first, g->count, w + g->to);
    }
}
