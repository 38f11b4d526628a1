// The eight objectives for the scalars of any tape. `x` are all variables one after another, `c`
// the constant arrays, lengths as for the functions by hand.
#pragma once
#include <cmath>
#include <vector>

template <class T>
struct Objectives {
    using Lengths = const long *;
    using Variables = const std::vector<T> &;
    using Constants = const double *const *;

    static T log_sum_exp(const std::vector<T> &t)
    {
        using std::exp, std::log;
        T top = t[0], sum = 0.0;
        for (const T &each : t)
            if (each > top)
                top = each;
        for (const T &each : t)
            sum += exp(each - top);
        return log(sum) + top;
    }

    static T lse(Lengths, Variables x, Constants) { return log_sum_exp(x); }

    static T llsq(Lengths lengths, Variables x, Constants)
    {
        long n = lengths[0], m = lengths[1];
        T sum = 0.0;
        for (long i = 0; i < n; i++) {
            double t = -1.0 + 2.0 * double(i) / double(n - 1), power = 1.0;
            T miss = double(t > 0.0) - double(t < 0.0);
            for (long j = 0; j < m; j++, power *= t)
                miss -= x[j] * power;
            sum += miss * miss;
        }
        return 0.5 * sum;
    }

    static T minor(long n, Variables a, int count, const int *columns)
    {
        const T *row = a.data() + (n - count) * n;
        if (count == 1)
            return row[columns[0]];
        int rest[16];
        T total = 0.0;
        for (int j = 0; j < count; j++) {
            for (int i = 0, k = 0; i < count; i++)
                if (i != j)
                    rest[k++] = columns[i];
            T term = row[columns[j]] * minor(n, a, count - 1, rest);
            if (j % 2 == 0)
                total += term;
            else
                total -= term;
        }
        return total;
    }

    static T det(Lengths lengths, Variables a, Constants)
    {
        int columns[16];
        for (int j = 0; j < lengths[0]; j++)
            columns[j] = j;
        return minor(lengths[0], a, int(lengths[0]), columns);
    }

    static T kmeans(Lengths lengths, Variables x, Constants c)
    {
        long k = lengths[0], n = lengths[1], d = lengths[2];
        T sum = 0.0;
        for (long i = 0; i < n; i++) {
            T best = 0.0;
            for (long j = 0; j < k; j++) {
                T square = 0.0;
                for (long e = 0; e < d; e++) {
                    T difference = c[0][i * d + e] - x[j * d + e];
                    square += difference * difference;
                }
                if (j == 0 || square < best)
                    best = square;
            }
            sum += best;
        }
        return sum;
    }

    static T gmm(Lengths lengths, Variables x, Constants c)
    {
        using std::exp;
        long d = lengths[0], k = lengths[1], n = lengths[2], triangle = d * (d - 1) / 2;
        const T *mu = x.data() + k, *q = mu + k * d, *l = q + k * d;
        std::vector<T> alpha(x.begin(), x.begin() + k), sums(k), scale(k * d), t(k), moved(d);
        T total = -double(n) * log_sum_exp(alpha), squares = 0.0;
        double freedom = double(d) + 1.0, pi = std::acos(-1.0);
        double constant = -0.5 * freedom * double(d) * std::log(2.0);
        constant -= 0.25 * double(d * (d - 1)) * std::log(pi);
        for (long j = 0; j < d; j++)
            constant -= std::lgamma(0.5 * (freedom - double(j)));
        for (long j = 0; j < k; j++) {
            sums[j] = 0.0;
            for (long i = 0; i < d; i++) {
                sums[j] += q[j * d + i];
                scale[j * d + i] = exp(q[j * d + i]);
                squares += scale[j * d + i] * scale[j * d + i];
            }
        }
        for (long i = 0; i < k * triangle; i++)
            squares += l[i] * l[i];
        for (long p = 0; p < n; p++) {
            for (long j = 0; j < k; j++) {
                const T *column = l + j * triangle;
                T square = 0.0;
                for (long i = 0; i < d; i++)
                    moved[i] = scale[j * d + i] * (c[0][p * d + i] - mu[j * d + i]);
                for (long e = 0; e < d; e++) {
                    T centred = c[0][p * d + e] - mu[j * d + e];
                    for (long i = e + 1; i < d; i++)
                        moved[i] += column[i - e - 1] * centred;
                    column += d - e - 1;
                }
                for (long i = 0; i < d; i++)
                    square += moved[i] * moved[i];
                t[j] = alpha[j] + sums[j] - 0.5 * square;
            }
            total += log_sum_exp(t);
        }
        return total - 0.5 * squares + double(k) * constant - 0.5 * double(n * d) * std::log(2 * pi);
    }

    static T sigmoid(const T &x)
    {
        using std::exp;
        return 1.0 / (1.0 + exp(-x));
    }

    static T lstm(Lengths lengths, Variables x, Constants c)
    {
        using std::exp, std::log, std::tanh;
        long l = lengths[0], steps = lengths[1] - 1, b = lengths[2];
        const T *extra = x.data() + 8 * l * b;
        const double *sequence = c[0];
        std::vector<T> hidden(l * b, T(0.0)), cells(l * b, T(0.0)), input(b);
        T loss = 0.0;
        for (long t = 0; t < steps; t++) {
            for (long i = 0; i < b; i++)
                input[i] = sequence[t * b + i] * extra[i];
            for (long layer = 0; layer < l; layer++) {
                const T *w = x.data() + 8 * layer * b, *bias = w + 4 * b;
                T *h = hidden.data() + layer * b, *cell = cells.data() + layer * b;
                for (long i = 0; i < b; i++) {
                    T forget = sigmoid(input[i] * w[i] + bias[i]);
                    T ingate = sigmoid(h[i] * w[b + i] + bias[b + i]);
                    T outgate = sigmoid(input[i] * w[2 * b + i] + bias[2 * b + i]);
                    T change = tanh(h[i] * w[3 * b + i] + bias[3 * b + i]);
                    cell[i] = cell[i] * forget + ingate * change;
                    h[i] = outgate * tanh(cell[i]);
                    input[i] = h[i];
                }
            }
            T sum = 2.0, score = 0.0;
            double ones = 0.0;
            for (long i = 0; i < b; i++) {
                T y = input[i] * extra[b + i] + extra[2 * b + i];
                sum += exp(y);
                score += sequence[(t + 1) * b + i] * y;
                ones += sequence[(t + 1) * b + i];
            }
            loss += score - ones * log(sum);
        }
        return -loss / double(steps * b);
    }

    static void rates(Variables x, const std::vector<T> &y, std::vector<T> &k)
    {
        k[0] = x[0];
        for (std::size_t i = 1; i < x.size(); i++)
            k[i] = x[i] * y[i - 1];
    }

    static T ode(Lengths lengths, Variables x, Constants)
    {
        long n = lengths[0], s = lengths[1];
        double h = 2.0 / double(s);
        std::vector<T> y(n, T(0.0)), k1(n), k2(n), k3(n), k4(n), between(n);
        for (long t = 0; t < s; t++) {
            rates(x, y, k1);
            for (long i = 0; i < n; i++)
                between[i] = y[i] + 0.5 * h * k1[i];
            rates(x, between, k2);
            for (long i = 0; i < n; i++)
                between[i] = y[i] + 0.5 * h * k2[i];
            rates(x, between, k3);
            for (long i = 0; i < n; i++)
                between[i] = y[i] + h * k3[i];
            rates(x, between, k4);
            for (long i = 0; i < n; i++)
                y[i] += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
        }
        return y[n - 1];
    }

    // Two errors of one observation: x is camera (11), point (3), weight, and two of feature.
    static void project(const T *x, const double *feature, T *error)
    {
        using std::cos, std::sin, std::sqrt;
        T angle = sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]), c = cos(angle), s = sin(angle);
        T axis[3], offset[3], turned[3];
        for (int i = 0; i < 3; i++) {
            axis[i] = x[i] / angle;
            offset[i] = x[11 + i] - x[3 + i];
        }
        T inner = axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2];
        T along = inner * (1.0 - c);
        for (int i = 0; i < 3; i++) {
            int j = (i + 1) % 3, k = (i + 2) % 3;
            T across = axis[j] * offset[k] - axis[k] * offset[j];
            turned[i] = offset[i] * c + across * s + axis[i] * along;
        }
        T p0 = turned[0] / turned[2], p1 = turned[1] / turned[2], rho = p0 * p0 + p1 * p1;
        T bend = 1.0 + x[9] * rho + x[10] * rho * rho;
        error[0] = x[14] * (x[6] * p0 * bend + x[7] - feature[0]);
        error[1] = x[14] * (x[6] * p1 * bend + x[8] - feature[1]);
    }
};

// The variables of a workload, one after another, and how many constant arrays follow.
inline std::vector<long> counts(const char *name, const long *n)
{
    switch (name[0] * 256 + name[1]) {
    case 'd' * 256 + 'e':
        return {n[0] * n[0]};
    case 'g' * 256 + 'm':
        return {n[1], n[1] * n[0], n[1] * n[0], n[1] * (n[0] * (n[0] - 1) / 2)};
    case 'k' * 256 + 'm':
        return {n[0] * n[2]};
    case 'l' * 256 + 'l':
        return {n[1]};
    case 'l' * 256 + 's':
        if (name[2] == 't')
            return {8 * n[0] * n[2], 3 * n[2]};
        return {n[0]};
    default:
        return {n[0]};
    }
}

// Where the rows of one observation go: called by both tapes.
inline void place(const long *lengths, long i, int *columns, int *starts)
{
    long n = lengths[0], m = lengths[1];
    for (int row = 0; row < 2; row++) {
        int *places = columns + 15 * (2 * i + row);
        for (int j = 0; j < 11; j++)
            places[j] = int(11 * (i % n) + j);
        for (int j = 0; j < 3; j++)
            places[11 + j] = int(11 * n + 3 * (i % m) + j);
        places[14] = int(11 * n + 3 * m + i);
        starts[2 * i + row] = int(15 * (2 * i + row));
    }
}

inline void gather(const long *lengths, const void *const *in, long i, double *x)
{
    const double *camera = static_cast<const double *>(in[0]) + 11 * (i % lengths[0]);
    const double *point = static_cast<const double *>(in[1]) + 3 * (i % lengths[1]);
    for (int j = 0; j < 11; j++)
        x[j] = camera[j];
    for (int j = 0; j < 3; j++)
        x[11 + j] = point[j];
    x[14] = static_cast<const double *>(in[2])[i];
}
