/* A determinant by Laplace's expansion along the first row, every minor computed anew.
 * in: a[n * n] by rows; out: value, gradient[n * n]. lengths: n (at most 16). */

enum { LARGEST = 16 };

static void without(int count, const int *columns, int which, int *rest)
{
    for (int j = 0, k = 0; j < count; j++)
        if (j != which)
            rest[k++] = columns[j];
}

/* The minor of the last `count` rows and of these columns. */
static double minor(long n, const double *a, int count, const int *columns)
{
    const double *row = a + (n - count) * n;
    int rest[LARGEST];
    double total = 0.0;
    if (count == 1)
        return row[columns[0]];
    if (count == 2)
        return row[columns[0]] * row[n + columns[1]] - row[columns[1]] * row[n + columns[0]];
    for (int j = 0; j < count; j++) {
        without(count, columns, j, rest);
        double term = row[columns[j]] * minor(n, a, count - 1, rest);
        total += j % 2 == 0 ? term : -term;
    }
    return total;
}

/* The same; adds to the gradient what this occurrence of the minor contributes. Its adjoint is the
 * product of the entries above it, which is known on the way down: one pass does both. */
static double minor_swept(long n, const double *a, int count, const int *columns, double adjoint,
                          double *restrict gradient)
{
    const double *row = a + (n - count) * n;
    double *slope = gradient + (n - count) * n, total = 0.0;
    int rest[LARGEST];
    if (count == 1) {
        slope[columns[0]] += adjoint;
        return row[columns[0]];
    }
    if (count == 2) {
        int p = columns[0], q = columns[1];
        slope[p] += adjoint * row[n + q];
        slope[q] -= adjoint * row[n + p];
        slope[n + p] -= adjoint * row[q];
        slope[n + q] += adjoint * row[p];
        return row[p] * row[n + q] - row[q] * row[n + p];
    }
    for (int j = 0; j < count; j++) {
        double entry = j % 2 == 0 ? row[columns[j]] : -row[columns[j]];
        without(count, columns, j, rest);
        double below = minor_swept(n, a, count - 1, rest, adjoint * entry, gradient);
        slope[columns[j]] += j % 2 == 0 ? adjoint * below : -adjoint * below;
        total += entry * below;
    }
    return total;
}

void det_value(const long *lengths, const void *const *in, void *const *out)
{
    int columns[LARGEST];
    for (int j = 0; j < lengths[0]; j++)
        columns[j] = j;
    *(double *)out[0] = minor(lengths[0], in[0], (int)lengths[0], columns);
}

void det_gradient(const long *lengths, const void *const *in, void *const *out)
{
    int columns[LARGEST];
    long n = lengths[0];
    double *gradient = out[1];
    for (int j = 0; j < n; j++)
        columns[j] = j;
    for (long i = 0; i < n * n; i++)
        gradient[i] = 0.0;
    *(double *)out[0] = minor_swept(n, in[0], (int)n, columns, 1.0, gradient);
}
