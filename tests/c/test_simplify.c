/* test_simplify.c: the passes that make traces smaller keep what outputs and guards say: bit for bit when strict,
 * to rounding otherwise; gradients too. Prints what failed and exits with 1, or prints "ok". */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fastad.h"

static int failures;

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);     \
            failures++;                                                                  \
        }                                                                                \
    } while (0)
#define TRY(call)                    \
    do {                             \
        fad_status status_ = (call); \
        if (status_ != FAD_OK)       \
            return status_;          \
    } while (0)
#define DO(call) EXPECT((call) == FAD_OK)

static fad_loops loops;

typedef fad_status (*pass)(const fad_trace *in, fad_trace *out, bool strict);

/* --- an allocator that counts, and fails from the n-th growth on --- */

typedef struct {
    long blocks, failing_in;
} counter;

static void *counting(void *context, void *p, size_t old_size, size_t size)
{
    counter *c = context;
    if (size > old_size && c->failing_in > 0 && --c->failing_in == 0) {
        c->failing_in = 1;
        return NULL;
    }
    if (size == 0) {
        c->blocks -= p != NULL;
        free(p);
        return NULL;
    }
    void *grown = realloc(p, size);
    c->blocks += grown && !p;
    return grown;
}

static fad_tape *new_tape(void)
{
    fad_tape *tape = NULL;
    DO(fad_tape_create(&tape, NULL, &loops, 0));
    return tape;
}

/* --- recording --- */

static uint32_t scalar(fad_tape *t, double value)
{
    uint32_t out = 0;
    DO(fad_push_scalar(t, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, &out));
    return out;
}

static uint32_t number(fad_tape *t, double value)
{
    uint32_t out = 0;
    DO(fad_constant(t, value, &out));
    return out;
}

static const fad_shape *shape_of(fad_tape *t, size_t ndim, const ptrdiff_t *dims)
{
    const fad_shape *shape = NULL;
    DO(fad_shape_intern(t, ndim, dims, &shape));
    return shape;
}

static uint32_t array(fad_tape *t, int op, const fad_shape *shape, const double *values)
{
    uint32_t out = 0;
    DO(fad_new_array(t, op, op == FAD_VARIABLE ? FAD_IS_ACTIVE : 0, 0, 0, 0, FAD_F64, shape, &out));
    memcpy(t->values[out].array->data, values, shape->size * sizeof *values);
    return out;
}

static uint32_t apply(fad_tape *t, int op, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t operands[] = {a, b, c}, out = 0;
    DO(fad_record_elementwise(t, op, operands, -1, &out));
    return out;
}

static uint32_t un(fad_tape *t, int op, uint32_t a) { return apply(t, op, a, 0, 0); }

static uint32_t bin(fad_tape *t, int op, uint32_t a, uint32_t b) { return apply(t, op, a, b, 0); }

/* --- a trace and its passes --- */

enum { MOST_NAMED = 16 };

typedef struct {
    fad_trace trace;
    uint32_t inputs[MOST_NAMED], outputs[MOST_NAMED], guards[MOST_NAMED];
} recording;

static void begin(recording *r)
{
    memset(r, 0, sizeof *r);
    r->trace = (fad_trace){new_tape(), 0, 0, 0, r->inputs, r->outputs, r->guards};
}

static void input(recording *r, uint32_t node) { r->inputs[r->trace.input_count++] = node; }

static void output(recording *r, uint32_t node) { r->outputs[r->trace.output_count++] = node; }

static fad_trace run(pass p, const fad_trace *in, bool strict)
{
    fad_trace out = {.tape = new_tape()};
    size_t bad = 0;
    const char *reason = "";
    DO(fad_trace_mark(in));
    out.tape->host = in->tape->host;
    DO(p(in, &out, strict));
    if (!fad_verify(out.tape, &bad, &reason)) {
        fprintf(stderr, "node %zu: %s\n", bad, reason);
        failures++;
    }
    return out;
}

/* --- evaluating --- */

static void put_values(fad_tape *to, uint32_t node, const fad_tape *from, uint32_t like)
{
    fad_array x = fad_value_array(to, node), y = fad_value_array(from, like);
    if (fad_is_array(to, node))
        memcpy(x.data, y.data, x.shape->size * fad_itemsize(x.dtype));
    else
        to->values[node].number = from->values[like].number;
}

/* The nodes of `trace` computed at the inputs of `from`: a tape, and where each node is on it. */
static fad_tape *evaluate(const fad_trace *trace, const fad_trace *from, uint32_t *map)
{
    fad_trace values = {.tape = new_tape()};
    DO(fad_trace_begin(&values, values.tape, trace));
    fad_tape *t = values.tape;
    t->dry = false;
    fad_tape_reset(t, 0);
    for (size_t i = 0; i < trace->tape->count; i++) {
        const fad_node *n = &trace->tape->nodes[i];
        map[i] = 0;
        if (n->op == FAD_VARIABLE && fad_is_array(trace->tape, (uint32_t)i)) {
            const fad_shape *shape = NULL, *own = fad_node_shape(trace->tape, (uint32_t)i);
            DO(fad_shape_intern(t, own->ndim, own->dims, &shape));
            DO(fad_new_array(t, FAD_VARIABLE, FAD_INHERITED, 0, 0, 0, fad_node_dtype(trace->tape, (uint32_t)i), shape,
                             &map[i]));
        } else if (n->op == FAD_VARIABLE) {
            DO(fad_push_scalar(t, FAD_VARIABLE, FAD_INHERITED, 0, 0, 0, 0, &map[i]));
        } else {
            DO(fad_trace_copy(t, trace->tape, (uint32_t)i, map, &map[i]));
        }
        for (size_t k = 0; k < trace->input_count && n->op == FAD_VARIABLE; k++)
            if (trace->inputs[k] == i)
                put_values(t, map[i], from->tape, from->inputs[k]);
    }
    return t;
}

static double element(const fad_array *a, size_t i)
{
    ptrdiff_t at = 0;
    for (size_t d = a->shape->ndim; d-- > 0;) {
        at += (ptrdiff_t)(i % (size_t)a->shape->dims[d]) * a->strides[d];
        i /= (size_t)a->shape->dims[d];
    }
    return a->dtype == FAD_F64   ? ((const double *)a->data)[at]
           : a->dtype == FAD_F32 ? (double)((const float *)a->data)[at]
           : a->dtype == FAD_I64 ? (double)((const int64_t *)a->data)[at]
                                 : ((const uint8_t *)a->data)[at];
}

/* `tolerance` 0: the same bits, but for NaN. */
static bool close_to(double x, double y, double tolerance)
{
    if (isnan(x) || isnan(y))
        return isnan(x) && isnan(y);
    if (tolerance == 0 || isinf(x) || isinf(y))
        return x == y && (tolerance > 0 || signbit(x) == signbit(y));
    return fabs(x - y) <= tolerance * (1 + fabs(y));
}

static bool same_values(const fad_array *x, const fad_array *y, double tolerance)
{
    if (x->shape->size != y->shape->size || x->shape->ndim != y->shape->ndim || x->dtype != y->dtype)
        return false;
    if (x->dtype == FAD_F32 && tolerance > 0)
        tolerance = tolerance < 1e-4 ? 1e-4 : tolerance;
    for (size_t i = 0; i < x->shape->size; i++)
        if (!close_to(element(x, i), element(y, i), tolerance))
            return false;
    return true;
}

/* Whether outputs and guards of `out`, computed at the inputs of `in`, are what they are in `in`. */
static bool agrees(const fad_trace *in, const fad_trace *out, double tolerance)
{
    uint32_t *map = malloc((out->tape->count + 1) * sizeof *map);
    fad_tape *t = evaluate(out, in, map);
    bool same = true;
    for (size_t i = 0; i < in->output_count; i++) {
        fad_array x = fad_value_array(t, map[out->outputs[i]]), y = fad_value_array(in->tape, in->outputs[i]);
        same &= same_values(&x, &y, tolerance);
    }
    for (size_t i = 0; i < in->guard_count; i++) {
        fad_array x = fad_value_array(t, map[out->guards[i]]), y = fad_value_array(in->tape, in->guards[i]);
        same &= same_values(&x, &y, 0);
    }
    fad_tape_destroy(t);
    free(map);
    return same;
}

/* --- the text of a trace --- */

static void write_text(void *context, const char *text)
{
    char *to = context;
    if (strlen(to) + strlen(text) < 4000)
        strcat(to, text);
}

static void expect_text(int line, const recording *r, bool strict, const char *expected)
{
    static char text[4096];
    fad_trace out = run(fad_pass_simplify, &r->trace, strict);
    text[0] = 0;
    fad_dump(out.tape, 0, out.tape->count, write_text, text);
    if (strcmp(text, expected) != 0) {
        fprintf(stderr, "%s:%d: expected\n%sbut got\n%s", __FILE__, line, expected, text);
        failures++;
    }
    EXPECT(agrees(&r->trace, &out, strict ? 0 : 1e-12));
    fad_tape_destroy(out.tape);
}

static void end(recording *r) { fad_tape_destroy(r->trace.tape); }

/* --- det --- */

static uint32_t det(fad_tape *t, const uint32_t *a, int ell, int row, unsigned columns)
{
    uint32_t sum = 0;
    bool first = true;
    double sign = 1;
    for (int j = 0; j < ell; j++) {
        if (!(columns & 1u << j))
            continue;
        unsigned rest = columns & ~(1u << j);
        uint32_t term = a[row * ell + j];
        if (rest)
            term = bin(t, FAD_MUL, term, det(t, a, ell, row + 1, rest));
        if (first)
            sum = sign > 0 ? term : un(t, FAD_NEG, term);
        else
            sum = bin(t, sign > 0 ? FAD_ADD : FAD_SUB, sum, term);
        first = false;
        sign = -sign;
    }
    return sum;
}

/* Of the processor: what others do on the machine does not count. */
static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void test_det(int ell)
{
    fad_tape *t = new_tape();
    uint32_t a[100], y;
    fad_trace in = {t, (size_t)(ell * ell), 1, 0, a, &y, NULL};
    for (int i = 0; i < ell * ell; i++)
        a[i] = scalar(t, sin(i + 1.0));
    y = det(t, a, ell, 0, (1u << ell) - 1);
    double start = seconds();
    fad_trace out = run(fad_pass_simplify, &in, true);
    double end = seconds();
    printf("det %d: %zu nodes become %zu, %.0f ns a node\n", ell, t->count, out.tape->count,
           1e9 * (end - start) / (double)t->count);
    EXPECT(out.tape->count <= (size_t)(ell * ell) + (size_t)ell * (1u << ell));
    fad_tape_destroy(out.tape);
    fad_tape_destroy(t);
}

/* --- gradients, as a good engineer would write them --- */

/* Appends the gradient of scalar `y` by the inputs, as outputs. */
static void append_gradient(recording *r, uint32_t y)
{
    uint32_t one = number(r->trace.tape, 1.0), results[MOST_NAMED];
    fad_tape *t = r->trace.tape;
    DO(fad_emit_reverse(t, t->count, 1, &y, &one, r->trace.input_count, r->inputs, results));
    for (size_t i = 0; i < r->trace.input_count; i++)
        if (results[i] != FAD_NODE_NONE)
            output(r, results[i]);
}

static uint32_t slice(fad_tape *t, uint32_t a, ptrdiff_t start, ptrdiff_t count, ptrdiff_t step)
{
    uint32_t side = 0, out = 0;
    int source = 0;
    DO(fad_make_view(t, fad_node_shape(t, a), 1, &count, &start, &step, &source, &side));
    DO(fad_record_view(t, a, side, &out));
    return out;
}

static uint32_t total(fad_tape *t, uint32_t a)
{
    uint32_t out = 0;
    DO(fad_record_sum_to(t, a, t->shapes[0], &out));
    return out;
}

static uint32_t vector(recording *r, size_t n)
{
    double values[64];
    ptrdiff_t dim = (ptrdiff_t)n;
    for (size_t i = 0; i < n; i++)
        values[i] = 0.3 + 0.4 * sin(3.0 * (double)i);
    uint32_t x = array(r->trace.tape, FAD_VARIABLE, shape_of(r->trace.tape, 1, &dim), values);
    input(r, x);
    return x;
}

static void rosenbrock(recording *r, ptrdiff_t n)
{
    begin(r);
    fad_tape *t = r->trace.tape;
    uint32_t x = vector(r, (size_t)n), later = slice(t, x, 1, n - 1, 1), sooner = slice(t, x, 0, n - 1, 1);
    uint32_t d = un(t, FAD_SQUARE, bin(t, FAD_SUB, later, un(t, FAD_SQUARE, sooner)));
    uint32_t e = un(t, FAD_SQUARE, bin(t, FAD_SUB, number(t, 1), sooner));
    uint32_t y = total(t, bin(t, FAD_ADD, bin(t, FAD_MUL, number(t, 100), d), e));
    output(r, y);
    append_gradient(r, y);
}

static void test_rosenbrock(void)
{
    recording r;
    rosenbrock(&r, 5);
    expect_text(__LINE__, &r, false,
                "%0 = VARIABLE : f64[5]\n"
                "%1 = VIEW %0 : f64[4]\n"
                "%2 = VIEW %0 : f64[4]\n"
                "%3 = SQUARE %2 : f64[4]\n"
                "%4 = SUB %1 %3 : f64[4]\n"
                "%5 = SQUARE %4 : f64[4]\n"
                "%6 = CONSTANT 1 : f64\n"
                "%7 = SUB %6 %2 : f64[4]\n"
                "%8 = SQUARE %7 : f64[4]\n"
                "%9 = CONSTANT 100 : f64\n"
                "%10 = MUL %5 %9 : f64[4]\n"
                "%11 = ADD %10 %8 : f64[4]\n"
                "%12 = SUM_TO %11 : f64\n"
                "%13 = CONSTANT -2 : f64\n"
                "%14 = MUL %7 %13 : f64[4]\n"
                "%15 = CONSTANT 200 : f64\n"
                "%16 = MUL %4 %15 : f64[4]\n"
                "%17 = ZMUL %4 %2 : f64[4]\n"
                "%18 = CONSTANT -400 : f64\n"
                "%19 = MUL %17 %18 : f64[4]\n"
                "%20 = ADD %14 %19 : f64[4]\n"
                "%21 = EMBED %20 : f64[5]\n"
                "%22 = EMBED %16 : f64[5]\n"
                "%23 = ADD %21 %22 : f64[5]\n");
    end(&r);
}

/* log(sum(exp(x - max))) + max, the largest element chosen by the host. */
static void test_logsumexp(void)
{
    recording r;
    begin(&r);
    fad_tape *t = r.trace.tape;
    uint32_t x = vector(&r, 5), top = 0;
    DO(fad_record_element(t, x, 3, &top));
    uint32_t sum = total(t, un(t, FAD_EXP, bin(t, FAD_SUB, x, top)));
    uint32_t y = bin(t, FAD_ADD, un(t, FAD_LOG, sum), top);
    output(&r, y);
    append_gradient(&r, y);
    expect_text(__LINE__, &r, false,
                "%0 = VARIABLE : f64[5]\n"
                "%1 = ELEMENT %0 #3 : f64\n"
                "%2 = SUB %0 %1 : f64[5]\n"
                "%3 = EXP %2 : f64[5]\n"
                "%4 = SUM_TO %3 : f64\n"
                "%5 = LOG %4 : f64\n"
                "%6 = ADD %5 %1 : f64\n"
                "%7 = CONSTANT 1 : f64\n"
                "%8 = RECIPROCAL %4 : f64\n"
                "%9 = ZMUL %8 %3 : f64[5]\n"
                "%10 = SUM_TO %9 : f64\n"
                "%11 = SUB %7 %10 : f64\n"
                "%12 = BROADCAST_TO %11 : f64[1]\n"
                "%13 = EMBED %12 : f64[5]\n"
                "%14 = ADD %9 %13 : f64[5]\n");
    end(&r);
}

/* sum(tanh(W @ x + b)) */
static void test_dense_layer(void)
{
    recording r;
    begin(&r);
    fad_tape *t = r.trace.tape;
    const ptrdiff_t shape[] = {2, 3}, column[] = {3, 1};
    const double weights[] = {0.1, -0.2, 0.3, 0.4, -0.5, 0.6};
    uint32_t w = array(t, FAD_VARIABLE, shape_of(t, 2, shape), weights), h = 0;
    input(&r, w);
    uint32_t x = vector(&r, 3), b = vector(&r, 2);
    DO(fad_record_reshape(t, x, shape_of(t, 2, column), &h));
    DO(fad_record_matmul(t, w, h, &h));
    DO(fad_record_reshape(t, h, fad_node_shape(t, b), &h));
    uint32_t y = total(t, un(t, FAD_TANH, bin(t, FAD_ADD, h, b)));
    output(&r, y);
    append_gradient(&r, y);
    expect_text(__LINE__, &r, false,
                "%0 = VARIABLE : f64[2,3]\n"
                "%1 = VARIABLE : f64[3]\n"
                "%2 = VARIABLE : f64[2]\n"
                "%3 = RESHAPE %1 : f64[3,1]\n"
                "%4 = MATMUL %0 %3 : f64[2,1]\n"
                "%5 = RESHAPE %4 : f64[2]\n"
                "%6 = ADD %5 %2 : f64[2]\n"
                "%7 = TANH %6 : f64[2]\n"
                "%8 = SUM_TO %7 : f64\n"
                "%9 = CONSTANT 1 : f64\n"
                "%10 = ADD %7 %9 : f64[2]\n"
                "%11 = SUB %9 %7 : f64[2]\n"
                "%12 = MUL %11 %10 : f64[2]\n"
                "%13 = RESHAPE %12 : f64[2,1]\n"
                "%14 = VIEW %0 : f64[3,2]\n"
                "%15 = MATMUL %14 %13 : f64[3,1]\n"
                "%16 = RESHAPE %1 : f64[1,3]\n"
                "%17 = MATMUL %13 %16 : f64[2,3]\n"
                "%18 = RESHAPE %15 : f64[3]\n");
    end(&r);
}

/* y = zeros; y[0] = x; y[i+1] = 2 y[i] + y[i-1], updates and all: the reads find what was written. */
static void test_updates(void)
{
    recording r;
    begin(&r);
    fad_tape *t = r.trace.tape;
    const ptrdiff_t dim = 4;
    const double zeros[4] = {0};
    uint32_t x = scalar(t, 0.5), y = array(t, FAD_CONSTANT, shape_of(t, 1, &dim), zeros), last = x, side = 0;
    input(&r, x);
    for (ptrdiff_t i = 0; i < 4; i++) {
        ptrdiff_t step = 1;
        uint32_t read[2] = {x, x};
        for (int k = 0; k < 2 && i > k; k++) {
            ptrdiff_t at = i - 1 - k;
            DO(fad_make_view(t, fad_node_shape(t, y), 0, NULL, &at, &step, NULL, &side));
            DO(fad_record_view(t, y, side, &read[k]));
        }
        last = i ? bin(t, FAD_ADD, bin(t, FAD_MUL, read[0], number(t, 2)), read[1]) : x;
        DO(fad_make_view(t, fad_node_shape(t, y), 0, NULL, &i, &step, NULL, &side));
        DO(fad_record_update_view(t, y, last, side, &y));
    }
    output(&r, last);
    expect_text(__LINE__, &r, true,
                "%0 = VARIABLE : f64\n"
                "%1 = CONSTANT 2 : f64\n"
                "%2 = MUL %0 %1 : f64\n"
                "%3 = ADD %2 %0 : f64\n"
                "%4 = MUL %3 %1 : f64\n"
                "%5 = ADD %4 %0 : f64\n"
                "%6 = MUL %5 %1 : f64\n"
                "%7 = ADD %6 %3 : f64\n");
    end(&r);
}

/* --- single identities: text of what is left of one expression --- */

static void expect_op(int line, const recording *r, bool strict, const char *expected)
{
    static char text[4096];
    fad_trace out = run(fad_pass_simplify, &r->trace, strict);
    text[0] = 0;
    fad_dump(out.tape, out.outputs[0], (size_t)out.outputs[0] + 1, write_text, text);
    if (strcmp(text, expected) != 0) {
        fprintf(stderr, "%s:%d: expected %s but got %s", __FILE__, line, expected, text);
        failures++;
    }
    EXPECT(agrees(&r->trace, &out, strict ? 0 : 1e-12));
    fad_tape_destroy(out.tape);
}

/* What becomes of op(x, c) and op(c, x) for a scalar x. */
static void expect_constant(int line, int op, bool first, double c, const char *strict, const char *loose)
{
    static const double points[] = {0.7, 0.0, -0.0, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        recording r;
        begin(&r);
        uint32_t x = scalar(r.trace.tape, points[i]), k = number(r.trace.tape, c);
        input(&r, x);
        output(&r, first ? bin(r.trace.tape, op, k, x) : bin(r.trace.tape, op, x, k));
        expect_op(line, &r, true, strict);
        expect_op(line, &r, false, loose);
        end(&r);
    }
}

#define X "%0 = VARIABLE : f64\n"

static void test_constants(void)
{
    expect_constant(__LINE__, FAD_MUL, false, 1, X, X);
    expect_constant(__LINE__, FAD_MUL, true, 1, X, X);
    expect_constant(__LINE__, FAD_MUL, true, -1, "%1 = NEG %0 : f64\n", "%1 = NEG %0 : f64\n");
    expect_constant(__LINE__, FAD_MUL, true, 0, "%2 = MUL %0 %1 : f64\n", "%2 = MUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_ADD, true, 0, "%2 = ADD %0 %1 : f64\n", X);
    expect_constant(__LINE__, FAD_ADD, false, -0.0, X, X);
    expect_constant(__LINE__, FAD_SUB, false, 0, X, X);
    expect_constant(__LINE__, FAD_SUB, false, -0.0, "%2 = SUB %0 %1 : f64\n", X);
    expect_constant(__LINE__, FAD_SUB, true, -0.0, "%1 = NEG %0 : f64\n", "%1 = NEG %0 : f64\n");
    expect_constant(__LINE__, FAD_SUB, true, 0, "%2 = SUB %1 %0 : f64\n", "%1 = NEG %0 : f64\n");
    expect_constant(__LINE__, FAD_DIV, false, 8, "%2 = MUL %0 %1 : f64\n", "%2 = MUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_DIV, false, 3, "%2 = DIV %0 %1 : f64\n", "%2 = MUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_DIV, true, 1, "%1 = RECIPROCAL %0 : f64\n", "%1 = RECIPROCAL %0 : f64\n");
    expect_constant(__LINE__, FAD_ZMUL, true, 1, X, X);
    expect_constant(__LINE__, FAD_ZMUL, true, 0, "%1 = CONSTANT 0 : f64\n", "%1 = CONSTANT 0 : f64\n");
    expect_constant(__LINE__, FAD_ZMUL, true, -0.0, "%1 = CONSTANT 0 : f64\n", "%1 = CONSTANT 0 : f64\n");
    expect_constant(__LINE__, FAD_ZMUL, false, 1, "%2 = ZMUL %0 %1 : f64\n", X);
    expect_constant(__LINE__, FAD_ZMUL, false, INFINITY, "%2 = ZMUL %0 %1 : f64\n", "%2 = ZMUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_ZMUL, true, INFINITY, "%2 = MUL %0 %1 : f64\n", "%2 = MUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_SMUL, true, 1, "%2 = SMUL %1 %0 : f64\n", X);
    expect_constant(__LINE__, FAD_SMUL, true, 0, "%1 = CONSTANT 0 : f64\n", "%1 = CONSTANT 0 : f64\n");
    expect_constant(__LINE__, FAD_SMUL, false, 2, "%2 = SMUL %0 %1 : f64\n", "%2 = MUL %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_POW, false, 0, "%1 = CONSTANT 1 : f64\n", "%1 = CONSTANT 1 : f64\n");
    expect_constant(__LINE__, FAD_POW, false, 2, "%2 = POW %0 %1 : f64\n", "%1 = SQUARE %0 : f64\n");
    expect_constant(__LINE__, FAD_POW, false, 3, "%2 = POW %0 %1 : f64\n", "%2 = MUL %1 %0 : f64\n");
    expect_constant(__LINE__, FAD_POW, false, -1, "%2 = POW %0 %1 : f64\n", "%1 = RECIPROCAL %0 : f64\n");
    expect_constant(__LINE__, FAD_POW, false, 0.5, "%2 = POW %0 %1 : f64\n", "%2 = POW %0 %1 : f64\n");
    expect_constant(__LINE__, FAD_GREATER, false, 0.5, "%2 = LESS %1 %0 : f64\n", "%2 = LESS %1 %0 : f64\n");
}

/* Sums over what was repeated, slices of slices, transposes of transposes. */
static void test_structure(void)
{
    recording r;
    const int swapped[] = {1, 0};
    uint32_t a = 0, b = 0, side = 0;
    begin(&r);
    fad_tape *t = r.trace.tape;
    const ptrdiff_t matrix[] = {4, 5};
    uint32_t x = vector(&r, 5);
    DO(fad_record_broadcast_to(t, x, shape_of(t, 2, matrix), &a));
    output(&r, a);
    DO(fad_record_sum_to(t, bin(t, FAD_MUL, a, a), fad_node_shape(t, x), &r.outputs[0]));
    expect_op(__LINE__, &r, false, "%3 = MUL %1 %2 : f64[5]\n");
    expect_op(__LINE__, &r, true, "%3 = SUM_TO %2 : f64[5]\n");
    DO(fad_record_transpose(t, a, swapped, &b));
    DO(fad_record_transpose(t, b, swapped, &r.outputs[0]));
    expect_op(__LINE__, &r, true, "%1 = BROADCAST_TO %0 : f64[4,5]\n");
    r.outputs[0] = slice(t, slice(t, x, 4, 5, -1), 1, 2, 2);
    expect_op(__LINE__, &r, true, "%1 = VIEW %0 : f64[2]\n");
    a = slice(t, x, 4, 5, -1);
    side = t->nodes[a].aux;
    DO(fad_record_embed(t, a, side, &r.outputs[0]));
    expect_op(__LINE__, &r, true, "%0 = VARIABLE : f64[5]\n");
    a = slice(t, x, 1, 2, 1);
    DO(fad_record_embed(t, un(t, FAD_EXP, a), t->nodes[a].aux, &b));
    r.outputs[0] = slice(t, b, 1, 2, 1);
    expect_op(__LINE__, &r, true, "%2 = EXP %1 : f64[2]\n");
    r.outputs[0] = slice(t, b, 3, 2, 1);
    expect_op(__LINE__, &r, true, "%1 = CONSTANT : f64[2]\n");
    r.outputs[0] = bin(t, FAD_ZMUL, b, x);
    expect_op(__LINE__, &r, true, "%4 = EMBED %3 : f64[5]\n");
    uint32_t elements[3];
    for (size_t i = 0; i < 3; i++)
        DO(fad_record_element(t, x, 4 - 2 * i, &elements[i]));
    DO(fad_record_stack(t, 3, elements, &r.outputs[0]));
    expect_op(__LINE__, &r, true, "%1 = VIEW %0 : f64[3]\n");
    DO(fad_record_element(t, r.outputs[0], 1, &r.outputs[0]));
    expect_op(__LINE__, &r, true, "%1 = ELEMENT %0 #2 : f64\n");
    end(&r);
}

/* A constant array of equal elements is one number; two that are equal are one node. */
static void test_constant_arrays(void)
{
    recording r;
    begin(&r);
    fad_tape *t = r.trace.tape;
    const ptrdiff_t dim = 5;
    const double sevens[] = {7, 7, 7, 7, 7}, data[] = {1, 2, 3, 4, 5};
    uint32_t x = vector(&r, 5), k[2];
    output(&r, bin(t, FAD_ADD, array(t, FAD_CONSTANT, shape_of(t, 1, &dim), sevens), x));
    expect_op(__LINE__, &r, true, "%2 = ADD %0 %1 : f64[5]\n");
    for (int i = 0; i < 2; i++)
        k[i] = bin(t, FAD_SUB, x, array(t, FAD_CONSTANT, shape_of(t, 1, &dim), data));
    r.outputs[0] = bin(t, FAD_MUL, k[0], k[1]);
    expect_op(__LINE__, &r, true, "%3 = SQUARE %2 : f64[5]\n");
    end(&r);
}

/* --- rules of a host --- */

typedef struct {
    long held;
} rule;

static void retain(void *context, void *held)
{
    (void)context;
    ((rule *)held)->held++;
}

static void release(void *context, void *held)
{
    (void)context;
    ((rule *)held)->held--;
}

/* Of three CUSTOM nodes, two the same, one dead: two are left, each with both of its outputs. */
static void test_custom(void)
{
    recording r;
    rule own = {0};
    begin(&r);
    fad_tape *t = r.trace.tape;
    t->host = (fad_custom_host){.retain = retain, .release = release};
    uint32_t x = scalar(t, 1.0), first[3];
    input(&r, x);
    const uint8_t dtypes[] = {FAD_F64, FAD_F64};
    const fad_shape *shapes[] = {t->shapes[0], t->shapes[0]};
    for (int i = 0; i < 3; i++) {
        DO(fad_new_custom(t, &own, 1, &x, 2, dtypes, shapes, &first[i]));
        own.held++;
        t->values[first[i]].number = t->values[first[i] + 1].number = 0;
    }
    output(&r, bin(t, FAD_MUL, first[0] + 1, first[2]));
    fad_trace out = run(fad_pass_simplify, &r.trace, false), dead = run(fad_pass_dead, &r.trace, true);
    EXPECT(out.tape->count == 6 && dead.tape->count == 6);
    EXPECT(own.held == 7);
    EXPECT(out.tape->nodes[out.outputs[0]].a == 2 && out.tape->nodes[out.outputs[0]].b == 3);
    fad_tape_destroy(out.tape);
    fad_tape_destroy(dead.tape);
    end(&r);
    EXPECT(own.held == 0);
}

/* --- random traces --- */

typedef struct {
    recording r;
    uint64_t state;
    bool smooth, special;     /* only what rounding does not make jump; infinities, NaN and zeros among the inputs */
    uint32_t pool[256];
    size_t count;
} generator;

static unsigned pick(generator *g, unsigned n)
{
    g->state = g->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(g->state >> 33) % n;
}

static double sample(generator *g)
{
    static const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1.0, -1.0, 1e-300};
    if (g->special && pick(g, 3) == 0)
        return odd[pick(g, 8)];
    return ((double)pick(g, 4001) - 2000.0) / 1000.0;
}

static double sample_constant(generator *g)
{
    static const double usual[] = {0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -2.0, 100.0, 0.1, INFINITY, NAN};
    return usual[pick(g, g->smooth ? 10 : 12)];
}

static void keep(generator *g, uint32_t node)
{
    if (g->count < 256)
        g->pool[g->count++] = node;
}

static const fad_shape *random_shape(generator *g)
{
    static const ptrdiff_t shapes[][3] = {{3}, {1}, {4, 3}, {1, 3}, {4, 1}, {2, 4, 3}, {3, 4}, {12}};
    static const size_t ndims[] = {1, 1, 2, 2, 2, 3, 2, 1};
    unsigned i = pick(g, 8);
    return shape_of(g->r.trace.tape, ndims[i], shapes[i]);
}

static uint32_t random_array(generator *g, int op)
{
    const fad_shape *shape = random_shape(g);
    double values[24], same = sample_constant(g);
    bool even = op == FAD_CONSTANT && pick(g, 2);
    for (size_t i = 0; i < shape->size; i++)
        values[i] = even ? same : sample(g);
    return array(g->r.trace.tape, op, shape, values);
}

static uint32_t operand(generator *g)
{
    unsigned recent = g->count > 8 && pick(g, 2) ? 8 : (unsigned)g->count;
    return g->pool[g->count - 1 - pick(g, recent)];
}

/* Small integers above, so that few of what is made is huge. */
static int random_op(generator *g)
{
    static const int likely[] = {FAD_ADD, FAD_SUB,  FAD_MUL,    FAD_NEG,  FAD_ZMUL, FAD_SMUL,
                                 FAD_SQUARE, FAD_POS, FAD_MUL, FAD_ADD, FAD_NEG, FAD_ZMUL};
    static const int smooth[] = {FAD_SIN, FAD_TANH, FAD_COSH, FAD_ABS, FAD_MAXIMUM, FAD_FABS};
    if (pick(g, 3))
        return likely[pick(g, 12)];
    int op = g->smooth ? smooth[pick(g, 6)] : (int)pick(g, FAD_ELEMENTWISE_COUNT);
    return op == FAD_SIGNBIT || op == FAD_COPYSIGN ? FAD_NEG : op; /* they see the sign of a NaN */
}

static void random_elementwise(generator *g)
{
    fad_tape *t = g->r.trace.tape;
    int op = random_op(g);
    uint32_t x[3] = {operand(g), operand(g), operand(g)}, out;
    if (pick(g, 4) == 0 && fad_ops[op].arity > 1)
        x[pick(g, 2)] = pick(g, 2) ? number(t, sample_constant(g)) : random_array(g, FAD_CONSTANT);
    if (g->smooth && pick(g, 12) == 0) {
        static const double exponents[] = {0, 1, 2, 3, 4};
        op = FAD_POW;
        x[1] = number(t, exponents[pick(g, 5)]);
    }
    if (g->smooth && pick(g, 12) == 0) {
        op = FAD_DIV;
        x[1] = number(t, 1.0 + pick(g, 4));
    }
    if (g->smooth && op == FAD_COSH)
        x[0] = un(t, FAD_TANH, x[0]);
    if (op == FAD_MAXIMUM && g->smooth)
        x[1] = x[0]; /* another tie is broken by rounding */
    if (fad_record_elementwise(t, op, x, -1, &out) == FAD_OK)
        keep(g, out);
}

static fad_status random_view(generator *g, uint32_t a, uint32_t *side)
{
    fad_tape *t = g->r.trace.tape;
    const fad_shape *whole = fad_node_shape(t, a);
    ptrdiff_t dims[4], start[4], step[4];
    int source[4], axes[3] = {0, 1, 2};
    size_t ndim = 0;
    for (size_t s = 0; s < whole->ndim; s++) {
        size_t other = s + pick(g, (unsigned)(whole->ndim - s));
        int axis = axes[s];
        axes[s] = axes[other];
        axes[other] = axis;
    }
    for (size_t s = 0; s < whole->ndim; s++) {
        ptrdiff_t size = whole->dims[axes[s]], dim = 1 + (ptrdiff_t)pick(g, (unsigned)size);
        if (pick(g, 2))
            dim = size;
        ptrdiff_t most = dim > 1 ? (size - 1) / (dim - 1) : 1;
        ptrdiff_t by = most > 0 ? 1 + (ptrdiff_t)pick(g, (unsigned)most) : 1, span = (dim - 1) * by;
        bool back = pick(g, 3) == 0;
        start[axes[s]] = (ptrdiff_t)pick(g, (unsigned)(size - span)) + (back ? span : 0);
        if (pick(g, 4) == 0 && ndim < 4) {
            dims[ndim] = 1;
            step[ndim] = 1;
            source[ndim++] = -1;
        }
        if (ndim == 4 || pick(g, 4) == 0)
            continue; /* one index, the axis goes */
        dims[ndim] = dim;
        step[ndim] = back ? -by : by;
        source[ndim++] = axes[s];
    }
    return ndim > 3 ? FAD_BAD_SHAPE : fad_make_view(t, whole, ndim, dims, start, step, source, side);
}

static fad_status random_indices(generator *g, const fad_shape *shape, size_t most, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    TRY(fad_new_array(t, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, out));
    int64_t *at = (int64_t *)t->values[*out].array->data;
    unsigned first = pick(g, (unsigned)most), step = pick(g, 3);
    for (size_t i = 0; i < shape->size; i++)
        at[i] = step ? (int64_t)((first + i * step) % most) : (int64_t)pick(g, (unsigned)most);
    return FAD_OK;
}

static fad_status random_list(generator *g, uint32_t a, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    uint32_t nodes[4] = {a, a, a, a};
    size_t count = 1 + pick(g, 4);
    if (fad_is_array(t, a) && pick(g, 2))
        return fad_record_concatenate(t, count, nodes, pick(g, 3), out);
    if (fad_is_array(t, a) && fad_node_dtype(t, a) == FAD_F64 && pick(g, 2)) {
        unsigned first = pick(g, (unsigned)fad_node_shape(t, a)->size), step = pick(g, 3);
        for (size_t i = 0; i < count; i++)
            TRY(fad_record_element(t, a, (first + i * step) % fad_node_shape(t, a)->size, &nodes[i]));
        return fad_record_stack(t, count, nodes, out);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t b = operand(g);
        if (fad_node_shape(t, b) == fad_node_shape(t, a) && fad_node_dtype(t, b) == fad_node_dtype(t, a))
            nodes[i] = b;
    }
    return fad_is_array(t, a) || pick(g, 2) ? fad_record_nsum(t, count, nodes, out)
                                            : fad_record_stack(t, count, nodes, out);
}

static fad_status random_structural(generator *g, uint32_t *out)
{
    fad_tape *t = g->r.trace.tape;
    uint32_t a = operand(g), b = operand(g), side, indices;
    const fad_shape *shape = fad_node_shape(t, a);
    switch (pick(g, 14)) {
    case 0:
    case 1:
        return fad_record_broadcast_to(t, a, random_shape(g), out);
    case 2:
        return fad_record_sum_to(t, a, pick(g, 2) ? t->shapes[0] : random_shape(g), out);
    case 3:
        return fad_record_reshape(t, a, random_shape(g), out);
    case 4:
    case 5:
        TRY(random_view(g, a, &side));
        TRY(fad_record_view(t, a, side, out));
        keep(g, *out);
        return fad_record_embed(t, pick(g, 2) ? *out : b, side, out);
    case 6:
        TRY(random_view(g, a, &side));
        TRY(fad_record_update_view(t, a, b, side, out));
        keep(g, *out);
        return fad_record_view(t, *out, side, out);
    case 7:
        return fad_record_element(t, a, pick(g, (unsigned)shape->size), out);
    case 8:
    case 9:
        return random_list(g, a, out);
    case 10:
        TRY(random_indices(g, random_shape(g), shape->size, &indices));
        TRY(fad_record_gather(t, a, indices, out));
        keep(g, *out);
        return fad_record_scatter_add(t, *out, indices, shape, out);
    case 11:
        return fad_record_cast(t, a, pick(g, 2) ? FAD_F32 : FAD_F64, out);
    case 12:
        return pick(g, 2) ? fad_record_matmul(t, a, b, out) : fad_record_cumsum(t, a, pick(g, 2), pick(g, 2), out);
    default:
        TRY(random_indices(g, fad_node_shape(t, b), shape->size, &indices));
        return fad_record_update_at(t, a, b, indices, out);
    }
}

/* Whether rounding in `node` stays below the tolerance: it is neither large nor float32. */
static bool is_tame(const fad_tape *t, uint32_t node, bool infinite)
{
    fad_array a = fad_value_array(t, node);
    for (size_t i = 0; i < a.shape->size; i++)
        if (fabs(element(&a, i)) > 1e3 && !(infinite && isinf(element(&a, i))))
            return false;
    return a.dtype == FAD_F64 && a.shape->size <= 64;
}

static void generate(generator *g, uint64_t seed, bool smooth, bool special)
{
    *g = (generator){.state = seed * 0x9e3779b97f4a7c15u + 1, .smooth = smooth, .special = special};
    begin(&g->r);
    fad_tape *t = g->r.trace.tape;
    for (int i = 0; i < 6; i++) {
        uint32_t x = i < 3 ? scalar(t, sample(g)) : random_array(g, FAD_VARIABLE);
        input(&g->r, x);
        keep(g, x);
    }
    unsigned length = 10 + pick(g, 80);
    for (unsigned i = 0; i < length; i++) {
        uint32_t out;
        if (pick(g, 3))
            random_elementwise(g);
        else if (random_structural(g, &out) == FAD_OK)
            keep(g, out);
        while (smooth && !is_tame(t, g->pool[g->count - 1], special))
            g->count--;
    }
    for (int i = 0; i < 4; i++)
        output(&g->r, operand(g));
    g->r.guards[g->r.trace.guard_count++] = g->pool[0];
}

/* The sum of the float64 outputs, squashed. */
static uint32_t sum_of_outputs(recording *r)
{
    fad_tape *t = r->trace.tape;
    uint32_t y = number(t, 0);
    for (size_t i = 0; i < r->trace.output_count; i++)
        if (fad_is_float(fad_node_dtype(t, r->outputs[i])))
            y = bin(t, FAD_ADD, y, un(t, FAD_TANH, total(t, r->outputs[i])));
    return y;
}

static bool check(generator *g, pass p, bool strict, double tolerance)
{
    fad_trace out = run(p, &g->r.trace, strict);
    bool same = agrees(&g->r.trace, &out, tolerance);
    fad_tape_destroy(out.tape);
    return same;
}

static void test_random(const char *what, bool smooth, bool special, bool gradients, int count)
{
    size_t before = 0, after = 0;
    for (int seed = 0; seed < count && failures < 5; seed++) {
        generator g;
        generate(&g, (uint64_t)seed, smooth, special);
        if (gradients) {
            uint32_t y = sum_of_outputs(&g.r);
            output(&g.r, y);
            append_gradient(&g.r, y);
        }
        fad_trace out = run(fad_pass_simplify, &g.r.trace, !smooth);
        before += g.r.trace.tape->count;
        after += out.tape->count;
        bool dead = check(&g, fad_pass_dead, true, 0), strict = check(&g, fad_pass_simplify, true, 0);
        bool loose = !smooth || agrees(&g.r.trace, &out, 1e-9);
        if (!dead || !strict || !loose)
            fprintf(stderr, "%s, seed %d: dead %d strict %d loose %d\n", what, seed, dead, strict, loose);
        EXPECT(dead && strict && loose);
        fad_tape_destroy(out.tape);
        end(&g.r);
    }
    printf("%s: %zu nodes become %zu\n", what, before, after);
}

/* --- differentiated after it was simplified --- */

static bool gradients_agree(generator *g)
{
    fad_trace small = run(fad_pass_simplify, &g->r.trace, false);
    uint32_t y = small.outputs[small.output_count - 1], one = 0, results[MOST_NAMED];
    fad_tape *t = small.tape;
    DO(fad_constant(t, 1.0, &one));
    DO(fad_emit_reverse(t, t->count, 1, &y, &one, small.input_count, small.inputs, results));
    append_gradient(&g->r, g->r.outputs[g->r.trace.output_count - 1]);
    uint32_t outputs[MOST_NAMED];
    size_t count = 0, from = g->r.trace.output_count;
    for (size_t i = 0, at = small.output_count; i < small.input_count && at < from; i++)
        if (results[i] != FAD_NODE_NONE) {
            outputs[count] = results[i];
            g->r.outputs[count++] = g->r.outputs[at++];
        }
    bool all = small.output_count + count == from;
    g->r.trace.output_count = small.output_count = count;
    small.outputs = outputs;
    fad_trace last = run(fad_pass_simplify, &small, false);
    bool same = !all || agrees(&g->r.trace, &last, 1e-8);
    fad_tape_destroy(last.tape);
    fad_tape_destroy(small.tape);
    return same;
}

static void test_gradients_of_simplified(int count)
{
    for (int seed = 0; seed < count && failures < 5; seed++) {
        generator g;
        generate(&g, (uint64_t)seed, true, false);
        output(&g.r, sum_of_outputs(&g.r));
        bool same = gradients_agree(&g);
        if (!same)
            fprintf(stderr, "gradient of the simplified, seed %d\n", seed);
        EXPECT(same);
        end(&g.r);
    }
}

/* --- the checker is checked --- */

/* Makes one sum a difference. */
static fad_status faulty(const fad_trace *in, fad_trace *out, bool strict)
{
    TRY(fad_pass_simplify(in, out, strict));
    for (size_t i = 0; i < out->tape->count; i++)
        if (out->tape->nodes[i].op == FAD_ADD) {
            out->tape->nodes[i].op = FAD_SUB;
            break;
        }
    return FAD_OK;
}

static void test_a_planted_fault_is_found(void)
{
    int found = 0, planted = 0;
    for (int seed = 0; seed < 200; seed++) {
        generator g;
        generate(&g, (uint64_t)seed, true, false);
        fad_trace out = run(fad_pass_simplify, &g.r.trace, false);
        for (size_t i = 0; i < out.tape->count; i++)
            if (out.tape->nodes[i].op == FAD_ADD) {
                planted++;
                found += !check(&g, faulty, false, 1e-9);
                break;
            }
        fad_tape_destroy(out.tape);
        end(&g.r);
    }
    EXPECT(planted > 50 && 4 * found > 3 * planted); /* not the one whose second term is 0 */
    printf("%d of %d planted faults found\n", found, planted);
}

/* --- allocation failure --- */

static fad_status both_passes(const fad_trace *in, fad_tape *tape, fad_tape *last)
{
    fad_trace out = {.tape = tape}, small = {.tape = last};
    TRY(fad_pass_dead(in, &out, false));
    return fad_pass_simplify(&out, &small, false);
}

static void test_every_allocation_fails_once(void)
{
    for (int seed = 0; seed < 20; seed++) {
        generator g;
        generate(&g, (uint64_t)seed, seed % 2, true);
        DO(fad_trace_mark(&g.r.trace));
        long n = 0;
        for (bool failed = true; failed && failures == 0;) {
            counter c = {0, ++n};
            fad_allocator allocator = {counting, &c};
            fad_tape *tapes[2] = {NULL, NULL};
            fad_status status = fad_tape_create(&tapes[0], &allocator, &loops, 0);
            if (status == FAD_OK)
                status = fad_tape_create(&tapes[1], &allocator, &loops, 0);
            if (status == FAD_OK)
                status = both_passes(&g.r.trace, tapes[0], tapes[1]);
            failed = status != FAD_OK;
            EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
            fad_tape_destroy(tapes[0]);
            fad_tape_destroy(tapes[1]);
            EXPECT(c.blocks == 0);
        }
        end(&g.r);
    }
}

int main(void)
{
    fad_default_loops(&loops);
    test_constants();
    test_constant_arrays();
    test_structure();
    test_updates();
    test_custom();
    test_rosenbrock();
    test_logsumexp();
    test_dense_layer();
    test_random("any op, special values", false, true, false, 2000);
    test_random("any op, special values, gradients", false, true, true, 2000);
    test_random("smooth", true, false, false, 2000);
    test_random("smooth, gradients", true, false, true, 2000);
    test_random("smooth, special values", true, true, false, 2000);
    test_gradients_of_simplified(2000);
    test_a_planted_fault_is_found();
    test_every_allocation_fails_once();
    test_det(5);
    test_det(8);
    test_det(10);
    if (failures) {
        fprintf(stderr, "%d expectations failed\n", failures);
        return EXIT_FAILURE;
    }
    puts("ok");
    return EXIT_SUCCESS;
}
