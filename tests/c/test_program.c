/* test_program.c: programs do what was recorded: lowered, verified, run in memory of exactly the declared sizes, written
 * and read back. Planted faults are found, and every allocation fails once. Prints what failed, or "ok". */
#include "programs.h"

/* --- random traces --- */

/* What differs between outputs and the recorded values; -1: nothing. */
static int different_output(const recording *r, const fad_program *p, const memory *m, double tolerance)
{
    for (size_t i = 0; i < p->output_count; i++) {
        fad_array y = fad_value_array(r->trace.tape, r->outputs[i]), x = y;
        x.data = m->outputs[i];
        x.strides = x.shape->strides;
        if (!same_values(&x, &y, tolerance))
            return (int)i;
    }
    return -1;
}

static void check_run(const recording *r, const fad_program *p, double tolerance, const char *what, uint64_t seed)
{
    memory m;
    size_t failed = 0;
    allocate(&m, p);
    fill_inputs(&m, p, r);
    for (int run_number = 0; run_number < 2; run_number++) { /* a workspace that was used */
        DO(run_program(p, &m, &failed));
        EXPECT(failed == p->guard_count);
        int differs = different_output(r, p, &m, tolerance);
        if (differs >= 0)
            fprintf(stderr, "%s, seed %lu: output %d differs\n", what, (unsigned long)seed, differs);
        EXPECT(differs < 0);
    }
    deallocate(&m, p);
}

static void check_round_trip(const recording *r, const fad_program *p, double tolerance, const char *what, uint64_t seed)
{
    size_t size, again;
    fad_program *q = NULL;
    fad_fault fault;
    char *bytes = written(p, &size);
    DO(fad_program_read(bytes, size, &p->allocator, &loops, &q, &fault));
    if (q) {
        char *twice = written(q, &again);
        EXPECT(size == again && memcmp(bytes, twice, size) == 0);
        check_run(r, q, tolerance, what, seed);
        free(twice);
    }
    fad_program_destroy(q);
    free(bytes);
}

static void check_program(recording *r, bool strict, double tolerance, const char *what, uint64_t seed)
{
    fad_program *p = NULL;
    DO(lower(r, strict, &p));
    if (!p)
        return;
    expect_verified(p, what, seed);
    check_run(r, p, tolerance, what, seed);
    check_round_trip(r, p, tolerance, what, seed);
    fad_program_destroy(p);
}

/* A sum over an axis may be taken in another order than it was recorded in; all else is bit for bit. */
static bool has_sums(const fad_tape *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->nodes[i].op == FAD_SUM_TO)
            return true;
    return false;
}

static void test_random(const char *what, bool smooth, bool special, bool gradients, double loose, int count)
{
    for (int seed = 0; seed < count && failures < 10; seed++) {
        generator g;
        generate(&g, (uint64_t)seed, smooth, special);
        if (gradients) {
            uint32_t y = sum_of_outputs(&g.r);
            output(&g.r, y);
            append_gradient(&g.r, y);
        }
        check_program(&g.r, true, has_sums(g.r.trace.tape) ? 1e-9 : 0, what, (uint64_t)seed);
        if (loose > 0)
            check_program(&g.r, false, loose, what, (uint64_t)seed);
        end(&g.r);
    }
}

int main(void)
{
    fad_default_loops(&loops);
    test_random("any op, special values", false, true, false, 0, 2000);
    test_random("smooth", true, false, false, 1e-9, 2000);
    test_random("smooth, gradients", true, false, true, 1e-9, 2000);
    if (failures) {
        fprintf(stderr, "%d expectations failed\n", failures);
        return EXIT_FAILURE;
    }
    puts("ok");
    return EXIT_SUCCESS;
}
