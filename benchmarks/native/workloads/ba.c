/* Bundle adjustment: all errors, and their sparse Jacobian as CSR.
 * in: cameras[n][11], points[m][3], weights[p], features[p][2].
 * out of ba_value: errors[3p]; of ba_gradient: values, int columns, int starts.
 * lengths: n, m, p. Observation i is made by camera i mod n of point i mod m. */
#include <math.h>
#include <string.h>

enum { CAMERA = 11, COLUMNS = 15 };

static void cross(const double *a, const double *b, double *result)
{
    result[0] = a[1] * b[2] - a[2] * b[1];
    result[1] = a[2] * b[0] - a[0] * b[2];
    result[2] = a[0] * b[1] - a[1] * b[0];
}

static double dot(const double *a, const double *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static void project(const double *camera, const double *point, double weight,
                    const double *feature, double *error)
{
    double offset[3], axis[3], across[3], turned[3];
    double angle = sqrt(dot(camera, camera)), c = cos(angle), s = sin(angle);
    for (int i = 0; i < 3; i++) {
        offset[i] = point[i] - camera[3 + i];
        axis[i] = camera[i] / angle;
    }
    cross(axis, offset, across);
    double along = dot(axis, offset) * (1.0 - c);
    for (int i = 0; i < 3; i++)
        turned[i] = offset[i] * c + across[i] * s + axis[i] * along;
    double p0 = turned[0] / turned[2], p1 = turned[1] / turned[2], rho = p0 * p0 + p1 * p1;
    double bend = 1.0 + camera[9] * rho + camera[10] * rho * rho;
    error[0] = weight * (camera[6] * p0 * bend + camera[7] - feature[0]);
    error[1] = weight * (camera[6] * p1 * bend + camera[8] - feature[1]);
}

void ba_value(const long *lengths, const void *const *in, void *const *out)
{
    const double *cameras = in[0], *points = in[1], *weights = in[2], *features = in[3];
    double *errors = out[0];
    long p = lengths[2];
    for (long i = 0, camera = 0, point = 0; i < p; i++) {
        project(cameras + CAMERA * camera, points + 3 * point, weights[i], features + 2 * i,
                errors + 2 * i);
        errors[2 * p + i] = 1.0 - weights[i] * weights[i];
        camera = camera + 1 == lengths[0] ? 0 : camera + 1;
        point = point + 1 == lengths[1] ? 0 : point + 1;
    }
}

/* Two rows of 15: by the camera's 11 numbers, the point's 3, and the weight. */
static void project_swept(const double *camera, const double *point, double weight,
                          const double *feature, double *restrict rows)
{
    double offset[3], axis[3], across[3], turned[3], slopes[6][3]; /* of turned, by r and by X */
    double angle = sqrt(dot(camera, camera)), c = cos(angle), s = sin(angle);
    for (int i = 0; i < 3; i++) {
        offset[i] = point[i] - camera[3 + i];
        axis[i] = camera[i] / angle;
    }
    cross(axis, offset, across);
    double inner = dot(axis, offset);
    for (int i = 0; i < 3; i++)
        turned[i] = offset[i] * c + across[i] * s + axis[i] * inner * (1.0 - c);
    for (int j = 0; j < 3; j++) {
        double by_axis[3], leaning[3], unit[3] = {0.0, 0.0, 0.0}, aside[3];
        unit[j] = 1.0;
        for (int i = 0; i < 3; i++)
            by_axis[i] = (unit[i] - axis[i] * axis[j]) / angle;
        cross(by_axis, offset, leaning);
        cross(axis, unit, aside);
        double by_inner = dot(by_axis, offset);
        for (int i = 0; i < 3; i++) {
            slopes[j][i] = axis[j] * (s * (axis[i] * inner - offset[i]) + c * across[i]) +
                           leaning[i] * s + (by_axis[i] * inner + axis[i] * by_inner) * (1.0 - c);
            slopes[3 + j][i] = unit[i] * c + aside[i] * s + axis[i] * axis[j] * (1.0 - c);
        }
    }
    double p[2] = {turned[0] / turned[2], turned[1] / turned[2]}, rho = p[0] * p[0] + p[1] * p[1];
    double focal = camera[6], k1 = camera[9], k2 = camera[10];
    double bend = 1.0 + k1 * rho + k2 * rho * rho, steep = 2.0 * (k1 + 2.0 * k2 * rho);
    double scale = weight * focal;
    for (int j = 0; j < 6; j++) {
        double p0 = (slopes[j][0] - p[0] * slopes[j][2]) / turned[2];
        double p1 = (slopes[j][1] - p[1] * slopes[j][2]) / turned[2];
        double stretch = steep * (p[0] * p0 + p[1] * p1);
        double first = scale * (bend * p0 + stretch * p[0]);
        double second = scale * (bend * p1 + stretch * p[1]);
        int column = j < 3 ? j : CAMERA + j - 3;
        rows[column] = first;
        rows[COLUMNS + column] = second;
        if (j >= 3) {
            rows[j] = -first;
            rows[COLUMNS + j] = -second;
        }
    }
    for (int i = 0; i < 2; i++) {
        double *row = rows + COLUMNS * i;
        row[6] = weight * p[i] * bend;
        row[7] = i == 0 ? weight : 0.0;
        row[8] = i == 1 ? weight : 0.0;
        row[9] = scale * p[i] * rho;
        row[10] = scale * p[i] * rho * rho;
        row[14] = focal * p[i] * bend + camera[7 + i] - feature[i];
    }
}

void ba_gradient(const long *lengths, const void *const *in, void *const *out)
{
    const double *cameras = in[0], *points = in[1], *weights = in[2], *features = in[3];
    long n = lengths[0], m = lengths[1], p = lengths[2];
    double *values = out[0];
    int *columns = out[1], *starts = out[2];
    for (long i = 0, camera = 0, point = 0; i < p; i++) {
        int *places = columns + 2 * COLUMNS * i;
        project_swept(cameras + CAMERA * camera, points + 3 * point, weights[i], features + 2 * i,
                      values + 2 * COLUMNS * i);
        for (int j = 0; j < CAMERA; j++)
            places[j] = (int)(CAMERA * camera + j);
        for (int j = 0; j < 3; j++)
            places[CAMERA + j] = (int)(CAMERA * n + 3 * point + j);
        places[14] = (int)(CAMERA * n + 3 * m + i);
        memcpy(places + COLUMNS, places, COLUMNS * sizeof *places);
        starts[2 * i] = (int)(2 * COLUMNS * i);
        starts[2 * i + 1] = (int)(2 * COLUMNS * i + COLUMNS);
        camera = camera + 1 == n ? 0 : camera + 1;
        point = point + 1 == m ? 0 : point + 1;
    }
    for (long i = 0; i < p; i++) {
        values[2 * COLUMNS * p + i] = -2.0 * weights[i];
        columns[2 * COLUMNS * p + i] = (int)(CAMERA * n + 3 * m + i);
        starts[2 * p + i] = (int)(2 * COLUMNS * p + i);
    }
    starts[3 * p] = (int)(2 * COLUMNS * p + p);
}
