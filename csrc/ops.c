/* ops.c: the tables as data. */
#include "ops.h"

#include <math.h>

#include "scalar.h"

/* Operands of SELECT: the third lives in aux. */
#define AUX_OF_ARITY(n) ((n) == 3 ? FAD_AUX_NODE : FAD_AUX_NOTHING)
#define MANY FAD_MANY

const fad_op_info fad_ops[FAD_OP_COUNT] = {
#define TEXT(...) #__VA_ARGS__
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, PX, PY, PZ, DX, DY, SWAP, DOC) \
    {#NAME, NUMPY, ARITY, FAD_##KIND, AUX_OF_ARITY(ARITY), FAD_SWAP_##SWAP, #VALUE, {DX, DY}, {#PX, #PY, #PZ}, DOC},
#include "ops.def"
#undef OP
#define ST(NAME, SPELLED, OPERANDS, AUX, LINEAR, TRANSPOSE, DOC) \
    {#NAME, SPELLED, OPERANDS, FAD_STRUCTURAL, FAD_AUX_##AUX, FAD_SWAP_NO, "", {"", ""}, {TRANSPOSE, "", ""}, DOC},
#include "structural.def"
#undef ST
};

double fad_constant_partial(int op, int k)
{
    if (op < 0 || op >= FAD_ELEMENTWISE_COUNT || k < 0 || k >= fad_ops[op].arity)
        return NAN;
    return fad_partial_uses(op, k) ? NAN : fad_scalar_partial(op, k, NAN, NAN, NAN, NAN);
}
