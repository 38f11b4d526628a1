/* exec_columns.c: instructions that do columns of the same rows (program_columns.c), all columns of some rows at a time. */
#include "exec.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    MOST = 8,                  /* columns at once: each is a pointer in a register */
    ROWS = 32,                 /* written by all columns before the next ones */
    STREAM_BYTES = 1 << 22,    /* what is larger does not wait in the second-level cache for who reads it */
    STREAM_ROOM = 1 << 13
};

/* --- a few columns --- */

typedef void (*store_body)(char *restrict at, ptrdiff_t stride, char *const *runs, ptrdiff_t count);
typedef bool (*gather_body)(const char *restrict whole, uint64_t limit, const char *restrict indices,
                            ptrdiff_t index_step, char *const *runs, ptrdiff_t count);

#define BODIES(T, N)                                                                                               \
    FAD_SIMD static void store_##T##_##N(char *restrict at, ptrdiff_t stride, char *const *runs, ptrdiff_t count)  \
    {                                                                                                              \
        const T *restrict from[N];                                                                                 \
        for (int k = 0; k < N; k++)                                                                                \
            from[k] = (const T *)(const void *)runs[k];                                                            \
        for (ptrdiff_t i = 0; i < count; i++, at += stride)                                                        \
            for (int k = 0; k < N; k++)                                                                            \
                ((T *)(void *)at)[k] = from[k][i];                                                                 \
    }                                                                                                              \
    FAD_SIMD static bool gather_##T##_##N(const char *restrict whole, uint64_t limit, const char *restrict indices, \
                                          ptrdiff_t index_step, char *const *runs, ptrdiff_t count)                \
    {                                                                                                              \
        T *restrict to[N];                                                                                         \
        for (int k = 0; k < N; k++)                                                                                \
            to[k] = (T *)(void *)runs[k];                                                                          \
        for (ptrdiff_t i = 0; i < count; i++, indices += index_step) {                                             \
            int64_t at = *(const int64_t *)(const void *)indices;                                                  \
            if ((uint64_t)at >= limit) /* a negative one too */                                                    \
                return false;                                                                                      \
            const T *row = (const T *)(const void *)whole + at;                                                    \
            for (int k = 0; k < N; k++)                                                                            \
                to[k][i] = row[k];                                                                                 \
        }                                                                                                          \
        return true;                                                                                               \
    }
#define OF_ALL_COUNTS(X, T) X(T, 1) X(T, 2) X(T, 3) X(T, 4) X(T, 5) X(T, 6) X(T, 7) X(T, 8)
OF_ALL_COUNTS(BODIES, int64_t)
OF_ALL_COUNTS(BODIES, int32_t)

#define STORE_NAME(T, N)  store_##T##_##N,
#define GATHER_NAME(T, N) gather_##T##_##N,
static const store_body stores[2][MOST] = {{OF_ALL_COUNTS(STORE_NAME, int32_t)}, {OF_ALL_COUNTS(STORE_NAME, int64_t)}};
static const gather_body gathers[2][MOST] = {{OF_ALL_COUNTS(GATHER_NAME, int32_t)},
                                             {OF_ALL_COUNTS(GATHER_NAME, int64_t)}};

static int least(int x, int y) { return x < y ? x : y; }

/* --- rows that are written --- */

/* `count` rows, at most ROWS; the values of column k are at runs[k], from element `from` on (0: the same ROWS for all). */
static void store_rows(char *at, ptrdiff_t stride, size_t item, char *const *runs, const ptrdiff_t *steps, int columns,
                       ptrdiff_t from, ptrdiff_t count)
{
    for (int c = 0; c < columns; c += MOST) {
        char *some[MOST];
        int n = least(columns - c, MOST);
        for (int k = 0; k < n; k++)
            some[k] = runs[c + k] + from * steps[c + k];
        stores[item == sizeof(int64_t)][n - 1](at + (size_t)c * item, stride, some, count);
    }
}

#if defined(__SSE2__)
/* To memory past the caches: the lines need not be read before they are written. */
static void copy_past_caches(char *to, const char *from, size_t bytes)
{
    size_t whole = bytes & ~(sizeof(__m128i) - 1);
    for (size_t i = 0; i < whole; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(void *)(to + i), _mm_load_si128((const __m128i *)(const void *)(from + i)));
    memcpy(to + whole, from + whole, bytes - whole);
}

/* Whole rows of a large array, the next ones right behind them. */
static bool streams(const char *at, ptrdiff_t stride, size_t item, int columns, uint64_t n)
{
    return stride == (ptrdiff_t)(item * (size_t)columns) && stride * ROWS <= STREAM_ROOM &&
           n >= STREAM_BYTES / (uint64_t)stride && (uintptr_t)at % sizeof(__m128i) == 0 &&
           stride * ROWS % (ptrdiff_t)sizeof(__m128i) == 0;
}

static void end_of_streams(void) { _mm_sfence(); }
#else
static void copy_past_caches(char *to, const char *from, size_t bytes) { memcpy(to, from, bytes); }
static bool streams(const char *at, ptrdiff_t stride, size_t item, int columns, uint64_t n)
{
    (void)at, (void)stride, (void)item, (void)columns, (void)n;
    return false;
}
static void end_of_streams(void) {}
#endif

static void store_columns(const fad_step *step, char *at, ptrdiff_t stride, size_t item, char *const *runs,
                          const ptrdiff_t *steps, int columns, ptrdiff_t count)
{
    union {
        double aligned[STREAM_ROOM / sizeof(double)];
#if defined(__SSE2__)
        __m128i line;
#endif
    } room;
    char *rows = (char *)room.aligned;
    bool past = streams(at, stride, item, columns, step->n);
    for (ptrdiff_t from = 0; from < count; from += ROWS, at += ROWS * stride) {
        ptrdiff_t some = count - from < ROWS ? count - from : ROWS;
        store_rows(past ? rows : at, stride, item, runs, steps, columns, from, some);
        if (past)
            copy_past_caches(at, rows, (size_t)(some * stride));
    }
    if (past)
        end_of_streams();
}

/* ROWS times the value of a column that has the same one in all rows. */
static char *repeated(const char *value, size_t item, char *room)
{
    for (int i = 0; i < ROWS; i++)
        memcpy(room + (size_t)i * item, value, item);
    return room;
}

/* --- the whole --- */

fad_status fad_run_columns(const fad_machine *m, const fad_step *step, const fad_instruction *i, int columns,
                           uint64_t start, uint64_t count)
{
    char *runs[FAD_MOST_TOGETHER];
    ptrdiff_t steps[FAD_MOST_TOGETHER];
    double fixed[FAD_MOST_TOGETHER][ROWS];
    size_t item = fad_itemsize(i->dtype);
    char *whole = m->bases[i->arguments[0].base] + i->arguments[0].offset;
    for (int k = 0; k < columns; k++) {
        ptrdiff_t run_step;
        runs[k] = fad_find_run(m, step, &i[k].arguments[i->count - 1], start, &run_step);
        steps[k] = run_step;
        if (run_step == 0)
            runs[k] = repeated(runs[k], item, (char *)fixed[k]);
    }
    if (i->code == FAD_DO_STORE) {
        ptrdiff_t stride = (ptrdiff_t)m->program->numbers[m->program->affines[i->affine].first + 1];
        store_columns(step, whole + (ptrdiff_t)start * stride, stride, item, runs, steps, columns, (ptrdiff_t)count);
        return FAD_OK;
    }
    ptrdiff_t index_step;
    char *indices = fad_find_run(m, step, &i->arguments[1], start, &index_step);
    uint64_t limit = i->limit;
    for (int k = 1; k < columns; k++)
        limit = i[k].limit < limit ? i[k].limit : limit;
    for (int c = 0; c < columns; c += MOST) {
        int n = least(columns - c, MOST);
        if (!gathers[item == sizeof(int64_t)][n - 1](whole + (size_t)c * item, limit, indices, index_step, runs + c,
                                                     (ptrdiff_t)count))
            return FAD_BAD_OPERAND;
    }
    return FAD_OK;
}
