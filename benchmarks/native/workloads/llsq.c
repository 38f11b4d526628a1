/* ½ Σ (sign t - Σ x_j t^j)². in: x[m]; out: value, gradient[m]. lengths: n, m (at most 256). */

static double sign(double t)
{
    return (double)((t > 0.0) - (t < 0.0));
}

void llsq_value(const long *lengths, const void *const *in, void *const *out)
{
    long n = lengths[0], m = lengths[1];
    const double *x = in[0];
    double sum = 0.0;
    for (long i = 0; i < n; i++) {
        double t = -1.0 + 2.0 * (double)i / (double)(n - 1), power = 1.0, miss = sign(t);
        for (long j = 0; j < m; j++) {
            miss -= x[j] * power;
            power *= t;
        }
        sum += miss * miss;
    }
    *(double *)out[0] = 0.5 * sum;
}

void llsq_gradient(const long *lengths, const void *const *in, void *const *out)
{
    long n = lengths[0], m = lengths[1];
    const double *x = in[0];
    double *restrict gradient = out[1];
    double sum = 0.0, powers[256];
    for (long j = 0; j < m; j++)
        gradient[j] = 0.0;
    for (long i = 0; i < n; i++) {
        double t = -1.0 + 2.0 * (double)i / (double)(n - 1), power = 1.0, miss = sign(t);
        for (long j = 0; j < m; j++) {
            powers[j] = power;
            miss -= x[j] * power;
            power *= t;
        }
        for (long j = 0; j < m; j++)
            gradient[j] -= miss * powers[j];
        sum += miss * miss;
    }
    *(double *)out[0] = 0.5 * sum;
}
