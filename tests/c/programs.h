/* programs.h: what the tests of programs share: memory of exactly the declared sizes, lowering, running. */
#ifndef FAD_TESTS_PROGRAMS_H
#define FAD_TESTS_PROGRAMS_H

#include "program_access.h"
#include "random_traces.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

enum { MOST_FORMS = 64 };

/* Memory for one run: what lies outside of the declared sizes is poisoned. */
typedef struct {
    char *raw, *workspace;
    size_t raw_bytes;
    char *inputs[MOST_FORMS], *outputs[MOST_FORMS];
} memory;

static inline void allocate(memory *m, const fad_program *p)
{
    size_t bytes = fad_program_bytes(p) - FAD_CACHE_LINE;
    m->raw_bytes = bytes + FAD_CACHE_LINE;
    m->raw = calloc(m->raw_bytes, 1);
    m->workspace = (char *)(((uintptr_t)m->raw + FAD_CACHE_LINE - 1) & ~(uintptr_t)(FAD_CACHE_LINE - 1));
    fad_program_prepare(p, m->workspace);
    ASAN_POISON_MEMORY_REGION(m->raw, (size_t)(m->workspace - m->raw));
    ASAN_POISON_MEMORY_REGION(m->workspace + bytes, (size_t)(m->raw + m->raw_bytes - (m->workspace + bytes)));
    for (size_t i = 0; i < p->input_count; i++)
        m->inputs[i] = calloc(p->inputs[i].bytes, 1);
    for (size_t i = 0; i < p->output_count; i++)
        m->outputs[i] = calloc(p->outputs[i].bytes, 1);
}

static inline void deallocate(memory *m, const fad_program *p)
{
    ASAN_UNPOISON_MEMORY_REGION(m->raw, m->raw_bytes);
    free(m->raw);
    for (size_t i = 0; i < p->input_count; i++)
        free(m->inputs[i]);
    for (size_t i = 0; i < p->output_count; i++)
        free(m->outputs[i]);
}

static inline fad_status run_program(const fad_program *p, memory *m, size_t *failed)
{
    return fad_program_run(p, m->workspace, m->inputs, m->outputs, NULL, failed);
}

/* The program of a recording whose guards expect the values that were recorded. */
static inline fad_status lower(recording *r, bool strict, fad_program **out)
{
    char seen[MOST_NAMED * 1024];
    size_t at = 0;
    TRY(fad_trace_mark(&r->trace));
    for (size_t i = 0; i < r->trace.guard_count; i++) {
        fad_array a = fad_value_array(r->trace.tape, r->guards[i]);
        size_t bytes = a.shape->size * fad_itemsize(a.dtype);
        memcpy(seen + at, a.data, bytes);
        at += (bytes + 7) & ~(size_t)7;
    }
    return fad_lower(&r->trace, seen, strict, out);
}

/* Inputs as they were recorded. */
static inline void fill_inputs(memory *m, const fad_program *p, const recording *r)
{
    for (size_t i = 0; i < p->input_count; i++) {
        fad_array a = fad_value_array(r->trace.tape, r->inputs[i]);
        if (p->inputs[i].bytes)
            memcpy(m->inputs[i], a.data, p->inputs[i].bytes);
    }
}

static inline void expect_verified(const fad_program *p, const char *what, uint64_t seed)
{
    fad_fault fault;
    if (!fad_program_verify(p, &fault)) {
        fprintf(stderr, "%s, seed %lu: %s %zu: %s\n", what, (unsigned long)seed, fault.part, fault.at, fault.reason);
        failures++;
    }
}

/* Whether a region reads what it writes further on: it has one strip for all of its range, and needs it. */
static inline bool reads_ahead(const fad_program *p, const fad_step *step)
{
    fad_access x, y;
    for (uint32_t i = 0; i < step->count; i++)
        for (int k = 0; k < p->instructions[step->first + i].count; k++)
            for (uint32_t j = 0; fad_see_access(p, step, i, k, &x) && x.writes && j < step->count; j++)
                for (int l = 0; l < p->instructions[step->first + j].count; l++)
                    if (fad_see_access(p, step, j, l, &y) && !y.writes && x.base == y.base && x.begin < y.begin &&
                        y.begin < x.end)
                        return true;
    return false;
}

/* Regions of few elements in strips of fewer. */
static inline void narrow_strips(fad_program *p, uint32_t strip)
{
    for (size_t i = 0; i < p->step_count; i++)
        if (p->steps[i].kind == FAD_STEP_REGION && p->steps[i].strip > strip && !reads_ahead(p, &p->steps[i]))
            p->steps[i].strip = strip;
    p->room_bytes = fad_program_room_bytes(p);
}

/* An irregular graph of `count` scalar operations, each on the value of one of `width` strands, which it replaces, and one
 * from anywhere before: the elements of x first. Their sum. */
static inline uint32_t tangle(recording *r, uint64_t seed, size_t width, size_t count)
{
    fad_tape *t = r->trace.tape;
    ptrdiff_t dim = (ptrdiff_t)width;
    uint32_t *all = malloc((width + count) * sizeof *all), *strands = malloc(width * sizeof *strands);
    double *values = malloc(width * sizeof *values);
    for (size_t i = 0; i < width; i++)
        values[i] = 0.8 * sin(1.3 * (double)i + (double)seed);
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 1, &dim), values);
    input(r, x);
    for (size_t i = 0; i < width; i++) {
        DO(fad_record_element(t, x, i, &all[i]));
        strands[i] = all[i];
    }
    uint64_t state = seed;
    for (size_t i = width; i < width + count; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t *strand = &strands[(state >> 33) % width], a = *strand, b = all[(state >> 17) % i];
        switch ((state >> 50) % 9) {
        case 0: a = bin(t, FAD_ADD, a, b); break;
        case 1: a = bin(t, FAD_SUB, a, b); break;
        case 2: a = bin(t, FAD_MUL, un(t, FAD_SIN, a), b); break;
        case 3: a = bin(t, FAD_MUL, a, number(t, 0.25 + 0.5 * (double)(state >> 60) / 16)); break;
        case 4: a = un(t, FAD_TANH, a); break;
        case 5: a = bin(t, FAD_SUB, bin(t, FAD_MUL, a, un(t, FAD_COS, b)), a); break;
        case 6: a = bin(t, FAD_ARCTAN2, a, bin(t, FAD_ADD, un(t, FAD_SQUARE, b), number(t, 1))); break;
        case 7: a = apply(t, FAD_SELECT, bin(t, FAD_GREATER, a, b), a, un(t, FAD_NEG, b)); break;
        default: a = bin(t, FAD_MAXIMUM, a, b); break;
        }
        all[i] = *strand = a;
    }
    uint32_t sum = strands[0];
    for (size_t i = 1; i < width; i++)
        sum = bin(t, FAD_ADD, sum, strands[i]);
    free(all);
    free(strands);
    free(values);
    return sum;
}

/* Its bytes, of which the caller owns the memory. */
static inline char *written(const fad_program *p, size_t *size)
{
    DO(fad_program_write(p, NULL, 0, size));
    char *bytes = malloc(*size);
    DO(fad_program_write(p, bytes, *size, size));
    return bytes;
}

#endif
