/* test_bands.c: steps that run some rows at a time (program_bands.c) give the bits of steps one after another with the
 * same strips, for any number of rows at a time, elements a strip and threads; but for sums over the rows in a product of
 * matrices, which are rounded block by block, by any number of threads alike. Arrays of which a band keeps a block alone
 * are among them. Traces here are of arrays with the same rows: products,
 * extrema and sums of them in any order, what is written into them, shifted rows. Prints "ok". */
#include "programs.h"

enum { PROGRAMS = 300, MOST_ROWS = 40, MOST_COLUMNS = 9, MOST_SIZE = MOST_ROWS * MOST_ROWS };

static size_t in_bands[FAD_STEP_COUNT], sums_in_bands, local_arrays, blocks_apart, in_turn, blocks_meet;

/* --- traces of arrays with the same rows --- */

typedef struct {
    generator g;
    const fad_shape *whole, *one_column, *one_row, *product, *turned; /* (rows, columns), (rows, 1), ... */
    uint32_t factor;         /* (columns, columns) */
    uint32_t arrays[64];     /* of shape `whole` */
    size_t count;
} rows_generator;

static const fad_shape *shape2(rows_generator *w, ptrdiff_t rows, ptrdiff_t columns)
{
    const ptrdiff_t dims[2] = {rows, columns};
    return shape_of(w->g.r.trace.tape, 2, dims);
}

/* Few numbers, so that extrema tie; a NaN and zeros of both signs now and then. */
static uint32_t values(rows_generator *w, const fad_shape *shape)
{
    double all[MOST_SIZE];
    for (size_t i = 0; i < shape->size; i++)
        all[i] = w->g.special && pick(&w->g, 40) == 0 ? sample(&w->g) : ((double)pick(&w->g, 9) - 4.0) / 4.0;
    uint32_t node = array(w->g.r.trace.tape, FAD_VARIABLE, shape, all);
    input(&w->g.r, node);
    return node;
}

static uint32_t recent(rows_generator *w)
{
    size_t few = w->count > 4 && pick(&w->g, 3) ? 4 : w->count;
    return w->arrays[w->count - 1 - pick(&w->g, (unsigned)few)];
}

/* One number for each row, or each column, or one for all. */
static uint32_t reduced(rows_generator *w, uint32_t a)
{
    fad_tape *t = w->g.r.trace.tape;
    const fad_shape *to = pick(&w->g, 4) ? w->one_column : pick(&w->g, 3) ? w->one_row : t->shapes[0];
    uint32_t out = a;
    if (pick(&w->g, 2))
        DO(fad_record_extremum_to(t, pick(&w->g, 2) ? FAD_MAX_TO : FAD_MIN_TO, a, to, &out));
    else
        DO(fad_record_sum_to(t, a, to, &out));
    return out;
}

static uint32_t product(rows_generator *w, uint32_t a)
{
    static const int axes[2] = {1, 0};
    fad_tape *t = w->g.r.trace.tape;
    uint32_t factor = w->factor, out = a;
    if (pick(&w->g, 3) == 0)
        DO(fad_record_transpose(t, factor, axes, &factor));
    if (pick(&w->g, 4) == 0) { /* the left operand lies column by column */
        DO(fad_record_reshape(t, a, w->turned, &a));
        DO(fad_record_transpose(t, a, axes, &a));
    }
    DO(fad_record_matmul(t, a, factor, &out));
    return un(t, FAD_TANH, out);
}

/* Some rows or columns of `a`, taken over from the same ones, or their neighbours, of another array. */
static uint32_t overwritten(rows_generator *w, uint32_t a)
{
    static const int source[2] = {0, 1};
    fad_tape *t = w->g.r.trace.tape;
    ptrdiff_t dims[2] = {w->whole->dims[0], w->whole->dims[1]}, to[2] = {0, 0}, from[2] = {0, 0};
    ptrdiff_t step[2] = {1, 1};
    unsigned axis = pick(&w->g, 2);
    uint32_t side, part, out;
    if (dims[axis] == 1)
        return a;
    dims[axis] = pick(&w->g, 2) ? dims[axis] - 1 : 1;
    to[axis] = pick(&w->g, 2);
    from[axis] = pick(&w->g, 2);
    DO(fad_make_view(t, w->whole, 2, dims, from, step, source, &side));
    DO(fad_record_view(t, recent(w), side, &part));
    DO(fad_make_view(t, w->whole, 2, dims, to, step, source, &side));
    if (pick(&w->g, 2))
        DO(fad_record_embed(t, part, side, &out));
    else
        DO(fad_record_update_view(t, a, part, side, &out));
    return out;
}

/* Elements from anywhere. */
static uint32_t gathered(rows_generator *w, uint32_t a)
{
    uint32_t indices, out = a;
    DO(random_indices(&w->g, w->whole, w->whole->size, &indices));
    DO(fad_record_gather(w->g.r.trace.tape, a, indices, &out));
    return out;
}

/* The same memory as rows of another length. */
static uint32_t in_other_rows(rows_generator *w, uint32_t a)
{
    fad_tape *t = w->g.r.trace.tape;
    const fad_shape *to = shape2(w, w->turned->dims[0], 1);
    uint32_t best, out = a;
    DO(fad_record_reshape(t, a, w->turned, &a));
    DO(fad_record_extremum_to(t, FAD_MAX_TO, a, to, &best));
    DO(fad_record_reshape(t, bin(t, FAD_SUB, a, best), w->whole, &out));
    return out;
}

static uint32_t element_wise(rows_generator *w, uint32_t a, uint32_t b)
{
    static const int ops[] = {FAD_ADD, FAD_SUB, FAD_MUL, FAD_MAXIMUM, FAD_ZMUL, FAD_TIES, FAD_EQUAL};
    fad_tape *t = w->g.r.trace.tape;
    int op = ops[pick(&w->g, 7)];
    if (op == FAD_TIES || op == FAD_EQUAL)
        return apply(t, FAD_SELECT, bin(t, op, a, b), a, number(t, 0.5));
    return bin(t, op, a, b);
}

static uint32_t next(rows_generator *w)
{
    fad_tape *t = w->g.r.trace.tape;
    uint32_t a = recent(w);
    switch (pick(&w->g, 12)) {
    case 0:
    case 1:
        return element_wise(w, a, reduced(w, recent(w)));
    case 2:
        return product(w, a);
    case 3:
        return overwritten(w, a);
    case 4:
        return un(t, pick(&w->g, 2) ? FAD_TANH : FAD_NEG, a);
    case 5:
        return gathered(w, a);
    case 6:
        return in_other_rows(w, a);
    case 7:
        return bin(t, FAD_DIV, a, un(t, FAD_EXP, reduced(w, un(t, FAD_TANH, a))));
    default:
        return element_wise(w, a, recent(w));
    }
}

static void generate_rows(rows_generator *w, uint64_t seed)
{
    *w = (rows_generator){.g = {.state = seed * 0x9e3779b97f4a7c15u + 1, .special = seed % 5 == 0}};
    begin(&w->g.r);
    ptrdiff_t rows = 2 + (ptrdiff_t)pick(&w->g, MOST_ROWS - 1), columns = 1 + (ptrdiff_t)pick(&w->g, MOST_COLUMNS);
    w->whole = shape2(w, rows, columns);
    w->one_column = shape2(w, rows, 1);
    w->one_row = shape2(w, 1, columns);
    w->turned = shape2(w, columns, rows);
    w->factor = values(w, shape2(w, columns, columns));
    for (; w->count < 2; w->count++)
        w->arrays[w->count] = values(w, w->whole);
    for (unsigned length = 4 + pick(&w->g, 16); length; length--) {
        uint32_t made = next(w);
        w->arrays[w->count++] = made;
    }
    for (int i = 0; i < 3; i++)
        output(&w->g.r, i ? recent(w) : reduced(w, recent(w)));
    if (seed & 1)
        append_gradient(&w->g.r, sum_of_outputs(&w->g.r));
}

/* --- running them --- */

static void expect_same_bits(const fad_program *p, const memory *x, const memory *y, uint64_t seed, const char *what)
{
    for (size_t i = 0; i < p->output_count; i++)
        if (memcmp(x->outputs[i], y->outputs[i], p->outputs[i].bytes) != 0) {
            fprintf(stderr, "seed %lu: output %zu has other bits %s\n", (unsigned long)seed, i, what);
            failures++;
        }
}

/* To rounding. */
static void expect_close(const fad_program *p, const memory *x, const memory *y, uint64_t seed)
{
    for (size_t i = 0; i < p->output_count; i++)
        for (size_t k = 0; p->outputs[i].dtype == FAD_F64 && k < p->outputs[i].bytes / sizeof(double); k++) {
            double a = ((const double *)(void *)x->outputs[i])[k], b = ((const double *)(void *)y->outputs[i])[k];
            if (!(fabs(a - b) <= 1e-9 * (1 + fabs(b))) && a != b && (a == a || b == b)) {
                fprintf(stderr, "seed %lu: output %zu is %g by rows, %g not\n", (unsigned long)seed, i, a, b);
                failures++;
            }
        }
}

static bool sums_over_rows(const fad_program *p)
{
    bool any = false;
    for (size_t i = 0; i < p->band_count; i++)
        for (size_t k = 0; k < p->bands[i].count; k++)
            any |= fad_sums_rows(&p->bands[i], k);
    return any;
}

/* As if the second-level cache held so many bytes. */
static void run_in_bands(fad_program *p, memory *m, uint64_t cache, fad_pool *pool)
{
    size_t failed;
    for (size_t i = 0; i < p->output_count; i++)
        memset(m->outputs[i], 0xab, p->outputs[i].bytes);
    DO(fad_program_bands(p, cache));
    DO(fad_program_run(p, m->workspace, m->inputs, m->outputs, pool, &failed));
    for (size_t i = 0; i < p->band_count; i++) {
        local_arrays += p->bands[i].local_count;
        blocks_apart += pool && p->bands[i].apart;
        in_turn += pool && p->bands[i].apart && p->bands[i].turns;
        blocks_meet += pool && !p->bands[i].apart;
        for (size_t k = 0; k < p->bands[i].count; k++)
            in_bands[p->steps[p->bands[i].first + k].kind]++;
    }
}

/* One step after another, with the strips that they have in bands. */
static void run_alone(fad_program *p, memory *m, uint64_t cache)
{
    uint32_t *strips = malloc(p->step_count * sizeof *strips);
    DO(fad_program_bands(p, cache));
    for (size_t i = 0; i < p->step_count; i++) {
        strips[i] = p->steps[i].strip;
        p->steps[i].strip = p->band_count ? p->banded.steps[i].strip : strips[i];
        p->steps[i].piece = p->band_count ? p->banded.steps[i].piece : 0;
    }
    run_in_bands(p, m, 0, NULL);
    for (size_t i = 0; i < p->step_count; i++) {
        p->steps[i].strip = strips[i];
        p->steps[i].piece = 0;
    }
    free(strips);
}

/* Of strict programs, where no rounding breaks a tie. */
static void expect_recorded(recording *r, uint64_t seed)
{
    fad_program *p = NULL;
    memory m;
    size_t failed;
    DO(lower(r, true, &p));
    allocate(&m, p);
    fill_inputs(&m, p, r);
    DO(run_program(p, &m, &failed));
    for (size_t i = 0; i < p->output_count; i++) {
        fad_array recorded = fad_value_array(r->trace.tape, r->outputs[i]), found = recorded;
        found.data = m.outputs[i];
        found.strides = found.shape->strides;
        if (!same_values(&found, &recorded, 1e-7)) {
            fprintf(stderr, "seed %lu: output %zu is not what was recorded\n", (unsigned long)seed, i);
            failures++;
        }
    }
    deallocate(&m, p);
    fad_program_destroy(p);
}

static void test_seed(uint64_t seed, fad_pool *pool)
{
    static const uint64_t caches[] = {64, 200, 1000};
    static const uint32_t strips[] = {1024, 1, 2, 7, 64};
    rows_generator w;
    generate_rows(&w, seed);
    expect_recorded(&w.g.r, seed);
    for (size_t k = 0; k < sizeof strips / sizeof *strips; k++) {
        fad_program *p = NULL;
        memory alone, by_rows, together;
        DO(lower(&w.g.r, false, &p));
        narrow_strips(p, strips[k]);
        DO(fad_program_turns(p, 1));
        for (size_t c = 0; c < sizeof caches / sizeof *caches; c++)
            DO(fad_program_bands(p, caches[c])); /* each may want more room */
        allocate(&alone, p);
        allocate(&by_rows, p);
        fill_inputs(&alone, p, &w.g.r);
        allocate(&together, p);
        fill_inputs(&by_rows, p, &w.g.r);
        fill_inputs(&together, p, &w.g.r);
        for (size_t c = 0; c < sizeof caches / sizeof *caches; c++) {
            run_alone(p, &alone, caches[c]);
            run_in_bands(p, &by_rows, caches[c], NULL);
            if (sums_over_rows(p))
                expect_close(p, &by_rows, &alone, seed);
            else
                expect_same_bits(p, &by_rows, &alone, seed, "by rows");
            sums_in_bands += sums_over_rows(p);
            run_in_bands(p, &together, caches[c], pool);
            expect_same_bits(p, &together, &by_rows, seed, "by rows, with threads");
        }
        deallocate(&alone, p);
        deallocate(&by_rows, p);
        deallocate(&together, p);
        fad_program_destroy(p);
    }
    end(&w.g.r);
}

/* --- what one strip reads ahead --- */

static size_t instruction_of(const fad_program *p, int op)
{
    size_t i = 0;
    while (i < p->instruction_count && (p->instructions[i].code != FAD_DO_OP || p->instructions[i].op != op))
        i++;
    EXPECT(i < p->instruction_count);
    return i;
}

/* Extrema, then sines of a column and cosines of the sines one row further: all in one strip, which is no band's. */
static void test_region_that_reads_ahead(void)
{
    rows_generator w = {.g = {.state = 5}};
    fad_program *p = NULL;
    memory one, other;
    uint32_t best;
    begin(&w.g.r);
    w.whole = shape2(&w, MOST_ROWS, MOST_COLUMNS);
    w.one_column = shape2(&w, MOST_ROWS, 1);
    DO(fad_record_extremum_to(w.g.r.trace.tape, FAD_MAX_TO, values(&w, w.whole), w.one_column, &best));
    output(&w.g.r, best);
    output(&w.g.r, un(w.g.r.trace.tape, FAD_COS, un(w.g.r.trace.tape, FAD_SIN, values(&w, w.one_column))));
    DO(lower(&w.g.r, false, &p));
    size_t sine = instruction_of(p, FAD_SIN), cosine = instruction_of(p, FAD_COS);
    fad_argument at = {FAD_AT_MEMORY, FAD_F64, 0, FAD_IN_WORKSPACE, p->workspace_bytes};
    p->instructions[sine].arguments[1] = at;
    at.offset += sizeof(double);
    p->instructions[cosine].arguments[0] = at;
    p->bound[sine].count = p->bound[cosine].count = 0;
    p->workspace_bytes += (MOST_ROWS + FAD_CACHE_LINE) * sizeof(double);
    allocate(&one, p);
    allocate(&other, p);
    fill_inputs(&one, p, &w.g.r);
    fill_inputs(&other, p, &w.g.r);
    run_in_bands(p, &one, 0, NULL);
    run_in_bands(p, &other, 64, NULL);
    expect_same_bits(p, &other, &one, 0, "where it reads ahead");
    p->instructions[cosine].arguments[0].offset -= sizeof(double);
    DO(fad_program_bands(p, 64));
    EXPECT(p->band_count == 1); /* it would be one */
    deallocate(&one, p);
    deallocate(&other, p);
    fad_program_destroy(p);
    end(&w.g.r);
}

int main(void)
{
    static const fad_step_kind kinds[] = {FAD_STEP_REGION, FAD_STEP_ZERO, FAD_STEP_MATMUL, FAD_STEP_MATMUL_VIEWS,
                                          FAD_STEP_EXTREMUM};
    fad_default_loops(&loops);
    fad_pool *pool = fad_pool_create(3);
    EXPECT(pool != NULL);
    for (uint64_t seed = 0; seed < PROGRAMS; seed++)
        test_seed(seed, pool);
    test_region_that_reads_ahead();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        EXPECT(in_bands[kinds[i]] > PROGRAMS);
    EXPECT(sums_in_bands > PROGRAMS / 10);
    EXPECT(local_arrays > PROGRAMS);
    EXPECT(blocks_apart > PROGRAMS && in_turn > PROGRAMS && blocks_meet > 0);
    fad_pool_destroy(pool);
    return finish();
}
