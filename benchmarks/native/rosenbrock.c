/* Value and gradient of the chained Rosenbrock function by hand, in one pass over x.
 *
 * The floor of `compare.py replay`: what is left to do when nothing records, dispatches or checks.
 * benchmarks/replay/native.py compiles it with -O3 -march=native -DNDEBUG.
 */

/* As one writes it. n >= 1. */
double rosenbrock_plain(long n, const double *restrict x, double *restrict gradient)
{
    double value = 0.0, carried = 0.0;
    for (long i = 0; i < n - 1; i++) {
        double miss = x[i + 1] - x[i] * x[i], rest = 1.0 - x[i];
        double slope = 200.0 * miss;
        value += 100.0 * miss * miss + rest * rest;
        gradient[i] = carried - 2.0 * slope * x[i] - 2.0 * rest;
        carried = slope;
    }
    gradient[n - 1] = carried;
    return value;
}

/* As one writes it for a compiler that may not re-associate: WIDTH partial sums, and no value
 * carried from one element to the next but `miss`, which is computed twice. */
enum { WIDTH = 16 };

double rosenbrock_wide(long n, const double *restrict x, double *restrict gradient)
{
    double sums[WIDTH] = {0.0}, value = 0.0;
    long i = 1;
    if (n < 2) {
        gradient[0] = 0.0;
        return 0.0;
    }
    gradient[0] = -400.0 * (x[1] - x[0] * x[0]) * x[0] - 2.0 * (1.0 - x[0]);
    value = 100.0 * (x[1] - x[0] * x[0]) * (x[1] - x[0] * x[0]) + (1.0 - x[0]) * (1.0 - x[0]);
    for (; i + WIDTH <= n - 1; i += WIDTH) {
        for (long j = 0; j < WIDTH; j++) {
            double here = x[i + j], before = here - x[i + j - 1] * x[i + j - 1];
            double miss = x[i + j + 1] - here * here, rest = 1.0 - here;
            sums[j] += 100.0 * miss * miss + rest * rest;
            gradient[i + j] = 200.0 * before - 400.0 * miss * here - 2.0 * rest;
        }
    }
    for (; i < n - 1; i++) {
        double here = x[i], before = here - x[i - 1] * x[i - 1];
        double miss = x[i + 1] - here * here, rest = 1.0 - here;
        value += 100.0 * miss * miss + rest * rest;
        gradient[i] = 200.0 * before - 400.0 * miss * here - 2.0 * rest;
    }
    gradient[n - 1] = 200.0 * (x[n - 1] - x[n - 2] * x[n - 2]);
    for (long j = 0; j < WIDTH; j++)
        value += sums[j];
    return value;
}

/* Called in the same way, so that the cost of a call can be told from that of the work. */
double nothing(long n, const double *restrict x, double *restrict gradient)
{
    (void)x;
    (void)gradient;
    return (double)n;
}
