/* exec_affine.c: LOAD, STORE and ADD of a strip: elements at places that are affine in their indices. */
#include "array.h"
#include "exec.h"

typedef void (*affine_body)(char *at, ptrdiff_t step, char *run, ptrdiff_t run_step, ptrdiff_t count);

/* Calls `body` for the stretches of the elements from flat index `start` on. */
static void walk(const fad_machine *m, const fad_affine *affine, char *memory_, uint64_t start, uint64_t count, char *run,
                 ptrdiff_t run_step, affine_body body)
{
    const int64_t *dims = m->program->numbers + affine->first, *steps = dims + affine->ndim;
    uint32_t inner = affine->ndim - 1;
    if (inner == 0) {
        body(memory_ + (ptrdiff_t)start * steps[0], (ptrdiff_t)steps[0], run, run_step, (ptrdiff_t)count);
        return;
    }
    int64_t index[FAD_MAX_NDIM];
    uint64_t rest = start;
    for (uint32_t d = inner + 1; d-- > 0;) {
        index[d] = (int64_t)(rest % (uint64_t)dims[d]);
        rest /= (uint64_t)dims[d];
        memory_ += index[d] * steps[d];
    }
    while (count) {
        uint64_t n = (uint64_t)(dims[inner] - index[inner]);
        if (n > count)
            n = count;
        body(memory_, (ptrdiff_t)steps[inner], run, run_step, (ptrdiff_t)n);
        count -= n;
        run += (ptrdiff_t)n * run_step;
        memory_ -= index[inner] * steps[inner];
        index[inner] = 0;
        for (uint32_t d = inner; d-- > 0;) {
            memory_ += steps[d];
            if (++index[d] < dims[d])
                break;
            memory_ -= steps[d] * dims[d];
            index[d] = 0;
        }
    }
}

#define FILL(NAME, T)                                            \
    FAD_SIMD static void NAME(T *to, ptrdiff_t count, T value)   \
    {                                                            \
        for (ptrdiff_t i = 0; i < count; i++)                    \
            to[i] = value;                                       \
    }
FILL(fill_int64_t, int64_t)
FILL(fill_int32_t, int32_t)
FILL(fill_uint8_t, uint8_t)

/* Four at a time: one by one, most of the time is the loop's own. */
#define COPY(NAME, T, TO, TO_STEP, FROM, FROM_STEP)                                                      \
    static void NAME(char *at, ptrdiff_t step, char *run, ptrdiff_t run_step, ptrdiff_t count)           \
    {                                                                                                    \
        if (TO_STEP == (ptrdiff_t)sizeof(T) && FROM_STEP == (ptrdiff_t)sizeof(T)) {                      \
            fad_copy_bytes(TO, FROM, (size_t)count * sizeof(T));                                       \
            return;                                                                                      \
        }                                                                                                \
        if (TO_STEP == (ptrdiff_t)sizeof(T) && FROM_STEP == 0) {                                         \
            fill_##T((T *)TO, count, *(const T *)FROM);                                                  \
            return;                                                                                      \
        }                                                                                                \
        for (; count >= 4; count -= 4, TO += 4 * TO_STEP, FROM += 4 * FROM_STEP) {                       \
            const T a = *(const T *)FROM, b = *(const T *)(FROM + FROM_STEP);                            \
            const T c = *(const T *)(FROM + 2 * FROM_STEP), d = *(const T *)(FROM + 3 * FROM_STEP);      \
            *(T *)TO = a;                                                                                \
            *(T *)(TO + TO_STEP) = b;                                                                    \
            *(T *)(TO + 2 * TO_STEP) = c;                                                                \
            *(T *)(TO + 3 * TO_STEP) = d;                                                                \
        }                                                                                                \
        for (; count > 0; count--, TO += TO_STEP, FROM += FROM_STEP)                                     \
            *(T *)TO = *(const T *)FROM;                                                                 \
    }
COPY(load_8, int64_t, run, run_step, at, step)
COPY(load_4, int32_t, run, run_step, at, step)
COPY(load_1, uint8_t, run, run_step, at, step)
COPY(store_8, int64_t, at, step, run, run_step)
COPY(store_4, int32_t, at, step, run, run_step)
COPY(store_1, uint8_t, at, step, run, run_step)

/* One after the other, as they are recorded: under strict always. */
#define ADD_EACH(NAME, T)                                                                                 \
    static void add_each_##NAME(char *at, ptrdiff_t step, char *run, ptrdiff_t run_step, ptrdiff_t count) \
    {                                                                                                     \
        for (ptrdiff_t i = 0; i < count; i++)                                                             \
            *(T *)(at + i * step) += *(const T *)(run + i * run_step);                                    \
    }
ADD_EACH(f64, double)
ADD_EACH(f32, float)

/* Sums keep partial sums: in fixed order, and good to a few units for as many elements as a strip has. */
#define ADD_RUN(NAME, T)                                                                                  \
    FAD_SIMD static T sum_##NAME(const T *x, ptrdiff_t count)                                             \
    {                                                                                                     \
        enum { LANES = 32 };                                                                              \
        T part[LANES] = {0}, rest = 0;                                                                    \
        ptrdiff_t i = 0;                                                                                  \
        for (; i + LANES <= count; i += LANES)                                                            \
            for (int k = 0; k < LANES; k++)                                                               \
                part[k] += x[i + k];                                                                      \
        for (; i < count; i++)                                                                            \
            rest += x[i];                                                                                 \
        for (int half = LANES / 2; half; half /= 2)                                                       \
            for (int k = 0; k < half; k++)                                                                \
                part[k] += part[k + half];                                                                \
        return part[0] + rest;                                                                            \
    }                                                                                                     \
    FAD_SIMD static void add_dense_##NAME(T *restrict to, const T *restrict x, ptrdiff_t count)           \
    {                                                                                                     \
        for (ptrdiff_t i = 0; i < count; i++)                                                             \
            to[i] += x[i];                                                                                \
    }                                                                                                     \
    static void add_##NAME(char *at, ptrdiff_t step, char *run, ptrdiff_t run_step, ptrdiff_t count)      \
    {                                                                                                     \
        const ptrdiff_t size = sizeof(T);                                                                 \
        if (step == 0 && run_step == size) {                                                              \
            *(T *)at += sum_##NAME((const T *)run, count);                                                \
        } else if (step == size && run_step == size) {                                                    \
            add_dense_##NAME((T *)at, (const T *)run, count);                                             \
        } else {                                                                                          \
            add_each_##NAME(at, step, run, run_step, count);                                              \
        }                                                                                                 \
    }
ADD_RUN(f64, double)
ADD_RUN(f32, float)

static affine_body body_of(int code, int dtype, bool strict)
{
    size_t size = fad_itemsize(dtype);
    if (code == FAD_DO_ADD && strict)
        return dtype == FAD_F64 ? add_each_f64 : add_each_f32;
    if (code == FAD_DO_ADD)
        return dtype == FAD_F64 ? add_f64 : add_f32;
    if (code == FAD_DO_LOAD)
        return size == 8 ? load_8 : size == 4 ? load_4 : load_1;
    return size == 8 ? store_8 : size == 4 ? store_4 : store_1;
}

static void run_walk(const fad_machine *m, const fad_instruction *i, uint64_t start, uint64_t count, char *run,
                     ptrdiff_t run_step)
{
    char *at = m->bases[i->arguments[0].base] + i->arguments[0].offset;
    walk(m, &m->program->affines[i->affine], at, start, count, run, run_step, body_of(i->code, i->dtype, m->program->strict));
}

/* --- many rows at once: those that have one place each (a number is repeated along them, or they are summed), and those
 * that share one (a row is repeated, or all of them are summed) --- */

FAD_SIMD static void fill_rows(const char *at, ptrdiff_t step, int64_t *restrict to, ptrdiff_t width, ptrdiff_t rows)
{
    for (ptrdiff_t r = 0; r < rows; r++, at += step, to += width) {
        const int64_t value = *(const int64_t *)at;
        for (ptrdiff_t i = 0; i < width; i++)
            to[i] = value;
    }
}

FAD_SIMD static void sum_rows(char *at, ptrdiff_t step, const double *x, ptrdiff_t width, ptrdiff_t rows)
{
    enum { LANES = 8 };
    for (ptrdiff_t r = 0; r < rows; r++, at += step, x += width) {
        double part[LANES] = {0}, rest = 0;
        ptrdiff_t i = 0;
        for (; i + LANES <= width; i += LANES)
            for (int k = 0; k < LANES; k++)
                part[k] += x[i + k];
        for (; i < width; i++)
            rest += x[i];
        for (int half = LANES / 2; half; half /= 2)
            for (int k = 0; k < half; k++)
                part[k] += part[k + half];
        *(double *)at += part[0] + rest;
    }
}

static void repeat_row(const char *from, char *to, size_t bytes, ptrdiff_t rows)
{
    for (ptrdiff_t r = 0; r < rows; r++, to += bytes)
        fad_copy_bytes(to, from, bytes);
}

/* To each number of a row one after the other, as they come. */
FAD_SIMD static void add_rows(double *restrict to, const double *restrict x, ptrdiff_t width, ptrdiff_t rows)
{
    ptrdiff_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * width)
        for (ptrdiff_t i = 0; i < width; i++)
            to[i] = to[i] + x[i] + x[width + i] + x[2 * width + i] + x[3 * width + i];
    for (; r < rows; r++, x += width)
        for (ptrdiff_t i = 0; i < width; i++)
            to[i] += x[i];
}

/* Float64 along rows: what is done at once, of `count` elements from `start` on. The elements before, up to a row's begin,
 * and from `*end` on are left: `*before` and `*end` tell. False: not of that kind, or a few elements. */
static bool run_rows(const fad_machine *m, const fad_instruction *i, uint64_t start, uint64_t count, char *run,
                     ptrdiff_t run_step, uint64_t *before, uint64_t *end)
{
    enum { WIDEST = 512 };
    const fad_affine *affine = &m->program->affines[i->affine];
    const int64_t *dims = m->program->numbers + affine->first, *steps = dims + affine->ndim;
    if (affine->ndim != 2 || dims[1] > WIDEST || i->dtype != FAD_F64 || run_step != (ptrdiff_t)sizeof(double) ||
        (i->code != FAD_DO_LOAD && (i->code != FAD_DO_ADD || m->program->strict))) /* strict: added one by one */
        return false;
    const bool shared = steps[0] == 0 && steps[1] == (int64_t)sizeof(double);
    if (!shared && steps[1] != 0)
        return false;
    uint64_t width = (uint64_t)dims[1], done = start % width;
    *before = done ? width - done : 0;
    if (count < *before + width)
        return false;
    const uint64_t rows = (count - *before) / width;
    *end = *before + rows * width;
    char *at = m->bases[i->arguments[0].base] + i->arguments[0].offset +
               (ptrdiff_t)((start + *before) / width) * (ptrdiff_t)steps[0];
    char *first = run + *before * sizeof(double);
    if (shared && i->code == FAD_DO_LOAD)
        repeat_row(at, first, width * sizeof(double), (ptrdiff_t)rows);
    else if (shared)
        add_rows((double *)at, (const double *)first, (ptrdiff_t)width, (ptrdiff_t)rows);
    else if (i->code == FAD_DO_LOAD)
        fill_rows(at, (ptrdiff_t)steps[0], (int64_t *)first, (ptrdiff_t)width, (ptrdiff_t)rows);
    else
        sum_rows(at, (ptrdiff_t)steps[0], (const double *)first, (ptrdiff_t)width, (ptrdiff_t)rows);
    return true;
}

void fad_run_affine(const fad_machine *m, const fad_instruction *i, uint64_t start, uint64_t count, char *run,
                    ptrdiff_t run_step)
{
    uint64_t before, end;
    if (!run_rows(m, i, start, count, run, run_step, &before, &end)) {
        run_walk(m, i, start, count, run, run_step);
        return;
    }
    if (before)
        run_walk(m, i, start, before, run, run_step);
    if (end < count)
        run_walk(m, i, start + end, count - end, run + (ptrdiff_t)end * run_step, run_step);
}

/* --- sums over more than one strip --- */

/* What the elements from flat index `start` on are added to. */
static char *place_of(const fad_machine *m, const fad_affine *affine, char *at, uint64_t start)
{
    const int64_t *dims = m->program->numbers + affine->first, *steps = dims + affine->ndim;
    for (uint32_t d = affine->ndim; d-- > 0; start /= (uint64_t)dims[d])
        at += (ptrdiff_t)(start % (uint64_t)dims[d]) * steps[d];
    return at;
}

static int totals_of(const fad_sum *sum)
{
    int count = 0;
    for (uint64_t k = sum->strips; k; k &= k - 1)
        count++;
    return count;
}

/* Adds the total of one strip: two totals of 2^k strips become one of 2^(k+1). */
static void push(fad_sum *sum, double total)
{
    int top = totals_of(sum);
    for (uint64_t k = sum->strips++; k & 1; k >>= 1)
        total += sum->totals[--top];
    sum->totals[top] = total;
}

static double finished(const fad_sum *sum)
{
    int top = totals_of(sum) - 1;
    double total = sum->totals[top];
    while (top > 0)
        total += sum->totals[--top];
    return total;
}

/* Part of a row that lies in more than one strip. */
static void add_part(int dtype, char *at, char *run, ptrdiff_t run_step, uint64_t count, bool begins, bool ends,
                     fad_sum *sum)
{
    double part = 0;
    float narrow = 0;
    if (dtype == FAD_F64)
        add_f64((char *)&part, 0, run, run_step, (ptrdiff_t)count);
    else
        add_f32((char *)&narrow, 0, run, run_step, (ptrdiff_t)count);
    if (begins)
        sum->strips = 0;
    push(sum, part + (double)narrow);
    if (!ends)
        return;
    if (dtype == FAD_F64)
        *(double *)at += finished(sum);
    else
        *(float *)at += (float)finished(sum);
}

/* A row is what is added to one place, side by side: all of the range, or the last dimension. */
void fad_run_sum(const fad_machine *m, const fad_step *step, const fad_instruction *i, uint64_t start, uint64_t count,
                 char *run, ptrdiff_t run_step, fad_sum *sum)
{
    const fad_affine *affine = &m->program->affines[i->affine];
    const int64_t *dims = m->program->numbers + affine->first, *steps = dims + affine->ndim;
    uint64_t row = (uint64_t)dims[affine->ndim - 1];
    if (steps[affine->ndim - 1] != 0 || row == 1 || step->n <= step->strip || m->program->strict) {
        fad_run_affine(m, i, start, count, run, run_step);
        return;
    }
    char *at = m->bases[i->arguments[0].base] + i->arguments[0].offset;
    uint64_t end = start + count, done = start % row;
    if (done) {
        uint64_t left = row - done < count ? row - done : count;
        bool ends = left == row - done || start + left == step->n;
        add_part(i->dtype, place_of(m, affine, at, start), run, run_step, left, false, ends, sum);
        start += left;
        run += (ptrdiff_t)left * run_step;
    }
    uint64_t last = start < end ? (end - start) % row : 0;
    if (start < end - last) {
        fad_run_affine(m, i, start, end - last - start, run, run_step);
        run += (ptrdiff_t)(end - last - start) * run_step;
    }
    if (last)
        add_part(i->dtype, place_of(m, affine, at, end - last), run, run_step, last, true, end == step->n, sum);
}
