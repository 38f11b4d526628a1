/* y0' = x0, yi' = xi y(i-1) by the classic Runge-Kutta method to t = 2; the last y.
 * in: x[n]; out: value, gradient[n]. lengths: n, s. */
#include <stdlib.h>
#include <string.h>

static void rates(long n, const double *restrict x, const double *restrict y, double *restrict k)
{
    k[0] = x[0];
    for (long i = 1; i < n; i++)
        k[i] = x[i] * y[i - 1];
}

/* Adjoint of `rates`: adds to those of x, and sets those of y. */
static void rates_swept(long n, const double *restrict x, const double *restrict y,
                        const double *restrict to_k, double *restrict to_x, double *restrict to_y)
{
    to_x[0] += to_k[0];
    for (long i = 1; i < n; i++)
        to_x[i] += y[i - 1] * to_k[i];
    for (long i = 1; i < n; i++)
        to_y[i - 1] = x[i] * to_k[i];
    to_y[n - 1] = 0.0;
}

static void shifted(long n, const double *restrict y, double h, const double *restrict k,
                    double *restrict result)
{
    for (long i = 0; i < n; i++)
        result[i] = y[i] + h * k[i];
}

/* The three points between, and the next one. `k` has room for four slopes. */
static void step(long n, const double *x, double h, const double *y, double *between,
                 double *restrict k, double *restrict next)
{
    rates(n, x, y, k);
    shifted(n, y, 0.5 * h, k, between);
    rates(n, x, between, k + n);
    shifted(n, y, 0.5 * h, k + n, between + n);
    rates(n, x, between + n, k + 2 * n);
    shifted(n, y, h, k + 2 * n, between + 2 * n);
    rates(n, x, between + 2 * n, k + 3 * n);
    for (long i = 0; i < n; i++)
        next[i] = y[i] + h / 6.0 * (k[i] + 2.0 * k[n + i] + 2.0 * k[2 * n + i] + k[3 * n + i]);
}

void ode_value(const long *lengths, const void *const *in, void *const *out)
{
    long n = lengths[0], s = lengths[1];
    double *y = calloc((size_t)(9 * n), sizeof *y), *next = y + n, *between = next + n;
    double *start = y;
    for (long t = 0; t < s; t++) {
        double *last = y;
        step(n, in[0], 2.0 / (double)s, y, between, between + 3 * n, next);
        y = next;
        next = last;
    }
    *(double *)out[0] = y[n - 1];
    free(start);
}

/* to_y becomes the adjoint of the step's beginning. */
static void step_swept(long n, const double *x, double h, const double *y, const double *between,
                       double *restrict to_y, double *restrict work, double *to_x)
{
    double *to_k = work, *back = work + n;
    for (long i = 0; i < n; i++)
        to_k[i] = h / 6.0 * to_y[i];
    rates_swept(n, x, between + 2 * n, to_k, to_x, back);
    for (long i = 0; i < n; i++) {
        to_k[i] = h / 3.0 * to_y[i] + h * back[i];
        work[2 * n + i] = back[i];
    }
    rates_swept(n, x, between + n, to_k, to_x, back);
    for (long i = 0; i < n; i++) {
        to_k[i] = h / 3.0 * to_y[i] + 0.5 * h * back[i];
        work[2 * n + i] += back[i];
    }
    rates_swept(n, x, between, to_k, to_x, back);
    for (long i = 0; i < n; i++) {
        to_k[i] = h / 6.0 * to_y[i] + 0.5 * h * back[i];
        work[2 * n + i] += back[i];
    }
    rates_swept(n, x, y, to_k, to_x, back);
    for (long i = 0; i < n; i++)
        to_y[i] += work[2 * n + i] + back[i];
}

void ode_gradient(const long *lengths, const void *const *in, void *const *out)
{
    long n = lengths[0], s = lengths[1];
    double h = 2.0 / (double)s, *to_x = out[1];
    double *states = malloc((size_t)((4 * s + 1) * n + 8 * n) * sizeof *states);
    double *work = states + (4 * s + 1) * n, *to_y = work + 4 * n;
    memset(states, 0, (size_t)n * sizeof *states);
    memset(to_x, 0, (size_t)n * sizeof *to_x);
    memset(to_y, 0, (size_t)n * sizeof *to_y);
    for (long t = 0; t < s; t++) { /* a state, the three points between, the next state */
        double *y = states + 4 * t * n;
        step(n, in[0], h, y, y + n, work, y + 4 * n);
    }
    *(double *)out[0] = states[4 * s * n + n - 1];
    to_y[n - 1] = 1.0;
    for (long t = s - 1; t >= 0; t--) {
        const double *y = states + 4 * t * n;
        step_swept(n, in[0], h, y, y + n, to_y, work, to_x);
    }
    free(states);
}
