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

static inline uint32_t number(fad_tape *t, double value)
{
    uint32_t out = 0;
    DO(fad_constant(t, value, &out));
    return out;
}

static inline const fad_shape *shape_of(fad_tape *t, size_t ndim, const ptrdiff_t *dims)
{
    const fad_shape *shape = NULL;
    DO(fad_shape_intern(t, ndim, dims, &shape));
    return shape;
}

static inline uint32_t array(fad_tape *t, int op, const fad_shape *shape, const double *values)
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

static inline void begin(recording *r)
{
    memset(r, 0, sizeof *r);
    r->trace = (fad_trace){new_tape(), 0, 0, 0, r->inputs, r->outputs, r->guards};
}

static inline void input(recording *r, uint32_t node) { r->inputs[r->trace.input_count++] = node; }

static inline void output(recording *r, uint32_t node) { r->outputs[r->trace.output_count++] = node; }

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

int main(void)
{
    fad_default_loops(&loops);
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
