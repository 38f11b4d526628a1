/* test_sums.c: a sum of scalars computes the products and the negatives that only it reads: fewer instructions, the same
 * numbers. One by one, repeated, and in groups. Prints what failed and exits with 1, or prints "ok". */
#include "programs.h"

enum { WIDTH = 24 };

static uint64_t random_below(uint64_t *state, uint64_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % n;
}

/* The elements of an input of WIDTH numbers: 0 and infinities too. */
static void elements(recording *r, uint32_t *x)
{
    fad_tape *t = r->trace.tape;
    ptrdiff_t dim = WIDTH;
    double values[WIDTH];
    for (size_t i = 0; i < WIDTH; i++)
        values[i] = i % 7 == 3 ? 0 : i % 11 == 4 ? INFINITY : 0.9 * sin(1.3 * (double)i + 0.2);
    uint32_t all = array(t, FAD_VARIABLE, shape_of(t, 1, &dim), values);
    input(r, all);
    for (size_t i = 0; i < WIDTH; i++)
        DO(fad_record_element(t, all, i, &x[i]));
}

static uint32_t term(fad_tape *t, int kind, uint32_t a, uint32_t b)
{
    switch (kind) {
    case 0: return bin(t, FAD_MUL, a, b);
    case 1: return bin(t, FAD_ZMUL, a, b);
    case 2: return un(t, FAD_SQUARE, a);
    case 3: return un(t, FAD_NEG, a);
    default: return a;
    }
}

static uint32_t sum_of(fad_tape *t, size_t count, const uint32_t *terms)
{
    uint32_t out = 0;
    DO(fad_record_nsum(t, count, terms, &out));
    return out;
}

/* The outputs of the recording, bit for bit if strict; there is no rounding of its own in what is fused here. */
static void expect_outputs(const recording *r, fad_program *p, const char *what)
{
    memory m;
    size_t failed;
    expect_verified(p, what, 0);
    allocate(&m, p);
    fill_inputs(&m, p, r);
    DO(run_program(p, &m, &failed));
    for (size_t i = 0; i < r->trace.output_count; i++) {
        fad_array y = fad_value_array(r->trace.tape, r->outputs[i]), x = y;
        x.data = m.outputs[i];
        x.strides = y.shape->strides;
        if (!same_values(&x, &y, 0)) {
            fprintf(stderr, "%s: output %zu differs\n", what, i);
            failures++;
        }
    }
    deallocate(&m, p);
}

static size_t scalars_of(const fad_program *p, int op)
{
    size_t count = 0;
    for (size_t i = 0; i < p->scalar_count; i++)
        count += p->scalars[i].op == op;
    return count;
}

/* x[0] + x[1] x[2] + (x[3] strongly times x[4]) + x[5]^2 - x[6] + p + p, where p is read twice. */
static void check_alone(void)
{
    recording r;
    fad_program *p = NULL;
    uint32_t x[WIDTH], terms[7];
    begin(&r);
    fad_tape *t = r.trace.tape;
    elements(&r, x);
    terms[0] = x[0];
    for (size_t k = 1; k < 5; k++)
        terms[k] = term(t, (int)k - 1, x[2 * k - 1], x[2 * k]);
    terms[5] = terms[6] = bin(t, FAD_MUL, x[9], x[10]);
    output(&r, sum_of(t, 7, terms));
    DO(lower(&r, true, &p));
    expect_outputs(&r, p, "alone, strict");
    EXPECT(scalars_of(p, FAD_ADD) == 6 && scalars_of(p, FAD_SCALAR_ZMUL_ADD) == 0);
    fad_program_destroy(p);
    DO(lower(&r, false, &p));
    expect_outputs(&r, p, "alone");
    EXPECT(scalars_of(p, FAD_SCALAR_MUL_ADD) == 2 && scalars_of(p, FAD_SCALAR_ZMUL_ADD) == 1);
    EXPECT(scalars_of(p, FAD_SUB) == 1 && scalars_of(p, FAD_ADD) == 2 && scalars_of(p, FAD_MUL) == 1);
    fad_program_destroy(p);
    end(&r);
}

/* What a guard is decided by has the recording's bits, so it is computed as it was written. */
static void check_guarded(void)
{
    recording r;
    fad_program *p = NULL;
    uint32_t x[WIDTH], terms[3];
    begin(&r);
    fad_tape *t = r.trace.tape;
    elements(&r, x);
    for (int k = 0; k < 3; k++)
        terms[k] = term(t, k, x[k], x[k + 6]);
    r.guards[r.trace.guard_count++] = sum_of(t, 3, terms);
    output(&r, x[1]);
    DO(lower(&r, false, &p));
    expect_outputs(&r, p, "guarded");
    EXPECT(scalars_of(p, FAD_SCALAR_MUL_ADD) == 0 && scalars_of(p, FAD_SCALAR_ZMUL_ADD) == 0);
    fad_program_destroy(p);
    end(&r);
}

/* The same sum over and over: of what came of the last one, and of elements in turn. */
static void check_repeated(bool list)
{
    recording r;
    fad_program *p = NULL;
    uint32_t x[WIDTH];
    size_t fused = 0;
    begin(&r);
    fad_tape *t = r.trace.tape;
    elements(&r, x);
    uint32_t y = un(t, FAD_TANH, x[0]), h = number(t, 0.25);
    for (size_t k = 0; k < 100; k++) {
        uint32_t strong = term(t, 1, x[3], bin(t, FAD_MUL, y, x[4])), product = term(t, 0, y, h), negative = term(t, 3, y, 0);
        uint32_t terms[4] = {x[1], product, strong, negative};
        y = list ? sum_of(t, 4, terms) : bin(t, FAD_ADD, bin(t, FAD_ADD, x[1], product), strong);
        y = un(t, FAD_SIN, y);
    }
    output(&r, y);
    DO(lower(&r, true, &p));
    expect_outputs(&r, p, "repeated, strict");
    fad_program_destroy(p);
    DO(lower(&r, false, &p));
    expect_outputs(&r, p, "repeated");
    for (size_t i = 0; i < p->repeat_count; i++)
        fused += p->repeats[i].op == FAD_SCALAR_ZMUL_ADD;
    EXPECT(fused > 0 && p->repeat_count < 30);
    fad_program_destroy(p);
    end(&r);
}

/* Sums of random terms, of the elements and of sums before; some terms are read by two. */
static void check_grouped(uint64_t seed)
{
    recording r;
    fad_program *p = NULL;
    uint32_t all[WIDTH + 400], shared = 0;
    size_t fused = 0, differences = 0;
    begin(&r);
    fad_tape *t = r.trace.tape;
    elements(&r, all);
    for (size_t i = 0; i < WIDTH; i++)
        all[i] = un(t, FAD_TANH, all[i]);
    shared = all[0];
    for (size_t i = WIDTH; i < WIDTH + 400; i++) {
        uint32_t terms[6];
        size_t count = 1 + random_below(&seed, 6);
        for (size_t k = 0; k < count; k++) {
            uint32_t a = all[random_below(&seed, i)], b = all[random_below(&seed, i)];
            terms[k] = term(t, (int)random_below(&seed, 5), a, b);
            if (random_below(&seed, 9) == 0)
                terms[k] = shared;
            if (random_below(&seed, 9) == 0)
                shared = terms[k];
        }
        uint32_t two = bin(t, FAD_ADD, term(t, 1, terms[0], all[1]), terms[count - 1]);
        all[i] = un(t, FAD_TANH, count == 2 ? two : sum_of(t, count, terms));
    }
    for (size_t i = 0; i < 10; i++)
        output(&r, all[WIDTH + 399 - i]);
    DO(lower(&r, true, &p));
    expect_outputs(&r, p, "grouped, strict");
    fad_program_destroy(p);
    DO(lower(&r, false, &p));
    EXPECT(p->group_count > 0);
    for (size_t i = 0; i < p->group_count; i++) {
        fused += p->groups[i].op == FAD_SCALAR_ZMUL_ADD;
        differences += p->groups[i].op == FAD_SUB;
    }
    EXPECT(fused > 0 && differences > 0);
    expect_verified(p, "grouped", seed);
    for (size_t i = 0; i < p->group_count; i++) /* by the library that strict uses, so that all bits can be compared */
        p->group_bound[i].loop = NULL;
    expect_outputs(&r, p, "grouped");
    fad_program_destroy(p);
    end(&r);
}

int main(void)
{
    fad_default_loops(&loops);
    check_alone();
    check_guarded();
    check_repeated(true);
    check_repeated(false);
    for (uint64_t seed = 1; seed <= 40; seed++)
        check_grouped(seed);
    if (failures)
        return 1;
    puts("ok");
    return 0;
}
