/* loops.c: the portable inner loops, made from ops.def. A host that has faster ones replaces them. */
#include "array.h"
#include "scalar.h"


#define ARGUMENT(T, k) ((double)*(const T *)(args[k] + i * steps[k]))
#define BODY_1(T, NAME, R) *(R *)(args[1] + i * steps[1]) = (R)NAME(ARGUMENT(T, 0))
#define BODY_2(T, NAME, R) *(R *)(args[2] + i * steps[2]) = (R)NAME(ARGUMENT(T, 0), ARGUMENT(T, 1))
#define BODY_3(T, NAME, R) *(R *)(args[3] + i * steps[3]) = (R)NAME(ARGUMENT(uint8_t, 0), ARGUMENT(T, 1), ARGUMENT(T, 2))

#define LOOP(SUFFIX, T, R, NAME, ARITY)                                                               \
    static void NAME##_##SUFFIX(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data) \
    {                                                                                                 \
        (void)data;                                                                                   \
        for (ptrdiff_t i = 0; i < *count; i++)                                                        \
            BODY_##ARITY(T, NAME, R);                                                                 \
    }

/* Predicates give a byte for operands of any type, the others their operands' floating type. */
#define LOOPS_OF_VALUE(NAME, ARITY) LOOP(f64, double, double, NAME, ARITY) LOOP(f32, float, float, NAME, ARITY)
#define LOOPS_OF_LINEAR   LOOPS_OF_VALUE
#define LOOPS_OF_BILINEAR LOOPS_OF_VALUE
#define LOOPS_OF_SMOOTH   LOOPS_OF_VALUE
#define LOOPS_OF_KINK     LOOPS_OF_VALUE
#define LOOPS_OF_FLAT     LOOPS_OF_VALUE
#define LOOPS_OF_PREDICATE(NAME, ARITY)                                           \
    LOOP(f64, double, uint8_t, NAME, ARITY) LOOP(f32, float, uint8_t, NAME, ARITY) \
    LOOP(i64, int64_t, uint8_t, NAME, ARITY) LOOP(bool, uint8_t, uint8_t, NAME, ARITY)

#define OP(NAME, NUMPY, ARITY, KIND, ...) LOOPS_OF_##KIND(NAME, ARITY)
#include "ops.def"
#undef OP

/* Strong-zero product, without a branch so that the compiler vectorises it. */
#define ZMUL_LOOP(SUFFIX, T)                                                                            \
    static void zmul_##SUFFIX(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data)  \
    {                                                                                                   \
        (void)data;                                                                                     \
        ptrdiff_t n = *count;                                                                           \
        const ptrdiff_t size = sizeof(T);                                                               \
        if (steps[0] == size && steps[1] == size && steps[2] == size) {                                 \
            const T *x = (const T *)args[0], *y = (const T *)args[1];                                   \
            T *z = (T *)args[2];                                                                        \
            for (ptrdiff_t i = 0; i < n; i++) {                                                         \
                T product = x[i] * y[i];                                                                \
                z[i] = x[i] == 0 ? 0 : product;                                                         \
            }                                                                                           \
            return;                                                                                     \
        }                                                                                               \
        for (ptrdiff_t i = 0; i < n; i++) {                                                             \
            T x = *(const T *)(args[0] + i * steps[0]), y = *(const T *)(args[1] + i * steps[1]);       \
            *(T *)(args[2] + i * steps[2]) = x == 0 ? 0 : x * y;                                        \
        }                                                                                               \
    }
ZMUL_LOOP(f64, double)
ZMUL_LOOP(f32, float)

#define MATMUL_LOOP(SUFFIX, T)                                                                           \
    static void matmul_##SUFFIX(char **args, const ptrdiff_t *counts, const ptrdiff_t *steps, void *data) \
    {                                                                                                    \
        (void)data;                                                                                      \
        for (ptrdiff_t s = 0; s < counts[0]; s++)                                                        \
            for (ptrdiff_t i = 0; i < counts[1]; i++)                                                    \
                for (ptrdiff_t j = 0; j < counts[3]; j++) {                                              \
                    T sum = 0;                                                                           \
                    const char *x = args[0] + s * steps[0] + i * steps[3];                               \
                    const char *y = args[1] + s * steps[1] + j * steps[6];                               \
                    for (ptrdiff_t k = 0; k < counts[2]; k++)                                            \
                        sum += *(const T *)(x + k * steps[4]) * *(const T *)(y + k * steps[5]);          \
                    *(T *)(args[2] + s * steps[2] + i * steps[7] + j * steps[8]) = sum;                  \
                }                                                                                        \
    }
MATMUL_LOOP(f64, double)
MATMUL_LOOP(f32, float)

void fad_default_loops(fad_loops *loops)
{
    memset(loops, 0, sizeof *loops);
    for (int op = 0; op < FAD_ELEMENTWISE_COUNT; op++)
        for (int k = 0; k < 3; k++) {
            loops->constant_partial[op][k] = fad_constant_partial(op, k);
            loops->partial_uses[op][k] = (uint8_t)fad_partial_uses(op, k);
        }
#define SET(NAME, DTYPE, SUFFIX) loops->elementwise[FAD_##NAME][DTYPE].loop = NAME##_##SUFFIX
#define SET_VALUE(NAME) SET(NAME, FAD_F64, f64), SET(NAME, FAD_F32, f32)
#define SET_LINEAR    SET_VALUE
#define SET_BILINEAR  SET_VALUE
#define SET_SMOOTH    SET_VALUE
#define SET_KINK      SET_VALUE
#define SET_FLAT      SET_VALUE
#define SET_PREDICATE(NAME) SET_VALUE(NAME), SET(NAME, FAD_I64, i64), SET(NAME, FAD_BOOL, bool)
#define OP(NAME, NUMPY, ARITY, KIND, ...) SET_##KIND(NAME);
#include "ops.def"
#undef OP
    loops->elementwise[FAD_ZMUL][FAD_F64].loop = zmul_f64;
    loops->elementwise[FAD_ZMUL][FAD_F32].loop = zmul_f32;
    loops->matmul[FAD_F64].loop = matmul_f64;
    loops->matmul[FAD_F32].loop = matmul_f32;
}
