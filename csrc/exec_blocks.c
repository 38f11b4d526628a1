/* exec_blocks.c: the blocks of a band in several threads. Each takes the next block that nobody has and runs all steps on it.
 * What every block does to the same memory (sums over rows) they do in turn: in the order, and so with the bits, of one
 * thread. */
#include "exec.h"

#if FAD_HAS_THREADS

#include <stdalign.h>
#include <stdatomic.h>

typedef struct {
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the block whose turn it is */
} turn;

struct fad_block_crew {
    const fad_machine *machine;
    const fad_band *band;
    atomic_uint_fast64_t threads;                      /* that have come */
    alignas(FAD_CACHE_LINE) atomic_uint_fast64_t next; /* the block that nobody has yet */
    alignas(FAD_CACHE_LINE) atomic_int status;         /* of the first block that failed */
    turn turns[FAD_MOST_IN_BAND];
};

bool fad_await_block(fad_block_crew *crew, uint32_t step, uint64_t block)
{
    const turn *t = &crew->turns[step];
    for (size_t turns = 0; atomic_load_explicit(&t->next, memory_order_acquire) != block; turns++) {
        if (atomic_load_explicit(&crew->status, memory_order_relaxed) != FAD_OK)
            return false;
        fad_pause(turns);
    }
    return true;
}

void fad_end_block(fad_block_crew *crew, uint32_t step, uint64_t block)
{
    atomic_store_explicit(&crew->turns[step].next, block + 1, memory_order_release);
}

/* The rows of local arrays lie where those of block `place` would: every thread has another place. */
static void run_blocks(void *context, char *strips)
{
    fad_block_crew *crew = context;
    const fad_band *band = crew->band;
    char *bases[FAD_MOST_BASES];
    fad_machine m = *crew->machine;
    m.strips = strips;
    const uint64_t place = atomic_fetch_add_explicit(&crew->threads, 1, memory_order_relaxed);
    if (place >= band->rows / band->block)
        return;
    while (atomic_load_explicit(&crew->status, memory_order_relaxed) == FAD_OK) {
        const uint64_t block = atomic_fetch_add_explicit(&crew->next, 1, memory_order_relaxed);
        if (block > (band->rows - 1) / band->block)
            return;
        fad_status status = fad_run_block(&m, band, block, place, bases, crew);
        int fine = FAD_OK;
        if (status != FAD_OK)
            atomic_compare_exchange_strong(&crew->status, &fine, status);
    }
}

fad_status fad_run_blocks_together(const fad_machine *m, const fad_band *band, fad_pool *pool)
{
    fad_block_crew crew = {.machine = m, .band = band};
    atomic_init(&crew.threads, 0);
    atomic_init(&crew.next, 0);
    atomic_init(&crew.status, FAD_OK);
    for (int k = 0; k < FAD_MOST_IN_BAND; k++)
        atomic_init(&crew.turns[k].next, 0);
    fad_run_zeros(m, band);
    fad_pool_run(pool, run_blocks, &crew, m->strips, m->program->strip_bytes + m->program->room_bytes);
    return (fad_status)atomic_load(&crew.status);
}

#else

struct fad_block_crew {
    char unused;
};

bool fad_await_block(fad_block_crew *crew, uint32_t step, uint64_t block)
{
    (void)crew;
    (void)step;
    (void)block;
    return true;
}

void fad_end_block(fad_block_crew *crew, uint32_t step, uint64_t block)
{
    (void)crew;
    (void)step;
    (void)block;
}

fad_status fad_run_blocks_together(const fad_machine *m, const fad_band *band, fad_pool *pool)
{
    (void)pool;
    return fad_run_band(m, band);
}

#endif
