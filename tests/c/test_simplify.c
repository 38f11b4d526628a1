/* test_simplify.c: what the simplifying walk makes of expressions, one by one and as golden texts; every one keeps its
 * values. Prints what failed and exits with 1, or prints "ok". */
#include <time.h>

#include "traces.h"

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
    fad_trace in = {.tape = t, .input_count = (size_t)(ell * ell), .output_count = 1, .inputs = a, .outputs = &y};
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

static uint32_t slice(fad_tape *t, uint32_t a, ptrdiff_t start, ptrdiff_t count, ptrdiff_t step)
{
    uint32_t side = 0, out = 0;
    int source = 0;
    DO(fad_make_view(t, fad_node_shape(t, a), 1, &count, &start, &step, &source, &side));
    DO(fad_record_view(t, a, side, &out));
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
                "%10 = ZMUL %8 %4 : f64\n"
                "%11 = SUB %7 %10 : f64\n"
                "%12 = BROADCAST_TO %11 : f64[1]\n"
                "%13 = STRIDED_ADD %12 @3:0 : f64[5]\n"
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
    test_det(5);
    test_det(8);
    test_det(10);
    return finish();
}
