/* pairs.c: two instructions of a region as one loop: what the first computes goes to the second in a register, and never
 * to memory. Each rounds as its own loop does (kernels.c): a product is not fused with the sum of the other instruction. */
#include "kernels.h"

#if defined(__GNUC__)

#if defined(__x86_64__) && !defined(FAD_SANITIZE)
#define HAS_WIDE_VECTORS
#include <immintrin.h>
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off", "no-tree-scev-cprop") /* pointers are where a loop leaves them */
#endif

/* --- vectors ---
 *
 * ZMM and YMM round x*y + z once, XMM the product too. _WHERE_0: y where x is 0, else z. _SOME and _PUT: at most `count`
 * numbers of a vector, from and to memory that ends behind them. */

#define LANES(COUNT, NAME) \
    typedef double NAME __attribute__((vector_size(COUNT * sizeof(double)), aligned(sizeof(double)), may_alias));

LANES(2, XMM_LANES)
typedef int64_t xmm_bits __attribute__((vector_size(2 * sizeof(int64_t))));
#define XMM_TARGET
#define XMM_FMA(x, y, z) ((x) * (y) + (z))
#define XMM_WHERE_0(x, y, z) \
    ((XMM_LANES)(((xmm_bits)((x) == 0) & (xmm_bits)(y)) | (~(xmm_bits)((x) == 0) & (xmm_bits)(z))))
#define XMM_SOME(at, count) ((XMM_LANES){(at)[0], (count) > 1 ? (at)[1] : 0})
#define XMM_PUT(at, count, value) \
    ((at)[0] = (value)[0], (count) > 1 ? (void)((at)[1] = (value)[1]) : (void)0)

#if defined(HAS_WIDE_VECTORS)
LANES(4, YMM_LANES)
#define YMM_TARGET         __attribute__((target("avx2,fma")))
#define YMM_FMA(x, y, z)   ((YMM_LANES)_mm256_fmadd_pd((__m256d)(x), (__m256d)(y), (__m256d)(z)))
#define YMM_IS_0(x)        _mm256_cmp_pd((__m256d)(x), _mm256_setzero_pd(), _CMP_EQ_OQ)
#define YMM_WHERE_0(x, y, z)      ((YMM_LANES)_mm256_blendv_pd((__m256d)(z), (__m256d)(y), YMM_IS_0(x)))
#define YMM_FIRST(count)          _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_set_epi64x(3, 2, 1, 0))
#define YMM_SOME(at, count)       ((YMM_LANES)_mm256_maskload_pd(at, YMM_FIRST(count)))
#define YMM_PUT(at, count, value) _mm256_maskstore_pd(at, YMM_FIRST(count), (__m256d)(value))

LANES(8, ZMM_LANES)
#define ZMM_TARGET         __attribute__((target("avx512f,avx512dq,fma")))
#define ZMM_FMA(x, y, z)   ((ZMM_LANES)_mm512_fmadd_pd((__m512d)(x), (__m512d)(y), (__m512d)(z)))
#define ZMM_IS_0(x)        _mm512_cmp_pd_mask((__m512d)(x), _mm512_setzero_pd(), _CMP_EQ_OQ)
#define ZMM_WHERE_0(x, y, z)      ((ZMM_LANES)_mm512_mask_blend_pd(ZMM_IS_0(x), (__m512d)(z), (__m512d)(y)))
#define ZMM_FIRST(count)          ((__mmask8)((count) < 8 ? (1u << (count)) - 1 : 0xff))
#define ZMM_SOME(at, count)       ((ZMM_LANES)_mm512_maskz_loadu_pd(ZMM_FIRST(count), at))
#define ZMM_PUT(at, count, value) _mm512_mask_storeu_pd(at, ZMM_FIRST(count), (__m512d)(value))
#endif

/* --- instructions --- */

#define OF_NEG(SET, x, y, z)      (-(x))
#define OF_SQUARE(SET, x, y, z)   ((x) * (x))
#define OF_RECIPROCAL(SET, x, y, z) (1.0 / (x))
#define OF_ADD(SET, x, y, z)      ((x) + (y))
#define OF_SUB(SET, x, y, z)      ((x) - (y))
#define OF_MUL(SET, x, y, z)      ((x) * (y))
#define OF_ZMUL(SET, x, y, z)     SET##_WHERE_0(x, (SET##_LANES){0}, (x) * (y))
#define OF_MUL_ADD(SET, x, y, z)  SET##_FMA(x, y, z)
#define OF_MUL_SUB(SET, x, y, z)  SET##_FMA(x, y, -(z))
#define OF_SUB_MUL(SET, x, y, z)  SET##_FMA(-(x), y, z)
#define OF_ZMUL_ADD(SET, x, y, z) SET##_WHERE_0(x, z, SET##_FMA(x, y, z))

/* Operands, and the number by which an instruction is looked up. */
#define ROW_OF_OP(NAME, ARITY) ARITY_##NAME = ARITY, NUMBER_##NAME = FAD_##NAME
#define ROW_OF_CODE(NAME)      ARITY_##NAME = 3, NUMBER_##NAME = FAD_ELEMENTWISE_COUNT + FAD_DO_##NAME
enum {
    ROW_OF_OP(NEG, 1), ROW_OF_OP(SQUARE, 1), ROW_OF_OP(RECIPROCAL, 1), ROW_OF_OP(ADD, 2), ROW_OF_OP(SUB, 2),
    ROW_OF_OP(MUL, 2), ROW_OF_OP(ZMUL, 2), ROW_OF_CODE(MUL_ADD), ROW_OF_CODE(MUL_SUB), ROW_OF_CODE(SUB_MUL),
    ROW_OF_CODE(ZMUL_ADD)
};

/* Pairs that programs are full of: first, second, and which operand of the second the first's result is. */
#define PAIRS(PAIR, SET)                   \
    PAIR(SET, ADD,      ADD,        0)     \
    PAIR(SET, ADD,      SUB,        0)     \
    PAIR(SET, ADD,      MUL,        0)     \
    PAIR(SET, ADD,      ZMUL,       0)     \
    PAIR(SET, ADD,      MUL_ADD,    2)     \
    PAIR(SET, ADD,      SUB_MUL,    2)     \
    PAIR(SET, ADD,      RECIPROCAL, 0)     \
    PAIR(SET, SUB,      ADD,        0)     \
    PAIR(SET, SUB,      MUL,        0)     \
    PAIR(SET, MUL,      ADD,        0)     \
    PAIR(SET, MUL,      SUB,        0)     \
    PAIR(SET, MUL,      SUB,        1)     \
    PAIR(SET, MUL,      MUL,        0)     \
    PAIR(SET, MUL,      ZMUL,       1)     \
    PAIR(SET, MUL,      NEG,        0)     \
    PAIR(SET, MUL,      RECIPROCAL, 0)     \
    PAIR(SET, MUL,      MUL_ADD,    0)     \
    PAIR(SET, MUL,      MUL_ADD,    2)     \
    PAIR(SET, MUL,      MUL_SUB,    2)     \
    PAIR(SET, SQUARE,   MUL,        0)     \
    PAIR(SET, SQUARE,   SUB,        1)     \
    PAIR(SET, NEG,      ZMUL,       0)     \
    PAIR(SET, ZMUL,     ADD,        0)     \
    PAIR(SET, ZMUL,     MUL,        0)     \
    PAIR(SET, ZMUL,     ZMUL,       0)     \
    PAIR(SET, ZMUL,     NEG,        0)     \
    PAIR(SET, ZMUL,     MUL_ADD,    0)     \
    PAIR(SET, ZMUL,     MUL_ADD,    2)     \
    PAIR(SET, ZMUL,     ZMUL_ADD,   2)     \
    PAIR(SET, MUL_ADD,  ADD,        0)     \
    PAIR(SET, MUL_ADD,  MUL,        0)     \
    PAIR(SET, MUL_ADD,  MUL_ADD,    0)     \
    PAIR(SET, MUL_ADD,  MUL_ADD,    2)     \
    PAIR(SET, MUL_ADD,  SUB_MUL,    2)     \
    PAIR(SET, ZMUL_ADD, ADD,        0)     \
    PAIR(SET, ZMUL_ADD, MUL_ADD,    2)     \
    PAIR(SET, ZMUL_ADD, ZMUL_ADD,   2)

/* --- loops --- */

enum { BLOCK = 4 };     /* vectors, after which all pointers go on */

/* An operand. What does not advance is repeated in a block, to which the next step leads again. */
#define OPERAND(NAME, SET, USED, AT)                                                          \
    _Alignas(FAD_CACHE_LINE) SET##_LANES NAME##_repeated[BLOCK];                              \
    const double *NAME = (const double *)(const void *)args[(USED) ? (AT) : 0];               \
    const bool NAME##_runs = (USED) && steps[(USED) ? (AT) : 0] != 0;                         \
    const ptrdiff_t NAME##_step = NAME##_runs ? BLOCK * WIDTH : 0;                            \
    if (!NAME##_runs) { /* zeros for an operand that is not there */                          \
        const SET##_LANES all = ((USED) ? *NAME : 0.0) - (SET##_LANES){0};                    \
        NAME##_repeated[0] = NAME##_repeated[1] = NAME##_repeated[2] = NAME##_repeated[3] = all; \
        NAME = (const double *)(const void *)NAME##_repeated;                                 \
    }

/* Vector k of a block. */
#define WHOLE(SET, at)         (*(const SET##_LANES *)(const void *)(at))
#define PUT_WHOLE(SET, at, value) (*(SET##_LANES *)(void *)(at) = (value))
#define SOME(SET, at)          SET##_SOME(at, left)
#define PUT_SOME(SET, at, value) SET##_PUT(at, left, value)
#define BOTH(SET, FIRST, SECOND, AT, READ, WRITE, k)                                                        \
    {                                                                                                       \
        const ptrdiff_t go = (k) * WIDTH;                                                                   \
        const SET##_LANES a = READ(SET, x + go), b = READ(SET, y + go), c = READ(SET, z + go);              \
        const SET##_LANES made = OF_##FIRST(SET, a, b, c);                                                  \
        const SET##_LANES d = AT == 0 ? made : READ(SET, u + go), e = AT == 1 ? made : READ(SET, v + go);   \
        const SET##_LANES f = AT == 2 ? made : READ(SET, w + go);                                           \
        WRITE(SET, out + go, OF_##SECOND(SET, d, e, f));                                                    \
        (void)b, (void)c, (void)e, (void)f;                                                                 \
    }

#define LOOP(SET, FIRST, SECOND, AT)                                                                       \
    SET##_TARGET static void SET##_##FIRST##_##SECOND##_##AT(char **args, const ptrdiff_t *count,          \
                                                             const ptrdiff_t *steps, void *data)           \
    {                                                                                                      \
        enum { A = ARITY_##FIRST, B = ARITY_##SECOND, WIDTH = sizeof(SET##_LANES) / sizeof(double) };      \
        OPERAND(x, SET, true, 0)                                                                           \
        OPERAND(y, SET, A > 1, 1)                                                                          \
        OPERAND(z, SET, A > 2, 2)                                                                          \
        OPERAND(u, SET, AT != 0, A + 1)                                                                    \
        OPERAND(v, SET, B > 1 && AT != 1, A + 2)                                                           \
        OPERAND(w, SET, B > 2 && AT != 2, A + 3)                                                           \
        double *out = (double *)(void *)args[A + 1 + B];                                                   \
        ptrdiff_t left = *count;                                                                           \
        (void)data;                                                                                        \
        for (; left >= BLOCK * WIDTH; left -= BLOCK * WIDTH, out += BLOCK * WIDTH) {                       \
            BOTH(SET, FIRST, SECOND, AT, WHOLE, PUT_WHOLE, 0)                                              \
            BOTH(SET, FIRST, SECOND, AT, WHOLE, PUT_WHOLE, 1)                                              \
            BOTH(SET, FIRST, SECOND, AT, WHOLE, PUT_WHOLE, 2)                                              \
            BOTH(SET, FIRST, SECOND, AT, WHOLE, PUT_WHOLE, 3)                                              \
            x += x_step, y += y_step, z += z_step, u += u_step, v += v_step, w += w_step;                  \
        }                                                                                                  \
        _Pragma("GCC unroll 1") for (int k = 0; left > 0; left -= WIDTH, k++)                              \
            BOTH(SET, FIRST, SECOND, AT, SOME, PUT_SOME, k)                                                \
    }

#define NAME_OF(SET, FIRST, SECOND, AT) SET##_##FIRST##_##SECOND##_##AT,
PAIRS(LOOP, XMM)
static const fad_loop in_xmm[] = {PAIRS(NAME_OF, XMM)};
#if defined(HAS_WIDE_VECTORS)
PAIRS(LOOP, YMM)
PAIRS(LOOP, ZMM)
static const fad_loop in_ymm[] = {PAIRS(NAME_OF, YMM)}, in_zmm[] = {PAIRS(NAME_OF, ZMM)};
#endif

/* Whether the loop of x*y + z rounds once: the square of 1 + e, less 1 + 2 e. */
static bool products_are_fused(void)
{
    double x = 1 + 0x1p-30, less = -(1 + 0x1p-29), result = 0;
    char *args[] = {(char *)&x, (char *)&x, (char *)&less, (char *)&result};
    const ptrdiff_t one = 1, steps[] = {sizeof x, sizeof x, sizeof x, sizeof x};
    fad_fused_loop(FAD_DO_MUL_ADD, FAD_F64)(args, &one, steps, NULL);
    return result != 0;
}

/* Vectors as long as those of kernels.c: a processor slows down where they change. NULL: none that round alike. */
static const fad_loop *best_loops(void)
{
    if (!products_are_fused())
        return in_xmm;
#if defined(HAS_WIDE_VECTORS)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return in_zmm;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return in_ymm;
#endif
    return NULL;
}

fad_loop fad_pair_loop(int first, int second, int at)
{
#define ROW(SET, FIRST, SECOND, AT) {NUMBER_##FIRST, NUMBER_##SECOND, AT},
    static const struct {
        uint16_t first, second;
        int at;
    } rows[] = {PAIRS(ROW, )};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].first == first && rows[i].second == second && rows[i].at == at) {
            const fad_loop *loops = best_loops();
            return loops ? loops[i] : NULL;
        }
    return NULL;
}
#else
fad_loop fad_pair_loop(int first, int second, int at)
{
    (void)first, (void)second, (void)at;
    return NULL;
}
#endif
