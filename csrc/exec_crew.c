/* exec_crew.c: the strips of a region, or the blocks of a band, in several threads. Each takes the next one that nobody
 * has. What they do to the same memory (program_turns.c; sums over rows) they do in turn: in the order, and so with the
 * bits, of one thread. */
#include "exec.h"

#if FAD_HAS_THREADS

#include <stdatomic.h>
#include <stdalign.h>

enum { GROUPS = FAD_MOST_GROUPS, STEPS = FAD_MOST_IN_BAND, MOST_TURNS = GROUPS > STEPS ? GROUPS : STEPS };

typedef struct {
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the strip or block whose turn it is */
} turn;

struct fad_crew {
    const fad_machine *machine;
    fad_status (*run)(fad_crew *crew, const fad_machine *m, uint64_t number, uint64_t thread);
    uint64_t count, most;                              /* strips or blocks; threads that have room */
    const fad_step *step;                              /* of strips */
    fad_streams streams;
    const fad_band *band;                              /* of blocks */
    atomic_uint_fast64_t threads;                      /* that have come */
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the first that nobody has yet */
    alignas(FAD_CACHE_LINE) atomic_int status;         /* of the first that failed */
    turn turns[MOST_TURNS];
};

bool fad_await_turn(fad_crew *crew, int number, uint64_t at)
{
    const turn *t = &crew->turns[number - 1];
    for (size_t turns = 0; atomic_load_explicit(&t->next, memory_order_acquire) != at; turns++) {
        if (atomic_load_explicit(&crew->status, memory_order_relaxed) != FAD_OK)
            return false;
        fad_pause(turns);
    }
    return true;
}

void fad_end_turn(fad_crew *crew, int number, uint64_t at)
{
    atomic_store_explicit(&crew->turns[number - 1].next, at + 1, memory_order_release);
}

/* They are taken in order: the one before is always at work, or done. */
static void take(void *context, char *strips)
{
    fad_crew *crew = context;
    fad_machine m = *crew->machine;
    m.strips = strips;
    const uint64_t thread = atomic_fetch_add_explicit(&crew->threads, 1, memory_order_relaxed);
    if (thread >= crew->most)
        return;
    while (atomic_load_explicit(&crew->status, memory_order_relaxed) == FAD_OK) {
        const uint64_t number = atomic_fetch_add_explicit(&crew->next, 1, memory_order_relaxed);
        if (number >= crew->count)
            return;
        fad_status status = crew->run(crew, &m, number, thread);
        int fine = FAD_OK;
        if (status != FAD_OK)
            atomic_compare_exchange_strong(&crew->status, &fine, status);
    }
}

static fad_status run_all(fad_crew *crew, fad_pool *pool, size_t bytes)
{
    atomic_init(&crew->threads, 0);
    atomic_init(&crew->next, 0);
    atomic_init(&crew->status, FAD_OK);
    for (int k = 0; k < MOST_TURNS; k++)
        atomic_init(&crew->turns[k].next, 0);
    fad_pool_run(pool, take, crew, crew->machine->strips, bytes);
    return (fad_status)atomic_load(&crew->status);
}

static fad_status run_strip(fad_crew *crew, const fad_machine *m, uint64_t number, uint64_t thread)
{
    const fad_step *step = crew->step;
    const uint64_t start = fad_strip_start(step, number);
    const uint64_t threads = atomic_load_explicit(&crew->threads, memory_order_relaxed);
    (void)thread;
    fad_prefetch_strip(&crew->streams, step, start + threads * step->strip); /* this thread's next one, most likely */
    return fad_run_strip(m, step, crew, start, fad_strip_from(step, start));
}

fad_status fad_run_together(const fad_machine *m, const fad_step *step, fad_pool *pool)
{
    const uint64_t count = fad_strip_number(step, step->n - 1) + 1;
    fad_crew crew = {.machine = m, .run = run_strip, .count = count, .most = UINT64_MAX, .step = step};
    fad_find_streams(m, step, &crew.streams);
    return run_all(&crew, pool, (size_t)step->strips * step->strip * sizeof(double));
}

/* The rows of local arrays lie where those of another block would: every thread has another place. */
static fad_status run_block(fad_crew *crew, const fad_machine *m, uint64_t number, uint64_t thread)
{
    char *bases[FAD_MOST_BASES];
    return fad_run_block(m, crew->band, number, thread, bases, crew);
}

fad_status fad_run_blocks_together(const fad_machine *m, const fad_band *band, fad_pool *pool)
{
    const uint64_t count = (band->rows - 1) / band->block + 1;
    fad_crew crew = {.machine = m, .run = run_block, .count = count, .most = band->rows / band->block, .band = band};
    fad_run_zeros(m, band);
    return run_all(&crew, pool, m->program->strip_bytes + m->program->room_bytes);
}

#else

struct fad_crew {
    char unused;
};

bool fad_await_turn(fad_crew *crew, int number, uint64_t at)
{
    (void)crew;
    (void)number;
    (void)at;
    return true;
}

void fad_end_turn(fad_crew *crew, int number, uint64_t at)
{
    (void)crew;
    (void)number;
    (void)at;
}

/* Never called: a platform without threads has no turns. */
fad_status fad_run_together(const fad_machine *m, const fad_step *step, fad_pool *pool)
{
    (void)pool;
    return fad_run_alone(m, step);
}

fad_status fad_run_blocks_together(const fad_machine *m, const fad_band *band, fad_pool *pool)
{
    (void)pool;
    return fad_run_band(m, band);
}

#endif
