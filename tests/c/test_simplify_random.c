/* test_simplify_random.c: random traces keep what outputs and guards say: bit for bit when strict, to rounding
 * otherwise; gradients too. And every allocation fails once. Prints what failed and exits with 1, or prints "ok". */
#include "random_traces.h"

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
            counter c = {.failing_in = ++n};
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
    test_random("any op, special values", false, true, false, 2000);
    test_random("any op, special values, gradients", false, true, true, 2000);
    test_random("smooth", true, false, false, 2000);
    test_random("smooth, gradients", true, false, true, 2000);
    test_random("smooth, special values", true, true, false, 2000);
    test_gradients_of_simplified(2000);
    test_a_planted_fault_is_found();
    test_every_allocation_fails_once();
    return finish();
}
