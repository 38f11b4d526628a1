/* Times a function of a workload: what its driver would do in a C program, without Python between
 * the calls. Every function has this signature: lengths, input arrays, output arrays. */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

typedef void workload(const long *lengths, const void *const *in, void *const *out);

double drive(workload *function, long times, const long *lengths, const void *const *in,
             void *const *out)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < times; i++)
        function(lengths, in, out);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}
