/* exec_scalars.c: the interpreter of scalar instructions, made from ops.def. */
#include "exec.h"
#include "scalar.h"

/* Labels as values are an extension of C that GCC and Clang share. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"

void fad_run_scalars(const fad_scalar_instruction *i, size_t count, char *const *bases)
{
    static const void *const codes[FAD_SCALAR_COUNT] = {
#define OP(NAME, ...) &&NAME,
#include "ops.def"
#undef OP
        &&load, &&store, &&to_f32, &&to_i64, &&to_bool, &&mul_add, &&mul_sub, &&sub_mul, &&zmul_add,
    };
    const fad_scalar_instruction *end = i + count;
    double *w = (double *)bases[FAD_IN_WORKSPACE];

/* A jump of its own after each instruction: a processor predicts it by what follows that op (scalars.c has more). */
#define NEXT               \
    if (++i == end)        \
        return;            \
    goto *codes[i->op]

    if (count == 0)
        return;
    goto *codes[i->op];

#define VALUE_1(NAME) NAME(w[i->a])
#define VALUE_2(NAME) NAME(w[i->a], w[i->b])
#define VALUE_3(NAME) NAME(w[i->a], w[i->b], w[i->c])
#define OP(NAME, NUMPY, ARITY, ...)     \
NAME:                                   \
    w[i->to] = VALUE_##ARITY(NAME);     \
    NEXT;
#include "ops.def"
#undef OP

load:
    memcpy(&w[i->to], bases[i->a] + ((uint64_t)i->b << 32 | i->c), sizeof *w);
    NEXT;
store:
    memcpy(bases[i->a] + ((uint64_t)i->b << 32 | i->c), &w[i->to], sizeof *w);
    NEXT;
to_f32: {
    float f = (float)w[i->a];
    memcpy(&w[i->to], &f, sizeof f);
    NEXT;
}
to_i64: {
    int64_t n = (int64_t)w[i->a];
    memcpy(&w[i->to], &n, sizeof n);
    NEXT;
}
to_bool: {
    uint8_t truth = w[i->a] != 0;
    memcpy(&w[i->to], &truth, sizeof truth);
    NEXT;
}
mul_add:
    w[i->to] = MUL_ADD(w[i->a], w[i->b], w[i->c]);
    NEXT;
mul_sub:
    w[i->to] = MUL_SUB(w[i->a], w[i->b], w[i->c]);
    NEXT;
sub_mul:
    w[i->to] = SUB_MUL(w[i->a], w[i->b], w[i->c]);
    NEXT;
zmul_add:
    w[i->to] = ZMUL_ADD(w[i->a], w[i->b], w[i->c]);
    NEXT;
}
#pragma GCC diagnostic pop
