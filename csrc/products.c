/* products.c: products of two matrices where a library's preparations cost more than the product: sums of a few terms,
 * and a right operand that is mostly zeros. Rounded otherwise than by the host's loop. */
#include "array.h"
#include "prefetch.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif

/* --- sums of a few terms ---
 *
 * Some columns of the right operand are laid side by side, a panel, and then some rows of the result are computed in
 * registers, WIDTH numbers of each. Each is the same sum in the same order for any blocks of rows. */

enum { AHEAD = 3 /* tiles */, MOST_TERMS = 32, WIDEST_PANEL = 32, LEAST_COLUMNS = 5 };

typedef struct {
    char *to;
    const char *x, *panel;
    ptrdiff_t to_row, x_row, x_step; /* elements */
    ptrdiff_t rows, terms, width;    /* width: columns of the panel that the result has */
} tiles;

typedef void (*tile_body)(const tiles *t);

/* The last rows are the last ROWS of all: some are computed twice. Only a few lines of each row of the result are written
 * at a time, which the hardware does not see coming. */
#define TILE(NAME, TARGET, T, LANES, VECTORS, ROWS)                                                              \
    TARGET static void NAME(const tiles *t)                                                                      \
    {                                                                                                            \
        typedef T lanes __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));          \
        enum { WIDTH = LANES * VECTORS };                                                                        \
        const ptrdiff_t x_row = t->x_row, x_step = t->x_step, terms = t->terms;                                  \
        const bool whole = t->width == WIDTH;                                                                    \
        const ptrdiff_t out_row = whole ? t->to_row : WIDTH;                                                     \
        T part[ROWS * WIDTH];                                                                                    \
        for (ptrdiff_t i = 0; i < t->rows; i += ROWS) {                                                          \
            const ptrdiff_t first = i + ROWS > t->rows ? t->rows - ROWS : i;                                     \
            const T *x = (const T *)(const void *)t->x + first * x_row;                                          \
            T *to = (T *)(void *)t->to + first * t->to_row, *out = whole ? to : part;                            \
            lanes sums[ROWS][VECTORS];                                                                           \
            for (int r = 0; r < ROWS; r++)                                                                       \
                for (int v = 0; v < VECTORS; v++) {                                                              \
                    sums[r][v] = (lanes){0};                                                                     \
                    if (whole && first + AHEAD * ROWS + r < t->rows)                                             \
                        FAD_PREFETCH((const char *)(to + (AHEAD * ROWS + r) * t->to_row + v * LANES));           \
                }                                                                                                \
            for (ptrdiff_t k = 0; k < terms; k++) {                                                              \
                const lanes *y = (const lanes *)(const void *)t->panel + k * VECTORS;                            \
                for (int r = 0; r < ROWS; r++)                                                                   \
                    for (int v = 0; v < VECTORS; v++)                                                            \
                        sums[r][v] += x[r * x_row + k * x_step] * y[v];                                          \
            }                                                                                                    \
            for (int r = 0; r < ROWS; r++)                                                                       \
                for (int v = 0; v < VECTORS; v++)                                                                \
                    *(lanes *)(void *)(out + r * out_row + v * LANES) = sums[r][v];                              \
            for (int r = 0; !whole && r < ROWS; r++)                                                             \
                memcpy(to + r * t->to_row, part + r * WIDTH, (size_t)t->width * sizeof(T));                      \
        }                                                                                                        \
    }

typedef struct {
    int lanes, rows;
    tile_body narrow, wide; /* one vector, or two */
} tile_set;

#define TILES(NAME, TARGET, BYTES, ROWS)                                  \
    TILE(NAME##_f64_1, TARGET, double, BYTES / 8, 1, ROWS)                \
    TILE(NAME##_f64_2, TARGET, double, BYTES / 8, 2, ROWS)                \
    TILE(NAME##_f32_1, TARGET, float, BYTES / 4, 1, ROWS)                 \
    TILE(NAME##_f32_2, TARGET, float, BYTES / 4, 2, ROWS)                 \
    static const tile_set NAME[2] = {{BYTES / 8, ROWS, NAME##_f64_1, NAME##_f64_2}, \
                                     {BYTES / 4, ROWS, NAME##_f32_1, NAME##_f32_2}};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FAD_SANITIZE)
TILES(in_zmm, __attribute__((target("avx512f,avx512dq,fma"))), 64, 8)
TILES(in_ymm, __attribute__((target("avx2,fma"))), 32, 6)

static const tile_set *best_tiles(int dtype)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return &in_zmm[dtype == FAD_F32];
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &in_ymm[dtype == FAD_F32] : NULL;
}
#elif defined(__GNUC__)
TILES(in_vectors, , 16, 6)

static const tile_set *best_tiles(int dtype) { return &in_vectors[dtype == FAD_F32]; }
#else
static const tile_set *best_tiles(int dtype)
{
    (void)dtype;
    return NULL;
}
#endif

/* Columns `first` .. first+width-1 of `y`, and zeros up to `room` of them. */
#define LAY(NAME, T)                                                                                            \
    static void NAME(T *restrict panel, const fad_array *y, ptrdiff_t first, ptrdiff_t width, ptrdiff_t room)   \
    {                                                                                                           \
        const ptrdiff_t terms = y->shape->dims[0], down = y->strides[0], across = y->strides[1];                \
        const T *from = (const T *)y->data + first * across;                                                    \
        for (ptrdiff_t j = 0; j < room; j++)                                                                    \
            for (ptrdiff_t k = 0; k < terms; k++)                                                               \
                panel[k * room + j] = j < width ? from[j * across + k * down] : 0;                              \
    }
LAY(lay_f64, double)
LAY(lay_f32, float)

/* Where there are fewer rows than a tile has, each is computed as all rows of a tile. */
static void run_tiles(tile_body body, tiles t, ptrdiff_t tile_rows, ptrdiff_t item)
{
    if (t.rows >= tile_rows) {
        body(&t);
        return;
    }
    const ptrdiff_t rows = t.rows, x_bytes = t.x_row * item, to_bytes = t.to_row * item;
    t.rows = tile_rows;
    t.x_row = t.to_row = 0;
    for (ptrdiff_t i = 0; i < rows; i++, t.x += x_bytes, t.to += to_bytes)
        body(&t);
}

/* Of a product with `rows` rows, all of which are computed alike. */
static bool product_of_few_terms(const fad_array *to, const fad_array *x, const fad_array *y, ptrdiff_t rows)
{
    const tile_set *set = best_tiles(to->dtype);
    const ptrdiff_t columns = to->shape->dims[1], terms = y->shape->dims[0];
    if (!set || rows < set->rows || columns < LEAST_COLUMNS || terms > MOST_TERMS)
        return false;
    double panel[MOST_TERMS * WIDEST_PANEL];
    const ptrdiff_t item = (ptrdiff_t)fad_itemsize(to->dtype);
    tiles t = {.x = x->data, .panel = (const char *)panel, .to_row = to->strides[0], .x_row = x->strides[0],
               .x_step = x->strides[1], .rows = to->shape->dims[0], .terms = terms};
    for (ptrdiff_t j = 0; j < columns; j += t.width) {
        const bool wide = columns - j > set->lanes;
        const ptrdiff_t room = wide ? 2 * set->lanes : set->lanes;
        t.width = columns - j < room ? columns - j : room;
        t.to = (char *)to->data + j * item;
        if (to->dtype == FAD_F64)
            lay_f64(panel, y, j, t.width, room);
        else
            lay_f32((float *)(void *)panel, y, j, t.width, room);
        run_tiles(wide ? set->wide : set->narrow, t, set->rows, item);
    }
    return true;
}

/* --- a right operand that is mostly zeros ---
 *
 * What says which element of each row is the largest, or a choice among many, has one number in a row. The sum over the
 * rows of outer products leaves out the zeros: 0 times what is finite adds nothing. */

enum {
    LEAST_ROWS = 64,      /* of the operands: the sums' terms */
    LEAST_WORK = 512,     /* elements of the result: so many products a row */
    MOST_SUMS = 1 << 12,
    SAMPLES = 16,         /* rows that are looked at */
    SPARSE = 8,           /* one of so many elements is none of the zeros */
    ROWS_A_SUM = 1 << 10, /* rows that are summed before the sums are */
};

typedef struct {
    ptrdiff_t count, place; /* of those in a row that are no zeros: how many, and where it is if it is one */
} nonzeros;

#define SPARSE_PRODUCT(NAME, T, BITS, EXPONENT)                                                                 \
    FAD_SIMD static bool NAME##_is_finite(const T *x, ptrdiff_t count)                                          \
    {                                                                                                           \
        BITS special = 0;                                                                                       \
        for (ptrdiff_t i = 0; i < count; i++) {                                                                 \
            BITS bits;                                                                                          \
            memcpy(&bits, &x[i], sizeof bits);                                                                  \
            special |= (bits & EXPONENT) == EXPONENT;                                                           \
        }                                                                                                       \
        return !special;                                                                                        \
    }                                                                                                           \
    FAD_SIMD static nonzeros NAME##_find(const T *y, ptrdiff_t count)                                           \
    {                                                                                                           \
        BITS found = 0, sum = 0;                                                                                \
        for (BITS j = 0; j < (BITS)count; j++) {                                                                \
            found += y[j] != 0;                                                                                 \
            sum += y[j] != 0 ? j : 0;                                                                           \
        }                                                                                                       \
        return (nonzeros){(ptrdiff_t)found, (ptrdiff_t)sum};                                                    \
    }                                                                                                           \
    FAD_SIMD static void NAME##_add(T *restrict sums, const T *restrict x, T factor, ptrdiff_t count)           \
    {                                                                                                           \
        for (ptrdiff_t i = 0; i < count; i++)                                                                   \
            sums[i] += x[i] * factor;                                                                           \
    }                                                                                                           \
    /* Some rows: sums[j][i] += x[.][i] * y[.][j]. False: more of them are no zeros than `budget` says. */      \
    static bool NAME##_rows(T *sums, const T *x, ptrdiff_t x_row, const T *y, ptrdiff_t y_row, ptrdiff_t rows,  \
                            ptrdiff_t height, ptrdiff_t width, ptrdiff_t *budget)                               \
    {                                                                                                           \
        for (; rows > 0; rows--, x += x_row, y += y_row) {                                                      \
            const nonzeros n = NAME##_find(y, width);                                                           \
            if (n.count == 1) {                                                                                 \
                NAME##_add(sums + n.place * height, x, y[n.place], height);                                     \
                continue;                                                                                       \
            }                                                                                                   \
            if ((*budget -= n.count) < 0)                                                                       \
                return false;                                                                                   \
            for (ptrdiff_t j = 0; n.count && j < width; j++)                                                    \
                if (y[j] != 0)                                                                                  \
                    NAME##_add(sums + j * height, x, y[j], height);                                             \
        }                                                                                                       \
        return true;                                                                                            \
    }                                                                                                           \
    static void NAME##_turn(T *restrict to, const T *restrict sums, ptrdiff_t height, ptrdiff_t width, bool add) \
    {                                                                                                           \
        for (ptrdiff_t i = 0; i < height; i++)                                                                  \
            for (ptrdiff_t j = 0; j < width; j++)                                                               \
                to[i * width + j] = sums[j * height + i] + (add ? to[i * width + j] : 0);                       \
    }                                                                                                           \
    static bool NAME##_is_sparse(const T *y, ptrdiff_t y_row, ptrdiff_t rows, ptrdiff_t width)                  \
    {                                                                                                           \
        ptrdiff_t found = 0;                                                                                    \
        for (ptrdiff_t k = 0; k < SAMPLES; k++)                                                                 \
            found += NAME##_find(y + k * (rows - 1) / (SAMPLES - 1) * y_row, width).count;                      \
        return found * SPARSE <= SAMPLES * width;                                                               \
    }                                                                                                           \
    static bool NAME(const fad_array *to, const fad_array *x, const fad_array *y)                               \
    {                                                                                                           \
        const ptrdiff_t height = x->shape->dims[0], rows = y->shape->dims[0], width = y->shape->dims[1];        \
        const ptrdiff_t x_row = x->strides[1], y_row = y->strides[0];                                           \
        const T *from = (const T *)x->data, *by = (const T *)y->data;                                           \
        ptrdiff_t budget = rows * width / SPARSE;                                                               \
        T sums[MOST_SUMS];                                                                                      \
        if (!NAME##_is_sparse(by, y_row, rows, width))                                                          \
            return false;                                                                                       \
        for (ptrdiff_t i = 0; i < (x_row == height ? 1 : rows); i++)                                            \
            if (!NAME##_is_finite(from + i * x_row, x_row == height ? rows * height : height))                  \
                return false;                                                                                   \
        for (ptrdiff_t i = 0; i < rows; i += ROWS_A_SUM) {                                                      \
            const ptrdiff_t some = rows - i < ROWS_A_SUM ? rows - i : ROWS_A_SUM;                               \
            memset(sums, 0, (size_t)(height * width) * sizeof *sums);                                           \
            if (!NAME##_rows(sums, from + i * x_row, x_row, by + i * y_row, y_row, some, height, width, &budget)) \
                return false;                                                                                   \
            NAME##_turn((T *)to->data, sums, height, width, i > 0);                                             \
        }                                                                                                       \
        return true;                                                                                            \
    }
SPARSE_PRODUCT(sparse_f64, double, uint64_t, UINT64_C(0x7ff0000000000000))
SPARSE_PRODUCT(sparse_f32, float, uint32_t, UINT32_C(0x7f800000))

/* The left operand has its columns in memory, the right one its rows. */
static bool product_of_zeros(const fad_array *to, const fad_array *x, const fad_array *y)
{
    const ptrdiff_t height = to->shape->dims[0], width = to->shape->dims[1];
    if (y->shape->dims[0] < LEAST_ROWS || height > MOST_SUMS / width || height * width < LEAST_WORK ||
        x->strides[0] != 1 || x->strides[1] < height || y->strides[1] != 1)
        return false;
    return to->dtype == FAD_F64 ? sparse_f64(to, x, y) : sparse_f32(to, x, y);
}

void fad_product(const fad_loops *loops, const fad_array *to, const fad_array *x, const fad_array *y, ptrdiff_t rows)
{
    bool plain = to->shape->ndim == 2 && x->shape->ndim == 2 && y->shape->ndim == 2 && to->shape->size && x->shape->size;
    if (!plain || !(product_of_few_terms(to, x, y, rows) || product_of_zeros(to, x, y)))
        fad_matmul(loops, to, x, y);
}
