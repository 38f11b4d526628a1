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

static bool is_local(const fad_machine *m, const fad_argument *a) { return a->base >= fad_first_local(m->program); }

/* No step of a band before them reads or writes what they are written to. */
void fad_run_zeros(const fad_machine *m, const fad_band *band)
{
    const fad_step *step = m->program->steps + band->first;
    for (uint32_t k = 0; k < band->count; k++, step++)
        if (step->kind == FAD_STEP_ZERO && !is_local(m, &step->arguments[0]))
            fad_run_rows(m, step, 0, 0);
}

/* Rows of a local array. */
static void run_zero(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t first, uint64_t count)
{
    const fad_argument *a = &step->arguments[0];
    if (!is_local(m, a))
        return;
    const uint64_t bytes = band->local_bytes[a->base - fad_first_local(m->program)];
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

static fad_status run_step(const fad_machine *m, const fad_step *step, const fad_band *band, uint64_t first, uint64_t count)
{
    const uint64_t row = step->n / band->rows; /* elements, of a region */
    if (step->kind == FAD_STEP_REGION)
        return run_strips(m, step, first * row, (first + count) * row);
    if (step->kind == FAD_STEP_ZERO)
        run_zero(m, step, band, first, count);
    else
        run_rows(m, step, band, first, count);
    return FAD_OK;
}

fad_status fad_run_block(const fad_machine *machine, const fad_band *band, uint64_t block, uint64_t place, char **bases,
                         fad_crew *crew)
{
    fad_machine m = *machine;
    const fad_program *p = m.program;
    const uint64_t first = block * band->block, left = band->rows - first;
    const uint64_t count = left < band->block ? left : band->block;
    const size_t local = fad_first_local(p);
    size_t room = 0;
    fad_status status = FAD_OK;
    if (band->local_count) {
        memcpy(bases, machine->bases, local * sizeof *bases);
        m.bases = bases;
    }
    for (size_t k = 0; k < band->local_count; k++)
        bases[local + k] = bases[FAD_IN_WORKSPACE] + place * band->block * band->local_bytes[k] - first * band->local_bytes[k];
    for (uint32_t k = 0; k < band->count && status == FAD_OK; k++) {
        bool waits = crew && fad_in_turn(band, k);
        m.room = (crew && !waits ? m.strips + p->strip_bytes : machine->room) + room;
        room += fad_band_room(p, band, k);
        if (waits && !fad_await_turn(crew, (int)k + 1, block))
            return FAD_BAD_OPERAND;
        status = run_step(&m, &p->steps[band->first + k], band, first, count);
        if (waits)
            fad_end_turn(crew, (int)k + 1, block);
    }
    return status;
}

fad_status fad_run_band(const fad_machine *m, const fad_band *band)
{
    char *bases[FAD_MOST_BASES];
    fad_status status = FAD_OK;
    fad_run_zeros(m, band);
    for (uint64_t block = 0; block * band->block < band->rows && status == FAD_OK; block++)
        status = fad_run_block(m, band, block, 0, bases, NULL);
    return status;
}
