/* exec_bands.c: runs the steps of a band, some rows of each before the next. */
#include "exec.h"

static fad_status run_strips(const fad_machine *m, const fad_step *step, uint64_t from, uint64_t to)
{
    fad_status status = FAD_OK;
    for (uint64_t count; status == FAD_OK && from < to; from += count) {
        count = fad_strip_from(step, from);
        status = fad_run_strip(m, step, NULL, from, count);
    }
    return status;
}

/* Zeros come all at once, before the first rows; of a local array, with the rows of each block. */
static void run_zero(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t first, uint64_t count)
{
    const fad_argument *a = &step->arguments[0];
    const size_t local = a->base - fad_first_local(m->program);
    if (a->base < fad_first_local(m->program)) {
        if (first == 0)
            fad_run_rows(m, step, 0, 0);
        return;
    }
    const uint64_t bytes = band->local_bytes[local];
    memset(m->bases[a->base] + a->offset + first * bytes, 0, count * bytes);
}

/* Product or extrema of some rows. */
static void run_rows(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t first, uint64_t count)
{
    bool sums = fad_sums_rows(band, (size_t)(step - m->program->steps) - band->first);
    (sums ? fad_add_rows : fad_run_rows)(m, step, first, count);
}

void fad_run_blocks(const fad_machine *m, const fad_step *step, const fad_band *band)
{
    for (uint64_t first = 0; first < band->rows; first += band->block)
        run_rows(m, step, band, first, band->rows - first < band->block ? band->rows - first : band->block);
}

static fad_status run_block(fad_machine m, const fad_band *band, uint64_t first, uint64_t count)
{
    fad_status status = FAD_OK;
    for (uint32_t k = 0; k < band->count && status == FAD_OK; k++) {
        const fad_step *step = &m.program->steps[band->first + k];
        const uint64_t row = step->n / band->rows; /* elements, of a region */
        if (step->kind == FAD_STEP_REGION)
            status = run_strips(&m, step, first * row, (first + count) * row);
        else if (step->kind == FAD_STEP_ZERO)
            run_zero(&m, step, band, first, count);
        else
            run_rows(&m, step, band, first, count);
        m.room += fad_band_room(m.program, band, k);
    }
    return status;
}

fad_status fad_run_band(const fad_machine *machine, const fad_band *band)
{
    char *bases[FAD_MOST_BASES];
    fad_machine m = *machine;
    const size_t local = fad_first_local(m.program);
    fad_status status = FAD_OK;
    if (band->local_count) {
        memcpy(bases, m.bases, local * sizeof *bases);
        m.bases = bases;
    }
    for (uint64_t first = 0; first < band->rows && status == FAD_OK; first += band->block) {
        uint64_t left = band->rows - first;
        for (size_t k = 0; k < band->local_count; k++)
            bases[local + k] = bases[FAD_IN_WORKSPACE] - first * band->local_bytes[k];
        status = run_block(m, band, first, left < band->block ? left : band->block);
    }
    return status;
}
