// CppAD: recorded, swept and thrown away at every call.
#include "objectives.hpp"
#include <cppad/cppad.hpp>

using Scalar = CppAD::AD<double>;
using Objective = Scalar (*)(const long *, const std::vector<Scalar> &, const double *const *);

static std::vector<Scalar> variables(const std::vector<long> &sizes, const void *const *in)
{
    std::vector<Scalar> x;
    for (std::size_t part = 0; part < sizes.size(); part++)
        for (long i = 0; i < sizes[part]; i++)
            x.push_back(static_cast<const double *>(in[part])[i]);
    return x;
}

static void recorded(CppAD::ADFun<double> &function, Objective objective, const long *lengths,
                     const std::vector<long> &sizes, const void *const *in)
{
    std::vector<Scalar> x = variables(sizes, in), y(1);
    CppAD::Independent(x);
    y[0] = objective(lengths, x, reinterpret_cast<const double *const *>(in) + sizes.size());
    function.Dependent(x, y);
}

static void gradient(const char *name, Objective objective, const long *lengths,
                     const void *const *in, void *const *out)
{
    std::vector<long> sizes = counts(name, lengths);
    CppAD::ADFun<double> function;
    recorded(function, objective, lengths, sizes, in);
    std::vector<double> x;
    for (std::size_t part = 0; part < sizes.size(); part++) {
        const double *values = static_cast<const double *>(in[part]);
        x.insert(x.end(), values, values + sizes[part]);
    }
    *static_cast<double *>(out[0]) = function.Forward(0, x)[0];
    std::vector<double> slopes = function.Reverse(1, std::vector<double>{1.0});
    const double *next = slopes.data();
    for (std::size_t part = 0; part < sizes.size(); next += sizes[part], part++)
        std::copy(next, next + sizes[part], static_cast<double *>(out[1 + part]));
}

#define GRADIENT(name)                                                                            \
    extern "C" void name##_tape(const long *lengths, const void *const *in, void *const *out)     \
    {                                                                                             \
        gradient(#name, Objectives<Scalar>::name, lengths, in, out);                              \
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
    CppAD::ADFun<double> function;
    recorded(function, Objectives<Scalar>::kmeans, lengths, sizes, in);
    const double *values = static_cast<const double *>(in[0]);
    double *direction = static_cast<double *>(out[0]);
    function.Forward(0, std::vector<double>(values, values + sizes[0]));
    function.Forward(1, std::vector<double>(sizes[0], 1.0));
    std::vector<double> both = function.Reverse(2, std::vector<double>{1.0});
    for (long i = 0; i < sizes[0]; i++)
        direction[i] = both[2 * i] / both[2 * i + 1];
}

extern "C" void ba_tape(const long *lengths, const void *const *in, void *const *out)
{
    long p = lengths[2];
    double *values = static_cast<double *>(out[0]), numbers[15];
    int *columns = static_cast<int *>(out[1]), *starts = static_cast<int *>(out[2]);
    const double *weights = static_cast<const double *>(in[2]);
    const double *features = static_cast<const double *>(in[3]);
    CppAD::ADFun<double> function;
    std::vector<Scalar> x(15), y(2), weight(1), error(1);
    for (long i = 0; i < p; i++) {
        gather(lengths, in, i, numbers);
        std::copy(numbers, numbers + 15, x.begin());
        CppAD::Independent(x);
        Objectives<Scalar>::project(x.data(), features + 2 * i, y.data());
        function.Dependent(x, y);
        function.Forward(0, std::vector<double>(numbers, numbers + 15));
        for (int row = 0; row < 2; row++) {
            std::vector<double> w{double(row == 0), double(row == 1)};
            std::vector<double> slopes = function.Reverse(1, w);
            std::copy(slopes.begin(), slopes.end(), values + 15 * (2 * i + row));
        }
        place(lengths, i, columns, starts);
    }
    for (long i = 0; i < p; i++) {
        weight[0] = weights[i];
        CppAD::Independent(weight);
        error[0] = 1.0 - weight[0] * weight[0];
        function.Dependent(weight, error);
        function.Forward(0, std::vector<double>{weights[i]});
        values[30 * p + i] = function.Reverse(1, std::vector<double>{1.0})[0];
        columns[30 * p + i] = int(11 * lengths[0] + 3 * lengths[1] + i);
        starts[2 * p + i] = int(30 * p + i);
    }
    starts[3 * p] = int(31 * p);
}
