/* pattern.c: the 'pattern' reading of ops.def: which operands a partial depends on. Every call in a cell is the union of
 * what its arguments use. */
#include "ops.h"

#define FUNCTION_1(NAME) \
    static inline unsigned NAME(unsigned x) { return x; }
#define FUNCTION_2(NAME) \
    static inline unsigned NAME(unsigned x, unsigned y) { return x | y; }
#define FUNCTION_3(NAME) \
    static inline unsigned NAME(unsigned x, unsigned y, unsigned z) { return x | y | z; }
#define OP(NAME, NUMPY, ARITY, ...) FUNCTION_##ARITY(NAME)
#include "ops.def"
#undef OP

#define K(c)  0u
#define ZERO  0u
#define HALF  0u
#define ONE   0u
#define TWO   0u
#define NONE  0u

unsigned fad_partial_uses(int op, int k)
{
    const unsigned X = FAD_USES_X, Y = FAD_USES_Y, Z = FAD_USES_Z, V = FAD_USES_V;
    (void)X;
    (void)Y;
    (void)Z;
    (void)V;
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, PX, PY, PZ, ...) \
    case FAD_##NAME:                                         \
        return k == 0 ? (PX) : k == 1 ? (PY) : (PZ);
#include "ops.def"
#undef OP
    default:
        return 0;
    }
}
