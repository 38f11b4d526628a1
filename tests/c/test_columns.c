/* test_columns.c: arrays of rows that are taken apart keep their values and gradients, whatever allocation fails. Prints
 * what failed and exits with 1, or prints "ok". */
#include "traces.h"

enum { LANES = 70 };

static fad_status columns(const fad_trace *in, fad_trace *out, bool strict)
{
    (void)strict;
    return fad_pass_columns(in, out, false);
}

static uint32_t sum_of_rows(fad_tape *t, uint32_t a)
{
    const ptrdiff_t dims[2] = {LANES, 1};
    uint32_t out = 0;
    DO(fad_record_sum_to(t, a, shape_of(t, 2, dims), &out));
    return out;
}

/* The columns from `start` on, `count` of them. */
static uint32_t part(fad_tape *t, uint32_t a, ptrdiff_t start, ptrdiff_t count)
{
    const ptrdiff_t dims[2] = {LANES, count}, starts[2] = {0, start}, step[2] = {1, 1};
    const int source[2] = {0, 1};
    uint32_t side = 0, out = 0;
    DO(fad_make_view(t, fad_node_shape(t, a), 2, dims, starts, step, source, &side));
    DO(fad_record_view(t, a, side, &out));
    return out;
}

/* Rows of three divided by their length, two of their elements joined to others; all of it, and its sum's gradient. */
static void rows(recording *r, int lanes)
{
    static double values[3 * LANES];
    const ptrdiff_t dims[2] = {lanes, 3};
    begin(r);
    fad_tape *t = r->trace.tape;
    for (int i = 0; i < 3 * LANES; i++)
        values[i] = 0.5 + i % 7 * 0.25;
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 2, dims), values);
    input(r, x);
    if (lanes != LANES) {
        output(r, un(t, FAD_SIN, x));
        return;
    }
    uint32_t unit = bin(t, FAD_DIV, x, un(t, FAD_SQRT, sum_of_rows(t, un(t, FAD_SQUARE, x))));
    uint32_t both[2] = {part(t, unit, 0, 2), bin(t, FAD_MUL, part(t, unit, 2, 1), part(t, x, 1, 1))}, joined = 0;
    DO(fad_record_concatenate(t, 2, both, 1, &joined));
    output(r, bin(t, FAD_MUL, joined, x));
    append_gradient(r, total(t, un(t, FAD_SIN, r->outputs[0])));
}

static size_t wide_nodes(const fad_tape *t, int op)
{
    size_t count = 0;
    for (uint32_t i = 0; i < t->count; i++)
        count += t->nodes[i].op == op && fad_node_shape(t, i)->size == 3 * LANES;
    return count;
}

static void test_rows(void)
{
    recording r;
    rows(&r, LANES);
    EXPECT(wide_nodes(r.trace.tape, FAD_MUL) > 0 && r.trace.output_count == 2);
    fad_trace out = run(columns, &r.trace, false);
    EXPECT(agrees(&r.trace, &out, 1e-12));
    EXPECT(wide_nodes(out.tape, FAD_MUL) == 0 && wide_nodes(out.tape, FAD_CONCATENATE) == 2);
    fad_tape_destroy(out.tape);
    end(&r);
}

static void test_nothing_to_do(void)
{
    recording r;
    rows(&r, LANES - 1);
    fad_trace out = run(columns, &r.trace, false);
    EXPECT(out.tape->count == 0);
    fad_tape_destroy(out.tape);
    end(&r);
}

static void test_every_allocation_fails_once(void)
{
    recording r;
    fad_status status = FAD_NO_MEMORY;
    long n = 0;
    rows(&r, LANES);
    DO(fad_trace_mark(&r.trace));
    while (status != FAD_OK && failures == 0) {
        counter c = {.failing_in = ++n};
        fad_allocator allocator = {counting, &c};
        fad_trace out = {.tape = NULL};
        status = fad_tape_create(&out.tape, &allocator, &loops, 0);
        if (status == FAD_OK)
            status = fad_pass_columns(&r.trace, &out, true);
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
        fad_tape_destroy(out.tape);
        EXPECT(c.blocks == 0 && !c.wrong_size);
    }
    EXPECT(n > 5);
    end(&r);
}

int main(void)
{
    fad_default_loops(&loops);
    test_rows();
    test_nothing_to_do();
    test_every_allocation_fails_once();
    return finish();
}
