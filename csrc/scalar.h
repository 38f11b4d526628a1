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

/* --- products with a third number, as scalar instructions of programs have them --- */

#define MUL_ADD(x, y, z)  ((x) * (y) + (z))
#define MUL_SUB(x, y, z)  ((x) * (y) - (z))
#define SUB_MUL(x, y, z)  ((z) - (x) * (y))
#define ZMUL_ADD(x, y, z) ((x) == 0 ? (z) : (x) * (y) + (z))

/* --- every row's partials as functions of the operands and the value --- */

#define K(c)  ((double)(c))
#define ZERO  0.0
#define HALF  0.5
#define ONE   1.0
#define TWO   2.0
#define NONE  0.0

#define PARTIAL(NAME, CELL)                                             \
    static inline double NAME(double X, double Y, double Z, double V) \
    {                                                                   \
        (void)X, (void)Y, (void)Z, (void)V;                             \
        return CELL;                                                    \
    }
#define OP(NAME, NUMPY, ARITY, KIND, VALUE, PX, PY, PZ, ...) \
    PARTIAL(NAME##_BY_X, PX)                                 \
    PARTIAL(NAME##_BY_Y, PY)                                 \
    PARTIAL(NAME##_BY_Z, PZ)
#include "ops.def"
#undef OP
#undef PARTIAL

#undef K
#undef ZERO
#undef HALF
#undef ONE
#undef TWO
#undef NONE

/* --- by number of the op --- */

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
    switch (op) {
#define OP(NAME, ...)    \
    case FAD_##NAME:     \
        return k == 0 ? NAME##_BY_X(X, Y, Z, V) : k == 1 ? NAME##_BY_Y(X, Y, Z, V) : NAME##_BY_Z(X, Y, Z, V);
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
#define FORWARD_1(NAME) (tx == 0 ? 0 : tx * NAME##_BY_X(*x, *y, *z, *v))
#define FORWARD_2(NAME) FORWARD_1(NAME) + (ty == 0 ? 0 : ty * NAME##_BY_Y(*x, *y, *z, *v))
#define FORWARD_3(NAME) FORWARD_2(NAME) + (tz == 0 ? 0 : tz * NAME##_BY_Z(*x, *y, *z, *v))
    switch (op) {
#define OP(NAME, NUMPY, ARITY, ...) \
    case FAD_##NAME:                \
        return FORWARD_##ARITY(NAME);
#include "ops.def"
#undef OP
    default:
        return 0;
    }
#undef FORWARD_1
#undef FORWARD_2
#undef FORWARD_3
}

#endif
