/* exec_bands.c: runs the steps of a band, some rows of each before the next. */
#include "exec.h"

/* Elements by which what is not a whole strip ends: a whole number of vectors, whatever their type. So each element is
 * computed in the same place of a vector as in a whole strip, to the same bits. */
enum { PIECE = 64 };

/* As far as their rows are ready: whole strips where there are sums, as a strip is one sum for all who run it. */
static fad_status run_region(const fad_machine *m, const fad_step *step, const fad_band *band, size_t k, uint64_t ready,
                             uint64_t *done)
{
    uint64_t goal = ready * (step->n / band->rows), unit = band->whole >> k & 1 ? step->strip : PIECE;
    fad_status status = FAD_OK;
    if (goal < step->n)
        goal -= goal % unit;
    while (status == FAD_OK && *done < goal) {
        uint64_t left = goal - *done, rest = step->strip - *done % step->strip, count = left < rest ? left : rest;
        status = fad_run_strip(m, step, NULL, *done, count);
        *done += count;
    }
    return status;
}

void fad_run_blocks(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t from, uint64_t to)
{
    bool sums = fad_sums_rows(band, (size_t)(step - m->program->steps) - band->first);
    for (; from < to; from += band->block)
        (sums ? fad_add_rows : fad_run_rows)(m, step, from, to - from < band->block ? to - from : band->block);
}

/* Products in whole blocks: so they are the same however their operands came about. Gives how many rows are done. */
static uint64_t run_rows(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t ready, uint64_t *done)
{
    bool whole = step->kind != FAD_STEP_EXTREMUM && ready < band->rows;
    uint64_t goal = whole ? ready - ready % band->block : ready;
    fad_run_blocks(m, step, band, *done, goal);
    return *done = goal;
}

fad_status fad_run_band(const fad_machine *machine, const fad_band *band)
{
    fad_machine m = *machine;
    uint64_t done[FAD_MOST_IN_BAND] = {0}; /* elements of a region, rows of other steps */
    const fad_step *steps = m.program->steps + band->first;
    for (uint64_t target = 0; target < band->rows;) {
        target = band->rows - target > band->block ? target + band->block : band->rows;
        uint64_t ready = target;
        m.room = machine->room;
        for (uint32_t k = 0; k < band->count; k++) {
            const fad_step *step = &steps[k];
            if (step->kind == FAD_STEP_REGION) {
                fad_status status = run_region(&m, step, band, k, ready, &done[k]);
                if (status != FAD_OK)
                    return status;
                ready = done[k] / (step->n / band->rows);
            } else if (step->kind == FAD_STEP_ZERO) {
                if (target <= band->block)
                    fad_run_rows(&m, step, 0, 0);
            } else {
                ready = run_rows(&m, step, band, ready, &done[k]);
            }
            m.room += fad_band_room(m.program, band, k);
        }
    }
    return FAD_OK;
}
