/* test_roll.c: loops of scalars become arrays and mean the same. Tapes of scalar loops are recorded with values,
 * rolled, and recorded again with values; values and gradients must agree, and the number of nodes has a bound.
 * Prints the counts and what failed. With an argument, times long loops: nanoseconds a node. */
#include <time.h>

#include "expect.h"

/* --- recording scalars --- */

enum { MOST_INPUTS = 64 };

/* A trace being recorded, with what it is made of. */
typedef struct {
    fad_tape *tape;
    fad_trace trace;
    uint32_t inputs[MOST_INPUTS], outputs[64], guards[64];
    double tolerance;
    bool failed;
} recording;

static void begin(recording *r)
{
    memset(r, 0, sizeof *r);
    r->tolerance = 1e-9;
    DO(fad_tape_create(&r->tape, NULL, &loops, 0));
    r->trace.tape = r->tape;
    r->trace.inputs = r->inputs;
    r->trace.outputs = r->outputs;
    r->trace.guards = r->guards;
}

static uint32_t noted(recording *r, fad_status status, uint32_t node)
{
    r->failed = r->failed || status != FAD_OK;
    return status == FAD_OK ? node : 0;
}

/* An input of n numbers, all different and away from the kinks of the functions below. */
static uint32_t input(recording *r, ptrdiff_t n)
{
    const fad_shape *shape;
    uint32_t out;
    DO(fad_shape_intern(r->tape, 1, &n, &shape));
    DO(fad_new_array(r->tape, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, FAD_F64, shape, &out));
    double *to = (double *)r->tape->values[out].array->data;
    for (ptrdiff_t i = 0; i < n; i++)
        to[i] = 0.6 * sin(1.7 * (double)i + 0.3) + 0.2;
    r->inputs[r->trace.input_count++] = out;
    return out;
}

static uint32_t scalar_input(recording *r, double value)
{
    uint32_t out = 0;
    DO(fad_push_scalar(r->tape, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, &out));
    r->inputs[r->trace.input_count++] = out;
    return out;
}

static void output(recording *r, uint32_t node) { r->outputs[r->trace.output_count++] = node; }

static uint32_t at(recording *r, uint32_t array, size_t offset)
{
    uint32_t out = 0;
    return noted(r, fad_record_element(r->tape, array, offset, &out), out), out;
}

static uint32_t number(recording *r, double value)
{
    uint32_t out = 0;
    return noted(r, fad_constant(r->tape, value, &out), out), out;
}

static uint32_t op3(recording *r, int op, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t operands[] = {a, b, c}, out = 0;
    return noted(r, fad_record_elementwise(r->tape, op, operands, -1, &out), out), out;
}

static uint32_t op1(recording *r, int op, uint32_t a) { return op3(r, op, a, 0, 0); }
static uint32_t op2(recording *r, int op, uint32_t a, uint32_t b) { return op3(r, op, a, b, 0); }
static uint32_t add(recording *r, uint32_t a, uint32_t b) { return op2(r, FAD_ADD, a, b); }
static uint32_t sub(recording *r, uint32_t a, uint32_t b) { return op2(r, FAD_SUB, a, b); }
static uint32_t mul(recording *r, uint32_t a, uint32_t b) { return op2(r, FAD_MUL, a, b); }

/* --- evaluating a rolled trace --- */

/* Records `from` again on a tape with values, its inputs those of `like`; map: node of `from` to node of the result. */
static fad_status evaluate(const fad_trace *from, const fad_trace *like, fad_tape *to, uint32_t *map)
{
    const fad_tape *tape = from->tape;
    for (size_t i = 0; i < from->input_count; i++) {
        const fad_tape *source = like->tape;
        uint32_t input_node = like->inputs[i], *out = &map[from->inputs[i]];
        if (!fad_is_array(source, input_node)) {
            TRY(fad_push_scalar(to, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, source->values[input_node].number, out));
            continue;
        }
        const fad_array *array = source->values[input_node].array;
        const fad_shape *shape;
        TRY(fad_trace_shape(to, array->shape, &shape));
        TRY(fad_new_array(to, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, FAD_F64, shape, out));
        memcpy(to->values[*out].array->data, array->data, shape->size * sizeof(double));
    }
    for (uint32_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        if (n->op != FAD_VARIABLE || !(n->flags & FAD_IS_DYNAMIC))
            TRY(fad_trace_copy(to, tape, i, map, &map[i]));
    }
    return FAD_OK;
}

static bool near(double x, double y, double tolerance)
{
    return x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance * (1 + fabs(y));
}

/* Whether a node of the recording and one of another tape have the same value; FAD_NODE_NONE is zero. */
static bool same_values(const recording *r, uint32_t a, const fad_tape *y, uint32_t b, double tolerance)
{
    const fad_tape *x = r->tape;
    if (a == FAD_NODE_NONE && b == FAD_NODE_NONE)
        return true;
    const fad_shape *shape = a != FAD_NODE_NONE ? fad_node_shape(x, a) : fad_node_shape(y, b);
    if (a != FAD_NODE_NONE && b != FAD_NODE_NONE && fad_node_shape(y, b)->size != shape->size)
        return false;
    fad_array p = {0}, q = {0};
    if (a != FAD_NODE_NONE)
        p = fad_value_array(x, a);
    if (b != FAD_NODE_NONE)
        q = fad_value_array(y, b);
    for (size_t i = 0; i < shape->size; i++) {
        ptrdiff_t stride_p = shape->ndim && p.data ? p.strides[0] : 0;
        ptrdiff_t stride_q = shape->ndim && q.data ? q.strides[0] : 0;
        double u = p.data ? ((double *)p.data)[(ptrdiff_t)i * stride_p] : 0;
        double v = q.data ? ((double *)q.data)[(ptrdiff_t)i * stride_q] : 0;
        if (!near(v, u, tolerance))
            return false;
    }
    return true;
}

typedef struct {
    size_t nodes, arrays, gathers, elements, scalars, constants;
} counts;

static counts count_nodes(const fad_tape *tape)
{
    counts c = {.nodes = tape->count};
    for (size_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        c.constants += n->op == FAD_CONSTANT;
        if (n->op == FAD_CONSTANT || n->op == FAD_VARIABLE)
            continue;
        c.arrays += (n->flags & FAD_IS_ARRAY) != 0;
        c.scalars += !(n->flags & FAD_IS_ARRAY);
        c.gathers += n->op == FAD_GATHER || n->op == FAD_SCATTER_ADD;
        c.elements += n->op == FAD_ELEMENT;
    }
    return c;
}

static void print_counts(const char *name, const counts *c)
{
    printf("  %-20s %7zu nodes: %5zu arrays, %3zu indexed, %5zu scalars (%zu elements), %zu constants\n", name,
           c->nodes, c->arrays, c->gathers, c->scalars, c->elements, c->constants);
}

static void write_text(void *context, const char *text) { fputs(text, context); }

/* Rolls what was recorded. `tapes` are the two tapes of the passes. */
static fad_status roll_trace(const fad_trace *in, bool reassociate, size_t min_width, fad_tape **tapes, fad_trace *out,
                             fad_trace *between)
{
    TRY(fad_trace_mark(in));
    *between = *in;
    if (reassociate) {
        between->tape = tapes[0];
        TRY(fad_pass_reassociate(in, between));
    }
    out->tape = tapes[1];
    return fad_pass_roll(between, out, min_width, !reassociate);
}

static bool verified(const fad_tape *tape)
{
    size_t bad;
    const char *reason;
    bool good = fad_verify(tape, &bad, &reason);
    if (!good)
        fprintf(stderr, "node %zu: %s\n", bad, reason);
    return good;
}

/* Cotangents of the inputs for those of the outputs, all 1 (of the scalar ones). */
static fad_status gradients(const fad_trace *t, uint32_t *results)
{
    uint32_t ones[64];
    TRY(fad_constant(t->tape, 1.0, &ones[0]));
    for (size_t i = 1; i < t->output_count; i++)
        ones[i] = ones[0];
    return fad_emit_reverse(t->tape, t->tape->count, t->output_count, t->outputs, ones, t->input_count, t->inputs,
                            results);
}

typedef struct {
    counts value, both;
    bool right;
} outcome;

/* Whether the rolled trace has the values and gradients of the recording. `spoil`: a rolled node to be made wrong. */
static outcome check(recording *r, bool reassociate, size_t min_width, bool spoil)
{
    outcome o = {.right = !r->failed};
    double exactness = reassociate ? r->tolerance : 0; /* of the value: strict is bit for bit */
    fad_tape *tapes[2], *values = NULL;
    fad_trace between, out;
    uint32_t expected[MOST_INPUTS], rolled[MOST_INPUTS];
    for (int i = 0; i < 2; i++)
        DO(fad_tape_create(&tapes[i], NULL, &loops, 0));
    DO(fad_tape_create(&values, NULL, &loops, 0));
    DO(roll_trace(&r->trace, reassociate, min_width, tapes, &out, &between));
    EXPECT(verified(tapes[0]) && verified(tapes[1]));
    o.value = count_nodes(out.tape);
    for (uint32_t i = 0; spoil && i < out.tape->count; i++)
        if (out.tape->nodes[i].op == FAD_MUL && out.tape->nodes[i].flags & FAD_IS_ARRAY) {
            out.tape->nodes[i].op = FAD_ADD;
            spoil = false;
        }
    DO(gradients(&out, rolled));
    o.both = count_nodes(out.tape);
    EXPECT(verified(out.tape));
    uint32_t *map = malloc((out.tape->count + 1) * sizeof *map);
    DO(map ? evaluate(&out, &r->trace, values, map) : FAD_NO_MEMORY);
    DO(gradients(&r->trace, expected));
    for (size_t i = 0; i < out.output_count; i++)
        o.right = o.right && same_values(r, r->outputs[i], values, map[out.outputs[i]], exactness);
    for (size_t i = 0; i < out.guard_count; i++)
        o.right = o.right && same_values(r, r->guards[i], values, map[out.guards[i]], exactness);
    for (size_t i = 0; i < out.input_count; i++) {
        uint32_t g = rolled[i] == FAD_NODE_NONE ? FAD_NODE_NONE : map[rolled[i]];
        o.right = o.right && same_values(r, expected[i], values, g, r->tolerance);
    }
    if (getenv("DUMP"))
        fad_dump(out.tape, 0, out.tape->count, write_text, stdout);
    free(map);
    fad_tape_destroy(values);
    fad_tape_destroy(tapes[0]);
    fad_tape_destroy(tapes[1]);
    return o;
}

static outcome check_and_end(recording *r, const char *name)
{
    outcome o = check(r, true, 8, false);
    EXPECT(o.right);
    if (!o.right)
        fprintf(stderr, "%s is wrong\n", name);
    printf("%s, %zu nodes\n", name, r->tape->count);
    print_counts("value", &o.value);
    print_counts("value and gradient", &o.both);
    fad_tape_destroy(r->tape);
    return o;
}

/* --- a generator of random numbers --- */

typedef struct {
    uint64_t state;
} generator;

static uint32_t below(generator *g, uint32_t n)
{
    g->state ^= g->state << 13;
    g->state ^= g->state >> 7;
    g->state ^= g->state << 17;
    return (uint32_t)((g->state >> 32) % n);
}

static const int BINARY[] = {FAD_ADD, FAD_MUL, FAD_SUB, FAD_MUL, FAD_ADD, FAD_MAXIMUM};
static const int UNARY[] = {FAD_SIN, FAD_TANH, FAD_NEG, FAD_SQUARE, FAD_COS};

/* --- the functions that the pass is for --- */

typedef struct {
    int op;
    int a, b;  /* >= 0: an earlier operation; < 0: leaf -1 - a; both of a constant: 1000 + c */
} step;

enum { STEPS = 3000, BODY = 130, LEAVES = 12 };

/* Every operation is used: each takes the result that has waited longest, or (now and then) a leaf. */
static void random_body(generator *g, step *body, int size, int leaves)
{
    int waiting[BODY], count = 0;
    for (int i = 0; i < size; i++) {
        step *s = &body[i];
        bool closing = count >= size - i, leaf = !closing && (count == 0 || below(g, 4) == 0);
        int which = count ? (int)below(g, (uint32_t)count) : 0;
        s->a = leaf ? -1 - (int)below(g, (uint32_t)leaves) : waiting[which];
        if (!leaf)
            waiting[which] = waiting[--count];
        bool unary = !closing && below(g, 10) == 0;
        s->op = unary ? UNARY[below(g, 5)] : BINARY[below(g, 5)];
        s->b = -1 - (int)below(g, (uint32_t)leaves);
        if (unary)
            s->b = s->a;
        else if (count && (closing || below(g, 2)))
            s->b = waiting[--count];
        else if (i && below(g, 2))
            s->b = (int)below(g, (uint32_t)i);
        else if (below(g, 6) == 0)
            s->b = 1000 + (int)below(g, 4);
        waiting[count++] = i;
    }
}

static uint32_t body_operand(recording *r, int what, const uint32_t *done, const uint32_t *leaves)
{
    return what >= 1000 ? number(r, 0.25 + 0.5 * (what - 1000)) : what >= 0 ? done[what] : leaves[-1 - what];
}

static uint32_t run_body(recording *r, const step *body, int size, const uint32_t *leaves)
{
    uint32_t done[BODY];
    for (int i = 0; i < size; i++) {
        uint32_t a = body_operand(r, body[i].a, done, leaves), b = body_operand(r, body[i].b, done, leaves);
        done[i] = op2(r, body[i].op, a, b);
    }
    return op1(r, FAD_TANH, done[size - 1]);
}

static void independent_steps(recording *r, uint64_t seed, int steps)
{
    step body[BODY];
    generator g = {seed};
    random_body(&g, body, BODY, LEAVES);
    begin(r);
    r->tolerance = 1e-7; /* 130 operations magnify what another order of additions rounds */
    uint32_t x = input(r, (ptrdiff_t)steps * LEAVES), s = number(r, 0.0);
    for (int k = 0; k < steps; k++) {
        uint32_t leaves[LEAVES];
        for (int j = 0; j < LEAVES; j++)
            leaves[j] = at(r, x, (size_t)(k * LEAVES + j));
        s = add(r, s, run_body(r, body, BODY, leaves));
    }
    output(r, s);
}

static void test_independent_steps(void)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        recording r;
        independent_steps(&r, seed * 0x9e3779b97f4a7c15u, STEPS);
        outcome o = check_and_end(&r, "3000 steps of 130");
        EXPECT(o.value.nodes <= 160 && o.value.gathers == 0);
        EXPECT(o.both.nodes <= 600 && o.both.gathers == 0);
    }
}

/* tanh(W h + b), layer by layer, all numbers elements of one flat array. */
static uint32_t layers(recording *r, uint32_t x, const int *widths, int count, size_t *next, const uint32_t *first)
{
    uint32_t h[2][256];
    memcpy(h[0], first, (size_t)widths[0] * sizeof *first);
    for (int l = 1; l < count; l++) {
        const uint32_t *from = h[(l - 1) % 2];
        size_t bias = *next + (size_t)(widths[l] * widths[l - 1]);
        for (int i = 0; i < widths[l]; i++) {
            uint32_t s = number(r, 0.0);
            for (int j = 0; j < widths[l - 1]; j++)
                s = add(r, s, mul(r, at(r, x, *next + (size_t)(i * widths[l - 1] + j)), from[j]));
            h[l % 2][i] = op1(r, FAD_TANH, add(r, s, at(r, x, bias + (size_t)i)));
        }
        *next = bias + (size_t)widths[l];
    }
    return h[(count - 1) % 2][0];
}

static void test_dense_layers(void)
{
    recording r;
    const int widths[] = {20, 30, 17, 45, 1}, count = 5;
    size_t next = 20;
    begin(&r);
    uint32_t x = input(&r, 3000), first[20];
    for (size_t i = 0; i < 20; i++)
        first[i] = at(&r, x, i);
    output(&r, layers(&r, x, widths, count, &next, first));
    outcome o = check_and_end(&r, "dense layers");
    EXPECT(o.value.nodes <= 10 * 4 && o.value.gathers == 0);
    EXPECT(o.both.nodes <= 40 * 4 && o.both.gathers == 0);
}

/* The same small layers for many points: three loops. */
static void test_layers_for_points(void)
{
    recording r;
    const int widths[] = {3, 10, 9, 1}, count = 4;
    begin(&r);
    uint32_t x = input(&r, 400), points = input(&r, 3 * 50), loss = number(&r, 0.0);
    for (size_t p = 0; p < 50; p++) {
        size_t next = 0;
        uint32_t first[3];
        for (size_t i = 0; i < 3; i++)
            first[i] = at(&r, points, 3 * p + i);
        loss = add(&r, loss, op1(&r, FAD_SQUARE, layers(&r, x, widths, count, &next, first)));
    }
    output(&r, loss);
    outcome o = check_and_end(&r, "dense layers for 50 points");
    EXPECT(o.value.nodes <= 60 && o.value.gathers == 0);
    EXPECT(o.both.nodes <= 200 && o.both.gathers == 0);
}

static void rosenbrock(recording *r, size_t n)
{
    begin(r);
    uint32_t x = input(r, (ptrdiff_t)n), s = number(r, 0.0);
    for (size_t i = 0; i + 1 < n; i++) {
        uint32_t a = op1(r, FAD_SQUARE, sub(r, at(r, x, i + 1), op1(r, FAD_SQUARE, at(r, x, i))));
        uint32_t b = op1(r, FAD_SQUARE, sub(r, number(r, 1.0), at(r, x, i)));
        s = add(r, s, add(r, mul(r, number(r, 100.0), a), b));
    }
    output(r, s);
}

static void test_rosenbrock(void)
{
    recording r;
    rosenbrock(&r, 1000);
    outcome o = check_and_end(&r, "chained Rosenbrock, 1000");
    EXPECT(o.value.nodes <= 16 && o.value.gathers == 0);
    EXPECT(o.both.nodes <= 50 && o.both.gathers == 0);
}

/* Rosenbrock of scalar inputs. */
static void test_scalar_inputs(void)
{
    recording r;
    begin(&r);
    uint32_t x[40], s = number(&r, 0.0);
    for (int i = 0; i < 40; i++)
        x[i] = scalar_input(&r, 0.1 * i - 1);
    for (int i = 0; i + 1 < 40; i++) {
        uint32_t a = op1(&r, FAD_SQUARE, sub(&r, x[i + 1], op1(&r, FAD_SQUARE, x[i])));
        s = add(&r, s, add(&r, mul(&r, number(&r, 100.0), a), op1(&r, FAD_SQUARE, sub(&r, number(&r, 1.0), x[i]))));
    }
    output(&r, s);
    outcome o = check_and_end(&r, "Rosenbrock of 40 scalars");
    EXPECT(o.value.nodes <= 40 + 16 && o.value.gathers == 0);
}

enum { POINTS = 200, TIMES = 30 };

static uint32_t laplacian(recording *r, const uint32_t *u, size_t i, size_t left, size_t right)
{
    return add(r, sub(r, u[left], mul(r, number(r, 2.0), u[i])), u[right]);
}

/* Explicit heat equation with fixed or periodic ends. */
static void heat(recording *r, bool periodic)
{
    uint32_t u[POINTS], next[POINTS], s;
    begin(r);
    uint32_t x = input(r, POINTS);
    for (size_t i = 0; i < POINTS; i++)
        u[i] = at(r, x, i);
    for (int t = 0; t < TIMES; t++) {
        memcpy(next, u, sizeof u);
        for (size_t i = periodic ? 0 : 1; i < POINTS - (periodic ? 0 : 1); i++)
            next[i] = add(r, u[i], mul(r, number(r, 0.1),
                                       laplacian(r, u, i, (i + POINTS - 1) % POINTS, (i + 1) % POINTS)));
        memcpy(u, next, sizeof u);
    }
    s = number(r, 0.0);
    for (size_t i = 0; i < POINTS; i++)
        s = add(r, s, op1(r, FAD_SQUARE, u[i]));
    output(r, s);
}

static void test_heat(void)
{
    for (int periodic = 0; periodic < 2; periodic++) {
        recording r;
        heat(&r, periodic);
        outcome o = check_and_end(&r, periodic ? "heat, periodic, 30 times" : "heat, fixed ends, 30 times");
        EXPECT(o.value.nodes <= 20 * TIMES && o.value.gathers == 0);
        EXPECT(o.both.nodes <= 70 * TIMES);
    }
}

/* du_i/dt = u_{i-1} u_i - sin(u_{i+1}), by RK4. */
static void flow(recording *r, const uint32_t *u, uint32_t *k)
{
    for (size_t i = 0; i < POINTS; i++) {
        uint32_t left = i ? u[i - 1] : u[0], right = i + 1 < POINTS ? u[i + 1] : u[i];
        k[i] = sub(r, mul(r, left, u[i]), op1(r, FAD_SIN, right));
    }
}

static void test_rk4(void)
{
    recording r;
    uint32_t u[POINTS], v[POINTS], k[4][POINTS], s;
    begin(&r);
    uint32_t x = input(&r, POINTS);
    for (size_t i = 0; i < POINTS; i++)
        u[i] = at(&r, x, i);
    for (int t = 0; t < 10; t++) {
        for (int stage = 0; stage < 4; stage++) {
            double h = stage == 3 ? 0.02 : 0.01;
            for (size_t i = 0; i < POINTS; i++)
                v[i] = stage ? add(&r, u[i], mul(&r, number(&r, h), k[stage - 1][i])) : u[i];
            flow(&r, v, k[stage]);
        }
        for (size_t i = 0; i < POINTS; i++) {
            uint32_t inner = mul(&r, number(&r, 2.0), add(&r, k[1][i], k[2][i]));
            u[i] = add(&r, u[i], mul(&r, number(&r, 0.02 / 6), add(&r, add(&r, k[0][i], inner), k[3][i])));
        }
    }
    s = number(&r, 0.0);
    for (size_t i = 0; i < POINTS; i++)
        s = add(&r, s, u[i]);
    output(&r, s);
    outcome o = check_and_end(&r, "RK4 of 200 points, 10 times");
    EXPECT(o.value.nodes <= 60 * 10 && o.value.gathers == 0);
}

enum { SIDE = 24 };

/* The heat equation in two dimensions, on a periodic square or with a fixed edge. */
static void heat_square(recording *r, bool periodic, int times)
{
    uint32_t u[SIDE][SIDE], next[SIDE][SIDE], s;
    begin(r);
    uint32_t x = input(r, SIDE * SIDE);
    for (size_t i = 0; i < SIDE; i++)
        for (size_t j = 0; j < SIDE; j++)
            u[i][j] = at(r, x, i * SIDE + j);
    for (int t = 0; t < times; t++) {
        memcpy(next, u, sizeof u);
        size_t edge = periodic ? 0 : 1;
        for (size_t i = edge; i < SIDE - edge; i++)
            for (size_t j = edge; j < SIDE - edge; j++) {
                size_t up = (i + SIDE - 1) % SIDE, down = (i + 1) % SIDE;
                size_t left = (j + SIDE - 1) % SIDE, right = (j + 1) % SIDE;
                uint32_t around = add(r, add(r, u[up][j], u[down][j]), add(r, u[i][left], u[i][right]));
                next[i][j] = add(r, mul(r, number(r, 0.6), u[i][j]), mul(r, number(r, 0.1), around));
            }
        memcpy(u, next, sizeof u);
    }
    s = number(r, 0.0);
    for (size_t i = 0; i < SIDE; i++)
        for (size_t j = 0; j < SIDE; j++)
            s = add(r, s, op1(r, FAD_SQUARE, u[i][j]));
    output(r, s);
}

static void test_heat_in_a_square(void)
{
    for (int periodic = 0; periodic < 2; periodic++) {
        recording r;
        heat_square(&r, periodic, 10);
        outcome o = check_and_end(&r, periodic ? "heat on a periodic square, 10 times" : "heat on a square, 10 times");
        EXPECT(o.value.nodes <= 60 * 10);
    }
}

/* Rows of a matrix as views, elements of the rows, and a vector of results that is an array again. */
static void test_rows_and_stacks(void)
{
    recording r;
    enum { N = 20 };
    uint32_t y[N], result;
    begin(&r);
    uint32_t x = input(&r, N * N), v = input(&r, N);
    const fad_shape *square;
    ptrdiff_t dims[2] = {N, N}, dim = N, one = 1;
    int source = 1;
    DO(fad_shape_intern(r.tape, 2, dims, &square));
    uint32_t matrix, row, side;
    DO(fad_record_reshape(r.tape, x, square, &matrix));
    for (size_t i = 0; i < N; i++) {
        ptrdiff_t start[2] = {(ptrdiff_t)i, 0};
        DO(fad_make_view(r.tape, square, 1, &dim, start, &one, &source, &side));
        DO(fad_record_view(r.tape, matrix, side, &row));
        y[i] = number(&r, 0.0);
        for (size_t j = 0; j < N; j++)
            y[i] = add(&r, y[i], mul(&r, at(&r, row, j), at(&r, v, j)));
    }
    DO(fad_record_stack(r.tape, N, y, &result));
    DO(fad_record_elementwise(r.tape, FAD_SIN, &result, -1, &result));
    DO(fad_record_sum_to(r.tape, result, r.tape->shapes[0], &result));
    output(&r, result);
    outcome o = check_and_end(&r, "a matrix by rows");
    EXPECT(o.value.nodes <= 10 && o.value.gathers == 0);
    EXPECT(o.both.nodes <= 25 && o.both.gathers == 0);
}

/* All pairs i < j of points in space. */
static void test_pairs(void)
{
    recording r;
    enum { N = 30 };
    begin(&r);
    uint32_t x = input(&r, 3 * N), energy = number(&r, 0.0);
    for (size_t i = 0; i < N; i++)
        for (size_t j = i + 1; j < N; j++) {
            uint32_t square = number(&r, 0.01);
            for (size_t d = 0; d < 3; d++)
                square = add(&r, square, op1(&r, FAD_SQUARE, sub(&r, at(&r, x, 3 * i + d), at(&r, x, 3 * j + d))));
            energy = sub(&r, energy, op2(&r, FAD_DIV, number(&r, 1.0), op1(&r, FAD_SQRT, square)));
        }
    output(&r, energy);
    outcome o = check_and_end(&r, "all pairs of 30 points");
    EXPECT(o.value.nodes <= 30 && o.both.nodes <= 80);
}

/* A fit: constants that differ from step to step, parameters that are shared, a branch as a selection. */
static void test_a_fit(void)
{
    recording r;
    begin(&r);
    uint32_t p = input(&r, 4), loss = number(&r, 0.0);
    for (int k = 0; k < 500; k++) {
        double time = 0.01 * k, seen = sin(3 * time);
        uint32_t t = number(&r, time), decay = op1(&r, FAD_EXP, mul(&r, number(&r, -time), at(&r, p, 0)));
        uint32_t wave = mul(&r, at(&r, p, 1), op1(&r, FAD_SIN, add(&r, mul(&r, at(&r, p, 2), t), at(&r, p, 3))));
        uint32_t error = sub(&r, mul(&r, decay, wave), number(&r, seen));
        uint32_t inside = op2(&r, FAD_LESS, op1(&r, FAD_ABS, error), number(&r, 0.5));
        uint32_t huber = op3(&r, FAD_SELECT, inside, op1(&r, FAD_SQUARE, error), op1(&r, FAD_ABS, error));
        loss = add(&r, loss, huber);
        if (k < 20)
            r.guards[r.trace.guard_count++] = inside;
    }
    output(&r, loss);
    outcome o = check_and_end(&r, "a fit to 500 points");
    EXPECT(o.value.nodes <= 30 + 45 && o.value.gathers == 0);
}

static void sequential(recording *r, int steps)
{
    begin(r);
    uint32_t x = input(r, 4), a = at(r, x, 0), b = at(r, x, 1);
    for (int k = 0; k < steps; k++) {
        uint32_t c = op1(r, FAD_SIN, add(r, mul(r, a, b), at(r, x, 2)));
        uint32_t d = sub(r, mul(r, number(r, 0.5), c), mul(r, b, at(r, x, 3)));
        a = op1(r, FAD_TANH, d);
        b = add(r, mul(r, number(r, 0.25), b), c);
    }
    output(r, add(r, a, b));
}

static void test_a_sequential_recurrence(void)
{
    recording r;
    sequential(&r, 300);
    size_t before = r.tape->count;
    outcome o = check_and_end(&r, "a sequential recurrence");
    EXPECT(o.value.arrays == 0 && o.value.nodes <= before);
}

static void random_dag(recording *r, uint64_t seed, uint32_t size, uint32_t window)
{
    generator g = {seed};
    uint32_t *nodes = malloc((size + 64) * sizeof *nodes);
    begin(r);
    uint32_t x = input(r, 32), s;
    for (uint32_t i = 0; i < 32; i++)
        nodes[i] = at(r, x, i);
    for (uint32_t i = 32; i < size; i++) {
        uint32_t reach = window && window < i ? window : i;
        uint32_t a = nodes[i - 1 - below(&g, reach)], b = nodes[i - 1 - below(&g, reach)];
        switch (below(&g, 8)) {
        case 0:
            nodes[i] = op1(r, UNARY[below(&g, 5)], a);
            break;
        case 1:
            nodes[i] = op3(r, FAD_SELECT, op2(r, FAD_GREATER, a, b), b, a);
            break;
        case 2:
            nodes[i] = mul(r, number(r, 0.1 * below(&g, 5)), op1(r, FAD_TANH, a));
            break;
        default:
            nodes[i] = op1(r, FAD_SIN, op2(r, BINARY[below(&g, 6)], a, b));
            break;
        }
    }
    s = number(r, 0.0);
    for (uint32_t i = 0; i < 8; i++)
        s = add(r, s, nodes[size - 1 - i]);
    output(r, s);
    for (uint32_t i = 0; i < 16; i++)
        r->guards[r->trace.guard_count++] = nodes[size - 20 - i];
    free(nodes);
}

static void test_irregular(void)
{
    recording r;
    random_dag(&r, 12345, 3000, 0);
    check_and_end(&r, "a random graph");
    for (uint64_t seed = 1; seed <= 150 && failures == 0; seed++) {
        random_dag(&r, seed * 0x9e3779b97f4a7c15u, 40 + (uint32_t)(seed * 7 % 400), seed % 3 ? 0 : 100);
        for (size_t width = 2; width <= 10; width += 2) {
            EXPECT(check(&r, true, width, false).right);
            EXPECT(check(&r, false, width, false).right);
        }
        fad_tape_destroy(r.tape);
    }
}

/* Loops whose bodies are random, nested, with first and last iterations of their own. */
static void random_loops(recording *r, uint64_t seed)
{
    generator g = {seed};
    step body[24];
    begin(r);
    int outer = 3 + (int)below(&g, 12), inner = 1 + (int)below(&g, 9), size = 3 + (int)below(&g, 20);
    size_t stride = 1 + below(&g, 5), shift = below(&g, 7), row = below(&g, 2) ? 0 : (size_t)inner * stride;
    random_body(&g, body, size, 6);
    uint32_t x = input(r, 500), previous[16], s = number(r, 0.0);
    for (int j = 0; j < 16; j++)
        previous[j] = at(r, x, 400 + (size_t)j);
    for (int k = 0; k < outer; k++)
        for (int j = 0; j < inner; j++) {
            size_t first = (size_t)k * row + (size_t)j * stride;
            uint32_t leaves[6] = {at(r, x, first), at(r, x, first + shift), at(r, x, 300 + (size_t)(j * outer + k)),
                                  previous[j], at(r, x, 499 - (size_t)k), previous[(j + 1) % inner]};
            uint32_t y = run_body(r, body, size, leaves);
            if (below(&g, 20) == 0)
                y = op1(r, FAD_SQUARE, y);
            if (seed % 2)
                previous[j] = y;
            s = add(r, s, seed % 5 ? mul(r, y, op2(r, FAD_LESS, y, leaves[1])) : y);
            r->guards[0] = y;
        }
    r->trace.guard_count = 1;
    output(r, s);
    output(r, previous[0]);
}

static void test_random_loops(void)
{
    for (uint64_t seed = 1; seed <= 300 && failures == 0; seed++) {
        recording r;
        random_loops(&r, seed * 0x9e3779b97f4a7c15u);
        for (size_t width = 2; width <= 8; width += 3) {
            EXPECT(check(&r, true, width, false).right);
            EXPECT(check(&r, false, width, false).right);
        }
        fad_tape_destroy(r.tape);
        if (failures)
            fprintf(stderr, "seed %d\n", (int)seed);
    }
}

/* Sums of sums: what is written out, and what is not. */
static void test_reassociation(void)
{
    recording r;
    fad_tape *tape = NULL;
    begin(&r);
    uint32_t x = input(&r, 40), shared = add(&r, at(&r, x, 0), at(&r, x, 1)), s = shared, v = x, w = x;
    for (size_t i = 2; i < 10; i++)
        s = add(&r, s, at(&r, x, i));
    s = add(&r, s, number(&r, 0.0));
    for (size_t i = 10; i < 20; i++)
        s = sub(&r, s, at(&r, x, i));
    for (int i = 0; i < 5; i++)
        v = add(&r, v, op1(&r, FAD_SIN, v == x ? x : v));
    v = add(&r, add(&r, v, x), op1(&r, FAD_COS, x)); /* of arrays: a short sum stays, a long one is written out */
    for (size_t i = 0; i < 8; i++)
        w = add(&r, w, mul(&r, x, at(&r, x, i)));
    output(&r, mul(&r, s, shared));
    output(&r, sub(&r, at(&r, x, 3), at(&r, x, 4)));
    output(&r, at(&r, v, 7));
    output(&r, at(&r, w, 7));
    DO(fad_tape_create(&tape, NULL, &loops, 0));
    fad_trace out = {.tape = tape};
    DO(fad_trace_mark(&r.trace));
    DO(fad_pass_reassociate(&r.trace, &out));
    EXPECT(verified(tape));
    size_t sums = 0, terms = 0, differences = 0, negations = 0, array_additions = 0;
    for (size_t i = 0; i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        array_additions += n->op == FAD_ADD && n->flags & FAD_IS_ARRAY;
        sums += n->op == FAD_NSUM;
        terms += n->op == FAD_NSUM ? ((const fad_list *)tape->side[n->aux])->count : 0;
        differences += n->op == FAD_SUB;
        negations += n->op == FAD_NEG;
    }
    EXPECT(sums == 2 && terms == (1 + 8 + 10) + (1 + 8) && differences == 1 && negations == 10);
    EXPECT(array_additions == 5 + 2);
    fad_tape_destroy(tape);
    EXPECT(check(&r, true, 8, false).right);
    fad_tape_destroy(r.tape);
}

/* Outputs of a rule are scalars like others; what the rule reads is read as scalars. */
static void test_custom_nodes(void)
{
    recording r;
    fad_tape *tapes[2];
    fad_trace between, out;
    uint32_t operands[12], first, s;
    uint8_t dtypes[2] = {FAD_F64, FAD_F64};
    begin(&r);
    uint32_t x = input(&r, 12);
    const fad_shape *shapes[2] = {r.tape->shapes[0], fad_node_shape(r.tape, x)};
    for (size_t i = 0; i < 12; i++)
        operands[i] = op1(&r, FAD_SIN, at(&r, x, i));
    DO(fad_new_custom(r.tape, NULL, 12, operands, 2, dtypes, shapes, &first));
    memcpy(r.tape->values[first + 1].array->data, r.tape->values[x].array->data, 12 * sizeof(double));
    s = number(&r, 0.0);
    for (size_t i = 0; i < 12; i++)
        s = add(&r, s, mul(&r, first, at(&r, first + 1, i)));
    output(&r, s);
    for (int i = 0; i < 2; i++)
        DO(fad_tape_create(&tapes[i], NULL, &loops, 0));
    DO(roll_trace(&r.trace, true, 8, tapes, &out, &between));
    EXPECT(verified(out.tape));
    size_t customs = 0, products = 0;
    for (size_t i = 0; i < out.tape->count; i++) {
        customs += out.tape->nodes[i].op == FAD_CUSTOM && out.tape->nodes[i + 1].op == FAD_OUTPUT;
        products += out.tape->nodes[i].op == FAD_MUL;
    }
    EXPECT(customs == 1 && products == 1);
    for (int i = 0; i < 2; i++)
        fad_tape_destroy(tapes[i]);
    fad_tape_destroy(r.tape);
}

static void test_the_checker_sees_a_fault(void)
{
    recording r;
    rosenbrock(&r, 50);
    EXPECT(check(&r, true, 8, false).right);
    EXPECT(!check(&r, true, 8, true).right);
    fad_tape_destroy(r.tape);
}

/* --- allocation failure --- */

static void fail_each_allocation(recording *r, const char *name)
{
    fad_status status = FAD_NO_MEMORY;
    long n = 0;
    while (status != FAD_OK && failures == 0) {
        counter c = {.failing_in = ++n};
        fad_allocator allocator = {counting, &c};
        fad_tape *tapes[2] = {NULL, NULL};
        fad_trace out, between;
        status = fad_tape_create(&tapes[0], &allocator, &loops, 0);
        if (status == FAD_OK)
            status = fad_tape_create(&tapes[1], &allocator, &loops, 0);
        if (status == FAD_OK)
            status = roll_trace(&r->trace, true, 8, tapes, &out, &between);
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
        for (int i = 0; i < 2; i++) {
            EXPECT(!tapes[i] || verified(tapes[i]));
            fad_tape_destroy(tapes[i]);
        }
        EXPECT(c.blocks == 0 && !c.wrong_size);
    }
    printf("%s: %ld allocations failed, one at a time\n", name, n - 1);
    fad_tape_destroy(r->tape);
}

static void test_every_allocation_fails_once(void)
{
    recording r;
    heat(&r, false);
    fail_each_allocation(&r, "heat");
    random_dag(&r, 99, 3000, 0);
    fail_each_allocation(&r, "a random graph");
    random_loops(&r, 7 * 0x9e3779b97f4a7c15u);
    fail_each_allocation(&r, "loops");
}

/* --- time --- */

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void time_it(recording *r, const char *name)
{
    fad_tape *tapes[2];
    fad_trace out, between;
    for (int i = 0; i < 2; i++)
        DO(fad_tape_create(&tapes[i], NULL, &loops, 0));
    DO(fad_trace_mark(&r->trace));
    double start = seconds();
    between.tape = tapes[0];
    DO(fad_pass_reassociate(&r->trace, &between));
    double middle = seconds();
    out.tape = tapes[1];
    DO(fad_pass_roll(&between, &out, 8, false));
    double end = seconds(), count = (double)r->tape->count;
    printf("%-24s %10.0f nodes: reassociate %5.1f ns, roll %5.1f ns a node, to %zu nodes\n", name, count,
           (middle - start) / count * 1e9, (end - middle) / count * 1e9, tapes[1]->count);
    fad_tape_destroy(tapes[0]);
    fad_tape_destroy(tapes[1]);
    fad_tape_destroy(r->tape);
}

static void time_all(void)
{
    recording r;
    for (int steps = 1000; steps <= 64000; steps *= 8) {
        independent_steps(&r, 0x9e3779b97f4a7c15u, steps);
        time_it(&r, "independent steps");
    }
    rosenbrock(&r, 1000000);
    time_it(&r, "Rosenbrock");
    sequential(&r, 100000);
    time_it(&r, "sequential");
    random_dag(&r, 5, 1000000, 0);
    time_it(&r, "random graph");
    random_dag(&r, 5, 1000000, 1000);
    time_it(&r, "random graph, local");
}

int main(int count, char **arguments)
{
    (void)arguments;
    fad_default_loops(&loops);
    if (count > 1) {
        time_all();
        return EXIT_SUCCESS;
    }
    test_rosenbrock();
    test_scalar_inputs();
    test_heat();
    test_rk4();
    test_heat_in_a_square();
    test_rows_and_stacks();
    test_pairs();
    test_a_fit();
    test_dense_layers();
    test_layers_for_points();
    test_independent_steps();
    test_a_sequential_recurrence();
    test_reassociation();
    test_custom_nodes();
    test_the_checker_sees_a_fault();
    test_irregular();
    test_random_loops();
    test_every_allocation_fails_once();
    return finish();
}
