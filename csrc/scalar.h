/* scalar.h: the 'numbers' reading of ops.def: value and partials of scalars, as plain C. */
#ifndef FAD_SCALAR_H
#define FAD_SCALAR_H

#include <float.h>
#include <math.h>
#include <stddef.h>

#include "ops.h"

/* --- functions of NumPy that C's library lacks, with NumPy's special values --- */

static inline double fad_sign(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }

static inline double fad_maximum(double x, double y) { return x >= y || isnan(x) ? x : y; }

static inline double fad_minimum(double x, double y) { return x <= y || isnan(x) ? x : y; }

static inline double fad_heaviside(double x, double y)
{
    return isnan(x) ? x : x == 0 ? y : x < 0 ? 0.0 : 1.0;
}

/* Remainder with the sign of the divisor, as Python's. */
static inline double fad_mod(double x, double y)
{
    double r = fmod(x, y);
    if (y == 0 || isnan(r))
        return r;
    if (r == 0)
        return copysign(0.0, y);
    return (y < 0) != (r < 0) ? r + y : r;
}

static inline double fad_floor_divide(double x, double y)
{
    double r = fmod(x, y);
    if (y == 0 || isnan(r))
        return x / y;
    double quotient = (x - r) / y;
    if (r != 0 && (y < 0) != (r < 0))
        quotient -= 1.0;
    if (quotient == 0)
        return copysign(0.0, x / y);
    double rounded = floor(quotient);
    return quotient - rounded > 0.5 ? rounded + 1.0 : rounded;
}

static inline double fad_logaddexp(double x, double y)
{
    if (x == y)
        return x + 0x1.62e42fefa39efp-1;
    double d = x - y;
    return d > 0 ? x + log1p(exp(-d)) : d <= 0 ? y + log1p(exp(d)) : d;
}

static inline double fad_logaddexp2(double x, double y)
{
    if (x == y)
        return x + 1.0;
    double d = x - y;
    const double log2e = 0x1.71547652b82fep+0;
    return d > 0 ? x + log2e * log1p(exp2(-d)) : d <= 0 ? y + log2e * log1p(exp2(d)) : d;
}

static inline double fad_spacing(double x)
{
    if (isinf(x) || isnan(x))
        return NAN;
    return nextafter(x, x < 0 ? -INFINITY : INFINITY) - x;
}

/* --- every row's value as a function under its own name --- */

#define UNPACK_1(NAME, VALUE) \
    static inline double NAME(double x) { return VALUE; }
#define UNPACK_2(NAME, VALUE) \
    static inline double NAME(double x, double y) { return VALUE; }
#define UNPACK_3(NAME, VALUE) \
    static inline double NAME(double x, double y, double z) { return VALUE; }
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, ...) UNPACK_##ARITY(NAME, (VALUE))
#include "ops.def"
#undef OP
#undef UNPACK_1
#undef UNPACK_2
#undef UNPACK_3

/* --- the partials --- */

#define K(c)  ((double)(c))
#define ZERO  0.0
#define HALF  0.5
#define ONE   1.0
#define TWO   2.0
#define NONE  0.0

/* Value of element-wise `op`; operands beyond its arity are ignored. */
static inline double fad_scalar_value(int op, double x, double y, double z)
{
    (void)y;
    (void)z;
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, ...) \
    case FAD_##NAME:                             \
        return VALUE;
#include "ops.def"
#undef OP
    default:
        return NAN;
    }
}

/* Partial of element-wise `op` by operand `k`, at operands X, Y, Z where the value is V. */
static inline double fad_scalar_partial(int op, int k, double X, double Y, double Z, double V)
{
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
        return NAN;
    }
}

/* One step of the forward loop: the tangent of a node from those of its operands (strong-zero products). */
static inline double fad_scalar_tangent(int op, const double *x, const double *y, const double *z, const double *v,
                                        double tx, double ty, double tz)
{
    (void)ty;
    (void)tz;
#define FORWARD_1(PX, PY, PZ) (tx == 0 ? 0 : tx * (PX))
#define FORWARD_2(PX, PY, PZ) FORWARD_1(PX, PY, PZ) + (ty == 0 ? 0 : ty * (PY))
#define FORWARD_3(PX, PY, PZ) FORWARD_2(PX, PY, PZ) + (tz == 0 ? 0 : tz * (PZ))
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, PX, PY, PZ, ...) \
    case FAD_##NAME: {                                       \
        const double X = *x, Y = *y, Z = *z, V = *v;         \
        (void)X, (void)Y, (void)Z, (void)V;                  \
        return FORWARD_##ARITY(PX, PY, PZ);                  \
    }
#include "ops.def"
#undef OP
    default:
        return 0;
    }
#undef FORWARD_1
#undef FORWARD_2
#undef FORWARD_3
}

/* One step of the reverse loop: adds adjoint times partial to the adjoints of the parents a, b, c of a node
 * whose own adjoint `g` is not zero (so the products are strong-zero products). `x` .. `v` point at the values of the
 * parents and the node; only what a partial uses is read. */
static inline void fad_scalar_reverse(int op, double g, const double *x, const double *y, const double *z,
                                      const double *v, double *a, double *b, double *c)
{
    (void)b;
    (void)c;
#define TIMES(P) (strong && (P) == 0 ? 0 : g * (P))
#define REVERSE_1(PX, PY, PZ) *a += TIMES(PX)
#define REVERSE_2(PX, PY, PZ)  \
    const double to_b = TIMES(PY); \
    *a += TIMES(PX);           \
    *b += to_b
#define REVERSE_3(PX, PY, PZ) \
    *a += TIMES(PX);          \
    *b += TIMES(PY);          \
    *c += TIMES(PZ)
    switch (op) {
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, PX, PY, PZ, ...) \
    case FAD_##NAME: {                                       \
        const double X = *x, Y = *y, Z = *z, V = *v;         \
        enum { strong = FAD_IS_STRONG(FAD_##NAME) };         \
        (void)X, (void)Y, (void)Z, (void)V;                  \
        REVERSE_##ARITY(PX, PY, PZ);                         \
        break;                                               \
    }
#include "ops.def"
#undef OP
    default:
        break;
    }
#undef TIMES
#undef REVERSE_1
#undef REVERSE_2
#undef REVERSE_3
}

#undef K
#undef ZERO
#undef HALF
#undef ONE
#undef TWO
#undef NONE

#endif
