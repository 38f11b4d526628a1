/* programs.h: what the tests of programs share: memory of exactly the declared sizes, lowering, running. */
#ifndef FAD_TESTS_PROGRAMS_H
#define FAD_TESTS_PROGRAMS_H

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

/* Its bytes, of which the caller owns the memory. */
static inline char *written(const fad_program *p, size_t *size)
{
    DO(fad_program_write(p, NULL, 0, size));
    char *bytes = malloc(*size);
    DO(fad_program_write(p, bytes, *size, size));
    return bytes;
}

#endif
