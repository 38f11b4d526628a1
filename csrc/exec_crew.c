/* exec_crew.c: the strips of a region in several threads. Each takes the next strip that nobody has. What strips do to
 * the same memory they do in turn (program_turns.c): in the order, and so with the bits, of one thread. */
#include "exec.h"

#if FAD_HAS_THREADS

#include <stdatomic.h>
#include <stdalign.h>

typedef struct {
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the strip whose turn it is */
} group;

struct fad_crew {
    const fad_machine *machine;
    const fad_step *step;
    fad_streams streams;
    atomic_uint_fast64_t threads;                      /* that have come */
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the strip that nobody has yet */
    alignas(FAD_CACHE_LINE) atomic_int status;         /* of the first strip that failed */
    group groups[FAD_MOST_GROUPS];
};

bool fad_await_turn(fad_crew *crew, int number, uint64_t strip)
{
    const group *g = &crew->groups[number - 1];
    for (size_t turns = 0; atomic_load_explicit(&g->next, memory_order_acquire) != strip; turns++) {
        if (atomic_load_explicit(&crew->status, memory_order_relaxed) != FAD_OK)
            return false;
        fad_pause(turns);
    }
    return true;
}

void fad_end_turn(fad_crew *crew, int number, uint64_t strip)
{
    atomic_store_explicit(&crew->groups[number - 1].next, strip + 1, memory_order_release);
}

/* Strips are taken in order: the one before is always at work, or done. */
static void run_strips(void *context, char *strips)
{
    fad_crew *crew = context;
    const fad_step *step = crew->step;
    fad_machine m = *crew->machine;
    m.strips = strips;
    atomic_fetch_add_explicit(&crew->threads, 1, memory_order_relaxed);
    while (atomic_load_explicit(&crew->status, memory_order_relaxed) == FAD_OK) {
        uint64_t strip = atomic_fetch_add_explicit(&crew->next, 1, memory_order_relaxed);
        if (strip > fad_strip_number(step, step->n - 1))
            return;
        uint64_t start = fad_strip_start(step, strip);
        uint64_t threads = atomic_load_explicit(&crew->threads, memory_order_relaxed);
        fad_prefetch_strip(&crew->streams, step, start + threads * step->strip); /* this thread's next one, most likely */
        fad_status status = fad_run_strip(&m, step, crew, start, fad_strip_from(step, start));
        int fine = FAD_OK;
        if (status != FAD_OK)
            atomic_compare_exchange_strong(&crew->status, &fine, status);
    }
}

fad_status fad_run_together(const fad_machine *m, const fad_step *step, fad_pool *pool)
{
    fad_crew crew = {.machine = m, .step = step};
    fad_find_streams(m, step, &crew.streams);
    atomic_init(&crew.threads, 0);
    atomic_init(&crew.next, 0);
    atomic_init(&crew.status, FAD_OK);
    for (int i = 0; i < FAD_MOST_GROUPS; i++)
        atomic_init(&crew.groups[i].next, 0);
    fad_pool_run(pool, run_strips, &crew, m->strips, (size_t)step->strips * step->strip * sizeof(double));
    return (fad_status)atomic_load(&crew.status);
}

#else

struct fad_crew {
    char unused;
};

bool fad_await_turn(fad_crew *crew, int number, uint64_t strip)
{
    (void)crew;
    (void)number;
    (void)strip;
    return true;
}

void fad_end_turn(fad_crew *crew, int number, uint64_t strip)
{
    (void)crew;
    (void)number;
    (void)strip;
}

/* Never called: a platform without threads has no turns. */
fad_status fad_run_together(const fad_machine *m, const fad_step *step, fad_pool *pool)
{
    (void)pool;
    return fad_run_alone(m, step);
}

#endif
