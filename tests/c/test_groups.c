/* test_groups.c: irregular scalars run as groups of one op: the same numbers, and the bits that strict and guards ask
 * for. Prints what failed and exits with 1, or prints "ok". */
#include "programs.h"

static fad_status reassociate(const fad_trace *in, fad_trace *out, bool strict)
{
    (void)strict;
    return fad_pass_reassociate(in, out);
}

/* Runs it twice, at the inputs of `in`, whose outputs it is compared with. */
static bool gives(const fad_program *p, const recording *in, double tolerance)
{
    memory m;
    bool same = true;
    size_t failed;
    allocate(&m, p);
    fill_inputs(&m, p, in);
    for (int k = 0; k < 2; k++) {
        DO(run_program(p, &m, &failed));
        same &= failed == p->guard_count;
        for (size_t i = 0; i < in->trace.output_count; i++) {
            fad_array y = fad_value_array(in->trace.tape, in->outputs[i]), x = y;
            x.data = m.outputs[i];
            x.strides = y.shape->strides;
            same &= same_values(&x, &y, tolerance);
        }
    }
    deallocate(&m, p);
    return same;
}

/* The same for what comes back of its bytes; both are verified. */
static void expect(fad_program *p, const recording *in, double tolerance, const char *what, uint64_t seed)
{
    size_t size;
    fad_program *back = NULL;
    fad_fault fault;
    expect_verified(p, what, seed);
    char *bytes = written(p, &size);
    DO(fad_program_read(bytes, size, &p->allocator, &loops, &back, &fault));
    if (p->group_count == 0 || !gives(p, in, tolerance) || !gives(back, in, tolerance)) {
        fprintf(stderr, "%s, seed %lu: %zu groups, or other numbers\n", what, (unsigned long)seed, p->group_count);
        failures++;
    }
    fad_program_destroy(back);
    fad_program_destroy(p);
    free(bytes);
}

static void check(uint64_t seed, size_t width, size_t count, bool gradient)
{
    recording r;
    fad_program *p = NULL;
    begin(&r);
    uint32_t y = tangle(&r, seed, width, count);
    output(&r, y);
    if (gradient)
        append_gradient(&r, y);
    DO(lower(&r, true, &p));
    expect(p, &r, gradient ? 1e-13 : 0, "strict", seed); /* a gradient is an array: sums of its own */
    DO(lower(&r, false, &p));
    expect(p, &r, 1e-10, "loose", seed);
    fad_trace simple = run(fad_pass_simplify, &r.trace, false), terms = run(reassociate, &simple, false);
    DO(fad_trace_mark(&terms));
    DO(fad_lower(&terms, "", false, &p));
    expect(p, &r, 1e-10, "in other order", seed);
    fad_tape_destroy(terms.tape);
    fad_tape_destroy(simple.tape);
    end(&r);
}

/* A guard on a value of a group: the bits of the recording before it, vector functions after it only. */
static void check_guard(void)
{
    recording r;
    fad_program *p = NULL;
    begin(&r);
    uint32_t y = tangle(&r, 5, 40, 400), z = tangle(&r, 6, 40, 400);
    r.guards[r.trace.guard_count++] = y;
    output(&r, bin(r.trace.tape, FAD_MUL, y, z));
    DO(lower(&r, false, &p));
    size_t before = 0, after = 0, bound = 0, guards = 0;
    for (size_t i = 0; i < p->step_count; i++) {
        const fad_step *step = &p->steps[i];
        guards += step->kind == FAD_STEP_GUARDS;
        for (size_t k = 0; step->kind == FAD_STEP_GROUPS && k < step->count; k++) {
            *(guards ? &after : &before) += 1;
            bound += !guards && p->group_bound[step->first + k].loop;
        }
    }
    EXPECT(guards == 1 && before > 0 && after > 0 && bound == 0);
    expect(p, &r, 1e-10, "guard", 5);
    end(&r);
}

/* What the verifier refuses of a group. */
static void plant_faults(void)
{
    recording r;
    fad_fault fault;
    fad_program *p = NULL;
    begin(&r);
    output(&r, tangle(&r, 1, 40, 400));
    DO(lower(&r, false, &p));
    EXPECT(p->group_count > 2 && fad_program_verify(p, &fault));
    fad_step *step = p->steps;
    while (step->kind != FAD_STEP_GROUPS)
        step++;
    for (int k = 0; k < 12; k++) {
        fad_group *at = &p->groups[1], kept = *at;
        fad_step whole = *step;
        uint32_t place = p->places[at->first];
        size_t places = p->place_count;
        switch (k) {
        case 0: at->op = FAD_SCALAR_LOAD; break;
        case 1: at->op = FAD_SCALAR_COUNT; break;
        case 2: at->count++; break;
        case 3: at->count = UINT32_MAX; break;
        case 4: at->to = 0; break;
        case 5: at->to = (uint32_t)(p->workspace_bytes / sizeof(double)) - at->count + 1; break;
        case 6: at->first--; break;
        case 7: p->places[at->first] = (uint32_t)(p->workspace_bytes / sizeof(double)); break;
        case 8: p->place_count--; break;
        case 9: step->count--; break;
        case 10: p->places[at->first] = at->to + at->count - 1; break;
        default: step->first++; break;
        }
        if (fad_program_verify(p, &fault)) {
            fprintf(stderr, "fault %d was not seen\n", k);
            failures++;
        }
        p->places[kept.first] = place;
        p->place_count = places;
        *at = kept;
        *step = whole;
    }
    EXPECT(p->scalar_constant_count > 0 && fad_program_verify(p, &fault));
    fad_program_destroy(p);
    end(&r);
}

/* A chain is no group: one by one, as before. */
static void check_chain(void)
{
    recording r;
    fad_program *p = NULL;
    begin(&r);
    output(&r, tangle(&r, 3, 2, 400));
    DO(lower(&r, false, &p));
    EXPECT(p->group_count == 0 && p->scalar_count > 400);
    fad_program_destroy(p);
    end(&r);
}

int main(void)
{
    fad_default_loops(&loops);
    plant_faults();
    check_guard();
    check_chain();
    for (uint64_t seed = 0; seed < 30; seed++)
        for (int gradient = 0; gradient < 2; gradient++)
            check(seed, 20 + 7 * seed, 200 + 90 * seed, gradient);
    return finish();
}
