/* kernels.c: arithmetic of a program's strips: rows of the table, and products fused with sums. One body, built for
 * several instruction sets; where there is no fused multiply-add, the product is rounded before the sum. */
#include "kernels.h"
#include "scalar.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif

/* Element by element, four vectors at a time. The result may be where an operand is. */
#define EACH _Pragma("GCC unroll 4") _Pragma("GCC ivdep") for (ptrdiff_t i = 0; i < n; i++)

/* --- products fused with sums --- */

/* The operands that do not advance become numbers, so that each case is a loop which the compiler vectorises. */
#define CASES(T, EXPRESSION)                                                                              \
    const ptrdiff_t size = sizeof(T), n = *count;                                                         \
    T *restrict out = (T *)args[3];                                                                       \
    const T *restrict xs = (const T *)args[0], *restrict ys = (const T *)args[1], *restrict zs = (const T *)args[2]; \
    const bool x_runs = steps[0] == size, y_runs = steps[1] == size, z_runs = steps[2] == size;           \
    if (x_runs && y_runs && z_runs) {                                                                     \
        EACH {                                                                                            \
            T x = xs[i], y = ys[i], z = zs[i];                                                            \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (x_runs && z_runs) {                                                                        \
        const T y = *ys;                                                                                  \
        EACH {                                                                                            \
            T x = xs[i], z = zs[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (y_runs && z_runs) {                                                                        \
        const T x = *xs;                                                                                  \
        EACH {                                                                                            \
            T y = ys[i], z = zs[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (x_runs && y_runs) {                                                                        \
        const T z = *zs;                                                                                  \
        EACH {                                                                                            \
            T x = xs[i], y = ys[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else {                                                                                              \
        const ptrdiff_t sx = x_runs, sy = y_runs, sz = z_runs;                                            \
        EACH {                                                                                            \
            T x = xs[i * sx], y = ys[i * sy], z = zs[i * sz];                                             \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    }

#define KERNEL(NAME, T, EXPRESSION)                                                                       \
    FAD_SIMD static void NAME(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data)    \
    {                                                                                                     \
        (void)data;                                                                                       \
        CASES(T, EXPRESSION)                                                                              \
    }

KERNEL(mul_add_f64, double, x * y + z)
KERNEL(mul_add_f32, float, x * y + z)
KERNEL(mul_sub_f64, double, x * y - z)
KERNEL(mul_sub_f32, float, x * y - z)
KERNEL(sub_mul_f64, double, z - x * y)
KERNEL(sub_mul_f32, float, z - x * y)
KERNEL(zmul_add_f64, double, x == 0 ? z : x * y + z)
KERNEL(zmul_add_f32, float, x == 0 ? z : x * y + z)
KERNEL(zmul_sub_f64, double, x == 0 ? -z : x * y - z)
KERNEL(zmul_sub_f32, float, x == 0 ? -z : x * y - z)
KERNEL(sub_zmul_f64, double, x == 0 ? z : z - x * y)
KERNEL(sub_zmul_f32, float, x == 0 ? z : z - x * y)

/* --- rows of ops.def that are plain arithmetic: LINEAR and BILINEAR ones of one or two operands --- */

#define BINARY(NAME, VALUE)                                                                            \
    FAD_SIMD static void NAME(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data) \
    {                                                                                                  \
        (void)data;                                                                                    \
        const ptrdiff_t size = sizeof(double), n = *count;                                             \
        double *out = (double *)args[2];                                                               \
        const double *xs = (const double *)args[0], *ys = (const double *)args[1];                     \
        if (steps[0] == size && steps[1] == size) {                                                    \
            EACH {                                                                                     \
                const double x = xs[i], y = ys[i];                                                     \
                out[i] = VALUE;                                                                        \
            }                                                                                          \
        } else if (steps[0] == size) {                                                                 \
            const double y = *ys;                                                                      \
            EACH {                                                                                     \
                const double x = xs[i];                                                                \
                out[i] = VALUE;                                                                        \
            }                                                                                          \
        } else if (steps[1] == size) {                                                                 \
            const double x = *xs;                                                                      \
            EACH {                                                                                     \
                const double y = ys[i];                                                                \
                out[i] = VALUE;                                                                        \
            }                                                                                          \
        } else {                                                                                       \
            const double x = *xs, y = *ys, value = VALUE;                                              \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = value;                                                                        \
        }                                                                                              \
    }
#define UNARY(NAME, VALUE)                                                                             \
    FAD_SIMD static void NAME(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data) \
    {                                                                                                  \
        (void)data;                                                                                    \
        const ptrdiff_t n = *count;                                                                    \
        double *out = (double *)args[1];                                                               \
        const double *xs = (const double *)args[0];                                                    \
        if (steps[0]) {                                                                                \
            EACH {                                                                                     \
                const double x = xs[i];                                                                \
                out[i] = VALUE;                                                                        \
            }                                                                                          \
        } else {                                                                                       \
            const double x = *xs, value = VALUE;                                                       \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = value;                                                                        \
        }                                                                                              \
    }
#define ARITHMETIC_1 UNARY
#define ARITHMETIC_2 BINARY
#define ARITHMETIC_3(NAME, VALUE)
#define NO_ARITHMETIC(ARITY, NAME, VALUE)
#define IS_ARITHMETIC(ARITY, NAME, VALUE) ARITHMETIC_##ARITY(NAME##_f64, (VALUE))
#define LOOP_OF_LINEAR    IS_ARITHMETIC
#define LOOP_OF_BILINEAR  IS_ARITHMETIC
#define LOOP_OF_SMOOTH    NO_ARITHMETIC
#define LOOP_OF_KINK      NO_ARITHMETIC
#define LOOP_OF_FLAT      NO_ARITHMETIC
#define LOOP_OF_PREDICATE NO_ARITHMETIC
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, ...) LOOP_OF_##KIND(ARITY, NAME, VALUE)
#include "ops.def"
#undef OP

/* Of the other kinds, rows that are rounded correctly whoever computes them. */
#define EXACT_ROWS(ROW) ROW(1, SQUARE) ROW(1, RECIPROCAL) ROW(1, SQRT) ROW(1, ABS) ROW(2, DIV)
#define EXACT_1(NAME) UNARY(NAME##_f64, NAME(x))
#define EXACT_2(NAME) BINARY(NAME##_f64, NAME(x, y))
#define EXACT_LOOP(ARITY, NAME) EXACT_##ARITY(NAME)
EXACT_ROWS(EXACT_LOOP)

/* --- choices --- */

#define CHOICE(Y, Z) \
    EACH             \
        out[i] = which[i] ? (Y) : (Z)

#define SELECT_KERNEL(NAME, T)                                                                         \
    FAD_SIMD static void NAME(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data) \
    {                                                                                                  \
        (void)data;                                                                                    \
        const ptrdiff_t size = sizeof(T), n = *count;                                                  \
        const uint8_t *which = (const uint8_t *)args[0];                                               \
        const T *ys = (const T *)args[1], *zs = (const T *)args[2];                                    \
        T *out = (T *)args[3];                                                                         \
        const bool y_runs = steps[1] == size, z_runs = steps[2] == size;                               \
        const T y = n ? *ys : 0, z = n ? *zs : 0;                                                      \
        if (steps[0] == 0) {                                                                           \
            const bool first = n && *which;                                                            \
            const T *from = first ? ys : zs;                                                           \
            const ptrdiff_t step = first ? y_runs : z_runs;                                            \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = from[i * step];                                                               \
        } else if (y_runs && z_runs) {                                                                 \
            CHOICE(ys[i], zs[i]);                                                                      \
        } else if (y_runs) {                                                                           \
            CHOICE(ys[i], z);                                                                          \
        } else if (z_runs) {                                                                           \
            CHOICE(y, zs[i]);                                                                          \
        } else {                                                                                       \
            CHOICE(y, z);                                                                              \
        }                                                                                              \
    }
SELECT_KERNEL(select_f64, double)
SELECT_KERNEL(select_f32, float)

/* --- ties for an extremum --- */

#define TIES_KERNEL(NAME, T)                                                                           \
    FAD_SIMD static void NAME(char **args, const ptrdiff_t *count, const ptrdiff_t *steps, void *data) \
    {                                                                                                  \
        (void)data;                                                                                    \
        const ptrdiff_t size = sizeof(T), n = *count;                                                  \
        const T *xs = (const T *)args[0], *ys = (const T *)args[1];                                    \
        uint8_t *restrict out = (uint8_t *)args[2];                                                    \
        if (steps[0] == size && steps[1] == size) {                                                    \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = (xs[i] == ys[i]) | (xs[i] != xs[i]);                                          \
        } else if (steps[0] == size) {                                                                 \
            const T y = n ? *ys : 0;                                                                   \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = (xs[i] == y) | (xs[i] != xs[i]);                                              \
        } else {                                                                                       \
            const ptrdiff_t step = steps[1] == size;                                                   \
            const T x = n ? *xs : 0;                                                                   \
            for (ptrdiff_t i = 0; i < n; i++)                                                          \
                out[i] = (x == ys[i * step]) | (x != x);                                               \
        }                                                                                              \
    }
TIES_KERNEL(ties_f64, double)
TIES_KERNEL(ties_f32, float)

static fad_loop arithmetic_loop(int op)
{
#define CASE_1(NAME) return NAME##_f64;
#define CASE_2(NAME) return NAME##_f64;
#define CASE_3(NAME) return NULL;
#define IS_CASE(ARITY, NAME) CASE_##ARITY(NAME)
#define NO_CASE(ARITY, NAME) return NULL;
#define CASE_OF_LINEAR    IS_CASE
#define CASE_OF_BILINEAR  IS_CASE
#define CASE_OF_SMOOTH    NO_CASE
#define CASE_OF_KINK      NO_CASE
#define CASE_OF_FLAT      NO_CASE
#define CASE_OF_PREDICATE NO_CASE
#define EXACT_CASE(ARITY, NAME) \
    if (op == FAD_##NAME)       \
        return NAME##_f64;
    EXACT_ROWS(EXACT_CASE)
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, ...) \
    case FAD_##NAME:                      \
        CASE_OF_##KIND(ARITY, NAME)
#include "ops.def"
#undef OP
    default:
        return NULL;
    }
}

bool fad_own_loop(int op, int dtype, bool strict, fad_bound_loop *out)
{
    bool wide = dtype == FAD_F64;
    fad_loop loop = !fad_is_float(dtype) ? NULL
                    : op == FAD_SELECT   ? (wide ? select_f64 : select_f32)
                    : op == FAD_TIES     ? (wide ? ties_f64 : ties_f32)
                                         : NULL;
    if (!wide && !loop)
        return false;
    loop = loop ? loop : arithmetic_loop(op);
    if (loop) {
        out->loop = loop;
        out->data = NULL;
        return true;
    }
    return !strict && fad_vector_loop(op, out);
}

fad_loop fad_fused_loop(int code, int dtype)
{
    bool wide = dtype == FAD_F64;
    return code == FAD_DO_MUL_ADD   ? (wide ? mul_add_f64 : mul_add_f32)
           : code == FAD_DO_MUL_SUB ? (wide ? mul_sub_f64 : mul_sub_f32)
           : code == FAD_DO_SUB_MUL ? (wide ? sub_mul_f64 : sub_mul_f32)
           : code == FAD_DO_ZMUL_ADD ? (wide ? zmul_add_f64 : zmul_add_f32)
           : code == FAD_DO_ZMUL_SUB ? (wide ? zmul_sub_f64 : zmul_sub_f32)
                                     : (wide ? sub_zmul_f64 : sub_zmul_f32);
}
