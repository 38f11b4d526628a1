/* k-means: the cost, and Newton's direction gradient / diagonal of the Hessian, which is the
 * centroid less the mean of the points nearest to it.
 * in: centroids[k][d], points[n][d]; out: value, or direction[k][d]. lengths: k, n, d. */
#include <stdlib.h>

/* Distances to all centroids at once: `turned` is [d][k], so that the compiler vectorises over the
 * centroids. Returns the nearest. */
static long nearest(long k, long d, const double *restrict point, const double *restrict turned,
                    double *restrict squares)
{
    long best = 0;
    for (long j = 0; j < k; j++)
        squares[j] = 0.0;
    for (long e = 0; e < d; e++)
        for (long j = 0; j < k; j++) {
            double difference = point[e] - turned[e * k + j];
            squares[j] += difference * difference;
        }
    for (long j = 1; j < k; j++)
        if (squares[j] < squares[best])
            best = j;
    return best;
}

static void turn(long k, long d, const double *restrict centroids, double *restrict turned)
{
    for (long j = 0; j < k; j++)
        for (long e = 0; e < d; e++)
            turned[e * k + j] = centroids[j * d + e];
}

void kmeans_value(const long *lengths, const void *const *in, void *const *out)
{
    long k = lengths[0], n = lengths[1], d = lengths[2];
    const double *points = in[1];
    double *turned = malloc((size_t)(k * (d + 1)) * sizeof *turned), *squares = turned + k * d;
    double sum = 0.0;
    turn(k, d, in[0], turned);
    for (long i = 0; i < n; i++)
        sum += squares[nearest(k, d, points + i * d, turned, squares)];
    *(double *)out[0] = sum;
    free(turned);
}

void kmeans_gradient(const long *lengths, const void *const *in, void *const *out)
{
    long k = lengths[0], n = lengths[1], d = lengths[2];
    const double *centroids = in[0], *points = in[1];
    double *direction = out[0];
    double *turned = malloc((size_t)(k * (d + 2)) * sizeof *turned), *squares = turned + k * d;
    double *counts = squares + k;
    turn(k, d, centroids, turned);
    for (long j = 0; j < k; j++)
        counts[j] = 0.0;
    for (long j = 0; j < k * d; j++)
        direction[j] = 0.0;
    for (long i = 0; i < n; i++) {
        long j = nearest(k, d, points + i * d, turned, squares);
        counts[j] += 2.0;
        for (long e = 0; e < d; e++)
            direction[j * d + e] += 2.0 * (centroids[j * d + e] - points[i * d + e]);
    }
    for (long j = 0; j < k; j++)
        for (long e = 0; e < d; e++)
            direction[j * d + e] /= counts[j];
    free(turned);
}
