/* log Σ exp x. in: x[n]; out: value, gradient[n]. lengths: n. */
#include <math.h>

static double largest(long n, const double *x)
{
    double top = x[0];
    for (long i = 1; i < n; i++)
        if (x[i] > top)
            top = x[i];
    return top;
}

void lse_value(const long *lengths, const void *const *in, void *const *out)
{
    const double *x = in[0];
    double top = largest(lengths[0], x), sum = 0.0;
    for (long i = 0; i < lengths[0]; i++)
        sum += exp(x[i] - top);
    *(double *)out[0] = log(sum) + top;
}

void lse_gradient(const long *lengths, const void *const *in, void *const *out)
{
    const double *x = in[0];
    double *restrict gradient = out[1];
    double top = largest(lengths[0], x), sum = 0.0;
    for (long i = 0; i < lengths[0]; i++) {
        gradient[i] = exp(x[i] - top);
        sum += gradient[i];
    }
    *(double *)out[0] = log(sum) + top;
    for (long i = 0; i < lengths[0]; i++)
        gradient[i] /= sum;
}
