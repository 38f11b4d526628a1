/* reading.h: a reading of ops.def in which every call of a cell is applied at once. Whoever includes it has defined
 * VALUE, the type of what a cell computes with, MAKER, the type of what constants are made by, and
 *     VALUE apply(int op, size_t arity, const VALUE *operands)
 *     VALUE constant(MAKER *w, double value)
 * and gets partial(), the cell of the row and operand given. */
#define FUNCTION_1(NAME) \
    static inline VALUE NAME(VALUE x) { return apply(FAD_##NAME, 1, &x); }
#define FUNCTION_2(NAME)                        \
    static inline VALUE NAME(VALUE x, VALUE y)  \
    {                                           \
        VALUE both[] = {x, y};                  \
        return apply(FAD_##NAME, 2, both);      \
    }
#define FUNCTION_3(NAME)                                \
    static inline VALUE NAME(VALUE x, VALUE y, VALUE z) \
    {                                                   \
        VALUE all[] = {x, y, z};                        \
        return apply(FAD_##NAME, 3, all);               \
    }
#define OP(NAME, NUMPY, ARITY, ...) FUNCTION_##ARITY(NAME)
#include "ops.def"
#undef OP

#define K(c)  constant(w, (double)(c))
#define ZERO  constant(w, 0.0)
#define HALF  constant(w, 0.5)
#define ONE   constant(w, 1.0)
#define TWO   constant(w, 2.0)
#define NONE  constant(w, 0.0)

static VALUE partial(MAKER *w, int op, size_t k, VALUE X, VALUE Y, VALUE Z, VALUE V)
{
    (void)X;
    (void)Y;
    (void)Z;
    (void)V;
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, CELL, PX, PY, PZ, ...) \
    case FAD_##NAME:                                        \
        return k == 0 ? PX : k == 1 ? PY : PZ;
#include "ops.def"
#undef OP
    default:
        return ZERO;
    }
}
