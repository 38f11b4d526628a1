/* exec_repeat.c: the interpreter of REPEAT steps, made from ops.def.
 *
 * A run has its own copy of the body, in which operands are addresses: after each iteration those that move are moved.
 * The result of the instruction before is at hand in a register: no wait for it to come back from memory. */
#include "exec.h"
#include "scalar.h"

/* Labels as values are an extension of C that GCC and Clang share. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"

/* An instruction in the iteration at hand. */
typedef struct {
    const void *code;
    char *to, *operands[3];
} placed;

/* An address that moves. */
typedef struct {
    char **address;
    ptrdiff_t stride;
} mover;

static char *place(const fad_moving *at, char *const *bases, char **address, mover **movers)
{
    if (at->stride) {
        mover m = {address, (ptrdiff_t)at->stride};
        *(*movers)++ = m;
    }
    return bases[at->base] + at->offset;
}

fad_status fad_run_repeat(const fad_repeated *body, size_t count, uint64_t n, char *const *bases, char *room)
{
/* By the set of operands that are the result before; all from memory will always do. */
#define CODES_1(NAME) {&&NAME##_0, &&NAME##_1}
#define CODES_2(NAME) {&&NAME##_0, &&NAME##_1, &&NAME##_2, &&NAME##_3}
#define CODES_3(NAME) {&&NAME##_0}
#define CODES_FUSED(NAME) {&&NAME##_0, &&NAME##_1, &&NAME##_2, &&NAME##_3, &&NAME##_4}
    static const void *const codes[FAD_SCALAR_COUNT][8] = {
#define OP(NAME, NUMPY, ARITY, ...) CODES_##ARITY(NAME),
#include "ops.def"
#undef OP
        [FAD_SCALAR_MUL_ADD] = CODES_FUSED(MUL_ADD),
        [FAD_SCALAR_MUL_SUB] = CODES_FUSED(MUL_SUB),
        [FAD_SCALAR_SUB_MUL] = CODES_FUSED(SUB_MUL),
        [FAD_SCALAR_ZMUL_ADD] = CODES_FUSED(ZMUL_ADD),
    };
    placed *first = (placed *)(void *)room, *i = first;
    mover *movers = (mover *)(void *)(first + count + 1), *end = movers;
    double v = 0;
    if (n == 0)
        return FAD_OK;
    for (size_t k = 0; k < count; k++, i++) {
        const fad_repeated *r = &body[k];
        i->code = codes[r->op][r->chained & 7];
        if (!i->code)
            i->code = codes[r->op][0];
        if (!i->code)
            return FAD_BAD_OPERAND;
        i->to = place(&r->to, bases, &i->to, &end);
        for (int j = 0; j < r->count; j++)
            i->operands[j] = place(&r->operands[j], bases, &i->operands[j], &end);
    }
    i->code = &&turn;
    for (int j = 0; j < body->count; j++)
        if (body->chained >> j & 1)
            memcpy(&v, first->operands[j], sizeof v);
    i = first;

#define NEXT i++; goto *i->code
#define AT(K) (*(const double *)(const void *)i->operands[K])
#define CODE(NAME, CHAINED, VALUE)      \
NAME##_##CHAINED:                       \
    v = VALUE;                          \
    *(double *)(void *)i->to = v;       \
    NEXT;
#define CODE_1(NAME) CODE(NAME, 0, NAME(AT(0))) CODE(NAME, 1, NAME(v))
#define CODE_2(NAME)                                                \
    CODE(NAME, 0, NAME(AT(0), AT(1))) CODE(NAME, 1, NAME(v, AT(1))) \
    CODE(NAME, 2, NAME(AT(0), v)) CODE(NAME, 3, NAME(v, v))
#define CODE_3(NAME) CODE(NAME, 0, NAME(AT(0), AT(1), AT(2)))
#define CODE_FUSED(NAME)                                                          \
    CODE(NAME, 0, NAME(AT(0), AT(1), AT(2))) CODE(NAME, 1, NAME(v, AT(1), AT(2))) \
    CODE(NAME, 2, NAME(AT(0), v, AT(2))) CODE(NAME, 3, NAME(v, v, AT(2)))         \
    CODE(NAME, 4, NAME(AT(0), AT(1), v))

    goto *i->code;
#define OP(NAME, NUMPY, ARITY, ...) CODE_##ARITY(NAME)
#include "ops.def"
#undef OP
    CODE_FUSED(MUL_ADD)
    CODE_FUSED(MUL_SUB)
    CODE_FUSED(SUB_MUL)
    CODE_FUSED(ZMUL_ADD)

turn:
    if (--n == 0)
        return FAD_OK;
    for (const mover *m = movers; m < end; m++)
        *m->address += m->stride;
    i = first;
    goto *i->code;
}
#pragma GCC diagnostic pop
