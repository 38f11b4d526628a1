/* exec.h: what the parts of the executor share. */
#ifndef FAD_EXEC_H
#define FAD_EXEC_H

#include "program.h"

typedef struct {
    const fad_program *program;
    char *const *bases;       /* memory by base */
    char *strips;             /* of this thread */
    char *room;               /* of the step at hand, for all threads: fad_step_room() */
} fad_machine;

/* The threads that run the strips of a region, or the blocks of a band, together. */
typedef struct fad_crew fad_crew;

/* exec.c: runs a strip of a region: elements from `start` on. With others in turn where there is a `crew`. */
fad_status fad_run_strip(const fad_machine *m, const fad_step *step, fad_crew *crew, uint64_t start, uint64_t count);

/* Elements of the strip of a region that begins with element `start`. */
static inline uint64_t fad_strip_from(const fad_step *step, uint64_t start)
{
    uint64_t left = step->n - start, piece = step->piece ? step->piece - start % step->piece : left;
    left = left < piece ? left : piece;
    return left < step->strip ? left : step->strip;
}

/* Which strip begins with element `start`, and with which element a strip begins. */
static inline uint64_t fad_strip_number(const fad_step *step, uint64_t start)
{
    if (!step->piece)
        return start / step->strip;
    return start / step->piece * ((step->piece - 1) / step->strip + 1) + start % step->piece / step->strip;
}

static inline uint64_t fad_strip_start(const fad_step *step, uint64_t number)
{
    if (!step->piece)
        return number * step->strip;
    const uint64_t strips = (step->piece - 1) / step->strip + 1; /* of a piece */
    return number / strips * step->piece + number % strips * step->strip;
}

/* Where an argument of a strip is, from element `start` of the range on; `*run_step`: from one to the next, 0: fixed. */
static inline char *fad_find_run(const fad_machine *m, const fad_step *step, const fad_argument *a, uint64_t start,
                                 ptrdiff_t *run_step)
{
    ptrdiff_t size = (ptrdiff_t)fad_itemsize(a->dtype);
    *run_step = a->place == FAD_AT_FIXED ? 0 : size;
    if (a->place == FAD_AT_STRIP)
        return m->strips + a->offset * ((size_t)step->strip * sizeof(double));
    return m->bases[a->base] + a->offset + (ptrdiff_t)start * *run_step;
}

/* exec_columns.c: a strip of `columns` instructions from `i` on that do columns of the same rows. */
fad_status fad_run_columns(const fad_machine *m, const fad_step *step, const fad_instruction *i, int columns,
                           uint64_t start, uint64_t count);

/* exec_affine.c: LOAD or STORE of a strip; `run`: its operand or result, from element `start` on. */
void fad_run_affine(const fad_machine *m, const fad_instruction *i, uint64_t start, uint64_t count, char *run,
                    ptrdiff_t run_step);
/* ADD of a strip. `sum` is what strips before have left of the row that goes on. */
void fad_run_sum(const fad_machine *m, const fad_step *step, const fad_instruction *i, uint64_t start, uint64_t count,
                 char *run, ptrdiff_t run_step, fad_sum *sum);

enum { FAD_MOST_STREAMS = 8 };

/* What a region reads and writes in order. A strip is too short for the hardware to see far ahead, and its first
 * instructions would wait: while one strip is computed, the next one's memory is fetched. */
typedef struct {
    const char *at[FAD_MOST_STREAMS];
    size_t size[FAD_MOST_STREAMS];     /* bytes an element */
    int count;
} fad_streams;

void fad_find_streams(const fad_machine *m, const fad_step *step, fad_streams *out);
/* Fetches the memory of the strip that begins with element `start`, if there is one. */
void fad_prefetch_strip(const fad_streams *streams, const fad_step *step, uint64_t start);

/* exec.c: runs all strips of a region, in this thread. */
fad_status fad_run_alone(const fad_machine *m, const fad_step *step);
/* exec_crew.c: runs all strips of a region, in this thread and those of the pool. */
fad_status fad_run_together(const fad_machine *m, const fad_step *step, fad_pool *pool);
/* Waits until the strip or block before has ended its turn of this number, from 1 on: a group of instructions, or the step
 * of a band. False: one has failed, and no turn will come. */
bool fad_await_turn(fad_crew *crew, int number, uint64_t at);
void fad_end_turn(fad_crew *crew, int number, uint64_t at);

/* exec.c: runs rows `first` .. first+count-1 of a MATMUL or EXTREMUM step; of ZERO, all of it. */
void fad_run_rows(const fad_machine *m, const fad_step *step, uint64_t first, uint64_t count);
/* exec.c: adds what these rows are in a MATMUL step whose sums go over them, the first of them from nothing. */
void fad_add_rows(const fad_machine *m, const fad_step *step, uint64_t first, uint64_t count);

/* exec_bands.c; the machine's program has the steps of bands. Runs all rows of all steps of a band, in this thread. */
fad_status fad_run_band(const fad_machine *m, const fad_band *band);
/* The same of one block, local arrays where block number `place` would lie; with others in turn where there is a `crew`.
 * `bases`: room for FAD_MOST_BASES. */
fad_status fad_run_block(const fad_machine *m, const fad_band *band, uint64_t block, uint64_t place, char **bases,
                         fad_crew *crew);
/* Zeros of whole arrays, which come before all blocks. */
void fad_run_zeros(const fad_machine *m, const fad_band *band);
/* All rows of one step that is a product, a block at a time. */
void fad_run_blocks(const fad_machine *m, const fad_step *step, const fad_band *band);
/* exec_crew.c: runs a band whose blocks are apart, in this thread and those of the pool. */
fad_status fad_run_blocks_together(const fad_machine *m, const fad_band *band, fad_pool *pool);

/* exec_scalars.c: runs a block of scalar instructions. */
void fad_run_scalars(const fad_scalar_instruction *i, size_t count, char *const *bases);
/* exec_groups.c: runs groups; `bound`: of each its vector function, or none. */
void fad_run_groups(const fad_group *g, size_t count, const fad_bound_loop *bound, const uint32_t *places, double *w);
/* exec_repeat.c: runs a body of instructions `n` times. `room`: fad_repeat_bytes(count), of this run. */
fad_status fad_run_repeat(const fad_repeated *body, size_t count, uint64_t n, char *const *bases, char *room);

/* In pieces: from some kilobytes on, a library's memcpy may be one string instruction, which takes ten times as long
 * where the target lies a little further in its page than the source. */
static inline void fad_copy_bytes(char *restrict to, const char *restrict from, size_t size)
{
    enum { PIECE = 1024 };
    for (; size > PIECE; size -= PIECE, to += PIECE, from += PIECE)
        memcpy(to, from, PIECE);
    memcpy(to, from, size);
}

#endif
