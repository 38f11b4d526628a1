/* test_threads.c: one program run by several threads at once, each in memory of its own: every result is the recorded
 * one. `make tsan` runs it under ThreadSanitizer. Prints what failed, or "ok". */
#include <pthread.h>

#include "programs.h"

enum { THREADS = 4, RUNS = 20, PROGRAMS = 60 };

typedef struct {
    const recording *r;
    const fad_program *p;
    int wrong;
} job;

static void *work(void *context)
{
    job *j = context;
    memory m;
    allocate(&m, j->p);
    fill_inputs(&m, j->p, j->r);
    for (int run = 0; run < RUNS; run++) {
        size_t failed = 0;
        j->wrong += run_program(j->p, &m, &failed) != FAD_OK || failed != j->p->guard_count;
        for (size_t i = 0; i < j->p->output_count; i++) {
            fad_array y = fad_value_array(j->r->trace.tape, j->r->outputs[i]), x = y;
            x.data = m.outputs[i];
            x.strides = x.shape->strides;
            j->wrong += !same_values(&x, &y, 0);
        }
    }
    deallocate(&m, j->p);
    return NULL;
}

static void test_seed(uint64_t seed)
{
    generator g;
    fad_program *p = NULL;
    pthread_t threads[THREADS];
    job jobs[THREADS];
    generate(&g, seed, false, false);
    DO(lower(&g.r, true, &p));
    for (int k = 0; p && k < THREADS; k++) {
        job j = {&g.r, p, 0};
        jobs[k] = j;
        EXPECT(pthread_create(&threads[k], NULL, work, &jobs[k]) == 0);
    }
    for (int k = 0; p && k < THREADS; k++) {
        EXPECT(pthread_join(threads[k], NULL) == 0);
        EXPECT(jobs[k].wrong == 0);
    }
    fad_program_destroy(p);
    end(&g.r);
}

int main(void)
{
    fad_default_loops(&loops);
    for (uint64_t seed = 0; seed < PROGRAMS; seed++)
        test_seed(seed);
    if (!failures)
        puts("ok");
    return failures != 0;
}
