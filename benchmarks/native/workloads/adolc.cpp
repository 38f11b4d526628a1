// ADOL-C: taped at the first call with these lengths, then the tape is replayed.
#include "objectives.hpp"
#include <adolc/adolc.h>
#include <algorithm>

using Objective = adouble (*)(const long *, const std::vector<adouble> &, const double *const *);
enum { TAPE = 1, WEIGHT = 2, LENGTHS = 3 };
constexpr unsigned OPERATIONS = 1u << 27, PLACES = 1u << 28, NUMBERS = 1u << 27;

static std::vector<double> point;

static void tape(Objective objective, const long *lengths, const std::vector<long> &sizes,
                 const void *const *in)
{
    static std::vector<long> taped;
    point.clear();
    for (std::size_t part = 0; part < sizes.size(); part++) {
        const double *values = static_cast<const double *>(in[part]);
        point.insert(point.end(), values, values + sizes[part]);
    }
    std::vector<long> now(lengths, lengths + LENGTHS);
    if (now == taped)
        return;
    taped = now;
    double value;
    std::vector<adouble> x(point.size());
    trace_on(TAPE, 0, OPERATIONS, PLACES, NUMBERS, NUMBERS);
    for (std::size_t i = 0; i < x.size(); i++)
        x[i] <<= point[i];
    adouble y = objective(lengths, x, reinterpret_cast<const double *const *>(in) + sizes.size());
    y >>= value;
    trace_off();
}

static void gradient(const char *name, Objective objective, const long *lengths,
                     const void *const *in, void *const *out)
{
    std::vector<long> sizes = counts(name, lengths);
    tape(objective, lengths, sizes, in);
    std::vector<double> slopes(point.size());
    double one = 1.0, *weights = &one;
    zos_forward(TAPE, 1, int(point.size()), 1, point.data(), static_cast<double *>(out[0]));
    fos_reverse(TAPE, 1, int(point.size()), weights, slopes.data());
    const double *next = slopes.data();
    for (std::size_t part = 0; part < sizes.size(); next += sizes[part], part++)
        std::copy(next, next + sizes[part], static_cast<double *>(out[1 + part]));
}

#define GRADIENT(name)                                                                            \
    extern "C" void name##_tape(const long *lengths, const void *const *in, void *const *out)     \
    {                                                                                             \
        gradient(#name, Objectives<adouble>::name, lengths, in, out);                             \
    }
GRADIENT(det)
GRADIENT(gmm)
GRADIENT(llsq)
GRADIENT(lse)
GRADIENT(lstm)
GRADIENT(ode)

extern "C" void kmeans_tape(const long *lengths, const void *const *in, void *const *out)
{
    std::vector<long> sizes = counts("kmeans", lengths);
    tape(Objectives<adouble>::kmeans, lengths, sizes, in);
    std::vector<double> slopes(sizes[0]), ones(sizes[0], 1.0), curvature(sizes[0]);
    ::gradient(TAPE, int(sizes[0]), point.data(), slopes.data());
    hess_vec(TAPE, int(sizes[0]), point.data(), ones.data(), curvature.data());
    for (long i = 0; i < sizes[0]; i++)
        static_cast<double *>(out[0])[i] = slopes[i] / curvature[i];
}

// One observation is taped, without its feature, and all are replayed. The feature enters only the
// derivative by the weight, from which it is taken off.
extern "C" void ba_tape(const long *lengths, const void *const *in, void *const *out)
{
    static bool taped = false;
    long p = lengths[2];
    double *values = static_cast<double *>(out[0]), numbers[15], ignored;
    int *columns = static_cast<int *>(out[1]), *starts = static_cast<int *>(out[2]);
    const double *weights = static_cast<const double *>(in[2]);
    const double *features = static_cast<const double *>(in[3]);
    if (!taped) {
        adouble x[15], y[2], weight, error;
        gather(lengths, in, 0, numbers);
        trace_on(TAPE);
        for (int j = 0; j < 15; j++)
            x[j] <<= numbers[j];
        const double none[2] = {0.0, 0.0};
        Objectives<adouble>::project(x, none, y);
        y[0] >>= ignored;
        y[1] >>= ignored;
        trace_off();
        trace_on(WEIGHT);
        weight <<= weights[0];
        error = 1.0 - weight * weight;
        error >>= ignored;
        trace_off();
        taped = true;
    }
    for (long i = 0; i < p; i++) {
        gather(lengths, in, i, numbers);
        double *rows[2] = {values + 30 * i, values + 30 * i + 15};
        jacobian(TAPE, 2, 15, numbers, rows);
        rows[0][14] -= features[2 * i];
        rows[1][14] -= features[2 * i + 1];
        place(lengths, i, columns, starts);
    }
    for (long i = 0; i < p; i++) {
        ::gradient(WEIGHT, 1, const_cast<double *>(weights + i), values + 30 * p + i);
        columns[30 * p + i] = int(11 * lengths[0] + 3 * lengths[1] + i);
        starts[2 * p + i] = int(30 * p + i);
    }
    starts[3 * p] = int(31 * p);
}
