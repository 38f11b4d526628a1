/* test_tape.c: the C library without Python. Records and differentiates scalars and arrays, to second order, and
 * makes every allocation fail once. Prints what failed and exits with 1, or prints "ok". */
#include "expect.h"
#include "scalar.h"

#define NEAR(a, b) EXPECT(fabs((a) - (b)) <= 1e-12 * (1 + fabs(b)))

static fad_tape *new_tape(counter *c, size_t limit)
{
    fad_tape *tape = NULL;
    fad_allocator allocator = {counting, c};
    EXPECT(fad_tape_create(&tape, &allocator, &loops, limit) == FAD_OK);
    return tape;
}

static void destroy(fad_tape *tape, const counter *c)
{
    fad_tape_destroy(tape);
    EXPECT(c->blocks == 0);
    EXPECT(c->bytes == 0);
    EXPECT(!c->wrong_size);
}

/* --- recording --- */

static fad_status variable(fad_tape *tape, double value, uint32_t *out)
{
    return fad_push_scalar(tape, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, out);
}

static fad_status vector(fad_tape *tape, int op, unsigned flags, size_t n, const double *values, uint32_t *out)
{
    const fad_shape *shape;
    ptrdiff_t dim = (ptrdiff_t)n;
    TRY(fad_shape_intern(tape, 1, &dim, &shape));
    TRY(fad_new_array(tape, op, flags, 0, 0, 0, FAD_F64, shape, out));
    memcpy(tape->values[*out].array->data, values, n * sizeof *values);
    return FAD_OK;
}

static fad_status unary(fad_tape *tape, int op, uint32_t a, uint32_t *out)
{
    return fad_record_elementwise(tape, op, &a, -1, out);
}

static fad_status binary(fad_tape *tape, int op, uint32_t a, uint32_t b, uint32_t *out)
{
    uint32_t both[] = {a, b};
    return fad_record_elementwise(tape, op, both, -1, out);
}

static double number(const fad_tape *tape, uint32_t node)
{
    return *(const double *)fad_value_array(tape, node).data;
}

static const double *numbers(const fad_tape *tape, uint32_t node)
{
    return (const double *)fad_value_array(tape, node).data;
}

/* --- the reverse loop, as a host without Python writes it --- */

static fad_status reverse(fad_sweep *sweep, fad_tape *tape, uint32_t output)
{
    TRY(fad_sweep_begin(sweep, tape, (size_t)output + 1, true));
    sweep->adjoints[output].number = 1.0;
    size_t i = (size_t)output + 1;
    while ((i = fad_sweep_scalars(sweep, i)) > 0)
        TRY(fad_sweep_node(sweep, (uint32_t)--i));
    return FAD_OK;
}

static double adjoint_at(const fad_sweep *sweep, uint32_t node, size_t i)
{
    double one;
    fad_array array;
    if (!fad_sweep_get(sweep, node, &one, &array))
        return 0.0;
    if (array.shape->ndim == 0)
        return *(double *)array.data;
    return ((double *)array.data)[(ptrdiff_t)i * array.strides[0]];
}

/* --- scalars: the lecture's f(x) = sqrt(x^2 + exp x^2) + cos(x^2 + exp x^2) --- */

static fad_status lecture(fad_tape *tape, uint32_t x, uint32_t *y)
{
    uint32_t a, b, c, d, e;
    TRY(unary(tape, FAD_SQUARE, x, &a));
    TRY(unary(tape, FAD_EXP, a, &b));
    TRY(binary(tape, FAD_ADD, a, b, &c));
    TRY(unary(tape, FAD_SQRT, c, &d));
    TRY(unary(tape, FAD_COS, c, &e));
    return binary(tape, FAD_ADD, d, e, y);
}

static double lecture_derivative(double x)
{
    double inner = x * x + exp(x * x), slope = 2 * x + 2 * x * exp(x * x);
    return slope / (2 * sqrt(inner)) - sin(inner) * slope;
}

static void test_scalars(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t x, y, second, one, dx;
    EXPECT(variable(tape, 0.7, &x) == FAD_OK);
    EXPECT(lecture(tape, x, &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    double inner = 0.49 + exp(0.49);
    NEAR(number(tape, y), sqrt(inner) + cos(inner));
    NEAR(adjoint_at(&sweep, x, 0), lecture_derivative(0.7));

    /* The derivative as nodes has the same value, and its own derivative is the second. */
    EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
    EXPECT(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &x, &dx) == FAD_OK);
    NEAR(number(tape, dx), lecture_derivative(0.7));
    EXPECT(reverse(&sweep, tape, dx) == FAD_OK);
    double h = 1e-5, difference = (lecture_derivative(0.7 + h) - lecture_derivative(0.7 - h)) / (2 * h);
    EXPECT(fabs(adjoint_at(&sweep, x, 0) - difference) < 1e-8 * (1 + fabs(difference)));

    /* Forward mode agrees, and so does reverse over reverse with forward over reverse. */
    EXPECT(fad_emit_tangent(tape, tape->count, 1, &x, &one, 1, &dx, &second) == FAD_OK);
    NEAR(number(tape, second), adjoint_at(&sweep, x, 0));
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
}

/* --- arrays: sum(sin(v) * v[::-1]) + u[1]^2 --- */

enum { N = 5 };

static fad_status reversed(fad_tape *tape, uint32_t v, uint32_t *out)
{
    ptrdiff_t dim = N, start = N - 1, step = -1;
    int source = 0;
    uint32_t side;
    TRY(fad_make_view(tape, fad_node_shape(tape, v), 1, &dim, &start, &step, &source, &side));
    return fad_record_view(tape, v, side, out);
}

static fad_status array_function(fad_tape *tape, uint32_t v, uint32_t *y)
{
    uint32_t back, sine, product, sum, element, square;
    TRY(reversed(tape, v, &back));
    TRY(unary(tape, FAD_SIN, v, &sine));
    TRY(binary(tape, FAD_MUL, sine, back, &product));
    TRY(fad_record_sum_to(tape, product, tape->shapes[0], &sum));
    TRY(fad_record_element(tape, v, 1, &element));
    TRY(unary(tape, FAD_SQUARE, element, &square));
    return binary(tape, FAD_ADD, sum, square, y);
}

static const double POINT[N] = {0.3, -1.2, 2.0, 0.0, 0.9};

static double array_derivative(const double *v, size_t i)
{
    return cos(v[i]) * v[N - 1 - i] + sin(v[N - 1 - i]) + (i == 1 ? 2 * v[1] : 0);
}

static void test_arrays(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t v, y, one, gradient, direction, tangent, hessian_row;
    const double t[N] = {1, 0, -2, 0.5, 3};
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(array_function(tape, v, &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
    EXPECT(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &v, &gradient) == FAD_OK);
    EXPECT(fad_node_shape(tape, gradient) == fad_node_shape(tape, v));
    double along = 0;
    for (size_t i = 0; i < N; i++) {
        NEAR(adjoint_at(&sweep, v, i), array_derivative(POINT, i));
        NEAR(numbers(tape, gradient)[i], array_derivative(POINT, i));
        along += t[i] * array_derivative(POINT, i);
    }
    EXPECT(vector(tape, FAD_CONSTANT, FAD_HAS_ARRAY, N, t, &direction) == FAD_OK);
    EXPECT(fad_emit_tangent(tape, tape->count, 1, &v, &direction, 1, &y, &tangent) == FAD_OK);
    NEAR(number(tape, tangent), along);

    /* Hessian times t: reverse over the tangent, and tangent of the gradient. */
    EXPECT(reverse(&sweep, tape, tangent) == FAD_OK);
    EXPECT(fad_emit_tangent(tape, tape->count, 1, &v, &direction, 1, &gradient, &hessian_row) == FAD_OK);
    for (size_t i = 0; i < N; i++) {
        double expected = -sin(POINT[i]) * POINT[N - 1 - i] * t[i] + cos(POINT[i]) * t[N - 1 - i] +
                          cos(POINT[N - 1 - i]) * t[N - 1 - i] + (i == 1 ? 2 * t[1] : 0);
        NEAR(adjoint_at(&sweep, v, i), expected);
        NEAR(numbers(tape, hessian_row)[i], expected);
    }
    fad_sweep_end(&sweep, 0);
    size_t bad;
    const char *reason;
    EXPECT(fad_verify(tape, &bad, &reason));
    destroy(tape, &c);
}

static void test_a_matrix_product(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    const double values[6] = {1, 2, 3, 4, 5, 6};
    const ptrdiff_t tall[2] = {3, 2}, wide[2] = {2, 3};
    const fad_shape *a_shape, *b_shape;
    uint32_t flat, a, b, product, sum;
    EXPECT(fad_shape_intern(tape, 2, wide, &a_shape) == FAD_OK);
    EXPECT(fad_shape_intern(tape, 2, tall, &b_shape) == FAD_OK);
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, 6, values, &flat) == FAD_OK);
    EXPECT(fad_record_reshape(tape, flat, a_shape, &a) == FAD_OK);
    EXPECT(fad_record_reshape(tape, flat, b_shape, &b) == FAD_OK);
    EXPECT(fad_record_matmul(tape, a, a, &product) == FAD_BAD_SHAPE);
    EXPECT(fad_record_matmul(tape, a, b, &product) == FAD_OK);
    EXPECT(fad_record_sum_to(tape, product, tape->shapes[0], &sum) == FAD_OK);
    NEAR(number(tape, sum), 22.0 + 28.0 + 49.0 + 64.0);
    EXPECT(reverse(&sweep, tape, sum) == FAD_OK);
    /* d/da is the row sums of b, d/db the column sums of a; both live in `flat`. */
    const double expected[6] = {3 + 5, 7 + 5, 11 + 7, 3 + 7, 7 + 9, 11 + 9};
    for (size_t i = 0; i < 6; i++)
        NEAR(adjoint_at(&sweep, flat, i), expected[i]);
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
}

/* --- places of a nest of loops: overlapping, repeated and backwards --- */

typedef struct {
    ptrdiff_t dims[3], strides[3], start;
    size_t ndim;
} nest;

static const nest NESTS[] = {
    {{3, 2, 0}, {1, 2, 0}, 0, 2},  /* windows that overlap */
    {{2, 3, 2}, {0, 1, 1}, 1, 3},  /* an axis that repeats */
    {{5, 0, 0}, {-1, 0, 0}, 4, 1}, /* backwards */
    {{1, 5, 0}, {7, 1, 0}, 0, 2},  /* all of it, reshaped */
    {{0, 2, 0}, {9, 9, 0}, 9, 2},  /* nothing */
};

static ptrdiff_t place(const nest *n, size_t flat)
{
    ptrdiff_t at = n->start;
    for (size_t d = n->ndim; d-- > 0;) {
        at += (ptrdiff_t)(flat % (size_t)n->dims[d]) * n->strides[d];
        flat /= (size_t)n->dims[d];
    }
    return at;
}

/* sum(strided(v)^2), by reverse sweep, by nodes, and along a tangent. */
static void test_strided_places(void)
{
    for (size_t k = 0; k < sizeof NESTS / sizeof *NESTS; k++) {
        const nest *n = &NESTS[k];
        counter c = {0};
        fad_tape *tape = new_tape(&c, 0);
        fad_sweep sweep = {0};
        uint32_t v, back, side, part, square, y, one, gradient, added, tangent, direction;
        size_t bad;
        const char *reason;
        EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
        EXPECT(reversed(tape, v, &back) == FAD_OK); /* not contiguous: copied before it is read */
        EXPECT(fad_make_strided(tape, fad_node_shape(tape, v), n->ndim, n->dims, n->start, n->strides, &side) == FAD_OK);
        EXPECT(fad_record_strided(tape, back, side, &part) == FAD_OK);
        EXPECT(unary(tape, FAD_SQUARE, part, &square) == FAD_OK);
        EXPECT(fad_record_sum_to(tape, square, tape->shapes[0], &y) == FAD_OK);
        double expected[N] = {0}, value = 0, along = 0;
        size_t size = fad_node_shape(tape, part)->size;
        for (size_t i = 0; i < size; i++) {
            size_t at = (size_t)(N - 1 - place(n, i));
            value += POINT[at] * POINT[at];
            expected[at] += 2 * POINT[at];
        }
        NEAR(number(tape, y), value);
        EXPECT(reverse(&sweep, tape, y) == FAD_OK);
        EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
        EXPECT(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &v, &gradient) == FAD_OK);
        EXPECT(vector(tape, FAD_CONSTANT, FAD_HAS_ARRAY, N, POINT, &direction) == FAD_OK);
        EXPECT(fad_emit_tangent(tape, tape->count, 1, &v, &direction, 1, &y, &tangent) == FAD_OK);
        fad_array values = fad_value_array(tape, gradient);
        for (size_t i = 0; i < N; i++) {
            NEAR(adjoint_at(&sweep, v, i), expected[i]);
            NEAR(((double *)values.data)[(ptrdiff_t)i * values.strides[0]], expected[i]);
            along += POINT[i] * expected[i];
        }
        NEAR(number(tape, tangent), along);
        /* The transpose differentiated: sum of strided_add(part) * back is value itself. */
        EXPECT(fad_record_strided_add(tape, part, side, &added) == FAD_OK);
        EXPECT(binary(tape, FAD_MUL, added, back, &added) == FAD_OK);
        EXPECT(fad_record_sum_to(tape, added, tape->shapes[0], &added) == FAD_OK);
        NEAR(number(tape, added), value);
        EXPECT(reverse(&sweep, tape, added) == FAD_OK);
        for (size_t i = 0; i < N; i++)
            NEAR(adjoint_at(&sweep, v, i), expected[i]);
        EXPECT(fad_verify(tape, &bad, &reason));
        ((fad_strided *)tape->side[side])->start += size ? N : 0;
        EXPECT(fad_verify(tape, &bad, &reason) == (size == 0));
        fad_sweep_end(&sweep, 0);
        destroy(tape, &c);
    }
}

static void test_strided_refuses(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    const ptrdiff_t two = 2, far[] = {1, -1, PTRDIFF_MAX, PTRDIFF_MIN, N};
    const ptrdiff_t starts[] = {N - 1, 0, 1, 0, 0};
    uint32_t v, side, out;
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    const fad_shape *shape = fad_node_shape(tape, v);
    for (size_t i = 0; i < 5; i++)
        EXPECT(fad_make_strided(tape, shape, 1, &two, starts[i], &far[i], &out) == FAD_BAD_OPERAND);
    EXPECT(fad_make_strided(tape, shape, 1, &two, 0, far, &side) == FAD_OK);
    EXPECT(fad_record_strided_add(tape, v, side, &out) == FAD_BAD_SHAPE);
    EXPECT(fad_record_strided(tape, v, side, &out) == FAD_OK);
    EXPECT(fad_record_strided(tape, out, side, &out) == FAD_BAD_SHAPE);
    destroy(tape, &c);
}

/* --- extrema --- */

typedef struct {
    int op;
    size_t ndim, to_ndim;
    ptrdiff_t dims[3], to[3];
    double x[8];
} reduction;

static const reduction REDUCTIONS[] = {
    {FAD_MAX_TO, 1, 0, {5}, {0}, {1, 7, -3, 7, 2}},                        /* a tie */
    {FAD_MIN_TO, 1, 1, {4}, {1}, {1, -2, 5, 4}},
    {FAD_MAX_TO, 2, 1, {3, 2}, {2}, {1, 2, 4, 2, 4, -INFINITY}},           /* the first axis */
    {FAD_MIN_TO, 2, 2, {2, 4}, {2, 1}, {0, -0.0, 3, 4, 9, 8, 7, 6}},       /* the last axis */
    {FAD_MAX_TO, 3, 2, {2, 2, 2}, {2, 1}, {1, 2, 3, 4, 5, 6, 7, 4}},       /* the outer two */
    {FAD_MAX_TO, 1, 0, {4}, {0}, {1, NAN, 2, NAN}},                        /* NaNs share */
    {FAD_MIN_TO, 2, 1, {2, 3}, {3}, {1, NAN, INFINITY, 2, 3, INFINITY}},
    {FAD_MAX_TO, 1, 0, {3}, {0}, {-INFINITY, -INFINITY, -INFINITY}},
};

/* Place in the result of flat element `i` of the operand. */
static size_t reduced_place(const reduction *r, size_t i)
{
    size_t at = 0, step = 1;
    for (size_t d = r->ndim; d-- > 0;) {
        size_t own = i % (size_t)r->dims[d], k = d + r->to_ndim;
        i /= (size_t)r->dims[d];
        if (k < r->ndim)
            break;
        ptrdiff_t dim = r->to[k - r->ndim];
        at += dim == 1 ? 0 : own * step;
        step *= (size_t)dim;
    }
    return at;
}

static bool takes_part(const reduction *r, size_t i, double extremum) { return isnan(r->x[i]) || r->x[i] == extremum; }

static bool same(double a, double b) { return (isnan(a) && isnan(b)) || fabs(a - b) < 1e-14; }

/* sum(w * extremum): value, reverse sweep, reverse and tangent as nodes, against a slow loop. */
static void test_extrema(void)
{
    for (size_t k = 0; k < sizeof REDUCTIONS / sizeof *REDUCTIONS; k++) {
        const reduction *r = &REDUCTIONS[k];
        counter c = {0};
        fad_tape *tape = new_tape(&c, 0);
        fad_sweep sweep = {0};
        const fad_shape *shape, *to;
        const double weights[8] = {1, 10, 100, 1000};
        uint32_t flat, x, v, w, y, one, gradient, tangent;
        size_t bad;
        const char *reason;
        double extremum[8], count[8] = {0}, along = 0;
        EXPECT(fad_shape_intern(tape, r->ndim, r->dims, &shape) == FAD_OK);
        EXPECT(fad_shape_intern(tape, r->to_ndim, r->to, &to) == FAD_OK);
        EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, shape->size, r->x, &flat) == FAD_OK);
        EXPECT(fad_record_reshape(tape, flat, shape, &x) == FAD_OK);
        EXPECT(fad_record_extremum_to(tape, r->op, x, to, &v) == FAD_OK);
        for (size_t i = 0; i < to->size; i++)
            extremum[i] = r->op == FAD_MAX_TO ? -INFINITY : INFINITY;
        for (size_t i = 0; i < shape->size; i++) {
            double *best = &extremum[reduced_place(r, i)];
            if (isnan(r->x[i]) || (r->op == FAD_MAX_TO ? r->x[i] > *best : r->x[i] < *best))
                *best = r->x[i];
        }
        for (size_t i = 0; i < shape->size; i++)
            count[reduced_place(r, i)] += takes_part(r, i, extremum[reduced_place(r, i)]);
        for (size_t i = 0; i < to->size; i++)
            EXPECT(same(numbers(tape, v)[i], extremum[i]) || numbers(tape, v)[i] == extremum[i]);
        EXPECT(vector(tape, FAD_CONSTANT, FAD_HAS_ARRAY, to->size, weights, &w) == FAD_OK);
        EXPECT(fad_record_reshape(tape, w, to, &w) == FAD_OK);
        EXPECT(binary(tape, FAD_MUL, v, w, &y) == FAD_OK);
        EXPECT(binary(tape, FAD_ADD, y, x, &y) == FAD_OK); /* a second use of x */
        EXPECT(fad_record_sum_to(tape, y, tape->shapes[0], &y) == FAD_OK);
        EXPECT(reverse(&sweep, tape, y) == FAD_OK);
        EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
        EXPECT(fad_emit_reverse(tape, tape->count, 1, &v, &w, 1, &x, &gradient) == FAD_OK);
        EXPECT(fad_emit_tangent(tape, tape->count, 1, &x, &x, 1, &v, &tangent) == FAD_OK);
        for (size_t i = 0; i < shape->size; i++) {
            size_t at = reduced_place(r, i);
            double share = takes_part(r, i, extremum[at]) ? weights[at] / count[at] : 0;
            double uses = (double)(shape->size / to->size);
            EXPECT(same(adjoint_at(&sweep, flat, i), share * uses + 1));
            EXPECT(same(numbers(tape, gradient)[i], share));
            along += takes_part(r, i, extremum[at]) ? weights[at] * r->x[i] / count[at] : 0;
        }
        double pushed = 0;
        for (size_t i = 0; i < to->size; i++)
            pushed += weights[i] * numbers(tape, tangent)[i];
        EXPECT(same(pushed, along) || pushed == along);
        EXPECT(fad_verify(tape, &bad, &reason));
        fad_sweep_end(&sweep, 0);
        destroy(tape, &c);
    }
}

static void test_extrema_of_other_types(void)
{
    enum { LONG = 77 };
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    const fad_shape *shape, *none;
    const ptrdiff_t dim = LONG, nothing = 0;
    uint32_t whole, truth, out;
    EXPECT(fad_shape_intern(tape, 1, &dim, &shape) == FAD_OK);
    EXPECT(fad_shape_intern(tape, 1, &nothing, &none) == FAD_OK);
    EXPECT(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, &whole) == FAD_OK);
    EXPECT(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_BOOL, shape, &truth) == FAD_OK);
    for (int i = 0; i < LONG; i++) {
        ((int64_t *)tape->values[whole].array->data)[i] = i == 40 ? INT64_MIN : i * 31 % LONG;
        ((uint8_t *)tape->values[truth].array->data)[i] = i != 70;
    }
    EXPECT(fad_record_extremum_to(tape, FAD_MAX_TO, whole, tape->shapes[0], &out) == FAD_OK);
    EXPECT(*(int64_t *)tape->values[out].array->data == LONG - 1);
    EXPECT(fad_record_extremum_to(tape, FAD_MIN_TO, whole, tape->shapes[0], &out) == FAD_OK);
    EXPECT(*(int64_t *)tape->values[out].array->data == INT64_MIN);
    EXPECT(fad_record_extremum_to(tape, FAD_MIN_TO, truth, tape->shapes[0], &out) == FAD_OK);
    EXPECT(*(uint8_t *)tape->values[out].array->data == 0 && fad_node_dtype(tape, out) == FAD_BOOL);
    EXPECT(fad_record_extremum_to(tape, FAD_MAX_TO, truth, tape->shapes[0], &out) == FAD_OK);
    EXPECT(*(uint8_t *)tape->values[out].array->data == 1);
    EXPECT(fad_record_extremum_to(tape, FAD_MAX_TO, truth, shape, &out) == FAD_OK && out == truth);
    EXPECT(fad_record_extremum_to(tape, FAD_MAX_TO, out, none, &out) == FAD_BAD_SHAPE);
    EXPECT(fad_new_array(tape, FAD_CONSTANT, 0, 0, 0, 0, FAD_F64, none, &out) == FAD_OK);
    EXPECT(fad_record_extremum_to(tape, FAD_MAX_TO, out, tape->shapes[0], &out) == FAD_BAD_OPERAND);
    destroy(tape, &c);
}

/* --- numerical semantics --- */

static void test_strong_zero(void)
{
    /* where(x > 0, sqrt(x), 0) at x = -1 and at 0: the branch that is not taken has a NaN or infinite partial. */
    for (double at = -1.0; at <= 0.0; at += 1.0) {
        counter c = {0};
        fad_tape *tape = new_tape(&c, 0);
        fad_sweep sweep = {0};
        uint32_t x, zero, root, positive, y, one, dx, tangent;
        EXPECT(variable(tape, at, &x) == FAD_OK);
        EXPECT(fad_constant(tape, 0.0, &zero) == FAD_OK);
        EXPECT(unary(tape, FAD_SQRT, x, &root) == FAD_OK);
        EXPECT(binary(tape, FAD_GREATER, x, zero, &positive) == FAD_OK);
        uint32_t operands[] = {positive, root, zero};
        EXPECT(fad_record_elementwise(tape, FAD_SELECT, operands, -1, &y) == FAD_OK);
        EXPECT(reverse(&sweep, tape, y) == FAD_OK);
        EXPECT(adjoint_at(&sweep, x, 0) == 0.0);
        EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
        EXPECT(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &x, &dx) == FAD_OK);
        EXPECT(number(tape, dx) == 0.0);
        EXPECT(fad_emit_tangent(tape, tape->count, 1, &x, &one, 1, &y, &tangent) == FAD_OK);
        EXPECT(number(tape, tangent) == 0.0);
        fad_sweep_end(&sweep, 0);
        destroy(tape, &c);
    }
}

static void test_every_elementwise_row(void)
{
    /* Reverse sweep, reverse as nodes and tangent are three readings of one cell. */
    for (int op = 0; op < FAD_ELEMENTWISE_COUNT; op++) {
        counter c = {0};
        fad_tape *tape = new_tape(&c, 0);
        fad_sweep sweep = {0};
        uint32_t x[3], y, one, dx[3], tangent;
        const double at[3] = {0.6, 0.8, 0.3};
        for (int k = 0; k < 3; k++)
            EXPECT(variable(tape, at[k], &x[k]) == FAD_OK);
        EXPECT(fad_record_elementwise(tape, op, x, -1, &y) == FAD_OK);
        if (fad_node_dtype(tape, y) == FAD_F64) {
            EXPECT(reverse(&sweep, tape, y) == FAD_OK);
            EXPECT(fad_constant(tape, 1.0, &one) == FAD_OK);
            for (uint8_t k = 0; k < fad_ops[op].arity; k++) {
                EXPECT(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &x[k], &dx[k]) == FAD_OK);
                EXPECT(fad_emit_tangent(tape, tape->count, 1, &x[k], &one, 1, &y, &tangent) == FAD_OK);
                double numeric = adjoint_at(&sweep, x[k], 0);
                double emitted = dx[k] == FAD_NODE_NONE ? 0.0 : number(tape, dx[k]);
                double pushed = tangent == FAD_NODE_NONE ? 0.0 : number(tape, tangent);
                EXPECT((isnan(numeric) && isnan(emitted)) || fabs(numeric - emitted) <= 1e-14 * fabs(numeric));
                EXPECT((isnan(numeric) && isnan(pushed)) || fabs(numeric - pushed) <= 1e-14 * fabs(numeric));
            }
        }
        fad_sweep_end(&sweep, 0);
        destroy(tape, &c);
    }
}

/* --- the tape --- */

static void test_growth(void)
{
    enum { LONG = 100000 };
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t x, y;
    EXPECT(sizeof(fad_node) == 16);
    EXPECT(variable(tape, 0.5, &x) == FAD_OK);
    y = x;
    for (int i = 0; i < LONG; i++)
        EXPECT(unary(tape, i % 2 ? FAD_SIN : FAD_NEG, y, &y) == FAD_OK);
    EXPECT(tape->count == LONG + 1);
    EXPECT(tape->bytes == c.bytes);
    EXPECT(tape->bytes <= 2 * 24 * (size_t)LONG + (1 << 17));
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    double value = 0.5, slope = 1;
    for (int i = 0; i < LONG; i++) {
        slope *= i % 2 ? cos(value) : -1;
        value = i % 2 ? sin(value) : -value;
    }
    NEAR(number(tape, y), value);
    NEAR(adjoint_at(&sweep, x, 0), slope);
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
}

static void test_shapes(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    const fad_shape *a, *b, *both;
    const ptrdiff_t column[2] = {4, 1}, row[1] = {3}, other[1] = {5}, huge[2] = {PTRDIFF_MAX / 8, 16};
    const ptrdiff_t negative[1] = {-1}, none[2] = {0, 1000};
    EXPECT(fad_shape_intern(tape, 2, column, &a) == FAD_OK);
    EXPECT(fad_shape_intern(tape, 1, row, &b) == FAD_OK);
    EXPECT(fad_shape_broadcast(tape, a, b, &both) == FAD_OK);
    EXPECT(both->ndim == 2 && both->dims[0] == 4 && both->dims[1] == 3 && both->size == 12);
    EXPECT(both->strides[0] == 3 && both->strides[1] == 1);
    EXPECT(fad_shape_expands(b, both) && fad_shape_expands(tape->shapes[0], a) && !fad_shape_expands(both, b));
    const fad_shape *again;
    EXPECT(fad_shape_intern(tape, 2, both->dims, &again) == FAD_OK && again == both);
    EXPECT(fad_shape_intern(tape, 1, other, &a) == FAD_OK);
    EXPECT(fad_shape_broadcast(tape, a, b, &both) == FAD_BAD_SHAPE);
    EXPECT(fad_shape_intern(tape, 2, huge, &a) == FAD_BAD_SHAPE);
    EXPECT(fad_shape_intern(tape, 1, negative, &a) == FAD_BAD_SHAPE);
    EXPECT(fad_shape_intern(tape, FAD_MAX_NDIM + 1, column, &a) == FAD_BAD_SHAPE);
    EXPECT(fad_shape_intern(tape, 2, none, &a) == FAD_OK && a->size == 0);
    for (ptrdiff_t i = 0; i < 3000; i++)
        EXPECT(fad_shape_intern(tape, 1, &i, &a) == FAD_OK && a->size == (size_t)i);
    size_t count = tape->shape_count;
    for (ptrdiff_t i = 0; i < 3000; i++)
        EXPECT(fad_shape_intern(tape, 1, &i, &a) == FAD_OK && a->size == (size_t)i);
    EXPECT(tape->shape_count == count);
    destroy(tape, &c);
}

static void test_rewind_and_reset(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t x, y, seven, again;
    EXPECT(variable(tape, 0.7, &x) == FAD_OK);
    EXPECT(lecture(tape, x, &y) == FAD_OK);
    size_t mark = tape->count;
    EXPECT(fad_constant(tape, 7.0, &seven) == FAD_OK);
    EXPECT(fad_constant(tape, 7.0, &again) == FAD_OK && again == seven);
    fad_tape_rewind(tape, mark);
    EXPECT(tape->count == mark);
    /* The constant is gone: another node may now have its place. */
    EXPECT(unary(tape, FAD_NEG, x, &again) == FAD_OK && again == seven);
    EXPECT(fad_constant(tape, 7.0, &seven) == FAD_OK && seven != again && number(tape, seven) == 7.0);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    NEAR(adjoint_at(&sweep, x, 0), lecture_derivative(0.7));
    fad_sweep_end(&sweep, 0);

    uint64_t generation = tape->generation;
    fad_tape_reset(tape, (size_t)1 << 20);
    EXPECT(tape->count == 0 && tape->generation > generation);
    size_t kept = c.bytes;
    EXPECT(variable(tape, -0.2, &x) == FAD_OK && x == 0);
    EXPECT(lecture(tape, x, &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    NEAR(adjoint_at(&sweep, x, 0), lecture_derivative(-0.2));
    fad_sweep_end(&sweep, 0);
    EXPECT(c.bytes == kept); /* a recording of the same size takes no new memory */
    fad_tape_reset(tape, 0);
    EXPECT(c.bytes < kept);
    destroy(tape, &c);
}

/* The sweep stops at the leaves that begin the tape: it has to notice when they change, and to work on one of them. */
static void test_leaves(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t x[5], y;
    for (int i = 0; i < 5; i++)
        EXPECT(variable(tape, i + 1.0, &x[i]) == FAD_OK);
    EXPECT(binary(tape, FAD_MUL, x[4], x[0], &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK && tape->leaves == 5);
    NEAR(adjoint_at(&sweep, x[0], 0), 5.0);
    EXPECT(reverse(&sweep, tape, x[2]) == FAD_OK);
    NEAR(adjoint_at(&sweep, x[2], 0), 1.0);

    fad_tape_rewind(tape, 2);
    EXPECT(unary(tape, FAD_SQUARE, x[1], &y) == FAD_OK);
    EXPECT(unary(tape, FAD_SQUARE, y, &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK && tape->leaves == 2);
    NEAR(adjoint_at(&sweep, x[1], 0), 32.0);
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
}

static void test_limit(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 1 << 18);
    uint32_t x, y;
    EXPECT(variable(tape, 0.5, &x) == FAD_OK);
    y = x;
    fad_status status = FAD_OK;
    for (int i = 0; i < 1000000 && status == FAD_OK; i++)
        status = unary(tape, FAD_SIN, y, &y);
    EXPECT(status == FAD_OVER_LIMIT);
    EXPECT(c.bytes <= 1 << 18);
    size_t bad;
    const char *reason;
    EXPECT(fad_verify(tape, &bad, &reason));
    /* What was recorded is not lost, and recording goes on once there is room. */
    tape->limit = 0;
    fad_sweep sweep = {0};
    EXPECT(unary(tape, FAD_SIN, y, &y) == FAD_OK);
    EXPECT(reverse(&sweep, tape, y) == FAD_OK);
    EXPECT(adjoint_at(&sweep, x, 0) > 0);
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
}

static void test_verify_finds(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    uint32_t x, y, v, w;
    size_t bad;
    const char *reason;
    EXPECT(variable(tape, 0.7, &x) == FAD_OK);
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(binary(tape, FAD_MUL, v, x, &w) == FAD_OK);
    EXPECT(fad_record_sum_to(tape, w, tape->shapes[0], &y) == FAD_OK);
    EXPECT(fad_verify(tape, &bad, &reason));
    fad_node good = tape->nodes[w];
    tape->nodes[w].op = FAD_OP_COUNT;
    EXPECT(!fad_verify(tape, &bad, &reason) && bad == w);
    tape->nodes[w] = good;
    tape->nodes[w].a = w;
    EXPECT(!fad_verify(tape, &bad, &reason) && bad == w);
    tape->nodes[w] = good;
    tape->nodes[w].flags &= (uint16_t)~FAD_HAS_ARRAY;
    EXPECT(!fad_verify(tape, &bad, &reason) && bad == w);
    tape->nodes[w] = good;
    tape->nodes[y].aux = 12345;
    EXPECT(!fad_verify(tape, &bad, &reason) && bad == y && reason != NULL);
    destroy(tape, &c);
}

typedef struct {
    char text[4096];
    size_t length;
} page;

static void write_page(void *context, const char *text)
{
    page *p = context;
    size_t n = strlen(text);
    if (p->length + n < sizeof p->text) {
        memcpy(p->text + p->length, text, n + 1);
        p->length += n;
    }
}

static void test_dump(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    page p = {{0}, 0};
    uint32_t x, v, two, w, y;
    EXPECT(variable(tape, 0.7, &x) == FAD_OK);
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(fad_constant(tape, 2.0, &two) == FAD_OK);
    EXPECT(binary(tape, FAD_MUL, v, two, &w) == FAD_OK);
    EXPECT(fad_record_element(tape, w, 3, &y) == FAD_OK);
    EXPECT(binary(tape, FAD_ADD, x, y, &y) == FAD_OK);
    const ptrdiff_t dims[2] = {2, 3}, strides[2] = {-1, 0};
    uint32_t side;
    EXPECT(fad_make_strided(tape, fad_node_shape(tape, w), 2, dims, 4, strides, &side) == FAD_OK);
    EXPECT(fad_record_strided(tape, w, side, &y) == FAD_OK);
    fad_dump(tape, 0, 100, write_page, &p);
    const char *expected = "%0 = VARIABLE : f64\n"
                           "%1 = VARIABLE : f64[5]\n"
                           "%2 = CONSTANT 2 : f64\n"
                           "%3 = MUL %1 %2 : f64[5]\n"
                           "%4 = ELEMENT %3 #3 : f64\n"
                           "%5 = ADD %0 %4 : f64\n"
                           "%6 = STRIDED %3 @4:-1,0 : f64[2,3]\n";
    EXPECT(strcmp(p.text, expected) == 0);
    destroy(tape, &c);
}

static void test_bad_operands(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    uint32_t v, at, out;
    const int64_t outside[2] = {0, N}, negative[1] = {-1};
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(fad_record_indices(tape, 2, outside, &at) == FAD_OK);
    EXPECT(fad_record_gather(tape, v, at, &out) == FAD_BAD_OPERAND);
    EXPECT(fad_record_indices(tape, 1, negative, &at) == FAD_OK);
    EXPECT(fad_record_gather(tape, v, at, &out) == FAD_BAD_OPERAND);
    EXPECT(fad_record_element(tape, v, N, &out) == FAD_BAD_OPERAND);
    ptrdiff_t dim = 3, start = 3, step = 1;
    int source = 0;
    EXPECT(fad_make_view(tape, fad_node_shape(tape, v), 1, &dim, &start, &step, &source, &out) == FAD_BAD_OPERAND);
    EXPECT(fad_record_cumsum(tape, v, 1, false, &out) == FAD_BAD_OPERAND);
    destroy(tape, &c);
}

/* --- writes in place --- */

static fad_status elements(fad_tape *tape, uint32_t v, ptrdiff_t start, ptrdiff_t n, ptrdiff_t step, uint32_t *side)
{
    int source = 0;
    return fad_make_view(tape, fad_node_shape(tape, v), 1, &n, &start, &step, &source, side);
}

/* 3 v, the elements 0 and 2 negated, then element 4 the sum of 0 and 1; each version's node. */
static fad_status writes(fad_tape *tape, uint32_t v, uint32_t *versions)
{
    uint32_t three, part, side, at, e, f;
    const int64_t last = 4;
    TRY(fad_constant(tape, 3.0, &three));
    TRY(binary(tape, FAD_MUL, v, three, &versions[0]));
    TRY(elements(tape, v, 0, 2, 2, &side));
    TRY(fad_record_view(tape, versions[0], side, &part));
    TRY(unary(tape, FAD_NEG, part, &part));
    TRY(fad_assign_view(tape, versions[0], part, side, &versions[1]));
    TRY(fad_record_element(tape, versions[1], 0, &e));
    TRY(fad_record_element(tape, versions[1], 1, &f));
    TRY(binary(tape, FAD_ADD, e, f, &e));
    TRY(fad_record_stack(tape, 1, &e, &f));
    TRY(fad_record_indices(tape, 1, &last, &at));
    TRY(fad_assign_at(tape, versions[1], f, at, &versions[2]));
    return fad_assign_view(tape, versions[2], part, side, &versions[3]);
}

static void test_writes_in_place(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    uint32_t v, y[4], side, out;
    double before[N];
    size_t bad;
    const char *reason;
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(writes(tape, v, y) == FAD_OK);
    EXPECT(numbers(tape, y[1]) != numbers(tape, y[0]));
    EXPECT(numbers(tape, y[3]) == numbers(tape, y[1]));
    EXPECT(fad_is_superseded(tape, y[1]) && fad_is_superseded(tape, y[2]) && !fad_is_superseded(tape, y[3]));
    EXPECT(fad_took_over(tape, y[2]) && !fad_took_over(tape, y[1]));
    for (size_t i = 0; i < 4; i++)
        NEAR(numbers(tape, y[3])[i], i % 2 ? 3 * POINT[i] : -3 * POINT[i]);
    NEAR(numbers(tape, y[3])[4], 3 * (POINT[1] - POINT[0]));

    /* What was overwritten is no operand any more, and can be had again. */
    size_t count = tape->count;
    EXPECT(unary(tape, FAD_SIN, y[1], &out) == FAD_BAD_OPERAND && tape->count == count);
    EXPECT(fad_record_element(tape, y[2], 0, &out) == FAD_BAD_OPERAND && tape->count == count);
    fad_array array = *tape->values[y[1]].array;
    array.data = (char *)before;
    fad_rebuild(tape, y[1], &array);
    NEAR(before[4], 3 * POINT[4]);
    NEAR(before[2], -3 * POINT[2]);
    EXPECT(fad_verify(tape, &bad, &reason));
    EXPECT(fad_hold(tape, y[1]) == FAD_OK && unary(tape, FAD_SIN, y[1], &out) == FAD_OK);
    NEAR(numbers(tape, out)[4], sin(3 * POINT[4]));
    EXPECT(!fad_took_over(tape, y[2]));

    /* Held: the next write copies, also one of the array to a part of itself. */
    EXPECT(elements(tape, v, N - 1, N, -1, &side) == FAD_OK);
    EXPECT(fad_assign_view(tape, y[3], y[3], side, &out) == FAD_OK);
    EXPECT(numbers(tape, out) != numbers(tape, y[3]) && numbers(tape, out)[0] == numbers(tape, y[3])[4]);
    EXPECT(fad_hold(tape, out) == FAD_OK);
    y[0] = out;
    EXPECT(fad_assign_view(tape, y[0], y[3], side, &out) == FAD_OK && numbers(tape, out) != numbers(tape, y[0]));

    uint32_t total;
    EXPECT(fad_record_sum_to(tape, y[3], tape->shapes[0], &total) == FAD_OK && reverse(&sweep, tape, total) == FAD_OK);
    const double expected[N] = {-6, 6, -3, 3, 0};
    for (size_t i = 0; i < N; i++)
        NEAR(adjoint_at(&sweep, v, i), expected[i]);
    fad_sweep_end(&sweep, 0);

    /* Rewinding undoes writes. */
    fad_tape_rewind(tape, y[3]);
    EXPECT(!fad_is_superseded(tape, y[2]));
    NEAR(numbers(tape, y[2])[4], 3 * (POINT[1] - POINT[0]));
    fad_tape_rewind(tape, y[2]);
    NEAR(numbers(tape, y[1])[4], 3 * POINT[4]);
    destroy(tape, &c);
}

static void test_returning_undoes_writes(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    uint32_t v, y[4], side, part, out;
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(writes(tape, v, y) == FAD_OK);
    double before[N];
    memcpy(before, numbers(tape, y[3]), sizeof before);
    EXPECT(elements(tape, v, 1, 2, 1, &side) == FAD_OK && fad_record_view(tape, v, side, &part) == FAD_OK);
    fad_bookmark mark = fad_tape_bookmark(tape);
    size_t bytes = tape->bytes;
    for (int i = 0; i < 3; i++) {
        EXPECT(fad_assign_view(tape, y[3], part, side, &out) == FAD_OK);
        EXPECT(numbers(tape, out) == numbers(tape, y[3]) && numbers(tape, out)[1] == POINT[1]);
        fad_tape_return(tape, &mark);
        EXPECT(memcmp(before, numbers(tape, y[3]), sizeof before) == 0 && tape->bytes == bytes);
        tape->nodes[y[3]].flags |= FAD_IS_OWNED;
    }
    destroy(tape, &c);
}

/* Versions before and after a cut have their values, in two buffers. */
static void test_a_chain_that_is_cut(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    uint32_t v, y[4];
    double before[4][N], after[N];
    EXPECT(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(writes(tape, v, y) == FAD_OK);
    for (int i = 1; i < 4; i++) {
        fad_array array = *tape->values[y[i]].array;
        array.data = (char *)before[i];
        fad_rebuild(tape, y[i], &array);
    }
    EXPECT(fad_cut(tape, y[1]) == FAD_OK && numbers(tape, y[1]) == numbers(tape, y[3]));
    EXPECT(fad_cut(tape, y[3]) == FAD_OK && fad_cut(tape, v) == FAD_OK);
    EXPECT(numbers(tape, y[3]) != numbers(tape, y[2]) && numbers(tape, y[2]) == numbers(tape, y[1]));
    EXPECT(fad_is_superseded(tape, y[1]) && !fad_is_superseded(tape, y[2]) && !fad_took_over(tape, y[3]));
    memset(tape->values[y[3]].array->data, 0, sizeof after);
    for (int i = 1; i < 3; i++) {
        fad_array array = *tape->values[y[i]].array;
        array.data = (char *)after;
        fad_rebuild(tape, y[i], &array);
        EXPECT(memcmp(before[i], after, sizeof after) == 0);
    }
    destroy(tape, &c);
}

/* A constant of a trace is what it was, not what overwrote it. */
static void test_overwritten_constants(void)
{
    counter c = {0}, d = {0};
    fad_tape *tape = new_tape(&c, 0), *dry = new_tape(&d, 0);
    uint32_t x, v, y[3], two, side, out, map[16] = {0};
    const ptrdiff_t start[2] = {1, 3}, step = 1;
    EXPECT(variable(tape, 0.7, &x) == FAD_OK && fad_constant(tape, 2.0, &two) == FAD_OK);
    EXPECT(vector(tape, FAD_CONSTANT, FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(fad_make_view(tape, fad_node_shape(tape, v), 0, &step, &start[0], &step, NULL, &side) == FAD_OK);
    EXPECT(fad_assign_view(tape, v, two, side, &y[0]) == FAD_OK);
    EXPECT(fad_make_view(tape, fad_node_shape(tape, v), 0, &step, &start[1], &step, NULL, &side) == FAD_OK);
    EXPECT(fad_assign_view(tape, y[0], two, side, &y[1]) == FAD_OK);
    EXPECT(fad_assign_view(tape, y[1], x, side, &y[2]) == FAD_OK);
    EXPECT(numbers(tape, y[2]) == numbers(tape, y[1]) && numbers(tape, y[1]) == numbers(tape, y[0]));
    fad_trace trace = {.tape = tape, .input_count = 1, .output_count = 1, .inputs = &x, .outputs = &y[2]};
    EXPECT(fad_trace_mark(&trace) == FAD_OK);
    EXPECT(fad_is_superseded(tape, y[0]) && !fad_is_superseded(tape, y[1]) && !fad_is_superseded(tape, y[2]));
    EXPECT(numbers(tape, y[1])[1] == 2.0 && numbers(tape, y[1])[3] == 2.0 && numbers(tape, y[2])[3] == 0.7);
    dry->dry = true;
    EXPECT(fad_trace_copy(dry, tape, y[1], map, &out) == FAD_OK && numbers(dry, out)[3] == 2.0);
    destroy(tape, &c);
    destroy(dry, &d);
}

/* On a dry tape nothing that depends on an input has memory, nor takes it over. */
static void test_writes_on_a_dry_tape(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    uint32_t x, two, v, y[4], side;
    const fad_shape *shape;
    const ptrdiff_t n = N;
    tape->dry = true;
    EXPECT(fad_shape_intern(tape, 1, &n, &shape) == FAD_OK && fad_constant(tape, 2.0, &two) == FAD_OK);
    EXPECT(fad_new_array(tape, FAD_VARIABLE, FAD_INHERITED, 0, 0, 0, FAD_F64, shape, &x) == FAD_OK);
    EXPECT(vector(tape, FAD_CONSTANT, FAD_HAS_ARRAY, N, POINT, &v) == FAD_OK);
    EXPECT(elements(tape, v, 0, N, 1, &side) == FAD_OK);
    EXPECT(fad_assign_view(tape, v, v, side, &y[0]) == FAD_OK && numbers(tape, y[0]) != numbers(tape, v));
    EXPECT(fad_assign_view(tape, y[0], x, side, &y[1]) == FAD_OK && fad_assign_view(tape, y[1], v, side, &y[2]) == FAD_OK);
    EXPECT(!numbers(tape, y[1]) && !numbers(tape, y[2]) && numbers(tape, y[0])[1] == POINT[1]);
    EXPECT(!(tape->nodes[y[1]].flags & FAD_IS_VERSION) && !fad_is_superseded(tape, y[0]));
    EXPECT(fad_assign_view(tape, x, v, side, &y[3]) == FAD_OK && !numbers(tape, y[3]));
    destroy(tape, &c);
}

/* --- allocation failure --- */

/* Everything that allocates, once: 0 where it all went well. */
static fad_status full_run(fad_tape *tape, fad_sweep *sweep, double *result)
{
    uint32_t v, x, y, z, one, gradient, tangent, parts[2], joined, at, side, picked, scattered, summed, product,
        versions[4];
    uint32_t largest;
    const int64_t indices[N] = {4, 0, 0, 2, 1};
    TRY(vector(tape, FAD_VARIABLE, FAD_IS_ACTIVE | FAD_HAS_ARRAY, N, POINT, &v));
    TRY(variable(tape, 0.7, &x));
    TRY(array_function(tape, v, &y));
    TRY(lecture(tape, x, &z));
    TRY(binary(tape, FAD_MUL, v, x, &product));
    parts[0] = product;
    parts[1] = v;
    TRY(fad_record_concatenate(tape, 2, parts, 0, &joined));
    TRY(fad_record_indices(tape, N, indices, &at));
    TRY(fad_record_gather(tape, joined, at, &picked));
    TRY(fad_record_scatter_add(tape, picked, at, fad_node_shape(tape, v), &scattered));
    TRY(fad_record_update_at(tape, joined, picked, at, &joined) == FAD_OK ? FAD_OK : FAD_NO_MEMORY);
    const ptrdiff_t dims[2] = {2, 2}, strides[2] = {1, 1};
    TRY(fad_make_strided(tape, fad_node_shape(tape, scattered), 2, dims, 0, strides, &side));
    TRY(reversed(tape, scattered, &scattered));
    TRY(fad_record_strided(tape, scattered, side, &picked));
    TRY(fad_record_strided_add(tape, picked, side, &scattered));
    TRY(fad_record_cumsum(tape, scattered, 0, true, &summed));
    TRY(fad_record_sum_to(tape, summed, tape->shapes[0], &summed));
    TRY(fad_record_extremum_to(tape, FAD_MAX_TO, joined, tape->shapes[0], &largest));
    TRY(binary(tape, FAD_MUL, summed, largest, &summed));
    TRY(binary(tape, FAD_MUL, y, z, &y));
    TRY(binary(tape, FAD_ADD, y, summed, &y));
    TRY(writes(tape, v, versions));
    TRY(fad_hold(tape, versions[1]));
    TRY(fad_cut(tape, versions[3]));
    TRY(fad_record_sum_to(tape, versions[3], tape->shapes[0], &summed));
    TRY(binary(tape, FAD_ADD, y, summed, &y));
    for (int i = 0; i < 200; i++)
        TRY(unary(tape, i % 2 ? FAD_SIN : FAD_EXP, y, &y));
    TRY(reverse(sweep, tape, y));
    *result = adjoint_at(sweep, x, 0);
    TRY(fad_constant(tape, 1.0, &one));
    TRY(fad_emit_reverse(tape, tape->count, 1, &y, &one, 1, &x, &gradient));
    TRY(fad_emit_tangent(tape, tape->count, 1, &x, &one, 1, &gradient, &tangent));
    TRY(reverse(sweep, tape, gradient));
    *result += adjoint_at(sweep, x, 0) + number(tape, tangent);
    return FAD_OK;
}

static void test_every_allocation_fails_once(void)
{
    double right = 0, result = 0;
    counter c = {0};
    fad_tape *tape = new_tape(&c, 0);
    fad_sweep sweep = {0};
    EXPECT(full_run(tape, &sweep, &right) == FAD_OK);
    fad_sweep_end(&sweep, 0);
    destroy(tape, &c);
    long n = 0;
    for (bool failed = true; failed && failures == 0; ) {
        n++;
        counter d = {0};
        fad_allocator allocator = {counting, &d};
        d.failing_in = n;
        memset(&sweep, 0, sizeof sweep);
        fad_status status = fad_tape_create(&tape, &allocator, &loops, 0);
        failed = status != FAD_OK;
        if (failed) {
            EXPECT(status == FAD_NO_MEMORY && d.blocks == 0);
            continue;
        }
        status = full_run(tape, &sweep, &result);
        failed = status != FAD_OK;
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
        d.failing_in = 0;
        size_t bad;
        const char *reason;
        EXPECT(fad_verify(tape, &bad, &reason));
        EXPECT(tape->bytes == d.bytes);
        /* The tape that failed works again. */
        fad_tape_reset(tape, n % 2 ? (size_t)1 << 20 : 0);
        EXPECT(full_run(tape, &sweep, &result) == FAD_OK);
        NEAR(result, right);
        fad_sweep_end(&sweep, 0);
        destroy(tape, &d);
    }
    EXPECT(n > 5);
    printf("%ld allocations failed, one at a time\n", n - 1);
}

int main(void)
{
    fad_default_loops(&loops);
    test_scalars();
    test_arrays();
    test_a_matrix_product();
    test_strided_places();
    test_strided_refuses();
    test_extrema();
    test_extrema_of_other_types();
    test_strong_zero();
    test_every_elementwise_row();
    test_growth();
    test_shapes();
    test_rewind_and_reset();
    test_leaves();
    test_limit();
    test_verify_finds();
    test_dump();
    test_bad_operands();
    test_writes_in_place();
    test_returning_undoes_writes();
    test_a_chain_that_is_cut();
    test_overwritten_constants();
    test_writes_on_a_dry_tape();
    test_every_allocation_fails_once();
    return finish();
}
