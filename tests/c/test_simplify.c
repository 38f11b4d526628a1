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

static inline void print_trace(const char *title, const fad_tape *tape)
{
    static char text[4096];
    text[0] = 0;
    fad_dump(tape, 0, tape->count, write_text, text);
    printf("--- %s\n%s", title, text);
}

static inline void expect_text(int line, const recording *r, bool strict, const char *expected)
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

static double seconds(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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

int main(void)
{
    fad_default_loops(&loops);
    {
        recording r;
        rosenbrock(&r, 5);
        print_trace("rosenbrock", r.trace.tape);
        fad_trace out = run(fad_pass_simplify, &r.trace, false);
        print_trace("loose", out.tape);
        EXPECT(agrees(&r.trace, &out, 1e-12));
        fad_trace out2 = run(fad_pass_simplify, &r.trace, true);
        print_trace("strict", out2.tape);
        EXPECT(agrees(&r.trace, &out2, 0));
        end(&r);
    }
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
