/* vector_math.c: transcendental functions of whole vectors from the C library's libmvec, where it is there: good to 4
 * units in the last place, special values as the scalar functions. A row of ops.def whose value is one call, like
 * sin(x) or pow(x, y), asks for the vector function of that name. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "kernels.h"

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(FAD_SANITIZE)
#include <dlfcn.h>
#include <immintrin.h>
#include <stdio.h>

typedef __m512d (*unary_8)(__m512d);
typedef __m512d (*binary_8)(__m512d, __m512d);
typedef __m256d (*unary_4)(__m256d);
typedef __m256d (*binary_4)(__m256d, __m256d);

/* What lies beyond the end of a run is computed as 1, which is no special case of any function. */
__attribute__((target("avx512f"))) static __m512d load_8(const double *p, ptrdiff_t step, ptrdiff_t left)
{
    if (step == 0)
        return _mm512_set1_pd(*p);
    if (left >= 8)
        return _mm512_loadu_pd(p);
    return _mm512_mask_loadu_pd(_mm512_set1_pd(1.0), (__mmask8)((1u << left) - 1), p);
}

__attribute__((target("avx512f"))) static void store_8(double *p, __m512d value, ptrdiff_t left)
{
    if (left >= 8)
        _mm512_storeu_pd(p, value);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)((1u << left) - 1), value);
}

__attribute__((target("avx512f"))) static void run_unary_8(char **args, const ptrdiff_t *count, const ptrdiff_t *steps,
                                                             void *data)
{
    unary_8 f = __extension__(unary_8)data;
    const double *x = (const double *)args[0];
    double *out = (double *)args[1];
    for (ptrdiff_t i = 0; i < *count; i += 8)
        store_8(out + i, f(load_8(steps[0] ? x + i : x, steps[0], *count - i)), *count - i);
}

__attribute__((target("avx512f"))) static void run_binary_8(char **args, const ptrdiff_t *count,
                                                              const ptrdiff_t *steps, void *data)
{
    binary_8 f = __extension__(binary_8)data;
    const double *x = (const double *)args[0], *y = (const double *)args[1];
    double *out = (double *)args[2];
    for (ptrdiff_t i = 0; i < *count; i += 8) {
        __m512d a = load_8(steps[0] ? x + i : x, steps[0], *count - i);
        __m512d b = load_8(steps[1] ? y + i : y, steps[1], *count - i);
        store_8(out + i, f(a, b), *count - i);
    }
}

__attribute__((target("avx2"))) static __m256d load_4(const double *p, ptrdiff_t step, ptrdiff_t left)
{
    if (step == 0)
        return _mm256_set1_pd(*p);
    if (left >= 4)
        return _mm256_loadu_pd(p);
    double rest[4] = {1.0, 1.0, 1.0, 1.0};
    memcpy(rest, p, (size_t)left * sizeof *p);
    return _mm256_loadu_pd(rest);
}

__attribute__((target("avx2"))) static void store_4(double *p, __m256d value, ptrdiff_t left)
{
    double all[4];
    _mm256_storeu_pd(all, value);
    memcpy(p, all, (size_t)(left < 4 ? left : 4) * sizeof *p);
}

__attribute__((target("avx2"))) static void run_unary_4(char **args, const ptrdiff_t *count, const ptrdiff_t *steps,
                                                          void *data)
{
    unary_4 f = __extension__(unary_4)data;
    const double *x = (const double *)args[0];
    double *out = (double *)args[1];
    for (ptrdiff_t i = 0; i < *count; i += 4)
        store_4(out + i, f(load_4(steps[0] ? x + i : x, steps[0], *count - i)), *count - i);
}

__attribute__((target("avx2"))) static void run_binary_4(char **args, const ptrdiff_t *count, const ptrdiff_t *steps,
                                                           void *data)
{
    binary_4 f = __extension__(binary_4)data;
    const double *x = (const double *)args[0], *y = (const double *)args[1];
    double *out = (double *)args[2];
    for (ptrdiff_t i = 0; i < *count; i += 4) {
        __m256d a = load_4(steps[0] ? x + i : x, steps[0], *count - i);
        __m256d b = load_4(steps[1] ? y + i : y, steps[1], *count - i);
        store_4(out + i, f(a, b), *count - i);
    }
}

/* The name of the only function that `value` calls, with (x) or (x, y). */
static bool called_function(const char *value, size_t arity, char *name, size_t room)
{
    size_t n = strcspn(value, "(");
    if (n == 0 || n >= room || strcmp(value + n, arity == 1 ? "(x)" : "(x, y)") != 0)
        return false;
    memcpy(name, value, n);
    name[n] = 0;
    return true;
}

bool fad_vector_loop(int op, fad_bound_loop *out)
{
    char function[32], symbol[64];
    size_t arity = fad_ops[op].arity;
    if (arity > 2 || !called_function(fad_ops[op].value, arity, function, sizeof function))
        return false;
    __builtin_cpu_init();
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    if (!wide && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
        return false;
    /* The library stays loaded: opening it again is a look-up. */
    void *library = dlopen("libmvec.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
    snprintf(symbol, sizeof symbol, "_ZGV%s%s_%s", wide ? "eN8" : "dN4", arity == 1 ? "v" : "vv", function);
    out->data = dlsym(library, symbol);
    out->loop = arity == 1 ? (wide ? run_unary_8 : run_unary_4) : (wide ? run_binary_8 : run_binary_4);
    return out->data != NULL;
}
#else
bool fad_vector_loop(int op, fad_bound_loop *out)
{
    (void)op;
    (void)out;
    return false;
}
#endif
