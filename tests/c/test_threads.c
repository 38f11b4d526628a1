/* test_threads.c: one program run by several threads at once, each in memory of its own: every result is the recorded
 * one. And one run of a program by several threads together: its bits are those of one thread. `make tsan` runs it under
 * ThreadSanitizer. Prints what failed, or "ok". */
#include <fenv.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* --- one run, by several threads --- */

static const size_t sizes[] = {2, 3, 7};
enum { POOLS = sizeof sizes / sizeof *sizes };

static fad_pool *pools[POOLS];
static size_t together, in_turn, in_bands;

/* In strips of one, two or three elements. */
static fad_status narrow(fad_program *p, uint32_t strip)
{
    narrow_strips(p, strip);
    fad_status status = fad_program_turns(p, 1);
    for (size_t i = 0; status == FAD_OK && p->together && i < p->step_count; i++)
        together += p->together[i];
    for (size_t i = 0; status == FAD_OK && p->turns && i < p->instruction_count; i++)
        in_turn += p->turns[i].awaits != 0;
    if (status == FAD_OK)
        status = fad_program_bands(p, 64);
    for (size_t i = 0; status == FAD_OK && i < p->band_count; i++)
        in_bands += p->bands[i].count;
    return status;
}

static bool same_outputs(const fad_program *p, const memory *x, const memory *y)
{
    for (size_t i = 0; i < p->output_count; i++)
        if (p->outputs[i].bytes && memcmp(x->outputs[i], y->outputs[i], p->outputs[i].bytes) != 0)
            return false;
    return true;
}

static void expect_same_bits(fad_program *p, const recording *r, uint64_t seed)
{
    memory alone, crew;
    size_t failed;
    allocate(&alone, p);
    allocate(&crew, p);
    fill_inputs(&alone, p, r);
    fill_inputs(&crew, p, r);
    DO(fad_program_bands(p, 0));
    fad_status status = run_program(p, &alone, &failed);
    EXPECT(status == FAD_OK);
    DO(fad_program_bands(p, 64));
    DO(fad_program_run(p, crew.workspace, crew.inputs, crew.outputs, NULL, &failed));
    if (!same_outputs(p, &alone, &crew)) {
        fprintf(stderr, "seed %lu: other bits by rows\n", (unsigned long)seed);
        failures++;
    }
    for (size_t k = 0; k < POOLS; k++)
        for (int run = 0; run < 3; run++) {
            for (size_t i = 0; i < p->output_count; i++)
                memset(crew.outputs[i], 0xab, p->outputs[i].bytes);
            DO(fad_program_run(p, crew.workspace, crew.inputs, crew.outputs, pools[k], &failed));
            if (!same_outputs(p, &alone, &crew)) {
                fprintf(stderr, "seed %lu: other bits with %zu threads\n", (unsigned long)seed, sizes[k]);
                failures++;
            }
        }
    deallocate(&alone, p);
    deallocate(&crew, p);
}

static void test_together(uint64_t seed)
{
    for (int strict = 0; strict < 2; strict++) {
        generator g;
        fad_program *p = NULL;
        generate(&g, seed, true, false);
        if (seed & 1)
            append_gradient(&g.r, sum_of_outputs(&g.r));
        DO(lower(&g.r, strict, &p));
        if (p) {
            DO(narrow(p, (uint32_t)(1 + seed % 3)));
            expect_same_bits(p, &g.r, seed);
        }
        fad_program_destroy(p);
        end(&g.r);
    }
}

/* An index out of bounds in the strip of some thread ends the run of all. */
static void test_failure(void)
{
    enum { N = 64 };
    recording r;
    fad_program *p = NULL;
    double values[N], places[N];
    const ptrdiff_t dims[1] = {N};
    begin(&r);
    fad_tape *t = r.trace.tape;
    for (int i = 0; i < N; i++)
        values[i] = places[i] = i;
    uint32_t x = array(t, FAD_VARIABLE, shape_of(t, 1, dims), values);
    uint32_t at = array(t, FAD_VARIABLE, shape_of(t, 1, dims), places), indices, found, summed;
    input(&r, x);
    input(&r, at);
    DO(fad_record_cast(t, at, FAD_I64, &indices));
    DO(fad_record_gather(t, x, indices, &found));
    DO(fad_record_scatter_add(t, bin(t, FAD_MUL, un(t, FAD_SQUARE, found), x), indices, shape_of(t, 1, dims), &summed));
    output(&r, summed);
    DO(lower(&r, false, &p));
    DO(narrow(p, 2));
    expect_same_bits(p, &r, 0);
    memory m;
    size_t failed;
    allocate(&m, p);
    fill_inputs(&m, p, &r);
    ((double *)(void *)m.inputs[1])[41] = N;
    for (size_t k = 0; k < POOLS; k++)
        for (int run = 0; run < RUNS; run++)
            EXPECT(fad_program_run(p, m.workspace, m.inputs, m.outputs, pools[k], &failed) == FAD_BAD_OPERAND);
    deallocate(&m, p);
    fad_program_destroy(p);
    end(&r);
}

/* --- the pool itself --- */

typedef struct {
    pthread_mutex_t lock;
    size_t threads, rounded_up;
    const char *rooms[8];
    bool clean;
} visit;

static void note(void *context, char *room)
{
    visit *v = context;
    pthread_mutex_lock(&v->lock);
    v->rounded_up += fegetround() == FE_UPWARD;
    v->clean = v->clean && (uintptr_t)room % FAD_CACHE_LINE == 0;
    for (size_t i = 0; i < v->threads; i++)
        v->clean = v->clean && v->rooms[i] != room;
    if (v->threads < 8)
        v->rooms[v->threads] = room;
    v->threads++;
    pthread_mutex_unlock(&v->lock);
    memset(room, 1, 1000);
    for (size_t turns = 0; turns < 3000; turns++) /* time for the others to come */
        fad_pause(turns);
}

static visit visited(fad_pool *pool)
{
    visit v = {.clean = true};
    char *raw = aligned_alloc(FAD_CACHE_LINE, 1024);
    pthread_mutex_init(&v.lock, NULL);
    fad_pool_run(pool, note, &v, raw, 1000);
    pthread_mutex_destroy(&v.lock);
    free(raw);
    return v;
}

static void test_environment(void)
{
    size_t most = 0;
    int before = fegetround();
    fesetround(FE_UPWARD);
    for (int run = 0; run < RUNS; run++) {
        visit v = visited(pools[1]);
        EXPECT(v.rounded_up == v.threads && v.clean);
        most = v.threads > most ? v.threads : most;
    }
    fesetround(before);
    EXPECT(most > 1 && most <= 3);
    EXPECT(visited(pools[1]).rounded_up == 0);
}

static void nested(void *context, char *room)
{
    (void)room;
    visit v = visited(context); /* the pool is busy */
    EXPECT(v.threads == 1);
}

static void *call(void *pool)
{
    for (int run = 0; run < RUNS; run++)
        EXPECT(visited(pool).clean);
    return NULL;
}

/* The second caller runs alone. */
static void test_busy(void)
{
    pthread_t callers[THREADS];
    char room[1024];
    fad_pool *pool = fad_pool_create(1);
    fad_pool_run(pools[0], nested, pools[0], room, 0);
    EXPECT(visited(pool).threads == 1);
    EXPECT(visited(NULL).threads == 1);
    EXPECT(visited(pool).threads == 1);
    fad_pool_destroy(pool);
    fad_pool_destroy(NULL);
    for (int k = 0; k < THREADS; k++)
        EXPECT(pthread_create(&callers[k], NULL, call, pools[2]) == 0);
    for (int k = 0; k < THREADS; k++)
        EXPECT(pthread_join(callers[k], NULL) == 0);
}

/* A child has the pool's memory, and none of its threads. */
static void test_fork(void)
{
    int state = 1;
    EXPECT(fad_pool_is_here(pools[0]));
    pid_t child = fork();
    if (child == 0) {
        bool right = !fad_pool_is_here(pools[0]) && visited(pools[0]).threads == 1;
        fad_pool_destroy(pools[0]);
        fad_pool *own = fad_pool_create(2);
        right = right && own && fad_pool_is_here(own) && visited(own).clean;
        fad_pool_destroy(own);
        _exit(!right);
    }
    EXPECT(child > 0 && waitpid(child, &state, 0) == child && state == 0);
}

int main(void)
{
    fad_default_loops(&loops);
    for (uint64_t seed = 0; seed < PROGRAMS; seed++)
        test_seed(seed);
    for (size_t k = 0; k < POOLS; k++)
        EXPECT((pools[k] = fad_pool_create(sizes[k])) != NULL);
    test_environment();
    test_busy();
#ifndef __SANITIZE_THREAD__ /* which does not start threads in a child */
    test_fork();
#endif
    test_failure();
    for (uint64_t seed = 0; seed < 2 * PROGRAMS; seed++)
        test_together(seed);
    EXPECT(together > 5 * PROGRAMS && in_turn > PROGRAMS);
    EXPECT(in_bands > PROGRAMS / 10);
    for (size_t k = 0; k < POOLS; k++)
        fad_pool_destroy(pools[k]);
    if (!failures)
        puts("ok");
    return failures != 0;
}
