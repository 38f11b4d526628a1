/* test_program.c: programs do what was recorded: lowered, verified, run in memory of exactly the declared sizes, written
 * and read back. Planted faults are found, and every allocation fails once. Prints what failed, or "ok". */
#include "exec.h"
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
        check_program(&g.r, true, 0, what, (uint64_t)seed);
        if (loose > 0)
            check_program(&g.r, false, loose, what, (uint64_t)seed);
        end(&g.r);
    }
}

/* --- what verify finds --- */

static uint32_t seen_reasons;

/* Expects a fault in part `part` once `change` is done; the program is as before afterwards. */
#define SPOILED(field, value, part_)                                                                     \
    do {                                                                                                 \
        fad_fault fault_;                                                                                \
        __typeof__(field) before_ = (field);                                                             \
        (field) = (value);                                                                               \
        bool fine_ = fad_program_verify(p, &fault_);                                                     \
        if (fine_ || strcmp(fault_.part, part_) != 0)                                                    \
            fprintf(stderr, "%s = %s: %s\n", #field, #value, fine_ ? "not seen" : fault_.part);          \
        EXPECT(!fine_ && fault_.reason && strcmp(fault_.part, part_) == 0);                              \
        (field) = before_;                                                                               \
        seen_reasons++;                                                                                  \
    } while (0)

static const fad_instruction *find(const fad_program *p, int code)
{
    for (size_t i = 0; i < p->instruction_count; i++)
        if (p->instructions[i].code == code)
            return &p->instructions[i];
    EXPECT(!"the program has such an instruction");
    return p->instructions;
}

static fad_step *step_of(fad_program *p, const fad_instruction *i)
{
    size_t at = (size_t)(i - p->instructions), s = 0;
    while (s + 1 < p->step_count && (!fad_is_region(p->steps[s].kind) || at - p->steps[s].first >= p->steps[s].count))
        s++;
    return &p->steps[s];
}

static fad_step *find_step(fad_program *p, int kind)
{
    for (size_t i = 0; i < p->step_count; i++)
        if (p->steps[i].kind == kind)
            return &p->steps[i];
    EXPECT(!"the program has such a step");
    return p->steps;
}

/* Of x[4, 3] and a scalar: whatever a program can be made of. */
static void record_everything(recording *r)
{
    const ptrdiff_t dims[2] = {4, 3}, line[1] = {12}, step[1] = {-2}, start[1] = {11};
    const double values[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const int64_t places[12] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    const ptrdiff_t few[1] = {6};
    const int source[1] = {0};
    begin(r);
    fad_tape *t = r->trace.tape;
    const fad_shape *row = shape_of(t, 1, line);
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 2, dims), values), s = scalar(t, 0.5), flat, y, at, side, z;
    input(r, x);
    input(r, s);
    DO(fad_record_reshape(t, x, row, &flat));
    DO(fad_record_indices(t, 12, places, &at));
    DO(fad_record_gather(t, flat, at, &y));
    y = bin(t, FAD_ADD, bin(t, FAD_MUL, un(t, FAD_SIN, y), s), flat);
    DO(fad_record_scatter_add(t, y, at, row, &z));
    DO(fad_make_view(t, row, 1, few, start, step, source, &side));
    DO(fad_record_view(t, z, side, &y));
    DO(fad_record_cumsum(t, un(t, FAD_COS, y), 0, false, &y));
    DO(fad_record_update_at(t, z, flat, at, &z));
    DO(fad_record_cast(t, z, FAD_F32, &z));
    output(r, y);
    output(r, z);
    const int axes[2] = {1, 0};
    DO(fad_record_transpose(t, x, axes, &z));
    DO(fad_record_matmul(t, x, z, &z));
    output(r, z);
    uint32_t k = total(t, y);
    for (int i = 0; i < 3; i++)
        k = bin(t, FAD_SUB, un(t, FAD_SIN, k), s);
    output(r, k);
    output(r, apply(t, FAD_SELECT, bin(t, FAD_GREATER, flat, s), flat, y = un(t, FAD_NEG, flat)));
    r->guards[r->trace.guard_count++] = bin(t, FAD_LESS, s, number(t, 3.0));
}

static void test_verify_finds(void)
{
    recording r;
    fad_program *p = NULL;
    record_everything(&r);
    DO(lower(&r, false, &p));
    expect_verified(p, "everything", 0);
    check_program(&r, true, 1e-12, "everything", 0);
    check_program(&r, false, 1e-12, "everything", 0);

    SPOILED(p->workspace_bytes, p->workspace_bytes + 4, "program");
    SPOILED(p->workspace_bytes, 0, "program");
    SPOILED(p->scalar_count, p->scalar_count + 1, "program");
    SPOILED(p->strip_bytes, 64, "step");
    SPOILED(p->inputs[0].bytes, 88, "input");
    SPOILED(p->inputs[0].ndim, 65, "input");
    SPOILED(p->inputs[0].dims, p->number_count - 1, "input");
    SPOILED(p->numbers[p->inputs[0].dims], -4, "input");
    SPOILED(p->outputs[1].dtype, FAD_F64, "output");
    SPOILED(p->outputs[1].dtype, FAD_DTYPE_COUNT, "output");

    fad_step *region = find_step(p, FAD_STEP_REGION);
    SPOILED(region->n, region->n + 1, "instruction");
    SPOILED(region->n, UINT64_MAX / 8, "step");
    SPOILED(region->strip, 0, "step");
    SPOILED(region->strips, 0, "instruction");
    SPOILED(region->first, region->first + 1, "step");
    SPOILED(region->count, UINT32_MAX, "step");
    SPOILED(region->kind, FAD_STEP_COUNT, "step");

    fad_step *sum = step_of(p, find(p, FAD_DO_ADD));
    SPOILED(sum->kind, FAD_STEP_REGION_BACKWARDS, "instruction");

    fad_instruction *i = (fad_instruction *)find(p, FAD_DO_OP);
    SPOILED(i->code, FAD_DO_COUNT, "instruction");
    SPOILED(i->op, FAD_ELEMENTWISE_COUNT, "instruction");
    SPOILED(i->op, FAD_HYPOT, "instruction");
    SPOILED(i->dtype, FAD_I64, "instruction");
    SPOILED(i->arguments[0].dtype, FAD_F32, "instruction");
    SPOILED(i->arguments[i->count - 1].place, FAD_AT_FIXED, "instruction");
    i = (fad_instruction *)find(p, FAD_DO_LOAD);
    fad_affine *affine = &p->affines[i->affine];
    region = step_of(p, i);
    SPOILED(region->n, region->n - 1, "instruction"); /* a row of the range would not be one of the places */
    SPOILED(i->affine, p->affine_count, "instruction");
    SPOILED(affine->ndim, 0, "instruction");
    SPOILED(affine->ndim, FAD_MAX_NDIM + 1, "instruction");
    SPOILED(affine->first, p->number_count, "instruction");
    SPOILED(p->numbers[affine->first], 0, "instruction");
    SPOILED(p->numbers[affine->first], p->numbers[affine->first] - 1, "instruction");
    SPOILED(p->numbers[affine->first], INT64_MAX, "instruction");
    SPOILED(p->numbers[affine->first + affine->ndim], 4, "instruction");
    SPOILED(p->numbers[affine->first + affine->ndim], INT64_MIN, "instruction");
    SPOILED(p->numbers[affine->first + affine->ndim], 1 << 20, "instruction");
    SPOILED(i->arguments[0].offset, UINT64_MAX - 7, "instruction");
    SPOILED(i->arguments[0].offset, i->arguments[0].offset + 4, "instruction");
    SPOILED(i->arguments[0].place, FAD_AT_STRIP, "instruction");
    SPOILED(i->arguments[0].base, FAD_FIRST_INPUT + p->input_count + p->output_count, "instruction");
    i = (fad_instruction *)find(p, FAD_DO_GATHER);
    SPOILED(i->limit, 13, "instruction");
    SPOILED(i->limit, UINT64_MAX, "instruction");
    SPOILED(i->arguments[1].dtype, FAD_F64, "instruction");
    SPOILED(i->arguments[0].place, FAD_AT_MEMORY, "instruction");
    i = (fad_instruction *)find(p, FAD_DO_PUT);
    SPOILED(i->arguments[0].base, FAD_FIRST_INPUT, "instruction");
    SPOILED(i->arguments[0].base, FAD_IN_CONSTANTS, "instruction");

    fad_scalar_instruction *s = &p->scalars[0];
    SPOILED(s->op, FAD_SCALAR_COUNT, "scalar instruction");
    SPOILED(s->to, 0, "scalar instruction");
    SPOILED(s->to, p->workspace_bytes / 8, "scalar instruction");
    SPOILED(p->scalars[1].a, UINT32_MAX, "scalar instruction");

    fad_step *product = find_step(p, FAD_STEP_MATMUL_VIEWS);
    const size_t strides = product->numbers + 9; /* of x, after 2 dims of each of three */
    SPOILED(product->dtype, FAD_I64, "step");
    SPOILED(product->numbers, p->number_count, "step");
    SPOILED(product->arguments[2].base, FAD_FIRST_INPUT, "step");
    SPOILED(p->numbers[product->numbers], 1, "step");
    SPOILED(p->numbers[product->numbers + 1], 3, "step");
    SPOILED(p->numbers[product->numbers + 2], INT64_MAX, "step");
    SPOILED(p->numbers[strides], p->numbers[strides] + 1, "step");
    SPOILED(p->numbers[strides + 1], -1, "step");
    SPOILED(p->numbers[strides + 2], INT64_MIN, "step");
    SPOILED(p->numbers[strides + 3], INT64_MAX, "step");
    SPOILED(find_step(p, FAD_STEP_CUMSUM)->arguments[1], find_step(p, FAD_STEP_CUMSUM)->arguments[0], "step");
    SPOILED(find_step(p, FAD_STEP_ZERO)->n, UINT64_MAX, "step");
    SPOILED(find_step(p, FAD_STEP_ZERO)->arguments[0].offset, 0, "step");
    SPOILED(p->guards[0].size, UINT32_MAX, "guard");
    SPOILED(p->guards[0].expected, p->constant_bytes, "guard");
    SPOILED(p->guards[0].base, UINT32_MAX, "guard");
    expect_verified(p, "restored", 0);
    fad_program_destroy(p);
    end(&r);
    printf("%u planted faults found\n", (unsigned)seen_reasons);
}

/* A file that says what is wrong with it, wherever it is cut. */
static void test_truncated_files(void)
{
    recording r;
    fad_program *p = NULL, *q = NULL;
    fad_fault fault;
    size_t size;
    record_everything(&r);
    DO(lower(&r, false, &p));
    char *bytes = written(p, &size);
    for (size_t n = 0; n < size; n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, bytes, n);
        EXPECT(fad_program_read(cut, n, &p->allocator, &loops, &q, &fault) == FAD_BAD_OPERAND);
        EXPECT(fault.reason && strcmp(fault.part, "byte") == 0 && fault.at == n);
        free(cut);
    }
    for (size_t n = 0; n < size; n++) {
        bytes[n] = (char)(bytes[n] ^ 0x10);
        EXPECT(fad_program_read(bytes, size, &p->allocator, &loops, &q, &fault) == FAD_BAD_OPERAND);
        bytes[n] = (char)(bytes[n] ^ 0x10);
    }
    EXPECT(q == NULL);
    free(bytes);
    fad_program_destroy(p);
    end(&r);
}

/* --- columns of the same rows --- */

enum { STORED = 10, ROWS = 70 };

/* Stores of `STORED` columns to rows of that many numbers, from strips. */
static void many_stores(fad_program *p, counter *c, fad_step *step, fad_instruction *all, fad_affine *affine, int64_t *numbers)
{
    memset(p, 0, sizeof *p);
    memset(step, 0, sizeof *step);
    memset(all, 0, STORED * sizeof *all);
    numbers[0] = ROWS;
    numbers[1] = STORED * (int64_t)sizeof(double);
    affine->ndim = 1;
    affine->first = 0;
    for (int k = 0; k < STORED; k++) {
        fad_argument to = {FAD_AT_FIXED, FAD_F64, 0, FAD_FIRST_INPUT, (uint64_t)k * sizeof(double)};
        fad_argument from = {FAD_AT_STRIP, FAD_F64, 0, 0, (uint64_t)k};
        all[k].code = FAD_DO_STORE;
        all[k].dtype = FAD_F64;
        all[k].count = 2;
        all[k].arguments[0] = to;
        all[k].arguments[1] = from;
    }
    step->kind = FAD_STEP_REGION;
    step->n = ROWS;
    step->count = STORED;
    p->allocator = (fad_allocator){counting, c};
    p->steps = step;
    p->step_count = 1;
    p->instructions = all;
    p->instruction_count = STORED;
    p->affines = affine;
    p->numbers = numbers;
}

/* How many stores are done with the first, and with the one after those. */
static void expect_together(fad_program *p, uint8_t first, uint8_t second)
{
    EXPECT(fad_program_columns(p) == FAD_OK);
    EXPECT(p->columns[0] == first);
    EXPECT(first == STORED || p->columns[first] == second);
    p->allocator.resize(p->allocator.context, p->columns, STORED, 0);
}

static void test_columns(void)
{
    fad_program p;
    fad_step step;
    fad_instruction all[STORED];
    fad_affine affine;
    int64_t numbers[2];
    counter c = {0};
    many_stores(&p, &c, &step, all, &affine, numbers);
    expect_together(&p, STORED, 0);
    numbers[1] = -numbers[1];
    expect_together(&p, STORED, 0);
    numbers[1] = 4 * sizeof(double); /* rows of 4: the fifth column is the next row's */
    expect_together(&p, 4, 4);
    numbers[1] = 0;
    expect_together(&p, 1, 1);
    many_stores(&p, &c, &step, all, &affine, numbers);
    all[6].arguments[0].offset += sizeof(double);
    expect_together(&p, 6, 1);
    many_stores(&p, &c, &step, all, &affine, numbers);
    all[3].arguments[0].base++;
    expect_together(&p, 3, 1);
    many_stores(&p, &c, &step, all, &affine, numbers);
    all[5].arguments[1].place = FAD_AT_MEMORY; /* of the base that is written to */
    all[5].arguments[1].base = FAD_FIRST_INPUT;
    expect_together(&p, 5, 1);
    all[5].arguments[1].base = FAD_IN_CONSTANTS;
    expect_together(&p, STORED, 0);
    all[5].code = FAD_DO_ADD;
    expect_together(&p, 5, 1);
    int64_t own[6] = {numbers[0], numbers[1], ROWS, numbers[1] + (int64_t)sizeof(double), 1, 1};
    fad_affine places[2] = {affine, {1, 2}};
    many_stores(&p, &c, &step, all, &affine, numbers);
    p.affines = places;
    p.numbers = own;
    all[4].affine = 1; /* of another stride */
    expect_together(&p, 4, 1);
    own[3] = numbers[1];
    expect_together(&p, STORED, 0);
    places[1].ndim = 2; /* what looked like a stride is a dimension */
    expect_together(&p, 4, 1);
}

/* Gathers of `STORED` columns of a table, of rows that one list names. */
static void many_gathers(fad_program *p, counter *c, fad_step *step, fad_instruction *all, fad_affine *affine,
                         int64_t *numbers)
{
    many_stores(p, c, step, all, affine, numbers);
    step->strip = ROWS;
    for (int k = 0; k < STORED; k++) {
        fad_argument indices = {FAD_AT_MEMORY, FAD_I64, 0, FAD_FIRST_INPUT + 1, 0};
        all[k].arguments[2] = all[k].arguments[1];
        all[k].arguments[1] = indices;
        all[k].code = FAD_DO_GATHER;
        all[k].count = 3;
        all[k].limit = ROWS * STORED - (uint64_t)k;
    }
}

/* Whether index `at` is within bounds for all columns; if so, they have what they should. */
static bool gathers(fad_program *p, const fad_step *step, const fad_instruction *all, int64_t at)
{
    static double table[ROWS * STORED], strips[STORED][ROWS];
    int64_t indices[ROWS];
    char *bases[] = {NULL, NULL, (char *)table, (char *)indices};
    fad_machine m = {p, bases, (char *)strips, NULL};
    for (int i = 0; i < ROWS * STORED; i++)
        table[i] = i;
    for (int i = 0; i < ROWS; i++)
        indices[i] = i == ROWS - 2 ? at : i * STORED;
    fad_status status = fad_run_columns(&m, step, all, STORED, 0, ROWS);
    for (int k = 0; status == FAD_OK && k < STORED; k++)
        for (int i = 0; i < ROWS; i++)
            EXPECT(strips[k][i] == (double)(indices[i] + k));
    return status == FAD_OK;
}

static void test_gathered_columns(void)
{
    fad_program p;
    fad_step step;
    fad_instruction all[STORED];
    fad_affine affine;
    int64_t numbers[2];
    counter c = {0};
    many_gathers(&p, &c, &step, all, &affine, numbers);
    expect_together(&p, STORED, 0);
    EXPECT(gathers(&p, &step, all, 17) && gathers(&p, &step, all, ROWS * STORED - STORED));
    EXPECT(!gathers(&p, &step, all, ROWS * STORED - STORED + 1)); /* the last column is not there */
    EXPECT(!gathers(&p, &step, all, -1) && !gathers(&p, &step, all, INT64_MIN));
    all[2].limit = 17;
    EXPECT(!gathers(&p, &step, all, 16)); /* there are rows beyond */
    all[4].arguments[1].offset = sizeof(int64_t); /* other indices */
    expect_together(&p, 4, 1);
    many_gathers(&p, &c, &step, all, &affine, numbers);
    all[3].arguments[0].base++;
    expect_together(&p, 3, 1);
    many_gathers(&p, &c, &step, all, &affine, numbers);
    all[8].arguments[2].place = FAD_AT_MEMORY;
    expect_together(&p, 8, 1);
    many_gathers(&p, &c, &step, all, &affine, numbers);
    for (int k = 0; k < STORED; k++) {
        all[k].arguments[1].place = FAD_AT_STRIP;
        all[k].arguments[1].offset = 6; /* which the seventh overwrites */
    }
    expect_together(&p, 6, 1);
}

/* --- allocation failure --- */

static fad_status lower_and_copy(recording *r, bool strict, fad_program **p, fad_program **q)
{
    fad_fault fault;
    size_t size = 0;
    TRY(lower(r, strict, p));
    TRY(fad_program_write(*p, NULL, 0, &size));
    char *bytes = malloc(size);
    fad_status status = fad_program_write(*p, bytes, size, &size);
    if (status == FAD_OK)
        status = fad_program_read(bytes, size, &(*p)->allocator, &loops, q, &fault);
    free(bytes);
    return status;
}

/* Until nothing fails: how many allocations failed, one at a time. The tape is as it was, and lowers again. */
static long fail_one_by_one(recording *r, bool strict)
{
    fad_tape *t = r->trace.tape;
    const fad_allocator usual = t->allocator;
    const size_t bytes = t->bytes, nodes = t->count;
    long n = 0;
    for (bool failed = true; failed && failures == 0;) {
        fad_program *p = NULL, *q = NULL;
        counter c = {.failing_in = ++n};
        fad_allocator failing = {counting, &c};
        t->allocator = failing;
        fad_status status = lower_and_copy(r, strict, &p, &q);
        failed = status != FAD_OK;
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
        EXPECT(!failed || !q);
        fad_program_destroy(p);
        fad_program_destroy(q);
        EXPECT(c.blocks == 0);
        t->allocator = usual;
        EXPECT(t->bytes == bytes && t->count == nodes);
    }
    return n - 1;
}

static void test_every_allocation_fails_once(void)
{
    long failed = 0;
    recording everything;
    record_everything(&everything);
    failed += fail_one_by_one(&everything, false);
    end(&everything);
    for (uint64_t seed = 0; seed < 40; seed++) {
        generator g;
        generate(&g, seed, seed % 2, true);
        failed += fail_one_by_one(&g.r, seed % 3 == 0);
        check_program(&g.r, true, 0, "after failures", seed);
        end(&g.r);
    }
    EXPECT(failed > 500);
    printf("%ld allocations failed, one at a time\n", failed);
}

/* --- computed again where it is read late --- */

enum { TURNS = 40, WIDTH = 301 };

/* y before it, with 1 in the first place. */
static uint32_t shifted(recording *r, uint32_t y, uint32_t one)
{
    fad_tape *t = r->trace.tape;
    const ptrdiff_t start = 0, step = 1, dim = WIDTH - 1;
    const int source = 0;
    uint32_t side = 0, parts[2] = {one, 0}, out = 0;
    DO(fad_make_view(t, fad_node_shape(t, y), 1, &dim, &start, &step, &source, &side));
    DO(fad_record_view(t, y, side, &parts[1]));
    DO(fad_record_concatenate(t, 2, parts, 0, &out));
    return out;
}

/* Steps of three stages, and the gradient of the sum of the last squares; `plain`: of the last state. `curved`: the stages
 * are not linear. */
static void record_stages(recording *r, bool curved, bool plain)
{
    double values[WIDTH], unit = 1;
    const ptrdiff_t dim = WIDTH, single = 1;
    begin(r);
    fad_tape *t = r->trace.tape;
    for (int i = 0; i < WIDTH; i++)
        values[i] = i == 7 ? -0.0 : sin(i);
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 1, &dim), values), y = bin(t, FAD_MUL, x, number(t, 0.3)), total = 0;
    uint32_t one = array(t, FAD_CONSTANT, shape_of(t, 1, &single), &unit);
    input(r, x);
    for (int k = 0; k < TURNS; k++) {
        uint32_t first = y;
        for (int stage = 0; stage < 3; stage++) {
            uint32_t rate = bin(t, FAD_MUL, x, shifted(r, y, one));
            rate = curved ? bin(t, FAD_MUL, rate, y) : rate;
            y = bin(t, FAD_ADD, first, bin(t, FAD_MUL, rate, number(t, 0.01 * (stage + 1))));
        }
        if (k == TURNS / 2)
            output(r, y);
    }
    DO(fad_record_sum_to(t, plain ? y : bin(t, FAD_MUL, y, y), shape_of(t, 0, NULL), &total));
    append_gradient(r, total);
    output(r, total);
}

static bool same_outputs(const recording *r, const fad_program *p, const fad_program *q)
{
    memory m, n;
    size_t failed;
    bool same = true;
    allocate(&m, p);
    allocate(&n, q);
    fill_inputs(&m, p, r);
    fill_inputs(&n, q, r);
    DO(run_program(p, &m, &failed));
    DO(run_program(q, &n, &failed));
    for (size_t i = 0; i < p->output_count; i++)
        same = same && memcmp(m.outputs[i], n.outputs[i], p->outputs[i].bytes) == 0;
    deallocate(&m, p);
    deallocate(&n, q);
    return same;
}

static fad_status again(const fad_trace *in, fad_trace *out) { return fad_pass_again(in, out, 0); }

/* A pass with one allocation after the other failing: how many there are. */
static long fail_pass(const recording *r, fad_status (*make)(const fad_trace *in, fad_trace *out))
{
    long n = 0;
    for (bool failed = true; failed && failures == 0;) {
        counter c = {.failing_in = ++n};
        fad_allocator failing = {counting, &c};
        fad_trace out = {.tape = NULL};
        fad_status status = fad_tape_create(&out.tape, &failing, &loops, 0);
        if (status == FAD_OK) {
            status = make(&r->trace, &out);
            fad_tape_destroy(out.tape);
        }
        failed = status != FAD_OK;
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
        EXPECT(c.blocks == 0);
    }
    return n - 1;
}

static void test_again(void)
{
    for (int k = 0; k < 4; k++) {
        recording r;
        bool strict = k % 2;
        fad_program *p = NULL, *q = NULL;
        fad_trace out = {.tape = new_tape()}, none = {.tape = new_tape()};
        size_t bad;
        const char *reason;
        record_stages(&r, k / 2, false);
        DO(lower(&r, strict, &p));
        DO(fad_pass_again(&r.trace, &out, 0));
        DO(fad_pass_again(&r.trace, &none, SIZE_MAX));
        EXPECT(none.tape->count == 0);
        EXPECT(fad_verify(out.tape, &bad, &reason));
        EXPECT(out.tape->count > r.trace.tape->count && out.after);
        DO(fad_lower(&out, "", strict, &q));
        expect_verified(q, "again", (uint64_t)k);
        EXPECT(strict || q->workspace_bytes < p->workspace_bytes / 3 * 2); /* strict: the terms of the sum are kept */
        check_run(&r, q, strict ? 0 : 1e-12, "again", (uint64_t)k);
        EXPECT(!strict || same_outputs(&r, p, q));
        EXPECT(fail_pass(&r, again) > 3);
        fad_program_destroy(p);
        fad_program_destroy(q);
        fad_tape_destroy(out.tape);
        fad_tape_destroy(none.tape);
        end(&r);
    }
}

/* The adjoints of linear steps depend on no state: they wait for the last one, and nothing is copied where little is
 * read late. */
static void test_order(void)
{
    for (int k = 0; k < 4; k++) {
        const size_t little = 1 << 20;
        recording r;
        bool strict = k % 2, curved = k / 2;
        fad_program *p = NULL, *q = NULL;
        fad_trace out = {.tape = new_tape()};
        size_t waiting = 0;
        record_stages(&r, curved, true);
        DO(lower(&r, strict, &p));
        DO(fad_pass_again(&r.trace, &out, little));
        EXPECT((out.tape->count == 0) == curved);
        for (uint32_t i = 0; i < out.tape->count; i++)
            if (out.after[i] != FAD_NODE_NONE) {
                waiting++;
                EXPECT(out.after[i] < i);
            }
        EXPECT(curved || waiting > 0);
        if (!curved) {
            EXPECT(out.tape->count == r.trace.tape->count);
            DO(fad_lower(&out, "", strict, &q));
            expect_verified(q, "order", (uint64_t)k);
            check_run(&r, q, strict ? 0 : 1e-12, "order", (uint64_t)k);
            EXPECT(!strict || same_outputs(&r, p, q));
            EXPECT(q->workspace_bytes < p->workspace_bytes);
            fad_program_destroy(q);
        }
        fad_program_destroy(p);
        fad_tape_destroy(out.tape);
        end(&r);
    }
}

/* --- arrays that are written place by place --- */

enum { SIDE = 6 };

/* A view of SIDE x SIDE: one element, a row or a column. */
static uint32_t place_of(fad_tape *t, int row, int column)
{
    const fad_shape *whole = shape_of(t, 2, (const ptrdiff_t[]){SIDE, SIDE});
    const ptrdiff_t start[2] = {row < 0 ? 0 : row, column < 0 ? 0 : column}, dim = SIDE, step = 1;
    const int source = row < 0 ? 0 : 1;
    uint32_t side = 0;
    DO(fad_make_view(t, whole, row < 0 || column < 0, &dim, start, &step, &source, &side));
    return side;
}

/* `state` with numbers added at two of its elements; `column`: with a column of itself, at another. */
static uint32_t sum_at_places(fad_tape *t, uint32_t state, bool column, int row, int at)
{
    const ptrdiff_t dims[2] = {column ? SIDE : 2, 1}, strides[2] = {column ? SIDE : 1 - 2 * (row + at > 0), 1};
    uint32_t side = 0, parts[2] = {0, 0}, part = 0, node = 0;
    if (column) {
        DO(fad_record_view(t, state, place_of(t, -1, row), &part));
        DO(fad_record_reshape(t, part, shape_of(t, 2, dims), &part));
    } else {
        DO(fad_record_element(t, state, (size_t)(SIDE * at + row), &parts[0]));
        parts[1] = number(t, -0.0);
        DO(fad_record_stack(t, 2, parts, &part));
    }
    DO(fad_make_strided(t, fad_node_shape(t, state), column ? 2 : 1, dims, column ? at : SIDE * row + at, strides, &side));
    DO(fad_record_strided_add(t, part, side, &node));
    return row % 2 ? bin(t, FAD_ADD, state, node) : bin(t, FAD_ADD, node, state);
}

/* Writes and reads drawn from `seed`, of places of one `kind`, or of all kinds: outputs are the array before and after. */
static void record_writes(recording *r, int kind, unsigned seed)
{
    double values[SIDE * SIDE];
    uint32_t node, states[64], count = 0;
    begin(r);
    fad_tape *t = r->trace.tape;
    for (int i = 0; i < SIDE * SIDE; i++)
        values[i] = i % 7 ? cos(i) : -0.0;
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 2, (const ptrdiff_t[]){SIDE, SIDE}), values);
    input(r, x);
    states[count++] = bin(t, FAD_MUL, x, number(t, 2.0));
    for (int k = 0; k < 50; k++) {
        unsigned draw = seed = seed * 1103515245u + 12345u;
        int form = kind < 3 ? kind : (int)(draw >> 8) % 3, row = (int)(draw >> 12) % SIDE, column = (int)(draw >> 20) % SIDE;
        uint32_t to = place_of(t, form == 2 ? -1 : row, form == 1 ? -1 : column), from;
        from = place_of(t, form == 2 ? -1 : column, form == 1 ? -1 : row);
        uint32_t state = states[draw >> 28 ? count - 1 : count / 2]; /* a second array made of an older state */
        if (form != 1 && draw >> 29 == 1) {
            states[count++] = sum_at_places(t, state, form == 2, row, column);
            continue;
        }
        DO(fad_record_view(t, state, from, &node));
        node = bin(t, FAD_ADD, node, number(t, k));
        DO(fad_record_update_view(t, state, node, to, &states[count++]));
        if (k == 20 || k == 30)
            output(r, states[count - 1]);
    }
    DO(fad_record_sum_to(t, states[count / 3], shape_of(t, 0, NULL), &node));
    append_gradient(r, node);
    output(r, states[count - 1]);
    output(r, node);
}

static fad_status joined(const fad_trace *in, fad_trace *out) { return fad_pass_writes(in, out, false); }

static uint32_t writes_in(const fad_tape *tape)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tape->count; i++)
        count += tape->nodes[i].op == FAD_UPDATE_VIEW && tape->nodes[i].flags & FAD_IS_DYNAMIC;
    return count;
}

static void test_writes(void)
{
    unsigned joins = 0;
    for (unsigned k = 0; k < 160; k++) {
        recording r;
        fad_program *p = NULL, *q = NULL;
        fad_trace out = {.tape = new_tape()};
        size_t bad;
        const char *reason;
        bool strict = k / 4 % 2, one_kind = k % 4 != 3;
        record_writes(&r, (int)(k % 4), k);
        DO(lower(&r, true, &p));
        DO(fad_pass_writes(&r.trace, &out, strict));
        if (out.tape->count == 0) { /* too many joins */
            fad_program_destroy(p);
            fad_tape_destroy(out.tape);
            end(&r);
            continue;
        }
        joins++;
        EXPECT(fad_verify(out.tape, &bad, &reason));
        DO(fad_trace_mark(&out));
        EXPECT(strict || !one_kind || writes_in(out.tape) < writes_in(r.trace.tape) / 2);
        DO(fad_lower(&out, "", true, &q));
        expect_verified(q, "writes", k);
        check_run(&r, q, strict ? 0 : 1e-12, "writes", k);
        EXPECT(!strict || same_outputs(&r, p, q));
        EXPECT(k > 3 || fail_pass(&r, joined) > 3);
        fad_program_destroy(p);
        fad_program_destroy(q);
        fad_tape_destroy(out.tape);
        end(&r);
    }
    EXPECT(joins > 60);
}

int main(void)
{
    fad_default_loops(&loops);
    test_random("any op, special values", false, true, false, 0, 2000);
    test_random("smooth", true, false, false, 1e-9, 2000);
    test_random("smooth, gradients", true, false, true, 1e-9, 2000);
    test_verify_finds();
    test_truncated_files();
    test_columns();
    test_gathered_columns();
    test_again();
    test_order();
    test_writes();
    test_every_allocation_fails_once();
    return finish();
}
