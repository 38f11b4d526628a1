/* program_bands.c: which steps run together, some rows at a time.
 *
 * Steps one after the other pass over whole arrays: what one writes is out of the cache when the next one reads it. Where
 * each goes over the same rows (a region, a product of matrices, the extrema of rows), and nothing in a row depends on
 * later rows, they are a band: each does some rows, as many as stay in the second-level cache, before the next one does
 * them. An array that the band alone reads and writes is local: the rows of each block may lie where those of the first
 * do, so it stays in the cache too. Strips of regions and products of matrices end with a block of rows, also by many
 * threads, and sums are rounded accordingly; a band changes no other bit. */
#include "program_access.h"

enum {
    MOST_ACCESSES = 160,
    NEAR = 3,                   /* steps from the first that may tell how many rows there are */
    DEEPEST = 128,              /* product of matrices: one with longer sums spends its time on arithmetic, not on memory */
    MOST_SUMS = 1 << 12,        /* elements of a product over the rows: they are added once a block */
    PASSES = 4,                 /* as much as so many caches hold is out of the cache when it is read again */
    LEAST_BYTES_OF_ROW = 1 << 14,
};

/* Memory of a step. Row r is from `begin` + r * `stride` to `end` + r * `stride`; what is not by rows has no stride. */
typedef struct {
    uint32_t base;
    bool writes, done;          /* done: all of it before the next step begins */
    bool whole;                 /* of what has rows: all of each is written */
    uint32_t step;              /* of the band */
    uint64_t begin, end, stride;
} access;

/* A band in the making. */
typedef struct {
    const fad_program *p;
    uint64_t cache;             /* bytes that a block may pass over */
    uint64_t rows;
    access all[MOST_ACCESSES];
    size_t count;
    bool sums;                  /* the step at hand is a product that sums over the rows */
} making;

static bool add(making *b, access x)
{
    if (b->count == MOST_ACCESSES)
        return false;
    b->all[b->count++] = x;
    return true;
}

/* --- the memory of a step, by rows; false: it does not go by rows --- */

static access by_rows(const fad_access *x, uint64_t n, uint64_t rows)
{
    access out = {.base = x->base, .writes = x->writes, .whole = x->whole, .begin = x->begin, .end = x->end};
    int64_t outer = fad_access_dims(x)[0], stride = fad_access_strides(x)[0];
    if (x->indexed || stride <= 0 || (uint64_t)outer % rows != 0 || n % rows != 0)
        return out;
    out.stride = (uint64_t)stride * ((uint64_t)outer / rows);
    out.end -= out.stride * (rows - 1);
    return out;
}

static bool see_region(making *b, const fad_step *step)
{
    fad_access x;
    if (step->n == 0 || step->n % b->rows != 0)
        return false;
    for (uint32_t i = 0; i < step->count; i++)
        for (int k = 0; k < b->p->instructions[step->first + i].count; k++)
            if (fad_see_access(b->p, step, i, k, &x) && !add(b, by_rows(&x, step->n, b->rows)))
                return false;
    return true;
}

/* A dense array whose first axis are the rows. */
static bool add_array(making *b, const fad_step *step, int k, const int64_t *dims, uint64_t ndim, bool writes)
{
    uint64_t stride = fad_itemsize(step->dtype);
    for (uint64_t d = 1; d < ndim; d++)
        stride *= (uint64_t)dims[d];
    uint64_t begin = step->arguments[k].offset;
    access x = {.base = step->arguments[k].base, .writes = writes, .whole = writes, .begin = begin, .end = begin + stride,
                .stride = stride};
    return stride && add(b, x);
}

/* numbers: ndim, then the dims, of operand and result. */
static bool see_extremum(making *b, const fad_step *step)
{
    const int64_t *from = b->p->numbers + step->numbers, *to = from + 1 + from[0];
    return from[0] >= 2 && to[0] == from[0] && (uint64_t)from[1] == b->rows && (uint64_t)to[1] == b->rows &&
           add_array(b, step, 0, from + 1, (uint64_t)from[0], false) && add_array(b, step, 1, to + 1, (uint64_t)to[0], true);
}

/* Row by row of the left operand and of the result. */
static bool see_rows_of_product(making *b, const fad_step *step, const int64_t *x, const int64_t *y, const int64_t *s)
{
    const fad_argument *a = step->arguments;
    uint64_t item = fad_itemsize(step->dtype);
    access left = {.base = a[0].base, .begin = a[0].offset, .stride = item * (uint64_t)s[0],
                   .end = a[0].offset + item * (1 + (uint64_t)(s[1] * (x[2] - 1)))};
    access right = {.base = a[1].base, .begin = a[1].offset,
                    .end = a[1].offset + item * (1 + (uint64_t)(s[2] * (y[1] - 1)) + (uint64_t)(s[3] * (y[2] - 1)))};
    const int64_t to[2] = {x[1], y[2]};
    return x[2] <= DEEPEST && add(b, left) && add(b, right) && add_array(b, step, 2, to, 2, true);
}

/* The sums go over the rows: columns of the left operand, rows of the right one. All of the result is written until the
 * last row is there. */
static bool see_sums_over_rows(making *b, const fad_step *step, const int64_t *x, const int64_t *y, const int64_t *s)
{
    const fad_argument *a = step->arguments;
    uint64_t item = fad_itemsize(step->dtype), sums = (uint64_t)x[1] * (uint64_t)y[2];
    if (x[1] > MOST_SUMS / y[2])
        return false;
    access left = {.base = a[0].base, .begin = a[0].offset, .stride = item * (uint64_t)s[1],
                   .end = a[0].offset + item * (1 + (uint64_t)(s[0] * (x[1] - 1)))};
    access right = {.base = a[1].base, .begin = a[1].offset, .stride = item * (uint64_t)s[2],
                    .end = a[1].offset + item * (1 + (uint64_t)(s[3] * (y[2] - 1)))};
    access to = {.base = a[2].base, .writes = true, .begin = a[2].offset, .end = a[2].offset + item * sums};
    b->sums = true;
    return add(b, left) && add(b, right) && add(b, to);
}

/* numbers: ndim, then the dims, of x, y and the result; of MATMUL_VIEWS then the strides of x and y. */
static bool see_matmul(making *b, const fad_step *step)
{
    const int64_t *x = b->p->numbers + step->numbers, *y = x + 3, *to = y + 3, *strides = to + 3;
    if (x[0] != 2 || y[0] != 2 || to[0] != 2 || x[1] == 0 || x[2] == 0 || y[2] == 0)
        return false;
    bool views = step->kind == FAD_STEP_MATMUL_VIEWS;
    const int64_t dense[4] = {x[2], 1, y[2], 1};
    const int64_t *s = views ? strides : dense;
    for (int k = 0; k < 4; k++)
        if (s[k] <= 0)
            return false;
    if ((uint64_t)x[1] == b->rows)
        return see_rows_of_product(b, step, x, y, s);
    return (uint64_t)x[2] == b->rows && see_sums_over_rows(b, step, x, y, s);
}

static bool see_zero(making *b, const fad_step *step)
{
    const fad_argument *a = step->arguments;
    access x = {.base = a->base, .writes = true, .done = true, .begin = a->offset, .end = a->offset + step->n};
    return add(b, x);
}

static bool see(making *b, const fad_step *step)
{
    b->sums = false;
    switch (step->kind) {
    case FAD_STEP_REGION:
        return see_region(b, step);
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
        return see_matmul(b, step);
    case FAD_STEP_EXTREMUM:
        return see_extremum(b, step);
    case FAD_STEP_ZERO:
        return see_zero(b, step);
    default:
        return false;
    }
}

/* --- bands --- */

/* Whether what a later step does in `y` in some rows may come before what an earlier one does in `x` in later rows. */
static bool may_overtake(const access *x, const access *y, uint64_t rows)
{
    if (x->done || x->base != y->base || !(x->writes || y->writes))
        return true;
    if (x->end + x->stride * (rows - 1) <= y->begin || y->end + y->stride * (rows - 1) <= x->begin)
        return true;
    return x->stride && x->stride == y->stride && y->end <= x->begin + x->stride;
}

/* A region in one strip does all rows of an instruction before the next. */
static bool join(making *b, const fad_step *step)
{
    size_t before = b->count;
    if (!see(b, step))
        return false;
    bool apart = step->kind == FAD_STEP_REGION && step->n <= step->strip;
    for (size_t i = 0; i < (apart ? b->count : before); i++)
        for (size_t k = i < before ? before : i + 1; k < b->count; k++)
            if (!may_overtake(&b->all[i], &b->all[k], b->rows))
                return false;
    return true;
}

/* Bytes of a row: of the arrays that are passed over, each counted once. */
static uint64_t row_bytes(const making *b)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < b->count; i++) {
        bool again = b->all[i].stride == 0;
        for (size_t k = 0; k < i && !again; k++)
            again = b->all[k].base == b->all[i].base && b->all[k].begin == b->all[i].begin && b->all[k].stride;
        bytes += again ? 0 : b->all[i].end - b->all[i].begin;
    }
    return bytes;
}

/* How many rows step `i` may go over; 0: it does not say. */
static uint64_t rows_of(const fad_program *p, const fad_step *step)
{
    const int64_t *numbers = p->numbers + step->numbers;
    if (step->kind == FAD_STEP_EXTREMUM || step->kind == FAD_STEP_MATMUL || step->kind == FAD_STEP_MATMUL_VIEWS)
        return numbers[0] >= 2 ? (uint64_t)numbers[1] : 0;
    for (uint32_t i = 0; step->kind == FAD_STEP_REGION && i < step->count; i++) {
        const fad_instruction *at = &p->instructions[step->first + i];
        if (at->code < FAD_DO_LOAD || at->code > FAD_DO_ADD)
            continue;
        const fad_affine *affine = &p->affines[at->affine];
        const int64_t *dims = p->numbers + affine->first;
        if (affine->ndim > 1 && dims[affine->ndim + affine->ndim - 1] == 0)
            return (uint64_t)dims[0];
    }
    return 0;
}

/* Whether a step may be the first of a band: not one of so few elements that a look would cost more than it saves. */
static bool is_large(const fad_program *p, const fad_step *step, uint64_t cache)
{
    const int64_t *numbers = p->numbers + step->numbers;
    const uint64_t least = cache / 16;
    switch (step->kind) {
    case FAD_STEP_REGION:
        return step->n >= least;
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
        return numbers[0] == 2 && numbers[3] == 2 && (uint64_t)numbers[1] >= least / ((uint64_t)numbers[5] + 1);
    case FAD_STEP_EXTREMUM:
        return numbers[0] >= 2 && numbers[1] > 0;
    default:
        return false;
    }
}

/* The band of the steps from `first` on, if they go over so many rows. */
static fad_band begin(making *b, size_t first, uint64_t rows)
{
    const fad_program *p = b->p;
    fad_band band = {.first = (uint32_t)first, .rows = rows};
    size_t kept = 0, moving = 0, seen = 0;
    b->rows = rows;
    b->count = 0;
    for (size_t i = first; i < p->step_count && i - first < FAD_MOST_IN_BAND && join(b, &p->steps[i]); i++) {
        bool zero = p->steps[i].kind == FAD_STEP_ZERO;
        for (; seen < b->count; seen++)
            b->all[seen].step = (uint32_t)(i - first);
        moving += !zero;
        band.sums |= (uint32_t)b->sums << (i - first);
        band.count = zero ? band.count : (uint32_t)(i - first + 1); /* it does not end in zeros */
        kept = zero ? kept : b->count;
    }
    b->count = kept;
    uint64_t bytes = row_bytes(b), fewest = b->cache / LEAST_BYTES_OF_ROW, block = bytes ? b->cache / bytes : 0;
    block = block < fewest ? fewest : block;
    band.block = block > 8 ? block & ~(uint64_t)7 : block + (block == 0);
    if (moving < 2 || bytes < PASSES * b->cache / rows || band.block >= rows)
        band.count = 0;
    return band;
}

static fad_band widest(making *b, size_t first)
{
    fad_band best = {.count = 0};
    for (size_t i = first; i < b->p->step_count && i - first < NEAR; i++) {
        uint64_t rows = rows_of(b->p, &b->p->steps[i]);
        if (rows < 2)
            continue;
        fad_band band = begin(b, first, rows);
        best = band.count > best.count ? band : best;
    }
    return best;
}

/* --- threads --- */

/* Whether different rows of the two are different memory, or nothing that is written. */
static bool by_row(const access *x, const access *y, uint64_t rows)
{
    uint64_t begin = x->begin < y->begin ? x->begin : y->begin, end = x->end > y->end ? x->end : y->end;
    if (x->base != y->base || !(x->writes || y->writes) || x->done || y->done ||
        x->end + x->stride * (rows - 1) <= y->begin || y->end + y->stride * (rows - 1) <= x->begin)
        return true;
    return x->stride && x->stride == y->stride && end - begin <= x->stride;
}

static void find_turns(const making *b, fad_band *band)
{
    band->apart = true;
    for (size_t i = 0; i < b->count; i++)
        for (size_t k = i; k < b->count; k++)
            if (!by_row(&b->all[i], &b->all[k], b->rows)) {
                band->turns |= UINT32_C(1) << b->all[i].step;
                band->apart = band->apart && b->all[i].step == b->all[k].step;
            }
}

/* --- local arrays --- */

/* Whether the accesses are rows of the array that has `x` as its rows, the first of them writes it, and nothing of it is
 * read after the band. */
static bool is_local(const making *b, const fad_band *band, const access *x)
{
    const uint64_t end = x->begin + x->stride * b->rows;
    bool written = false;
    if (x->base != FAD_IN_WORKSPACE || x->stride == 0 || x->end - x->begin != x->stride)
        return false;
    for (size_t i = 0; i < b->count; i++) {
        const access *y = &b->all[i];
        uint64_t y_end = y->end + y->stride * (b->rows - 1);
        if (y->base != x->base || y_end <= x->begin || y->begin >= end)
            continue;
        bool zeros = y->done && y->begin == x->begin && y->end == end;
        bool row = y->stride == x->stride && y->begin >= x->begin && y->end <= x->end;
        written = written || zeros || (row && y->whole && y->begin == x->begin && y->end == x->end);
        if (!written || !(zeros || row))
            return false;
    }
    return !fad_is_read_later(b->p, (size_t)band->first + band->count, x->begin, end);
}

/* What lies in the local array has its base from now on. */
static void move(const making *b, const access *x, uint32_t base, fad_argument *a)
{
    if (a->place != FAD_AT_STRIP && a->base == x->base && a->offset >= x->begin &&
        a->offset < x->begin + x->stride * b->rows)
        a->base = base;
}

static void move_all(const making *b, const fad_band *band, const access *x, uint32_t base)
{
    const fad_banded *to = &b->p->banded;
    for (fad_step *step = to->steps + band->first; step < to->steps + band->first + band->count; step++) {
        for (int k = 0; !fad_is_region(step->kind) && k < 3; k++)
            move(b, x, base, &step->arguments[k]);
        for (size_t i = step->first; fad_is_region(step->kind) && i < (size_t)step->first + step->count; i++)
            for (int k = 0; k < to->instructions[i].count; k++) {
                fad_argument *a = &to->instructions[i].arguments[k];
                move(b, x, base, a);
                if (a->base == base)
                    to->bound[i].places[k] = (uint64_t)base << FAD_OFFSET_BITS | a->offset;
            }
    }
}

static void find_local(const making *b, fad_band *band)
{
    const size_t first = fad_first_local(b->p);
    if (first + FAD_MOST_LOCAL > FAD_MOST_BASES)
        return;
    for (size_t i = 0; i < b->count && band->local_count < FAD_MOST_LOCAL; i++) {
        const access *x = &b->all[i];
        bool known = !x->writes;
        for (size_t k = 0; k < i && !known; k++)
            known = b->all[k].writes && b->all[k].base == x->base && b->all[k].begin == x->begin && b->all[k].stride;
        if (known || !is_local(b, band, x))
            continue;
        move_all(b, band, x, (uint32_t)(first + band->local_count));
        band->local_bytes[band->local_count++] = x->stride;
    }
}

/* --- the whole --- */

static void forget(fad_program *p)
{
    const fad_banded none = {NULL, NULL, NULL};
    fad_allocator *a = &p->allocator;
    a->resize(a->context, p->bands, p->band_count * sizeof *p->bands, 0);
    a->resize(a->context, p->banded.steps, p->step_count * sizeof *p->steps, 0);
    a->resize(a->context, p->banded.instructions, p->instruction_count * sizeof *p->instructions, 0);
    a->resize(a->context, p->banded.bound, p->instruction_count * sizeof *p->bound, 0);
    p->bands = NULL;
    p->band_count = 0;
    p->banded = none;
}

/* Steps and instructions that bands may change. */
static bool copy(fad_program *p)
{
    fad_allocator *a = &p->allocator;
    const size_t steps = p->step_count * sizeof *p->steps, bound = p->instruction_count * sizeof *p->bound;
    const size_t instructions = p->instruction_count * sizeof *p->instructions;
    p->banded.steps = a->resize(a->context, NULL, 0, steps);
    p->banded.instructions = instructions ? a->resize(a->context, NULL, 0, instructions) : NULL;
    p->banded.bound = instructions ? a->resize(a->context, NULL, 0, bound) : NULL;
    if (!p->banded.steps || (instructions && (!p->banded.instructions || !p->banded.bound)))
        return false;
    memcpy(p->banded.steps, p->steps, steps);
    if (instructions) {
        memcpy(p->banded.instructions, p->instructions, instructions);
        memcpy(p->banded.bound, p->bound, bound);
    }
    return true;
}

/* Strips of a region that end with a block of rows; and each with a row, where that leaves them whole vectors. */
static void cut(const fad_band *band, fad_step *step)
{
    enum { VECTOR = 8 };
    const uint64_t row = step->n / band->rows, rows = step->strip / row;
    step->piece = band->block * row;
    if (step->strip > step->piece)
        step->strip = (uint32_t)step->piece;
    else if (rows && rows * row % VECTOR == 0)
        step->strip = (uint32_t)(rows * row);
    else if (rows >= VECTOR)
        step->strip = (uint32_t)(rows / VECTOR * VECTOR * row);
}

static fad_status keep(making *b, fad_program *p, fad_band band)
{
    size_t size = sizeof *p->bands, sums = 0;
    if (!p->banded.steps && !copy(p))
        return FAD_NO_MEMORY;
    fad_band *grown = p->allocator.resize(p->allocator.context, p->bands, p->band_count * size, (p->band_count + 1) * size);
    if (!grown)
        return FAD_NO_MEMORY;
    p->bands = grown;
    for (size_t k = 0; k < band.count; k++)
        if (p->steps[band.first + k].kind == FAD_STEP_REGION)
            cut(&band, &p->banded.steps[band.first + k]);
    find_turns(b, &band);
    find_local(b, &band);
    p->bands[p->band_count++] = band;
    for (size_t k = 0; k < band.count; k++)
        sums += fad_band_room(p, &band, k);
    p->room_bytes = sums > p->room_bytes ? sums : p->room_bytes;
    return FAD_OK;
}

fad_status fad_program_bands(fad_program *p, uint64_t cache)
{
    making b = {.p = p, .cache = cache};
    forget(p);
    for (size_t i = p->first_free; cache && i < p->step_count; i++) {
        if (!is_large(p, &p->steps[i], cache))
            continue;
        fad_band band = widest(&b, i);
        if (band.count == 0)
            continue;
        band = begin(&b, i, band.rows); /* the accesses of this one */
        fad_status status = keep(&b, p, band);
        if (status != FAD_OK)
            return status;
        i += band.count - 1;
    }
    return FAD_OK;
}
