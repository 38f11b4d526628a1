/* test_repeat.c: loops of scalars become REPEAT steps: a handful of instructions however many iterations, and the same
 * numbers. Prints what failed and exits with 1, or prints "ok". */
#include "programs.h"

typedef uint32_t node;

static node element_of(fad_tape *t, node x, size_t i)
{
    node out = 0;
    DO(fad_record_element(t, x, i, &out));
    return out;
}

static node vector(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    ptrdiff_t dim = (ptrdiff_t)n;
    double *values = malloc((n + 1) * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = 0.3 * sin(1.7 * (double)i + 0.4);
    node x = array(t, FAD_VARIABLE, shape_of(t, 1, &dim), values);
    free(values);
    input(r, x);
    return x;
}

static node stack_of(fad_tape *t, const node *nodes, size_t count)
{
    node out = 0;
    DO(fad_record_stack(t, count, nodes, &out));
    return out;
}

static node add(fad_tape *t, node x, node y) { return bin(t, FAD_ADD, x, y); }
static node sub(fad_tape *t, node x, node y) { return bin(t, FAD_SUB, x, y); }
static node mul(fad_tape *t, node x, node y) { return bin(t, FAD_MUL, x, y); }

/* --- recurrences --- */

/* A van der Pol oscillator that is pushed by the elements of x. */
static node oscillator(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, n + 2), p = element_of(t, x, 0), v = element_of(t, x, 1), h = number(t, 0.01);
    for (size_t k = 0; k < n; k++) {
        node slope = mul(t, mul(t, sub(t, number(t, 1), mul(t, p, p)), v), number(t, 1.5));
        slope = add(t, sub(t, slope, p), element_of(t, x, k + 2));
        v = add(t, v, mul(t, slope, h));
        p = add(t, p, mul(t, v, h));
    }
    return p;
}

/* Its coefficients are other numbers in each step. */
static node coefficients(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, 2), p = element_of(t, x, 0), q = element_of(t, x, 1);
    for (size_t k = 0; k < n; k++) {
        p = un(t, FAD_SIN, add(t, mul(t, p, number(t, 0.9 + 0.1 * cos((double)k))), q));
        q = mul(t, q, number(t, k % 3 ? 0.99 : 1.01));
    }
    return add(t, p, q);
}

/* Reads what was two and three steps before: a linear recurrence of third order with a running sum. */
static node third_order(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, 3), a = element_of(t, x, 0), b = element_of(t, x, 1), c = element_of(t, x, 2);
    node sum = mul(t, a, b);
    for (size_t k = 0; k < n; k++) {
        node next = un(t, FAD_TANH, sub(t, add(t, mul(t, a, number(t, 0.3)), b), mul(t, c, number(t, 0.7))));
        sum = add(t, sum, mul(t, next, next));
        a = b;
        b = c;
        c = next;
    }
    return sum;
}

/* Two states that change places. */
static node swapping(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, 2), a = element_of(t, x, 0), b = element_of(t, x, 1);
    for (size_t k = 0; k < n; k++) {
        node next = add(t, mul(t, b, number(t, 0.5)), un(t, FAD_COS, a));
        b = a;
        a = next;
    }
    return sub(t, a, b);
}

/* A loop in a loop, and two loops one after the other, the second backwards. */
static node nested(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, n), state[5], y = number(t, 0);
    for (size_t i = 0; i < 5; i++)
        state[i] = un(t, FAD_EXP, element_of(t, x, i));
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < 5; i++)
            state[i] = add(t, mul(t, state[i], number(t, 0.8)), mul(t, state[(i + 1) % 5], element_of(t, x, k)));
        state[0] = un(t, FAD_SIN, state[0]);
    }
    for (size_t k = n; k-- > 0;)
        y = add(t, mul(t, y, state[2]), mul(t, element_of(t, x, k), state[1]));
    return y;
}

/* What a branch in every 50th step makes of a loop. */
static node branching(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, n), y = element_of(t, x, 0), z = element_of(t, x, 1);
    for (size_t k = 2; k < n; k++) {
        y = mul(t, add(t, y, element_of(t, x, k)), number(t, 0.99));
        z = sub(t, z, mul(t, y, number(t, 0.125)));
        if (k % 50 == 0)
            z = un(t, FAD_ABS, z);
    }
    return mul(t, y, z);
}

/* All states are read again after the loop: by another loop, and as an array. */
static node remembered(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, n), *states = malloc(n * sizeof *states), y = element_of(t, x, 0), z = y;
    for (size_t k = 0; k < n; k++)
        states[k] = y = un(t, FAD_SIN, add(t, mul(t, y, number(t, 0.7)), element_of(t, x, k)));
    for (size_t k = 0; k < n; k++)
        z = add(t, mul(t, z, number(t, 0.5)), mul(t, states[k], states[n - 1 - k]));
    node all = stack_of(t, states, n);
    output(r, all);
    free(states);
    return add(t, z, total(t, mul(t, all, x)));
}

/* Reads an array that is computed first. */
static node computed(recording *r, size_t n)
{
    fad_tape *t = r->trace.tape;
    node x = vector(r, n), s = un(t, FAD_SIN, x), c = un(t, FAD_COS, s), y = element_of(t, s, 0);
    for (size_t k = 0; k < n; k++)
        y = sub(t, mul(t, y, element_of(t, c, n - 1 - k)), element_of(t, s, k));
    return y;
}

/* --- programs --- */

static fad_program *lowered(const fad_trace *trace, bool strict)
{
    fad_program *p = NULL;
    DO(fad_trace_mark(trace));
    DO(fad_lower(trace, "", strict, &p));
    return p;
}

static size_t scalars_of(const fad_program *p) { return p->scalar_count + p->repeat_count; }

/* Runs it in memory of the declared size, twice, at the inputs of `in`, whose outputs it is compared with. */
static bool gives(const fad_program *p, const fad_trace *in, double tolerance)
{
    memory m;
    bool same = true;
    size_t failed;
    allocate(&m, p);
    for (size_t i = 0; i < p->input_count; i++)
        memcpy(m.inputs[i], fad_value_array(in->tape, in->inputs[i]).data, p->inputs[i].bytes);
    for (int k = 0; k < 2; k++) {
        DO(run_program(p, &m, &failed));
        for (size_t i = 0; i < in->output_count; i++) {
            fad_array y = fad_value_array(in->tape, in->outputs[i]), x = y;
            x.data = m.outputs[i];
            x.strides = y.shape->strides;
            same &= same_values(&x, &y, tolerance);
        }
    }
    deallocate(&m, p);
    return same;
}

/* The same for what comes back of its bytes; both are verified. */
static bool runs(const fad_program *p, const fad_trace *in, double tolerance)
{
    size_t size;
    fad_program *back = NULL;
    fad_fault fault;
    expect_verified(p, "repeat", 0);
    char *bytes = written(p, &size);
    DO(fad_program_read(bytes, size, &p->allocator, &loops, &back, &fault));
    bool same = gives(p, in, tolerance) && gives(back, in, tolerance);
    fad_program_destroy(back);
    free(bytes);
    return same;
}

static fad_status reassociate(const fad_trace *in, fad_trace *out, bool strict)
{
    (void)strict;
    return fad_pass_reassociate(in, out);
}

static fad_status roll(const fad_trace *in, fad_trace *out, bool strict) { return fad_pass_roll(in, out, 8, strict); }

typedef node (*function)(recording *r, size_t n);

/* Scalar instructions of value and gradients up to some order, as recorded and after the passes. */
static void measure(function f, size_t n, int order, bool sums, size_t *strict, size_t *loose, const char *name)
{
    recording r;
    begin(&r);
    node y = f(&r, n);
    for (int k = 0; k < order; k++) {
        size_t outputs = r.trace.output_count;
        append_gradient(&r, y);
        if (k + 1 < order)
            y = total(r.trace.tape, mul(r.trace.tape, r.outputs[outputs], r.outputs[outputs]));
    }
    output(&r, y);
    fad_program *p = lowered(&r.trace, true);
    *strict = scalars_of(p);
    if (!runs(p, &r.trace, sums ? 1e-11 : 0)) { /* arrays have sums and functions of their own */
        fprintf(stderr, "%s, n = %zu, order %d: other bits\n", name, n, order);
        failures++;
    }
    fad_program_destroy(p);
    fad_trace simple = run(fad_pass_simplify, &r.trace, false), terms = run(reassociate, &simple, false);
    fad_trace rolled = run(roll, &terms, false);
    for (int k = 0; k < 2; k++) {
        p = lowered(k ? &terms : &rolled, false);
        *loose = scalars_of(p);
        if (!runs(p, &r.trace, 1e-11)) {
            fprintf(stderr, "%s, n = %zu, order %d: other numbers\n", name, n, order);
            failures++;
        }
        fad_program_destroy(p);
    }
    fad_tape_destroy(rolled.tape);
    fad_tape_destroy(terms.tape);
    fad_tape_destroy(simple.tape);
    end(&r);
}

static void check(function f, const char *name, bool sums)
{
    for (int order = 0; order <= 2; order++) {
        size_t strict[2], loose[2];
        for (size_t n = 5; n < 40; n += 7)
            measure(f, n, order, sums || order == 2, &strict[0], &loose[0], name);
        measure(f, 1000, order, sums || order == 2, &strict[0], &loose[0], name);
        measure(f, 3000, order, sums || order == 2, &strict[1], &loose[1], name);
        printf("%-14s order %d: %5zu %5zu instructions, strict %5zu %5zu\n", name, order, loose[0], loose[1],
               strict[0], strict[1]);
        EXPECT(strict[1] <= strict[0] + strict[0] / 8 && loose[1] <= loose[0] + loose[0] / 8);
    }
}

/* What the verifier refuses of a REPEAT step: the first and last iteration count. */
static void plant_faults(void)
{
    recording r;
    fad_fault fault;
    begin(&r);
    output(&r, oscillator(&r, 100));
    fad_program *p = lowered(&r.trace, false);
    EXPECT(p->repeat_count > 0 && fad_program_verify(p, &fault));
    fad_step *step = p->steps;
    while (step->kind != FAD_STEP_REPEAT)
        step++;
    for (int k = 0; k < 9; k++) {
        fad_repeated kept = p->repeats[3], *at = &p->repeats[3]; /* ADD of an input */
        fad_step whole = *step;
        EXPECT(at->op == FAD_ADD && at->operands[1].base == FAD_FIRST_INPUT && at->operands[1].stride == 8);
        switch (k) {
        case 0: step->n++; break;
        case 1: step->count++; break;
        case 2: step->n = 0; break;
        case 3: at->op = FAD_SCALAR_LOAD; break;
        case 4: at->count = 3; break;
        case 5: at->chained = 4; break;
        case 6: at->operands[1].stride = INT64_MIN; break;
        case 7: at->to.offset = 0; break;
        default: at->to = at->operands[1]; break;
        }
        EXPECT(!fad_program_verify(p, &fault));
        *at = kept;
        *step = whole;
    }
    EXPECT(fad_program_verify(p, &fault));
    fad_program_destroy(p);
    end(&r);
}

int main(void)
{
    fad_default_loops(&loops);
    plant_faults();
    check(oscillator, "oscillator", false);
    check(coefficients, "coefficients", false);
    check(third_order, "third order", false);
    check(swapping, "swapping", false);
    check(nested, "nested", false);
    check(branching, "branching", false);
    check(remembered, "remembered", true);
    check(computed, "computed", true);
    return finish();
}
