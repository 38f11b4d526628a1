/* scalars.c: the reverse steps of scalar nodes, made from ops.def. */
#include "scalar.h"
#include "sweep.h"

static inline double times(bool strong, double g, double partial)
{
    return strong && partial == 0 ? 0 : g * partial;
}

/* Labels as values are an extension of C that GCC and Clang share. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"

size_t fad_sweep_scalars(fad_sweep *sweep, size_t i)
{
    static const void *const steps[FAD_OP_COUNT] = {
#define OP(NAME, ...) &&NAME,
#define ST(NAME, ...) &&leaf,
#include "ops.def"
#include "structural.def"
#undef OP
#undef ST
    };
    const fad_node *n = &sweep->tape->nodes[i], *leaves = &sweep->tape->nodes[sweep->tape->leaves];
    const fad_value *values = sweep->tape->values;
    fad_adjoint *adjoints = sweep->adjoints;
    const fad_adjoint *own = &adjoints[i]; /* of node n */
    double g;

/* On to the next node that has something to give, down to the leaves. A strong zero: an adjoint of zero stays zero,
 * whatever the partial. Every step ends in a copy of this with a jump of its own, which a processor predicts by what
 * follows that op; all the steps' jumps in one place, as a switch in a loop has them, it predicts badly. */
#define NEXT                                                                    \
    do {                                                                        \
        if (n <= leaves)                                                        \
            return 0;                                                           \
        n--;                                                                    \
        own--;                                                                  \
        if ((n->flags & (FAD_IS_ACTIVE | FAD_HAS_ARRAY)) == FAD_IS_ACTIVE &&    \
            (g = own->number) != 0)                                             \
            goto *steps[n->op];                                                 \
    } while (!(n->flags & FAD_HAS_ARRAY));                                      \
    return (size_t)(own - adjoints) + 1

#define TIMES(PARTIAL) times(strong, g, PARTIAL(X, Y, Z, V))
/* A scalar node's aux is its third parent or 0. */
#define GIVE_1(NAME) adjoints[n->a].number += TIMES(NAME##_BY_X)
#define GIVE_2(NAME)                        \
    const double to_b = TIMES(NAME##_BY_Y); \
    GIVE_1(NAME);                           \
    adjoints[n->b].number += to_b
#define GIVE_3(NAME)                             \
    GIVE_1(NAME);                                \
    adjoints[n->b].number += TIMES(NAME##_BY_Y); \
    adjoints[n->aux].number += TIMES(NAME##_BY_Z)

leaf:
    NEXT;
#define OP(NAME, NUMPY, ARITY, ...)                                                    \
NAME: {                                                                                \
    enum { strong = FAD_IS_STRONG(FAD_##NAME) };                                       \
    const double X = values[n->a].number, Y = values[n->b].number;                     \
    const double Z = values[n->aux].number, V = values[own - adjoints].number;         \
    GIVE_##ARITY(NAME);                                                                \
    NEXT;                                                                              \
}
#include "ops.def"
#undef OP
}
#pragma GCC diagnostic pop
