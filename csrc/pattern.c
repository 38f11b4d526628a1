/* pattern.c: the 'pattern' reading of ops.def: which operands a partial depends on, and how many calls it makes. Every
 * call in a cell is the union of what its arguments use (low bits) and one more than their calls (high bits). */
#include "ops.h"

enum { USES = 15, CALL = 16 };

static inline unsigned join(unsigned x, unsigned y) { return ((x | y) & USES) + (x & ~(unsigned)USES) + (y & ~(unsigned)USES); }

#define FUNCTION_1(NAME) \
    static inline unsigned NAME(unsigned x) { return x + CALL; }
#define FUNCTION_2(NAME) \
    static inline unsigned NAME(unsigned x, unsigned y) { return join(x, y) + CALL; }
#define FUNCTION_3(NAME) \
    static inline unsigned NAME(unsigned x, unsigned y, unsigned z) { return join(join(x, y), z) + CALL; }
#define OP(NAME, NUMPY, ARITY, ...) FUNCTION_##ARITY(NAME)
#include "ops.def"
#undef OP

#define K(c)  0u
#define ZERO  0u
#define HALF  0u
#define ONE   0u
#define TWO   0u
#define NONE  0u

static unsigned pattern(int op, int k)
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

unsigned fad_partial_uses(int op, int k) { return pattern(op, k) & USES; }

unsigned fad_partial_calls(int op, int k) { return pattern(op, k) / CALL; }
