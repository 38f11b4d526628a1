/* The log posterior of a Gaussian mixture, with m = 0 and gamma = 1.
 * in: alpha[k], mu[k][d], q[k][d], l[k][d(d-1)/2], x[n][d]; out: value and their gradients.
 * lengths: d, k, n. The strict lower triangle l lies column by column. */
#include <math.h>
#include <stdlib.h>

static double log_sum_exp(long k, const double *restrict t, double *restrict weights)
{
    double top = t[0], sum = 0.0;
    for (long j = 1; j < k; j++)
        if (t[j] > top)
            top = t[j];
    for (long j = 0; j < k; j++) {
        weights[j] = exp(t[j] - top);
        sum += weights[j];
    }
    for (long j = 0; j < k; j++)
        weights[j] /= sum;
    return log(sum) + top;
}

/* Q (x - mu), column by column so that the compiler vectorises; and its square. */
static double moved(long d, const double *restrict x, const double *restrict mu,
                    const double *restrict scale, const double *restrict l,
                    double *restrict centred, double *restrict result)
{
    double sum = 0.0;
    for (long i = 0; i < d; i++) {
        centred[i] = x[i] - mu[i];
        result[i] = scale[i] * centred[i];
    }
    for (long j = 0; j < d; j++) {
        for (long i = j + 1; i < d; i++)
            result[i] += l[i - j - 1] * centred[j];
        l += d - j - 1;
    }
    for (long i = 0; i < d; i++)
        sum += result[i] * result[i];
    return sum;
}

/* What does not depend on the points, prior included. */
static double rest(long d, long k, long n, const double *scale, const double *l, long entries)
{
    double squares = 0.0, freedom = (double)d + 1.0, pi = acos(-1.0);
    double constant = -0.5 * freedom * (double)d * log(2.0);
    constant -= 0.25 * (double)(d * (d - 1)) * log(pi);
    for (long j = 0; j < d; j++)
        constant -= lgamma(0.5 * (freedom - (double)j));
    for (long i = 0; i < k * d; i++)
        squares += scale[i] * scale[i];
    for (long i = 0; i < entries; i++)
        squares += l[i] * l[i];
    return (double)k * constant - 0.5 * squares - 0.5 * (double)(n * d) * log(2.0 * pi);
}

static void scales(long d, long k, const double *restrict q, double *restrict scale,
                   double *restrict sums)
{
    for (long j = 0; j < k; j++) {
        sums[j] = 0.0;
        for (long i = 0; i < d; i++) {
            scale[j * d + i] = exp(q[j * d + i]);
            sums[j] += q[j * d + i];
        }
    }
}

void gmm_value(const long *lengths, const void *const *in, void *const *out)
{
    long d = lengths[0], k = lengths[1], n = lengths[2], triangle = d * (d - 1) / 2;
    const double *alpha = in[0], *mu = in[1], *l = in[3], *x = in[4];
    double *scale = calloc((size_t)(k * d + 3 * k + 2 * d), sizeof *scale);
    double *sums = scale + k * d, *t = sums + k, *weights = t + k, *centred = weights + k;
    double total;
    scales(d, k, in[2], scale, sums);
    total = rest(d, k, n, scale, l, k * triangle) - (double)n * log_sum_exp(k, alpha, weights);
    for (long i = 0; i < n; i++) {
        for (long j = 0; j < k; j++)
            t[j] = alpha[j] + sums[j] -
                   0.5 * moved(d, x + i * d, mu + j * d, scale + j * d, l + j * triangle, centred,
                               centred + d);
        total += log_sum_exp(k, t, weights);
    }
    *(double *)out[0] = total;
    free(scale);
}

/* Adds what one point contributes through one component of that weight. */
static void swept(long d, double weight, const double *restrict l, const double *restrict scale,
                  const double *restrict centred, const double *restrict result,
                  double *restrict to_mu, double *restrict to_q, double *restrict to_l)
{
    for (long j = 0; j < d; j++) {
        double back = scale[j] * result[j];
        to_q[j] += weight * (1.0 - back * centred[j]);
        for (long i = j + 1; i < d; i++) {
            to_l[i - j - 1] -= weight * centred[j] * result[i];
            back += l[i - j - 1] * result[i];
        }
        to_mu[j] += weight * back;
        l += d - j - 1;
        to_l += d - j - 1;
    }
}

void gmm_gradient(const long *lengths, const void *const *in, void *const *out)
{
    long d = lengths[0], k = lengths[1], n = lengths[2], triangle = d * (d - 1) / 2;
    const double *alpha = in[0], *mu = in[1], *l = in[3], *x = in[4];
    double *to_alpha = out[1], *to_mu = out[2], *to_q = out[3], *to_l = out[4];
    double *scale = calloc((size_t)(k * d + 3 * k + 2 * k * d), sizeof *scale);
    double *sums = scale + k * d, *t = sums + k, *weights = t + k, *centred = weights + k;
    double *result = centred + k * d, total;
    scales(d, k, in[2], scale, sums);
    total = rest(d, k, n, scale, l, k * triangle) - (double)n * log_sum_exp(k, alpha, weights);
    for (long j = 0; j < k; j++)
        to_alpha[j] = -(double)n * weights[j];
    for (long i = 0; i < k * d; i++) {
        to_mu[i] = 0.0;
        to_q[i] = -scale[i] * scale[i];
    }
    for (long i = 0; i < k * triangle; i++)
        to_l[i] = -l[i];
    for (long i = 0; i < n; i++) {
        for (long j = 0; j < k; j++)
            t[j] = alpha[j] + sums[j] -
                   0.5 * moved(d, x + i * d, mu + j * d, scale + j * d, l + j * triangle,
                               centred + j * d, result + j * d);
        total += log_sum_exp(k, t, weights);
        for (long j = 0; j < k; j++) {
            to_alpha[j] += weights[j];
            swept(d, weights[j], l + j * triangle, scale + j * d, centred + j * d, result + j * d,
                  to_mu + j * d, to_q + j * d, to_l + j * triangle);
        }
    }
    *(double *)out[0] = total;
    free(scale);
}
