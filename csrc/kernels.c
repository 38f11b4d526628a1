/* kernels.c: inner loops that NumPy has no ufunc for: products fused with sums, strong-zero products. One body, built
 * for several instruction sets; where there is no fused multiply-add, the product is rounded before the sum. */
#include "kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif

/* The operands that do not advance become numbers, so that each case is a loop which the compiler vectorises. */
#define CASES(T, EXPRESSION)                                                                              \
    const ptrdiff_t size = sizeof(T), n = *count;                                                         \
    T *restrict out = (T *)args[3];                                                                       \
    const T *restrict xs = (const T *)args[0], *restrict ys = (const T *)args[1], *restrict zs = (const T *)args[2]; \
    const bool x_runs = steps[0] == size, y_runs = steps[1] == size, z_runs = steps[2] == size;           \
    if (x_runs && y_runs && z_runs) {                                                                     \
        for (ptrdiff_t i = 0; i < n; i++) {                                                               \
            T x = xs[i], y = ys[i], z = zs[i];                                                            \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (x_runs && z_runs) {                                                                        \
        const T y = *ys;                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                               \
            T x = xs[i], z = zs[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (y_runs && z_runs) {                                                                        \
        const T x = *xs;                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                               \
            T y = ys[i], z = zs[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else if (x_runs && y_runs) {                                                                        \
        const T z = *zs;                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                               \
            T x = xs[i], y = ys[i];                                                                       \
            out[i] = EXPRESSION;                                                                          \
        }                                                                                                 \
    } else {                                                                                              \
        const ptrdiff_t sx = x_runs, sy = y_runs, sz = z_runs;                                            \
        for (ptrdiff_t i = 0; i < n; i++) {                                                               \
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

fad_loop fad_fused_loop(int code, int dtype)
{
    bool wide = dtype == FAD_F64;
    return code == FAD_DO_MUL_ADD   ? (wide ? mul_add_f64 : mul_add_f32)
           : code == FAD_DO_MUL_SUB ? (wide ? mul_sub_f64 : mul_sub_f32)
                                    : (wide ? sub_mul_f64 : sub_mul_f32);
}
