/* fuzz_program.c: saved programs with bytes changed, cut, inserted and taken from one another are read, verified and,
 * where they are accepted, run in memory of exactly the sizes they declare: under ASan and UBSan nothing may be reported.
 * Most have their length and checksum mended, so that they reach the verifier and the executor.
 *
 *   fuzz_program [inputs [seed]]     20 000 inputs unless told otherwise; `make fuzz` takes a million
 *
 * With -DFAD_LIBFUZZER it is a target for LLVM's fuzzer instead. */
#include "programs.h"

enum { MOST_WORK = 20000, MOST_MEMORY = 1 << 20, SEEDS = 48, MOST_BYTES = 1 << 16, MAGIC = 8, CRC = 12, LENGTH = 16 };

/* --- one input --- */

typedef struct {
    long refused, accepted, run, finished, guarded, out_of_bounds;
} tally;

static bool affordable(const fad_program *p)
{
    uint64_t bytes = fad_program_bytes(p);
    for (size_t i = 0; i < p->input_count; i++)
        bytes += p->inputs[i].bytes;
    for (size_t i = 0; i < p->output_count; i++)
        bytes = bytes > MOST_MEMORY ? bytes : bytes + p->outputs[i].bytes;
    return bytes <= MOST_MEMORY && fad_program_work(p) <= MOST_WORK && p->input_count <= MOST_FORMS &&
           p->output_count <= MOST_FORMS;
}

/* Small numbers, of whatever type: indices that hit and miss. */
static void fill(memory *m, const fad_program *p)
{
    for (size_t i = 0; i < p->input_count; i++)
        for (size_t k = 0; k < p->inputs[i].bytes / 8; k++) {
            double x = 0.25 * (double)(k % 9) - 1;
            int64_t n = (int64_t)(k % 5);
            memcpy(m->inputs[i] + 8 * k, p->inputs[i].dtype == FAD_I64 ? (void *)&n : (void *)&x, 8);
        }
}

static uint64_t sum_of(uint64_t sum, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* Of what no run may change: inputs, constants, the scalar constants at the start of the workspace. */
static uint64_t fixed_sum(const memory *m, const fad_program *p)
{
    uint64_t sum = sum_of(0, p->constants, p->constant_bytes);
    sum = sum_of(sum, m->workspace, p->scalar_constant_count * sizeof(double));
    for (size_t i = 0; i < p->input_count; i++)
        sum = sum_of(sum, m->inputs[i], p->inputs[i].bytes);
    return sum;
}

static void run_twice(const fad_program *p, tally *t)
{
    memory m;
    size_t failed;
    allocate(&m, p);
    fill(&m, p);
    uint64_t before = fixed_sum(&m, p);
    for (int i = 0; i < 2; i++) {
        fad_status status = run_program(p, &m, &failed);
        t->out_of_bounds += status == FAD_BAD_OPERAND;
        t->guarded += status == FAD_OK && failed < p->guard_count;
        t->finished += status == FAD_OK && failed == p->guard_count;
    }
    EXPECT(fixed_sum(&m, p) == before);
    deallocate(&m, p);
    t->run++;
}

/* What was accepted is written and read as the same program. */
static void check_rewritten(const fad_program *p)
{
    size_t size, again;
    fad_program *q = NULL;
    fad_fault fault;
    char *bytes = written(p, &size);
    DO(fad_program_read(bytes, size, &p->allocator, p->loops, &q, &fault));
    if (q) {
        char *twice = written(q, &again);
        EXPECT(size == again && memcmp(bytes, twice, size) == 0);
        free(twice);
    }
    fad_program_destroy(q);
    free(bytes);
}

static fad_allocator allocator;

/* Reads, runs. The bytes are a block of their own, so that reading past them is seen. */
static void try_input(const char *bytes, size_t size, tally *t, fad_fault *fault)
{
    fad_program *p = NULL;
    char *own = malloc(size ? size : 1);
    if (size)
        memcpy(own, bytes, size);
    fad_status status = fad_program_read(own, size, &allocator, &loops, &p, fault);
    free(own);
    if (status != FAD_OK) {
        EXPECT(fault->reason != NULL);
        t->refused++;
        return;
    }
    t->accepted++;
    if (t->accepted % 16 == 1)
        check_rewritten(p);
    DO(fad_program_bands(p, 64)); /* what is as small as these programs has none otherwise */
    if (affordable(p))
        run_twice(p, t);
    fad_program_destroy(p);
}

static void prepare(void)
{
    fad_tape *tape;
    fad_default_loops(&loops);
    tape = new_tape();
    allocator = tape->allocator;
    fad_tape_destroy(tape);
}

#ifdef FAD_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool prepared;
    tally t = {0};
    fad_fault fault;
    if (!prepared)
        prepare();
    prepared = true;
    try_input((const char *)bytes, size, &t, &fault);
    if (failures)
        abort();
    return 0;
}
#else

/* --- programs to begin with --- */

typedef struct {
    char *bytes;
    size_t size;
} file;

/* An array of int64 as an input: indices that only the run knows. */
static uint32_t index_input(recording *r, const fad_shape *shape)
{
    uint32_t at = 0;
    DO(fad_new_array(r->trace.tape, FAD_VARIABLE, 0, 0, 0, 0, FAD_I64, shape, &at));
    for (size_t i = 0; i < shape->size; i++)
        ((int64_t *)r->trace.tape->values[at].array->data)[i] = (int64_t)(i % 3);
    input(r, at);
    return at;
}

/* Gathers, a product of matrices, cumulative and plain sums, guards, and what scalars are made of. */
static void handmade(recording *r)
{
    const ptrdiff_t square[2] = {3, 3}, line[1] = {9};
    const double values[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const int axes[2] = {1, 0};
    begin(r);
    fad_tape *t = r->trace.tape;
    const fad_shape *matrix = shape_of(t, 2, square), *row = shape_of(t, 1, line);
    uint32_t x = array(t, FAD_VARIABLE, matrix, values), s = scalar(t, 0.5), y, z, picked, put;
    input(r, x);
    input(r, s);
    uint32_t at = index_input(r, row);
    DO(fad_record_matmul(t, x, x, &y));
    DO(fad_record_transpose(t, y, axes, &z));
    DO(fad_record_matmul(t, z, x, &y));
    DO(fad_record_cumsum(t, y, 1, true, &y));
    DO(fad_record_reshape(t, y, row, &z));
    DO(fad_record_gather(t, z, at, &picked));
    DO(fad_record_scatter_add(t, picked, at, row, &z));
    DO(fad_record_update_at(t, z, picked, at, &put));
    DO(fad_record_cast(t, put, FAD_F32, &put));
    uint32_t big = bin(t, FAD_GREATER, z, s), chosen = apply(t, FAD_SELECT, big, z, picked);
    uint32_t last = total(t, chosen), k = s;
    for (int i = 0; i < 4; i++)
        k = bin(t, FAD_ADD, bin(t, FAD_MUL, k, last), un(t, FAD_SIN, k));
    output(r, put);
    output(r, big);
    output(r, k);
    output(r, chosen);
    r->guards[r->trace.guard_count++] = bin(t, FAD_LESS, s, number(t, 3.0));
    r->guards[r->trace.guard_count++] = at;
}

static file file_of(recording *r, bool strict)
{
    fad_program *p = NULL;
    file f = {NULL, 0};
    DO(lower(r, strict, &p));
    for (size_t i = 0; p && i < p->step_count; i += 3) /* some with sums, which is to be refused */
        if (p->steps[i].kind == FAD_STEP_REGION)
            p->steps[i].kind = FAD_STEP_REGION_BACKWARDS;
    if (p)
        f.bytes = written(p, &f.size);
    fad_program_destroy(p);
    end(r);
    return f;
}

static void make_files(file *files)
{
    for (uint64_t i = 0; i < SEEDS; i++) {
        generator g;
        if (i < 4) {
            handmade(&g.r);
        } else if (i < 8) {
            begin(&g.r);
            output(&g.r, tangle(&g.r, i, 12, 60)); /* groups */
        } else {
            generate(&g, i, true, false);
            if (i % 3 == 0)
                append_gradient(&g.r, sum_of_outputs(&g.r));
        }
        if (i % 4)
            g.r.trace.guard_count = 0; /* they end most runs */
        files[i] = file_of(&g.r, i % 2);
        if (files[i].size > MOST_BYTES / 2)
            files[i].size = 0;
    }
}

/* --- mutations --- */

typedef struct {
    uint64_t state;
    char bytes[MOST_BYTES];
    size_t size;
} mutant;

static size_t any(mutant *m, size_t n)
{
    m->state ^= m->state << 13;
    m->state ^= m->state >> 7;
    m->state ^= m->state << 17;
    return n ? (size_t)((m->state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n : 0;
}

static uint64_t interesting(mutant *m)
{
    static const uint64_t numbers[] = {0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 0x7fff, 0x7fffffff, 0x80000000,
                                       0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000,
                                       0xffffffffffffffff, 0xfffffffffffffff8, 0x2000000000000000, 0x3fffffffffffffff};
    return any(m, 3) ? numbers[any(m, sizeof numbers / sizeof *numbers)] : any(m, 200);
}

static void put(mutant *m, size_t at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width && at + i < m->size; i++)
        m->bytes[at + i] = (char)(value >> 8 * i);
}

static uint64_t get(const mutant *m, size_t at, size_t width)
{
    uint64_t value = 0;
    for (size_t i = 0; i < width && at + i < m->size; i++)
        value |= (uint64_t)(unsigned char)m->bytes[at + i] << 8 * i;
    return value;
}

/* Sizes of records and of their parts: a copy by so many bytes is often well formed. */
static size_t record_width(mutant *m)
{
    static const size_t widths[] = {1, 4, 8, 9, 14, 17, 18, 24, 42, 56, 72, 73};
    return widths[any(m, sizeof widths / sizeof *widths)];
}

static void insert_or_cut(mutant *m, size_t at, size_t width)
{
    if (any(m, 2) && m->size + width <= MOST_BYTES) {
        memmove(m->bytes + at + width, m->bytes + at, m->size - at);
        m->size += width;
    } else if (at + width <= m->size) {
        memmove(m->bytes + at, m->bytes + at + width, m->size - at - width);
        m->size -= width;
    }
}

static void mutate(mutant *m, const file *other)
{
    if (m->size < 2)
        return;
    size_t at = any(m, 4) ? MAGIC + any(m, m->size - MAGIC) : 24 + any(m, 160), width = (size_t)1 << any(m, 4);
    if (at >= m->size)
        at = m->size - 1;
    size_t record = record_width(m), from = any(m, m->size);
    switch (any(m, 12)) {
    case 0:
    case 1:
        m->bytes[at] = (char)(m->bytes[at] ^ 1 << any(m, 8));
        break;
    case 2:
    case 3:
    case 4:
        put(m, at, interesting(m), width);
        break;
    case 5:
    case 6:
        put(m, at, get(m, at, width) + (any(m, 2) ? 1 : (uint64_t)-1) * ((uint64_t)1 << any(m, 7)), width);
        break;
    case 7:
        put(m, at, get(m, from, width), width);
        break;
    case 8:
        if (at + record <= m->size && from + record <= m->size)
            memmove(m->bytes + at, m->bytes + from, record);
        break;
    case 9:
        if (other->size > record) {
            from = any(m, other->size - record);
            memcpy(m->bytes + at, other->bytes + from, at + record <= m->size ? record : m->size - at);
        }
        break;
    case 10:
        if (any(m, 3))
            break;
        insert_or_cut(m, at, any(m, 4) ? record : 1 + any(m, 64));
        break;
    default:
        m->bytes[at] = (char)any(m, 256);
    }
}

static uint32_t crc_of(const mutant *m)
{
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = LENGTH; i < m->size; i++) {
        crc ^= (unsigned char)m->bytes[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? UINT32_C(0xedb88320) ^ crc >> 1 : crc >> 1;
    }
    return ~crc;
}

/* One input: a few changes, the length and checksum mended seven times out of eight. */
static void make_input(mutant *m, const file *files)
{
    const file *f = &files[any(m, SEEDS)], *other = &files[any(m, SEEDS)];
    memcpy(m->bytes, f->bytes, f->size);
    m->size = f->size;
    for (size_t i = any(m, 2) ? 1 : 1 + any(m, 4); i-- > 0;)
        mutate(m, other);
    if (any(m, 64) == 0)
        m->size = any(m, m->size + 1);
    if (any(m, 8) && m->size >= LENGTH + 8) {
        put(m, LENGTH, m->size, 8);
        put(m, CRC, crc_of(m), 4);
    }
}

/* --- all of it --- */

enum { MOST_REASONS = 256 };

static size_t note(const char **reasons, size_t count, const char *reason)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(reasons[i], reason) == 0)
            return count;
    if (count < MOST_REASONS)
        reasons[count++] = reason;
    return count;
}

int main(int argc, char **argv)
{
    static mutant m;
    file files[SEEDS];
    const char *reasons[MOST_REASONS];
    long inputs = argc > 1 ? atol(argv[1]) : 20000;
    size_t reason_count = 0;
    tally t = {0};
    prepare();
    make_files(files);
    m.state = argc > 2 ? (uint64_t)atoll(argv[2]) * 2654435761u + 1 : 88172645463325252u;
    for (long i = 0; i < inputs && failures == 0; i++) {
        fad_fault fault;
        long refused = t.refused;
        make_input(&m, files);
        try_input(m.bytes, m.size, &t, &fault);
        if (t.refused > refused)
            reason_count = note(reasons, reason_count, fault.reason);
    }
    printf("%ld inputs: %ld refused for %zu reasons, %ld accepted, %ld run\n", inputs, t.refused, reason_count, t.accepted,
           t.run);
    printf("of two runs each: %ld to the end, %ld to another path, %ld to an index that is out of bounds\n", t.finished,
           t.guarded, t.out_of_bounds);
    if (argc > 3)
        for (size_t i = 0; i < reason_count; i++)
            printf("  %s\n", reasons[i]);
    EXPECT(inputs < 1000 || (t.run > inputs / 20 && t.finished > t.run / 4 && reason_count > 20));
    for (int i = 0; i < SEEDS; i++)
        free(files[i].bytes);
    return finish();
}
#endif
