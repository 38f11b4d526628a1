/* extrema.c: kernels of MAX_TO and MIN_TO. */
#include <math.h>

#include "array.h"

enum { LANES = 32, FEW = 8 };

/* A NaN is better than anything, and stays. Without branches, so that the compiler vectorises them. */
#define LARGER(X, Y)  (((X) > (Y)) | ((X) != (X)))
#define SMALLER(X, Y) (((X) < (Y)) | ((X) != (X)))

/* The best of `count` elements, WIDTH at a time; the last ones are looked at twice. */
#define FOLD(WIDTH, T, BETTER)                                                              \
    T part[WIDTH];                                                                          \
    for (int k = 0; k < WIDTH; k++)                                                         \
        part[k] = x[k];                                                                     \
    for (ptrdiff_t i = WIDTH; i + WIDTH <= count; i += WIDTH)                               \
        MEET(WIDTH, BETTER, x + i)                                                          \
    MEET(WIDTH, BETTER, x + count - WIDTH)                                                  \
    for (int half = WIDTH / 2; half; half /= 2)                                             \
        MEET(half, BETTER, part + half)                                                     \
    return BETTER(part[0], best) ? part[0] : best;

#define MEET(N, BETTER, FROM)                                                               \
    for (int k = 0; k < (N); k++)                                                           \
        part[k] = BETTER((FROM)[k], part[k]) ? (FROM)[k] : part[k];

/* The same of floats, quickly: one comparison an element, which leaves a NaN out. One in the sum tells of it. Each step has
 * its own loop of a fixed length, which the compiler keeps in registers. */
#define FOLD_QUICKLY(WIDTH, T, ORDER)                                                       \
    T part[WIDTH], sum[WIDTH];                                                              \
    for (int k = 0; k < WIDTH; k++)                                                         \
        part[k] = sum[k] = x[k];                                                            \
    for (ptrdiff_t i = WIDTH; i + WIDTH <= count; i += WIDTH)                               \
        MEET_QUICKLY(WIDTH, ORDER, x + i, x + i)                                            \
    if (count % WIDTH)                                                                      \
        MEET_QUICKLY(WIDTH, ORDER, x + count - WIDTH, x + count - WIDTH)                    \
    if (WIDTH > 16)                                                                         \
        MEET_QUICKLY(16, ORDER, part + WIDTH / 2, sum + WIDTH / 2)                          \
    if (WIDTH > 8)                                                                          \
        MEET_QUICKLY(8, ORDER, part + 8, sum + 8)                                           \
    MEET_QUICKLY(4, ORDER, part + 4, sum + 4)                                               \
    MEET_QUICKLY(2, ORDER, part + 2, sum + 2)                                               \
    MEET_QUICKLY(1, ORDER, part + 1, sum + 1)                                               \
    *total = sum[0];                                                                        \
    return part[0] ORDER best ? part[0] : best;

#define MEET_QUICKLY(N, ORDER, FROM, TERMS)                                                 \
    for (int k = 0; k < (N); k++) {                                                         \
        part[k] = (FROM)[k] ORDER part[k] ? (FROM)[k] : part[k];                            \
        sum[k] += (TERMS)[k];                                                               \
    }

#define QUICKLY(NAME, T, ORDER)                                                             \
    FAD_SIMD static T NAME##_of_numbers(const T *x, ptrdiff_t count, T best, T *total)      \
    {                                                                                       \
        if (count >= LANES) {                                                               \
            FOLD_QUICKLY(LANES, T, ORDER)                                                   \
        }                                                                                   \
        FOLD_QUICKLY(FEW, T, ORDER)                                                         \
    }
QUICKLY(max_f64, double, >)
QUICKLY(max_f32, float, >)
QUICKLY(min_f64, double, <)
QUICKLY(min_f32, float, <)

/* A line of floats. */
#define FLOATS(NAME, T)                                                                     \
    static T NAME##_of_floats(const T *x, ptrdiff_t count, T best)                          \
    {                                                                                       \
        T total = best, found = best;                                                       \
        if (count >= FEW && best == best)                                                   \
            found = NAME##_of_numbers(x, count, best, &total);                              \
        return count >= FEW && total == total ? found : NAME##_of_line(x, count, best);     \
    }
#define NO_FLOATS(NAME, T)                                                                  \
    static T NAME##_of_floats(const T *x, ptrdiff_t count, T best) { return NAME##_of_line(x, count, best); }

#define EXTREMUM(NAME, T, BETTER, QUICK)                                                    \
    FAD_SIMD static T NAME##_of_line(const T *x, ptrdiff_t count, T best)                   \
    {                                                                                       \
        if (count >= LANES) {                                                               \
            FOLD(LANES, T, BETTER)                                                          \
        }                                                                                   \
        if (count >= FEW) {                                                                 \
            FOLD(FEW, T, BETTER)                                                            \
        }                                                                                   \
        for (ptrdiff_t i = 0; i < count; i++)                                               \
            best = BETTER(x[i], best) ? x[i] : best;                                        \
        return best;                                                                        \
    }                                                                                       \
    QUICK(NAME, T)                                                                          \
    FAD_SIMD static void NAME##_of_rows(T *restrict to, const T *restrict x, ptrdiff_t n)   \
    {                                                                                       \
        for (ptrdiff_t i = 0; i < n; i++)                                                   \
            to[i] = BETTER(x[i], to[i]) ? x[i] : to[i];                                     \
    }                                                                                       \
    static void NAME(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)   \
    {                                                                                       \
        const ptrdiff_t size = sizeof(T);                                                   \
        (void)context;                                                                      \
        if (steps[1] == size && steps[0] == 0) {                                            \
            *(T *)data[0] = NAME##_of_floats((const T *)data[1], count, *(const T *)data[0]); \
        } else if (steps[1] == size && steps[0] == size) {                                  \
            NAME##_of_rows((T *)data[0], (const T *)data[1], count);                        \
        } else {                                                                            \
            for (ptrdiff_t i = 0; i < count; i++) {                                         \
                T *to = (T *)(data[0] + i * steps[0]);                                      \
                const T *x = (const T *)(data[1] + i * steps[1]);                           \
                *to = BETTER(*x, *to) ? *x : *to;                                           \
            }                                                                               \
        }                                                                                   \
    }
EXTREMUM(max_f64, double, LARGER, FLOATS)
EXTREMUM(max_f32, float, LARGER, FLOATS)
EXTREMUM(max_i64, int64_t, LARGER, NO_FLOATS)
EXTREMUM(max_bool, uint8_t, LARGER, NO_FLOATS)
EXTREMUM(min_f64, double, SMALLER, FLOATS)
EXTREMUM(min_f32, float, SMALLER, FLOATS)
EXTREMUM(min_i64, int64_t, SMALLER, NO_FLOATS)
EXTREMUM(min_bool, uint8_t, SMALLER, NO_FLOATS)

static void fill(const fad_array *to, bool largest)
{
    size_t n = to->shape->size;
    for (size_t i = 0; i < n; i++)
        switch (to->dtype) {
        case FAD_F64:
            ((double *)to->data)[i] = largest ? -(double)INFINITY : (double)INFINITY;
            break;
        case FAD_F32:
            ((float *)to->data)[i] = largest ? -INFINITY : INFINITY;
            break;
        case FAD_I64:
            ((int64_t *)to->data)[i] = largest ? INT64_MIN : INT64_MAX;
            break;
        default:
            ((uint8_t *)to->data)[i] = !largest;
        }
}

void fad_extremum(const fad_array *to, const fad_array *from, bool largest)
{
    static const fad_nest_body bodies[2][FAD_DTYPE_COUNT] = {
        {min_f64, min_f32, min_i64, min_bool},
        {max_f64, max_f32, max_i64, max_bool},
    };
    const fad_array *arrays[] = {to, from};
    char *data[] = {to->data, from->data};
    fad_nest nest;
    fill(to, largest);
    fad_nest_init(&nest, from->shape, 2, arrays);
    fad_nest_run(&nest, data, bodies[largest][to->dtype], NULL);
}

/* --- ties --- */

/* Whether `x` takes part in the extremum `v`: equal to it, or a NaN as well (where `x` is one, `v` is). */
#define TIES(X, V) (((X) == (V)) | ((X) != (X)))

/* data: counts, x, extrema */
#define COUNT(NAME, T)                                                                        \
    FAD_SIMD static double NAME##_of_line(const T *x, T v, ptrdiff_t n)                       \
    {                                                                                         \
        int64_t count = 0;                                                                    \
        for (ptrdiff_t i = 0; i < n; i++)                                                     \
            count += TIES(x[i], v);                                                           \
        return (double)count;                                                                 \
    }                                                                                         \
    static void NAME(void *context, char **data, ptrdiff_t n, const ptrdiff_t *steps)         \
    {                                                                                         \
        (void)context;                                                                        \
        if (steps[0] == 0 && steps[1] == (ptrdiff_t)sizeof(T)) {                              \
            *(double *)data[0] += NAME##_of_line((const T *)data[1], *(const T *)data[2], n); \
            return;                                                                           \
        }                                                                                     \
        for (ptrdiff_t i = 0; i < n; i++) {                                                   \
            T x = *(const T *)(data[1] + i * steps[1]), v = *(const T *)(data[2] + i * steps[2]); \
            *(double *)(data[0] + i * steps[0]) += TIES(x, v);                                \
        }                                                                                     \
    }
COUNT(count_f64, double)
COUNT(count_f32, float)

/* data: shares (so far the counts), cotangents */
#define DIVIDE(NAME, T)                                                                       \
    static void NAME(void *context, char **data, ptrdiff_t n, const ptrdiff_t *steps)         \
    {                                                                                         \
        (void)context;                                                                        \
        for (ptrdiff_t i = 0; i < n; i++) {                                                   \
            double *share = (double *)(data[0] + i * steps[0]);                               \
            *share = *(const T *)(data[1] + i * steps[1]) / *share;                           \
        }                                                                                     \
    }
DIVIDE(divide_f64, double)
DIVIDE(divide_f32, float)

/* data: result, x, extrema, shares; context: whether to add to the result */
#define SHARE(NAME, T)                                                                                \
    FAD_SIMD static void NAME##_of_line(T *restrict to, const T *restrict x, T v, T share, ptrdiff_t n, bool add) \
    {                                                                                                 \
        if (add)                                                                                      \
            for (ptrdiff_t i = 0; i < n; i++)                                                         \
                to[i] += TIES(x[i], v) ? share : (T)0;                                                \
        else                                                                                          \
            for (ptrdiff_t i = 0; i < n; i++)                                                         \
                to[i] = TIES(x[i], v) ? share : (T)0;                                                 \
    }                                                                                                 \
    static void NAME(void *context, char **data, ptrdiff_t n, const ptrdiff_t *steps)                 \
    {                                                                                                 \
        const ptrdiff_t size = sizeof(T);                                                             \
        bool add = *(const bool *)context;                                                            \
        if (steps[0] == size && steps[1] == size && steps[2] == 0) {                                  \
            NAME##_of_line((T *)data[0], (const T *)data[1], *(const T *)data[2], (T)*(double *)data[3], n, add); \
            return;                                                                                   \
        }                                                                                             \
        for (ptrdiff_t i = 0; i < n; i++) {                                                           \
            T *to = (T *)(data[0] + i * steps[0]);                                                    \
            T x = *(const T *)(data[1] + i * steps[1]), v = *(const T *)(data[2] + i * steps[2]);     \
            T share = TIES(x, v) ? (T)*(const double *)(data[3] + i * steps[3]) : (T)0;               \
            *to = add ? *to + share : share;                                                          \
        }                                                                                             \
    }
SHARE(share_f64, double)
SHARE(share_f32, float)

static void run(const fad_shape *shape, size_t count, const fad_array *const *arrays, fad_nest_body body, void *context)
{
    char *data[FAD_MAX_OPERANDS];
    fad_nest nest;
    for (size_t k = 0; k < count; k++)
        data[k] = arrays[k]->data;
    fad_nest_init(&nest, shape, count, arrays);
    fad_nest_run(&nest, data, body, context);
}

void fad_extremum_shares(const fad_array *shares, const fad_array *g, const fad_array *extrema, const fad_array *x)
{
    const fad_array *ties[] = {shares, x, extrema}, *quotient[] = {shares, g};
    fad_fill_zero(shares);
    run(x->shape, 3, ties, x->dtype == FAD_F64 ? count_f64 : count_f32, NULL);
    run(shares->shape, 2, quotient, g->dtype == FAD_F64 ? divide_f64 : divide_f32, NULL);
}

void fad_extremum_share(const fad_array *to, const fad_array *x, const fad_array *extrema, const fad_array *shares,
                        bool add)
{
    const fad_array *all[] = {to, x, extrema, shares};
    run(x->shape, 4, all, x->dtype == FAD_F64 ? share_f64 : share_f32, &add);
}
