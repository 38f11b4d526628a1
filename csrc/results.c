/* results.c: blocks of memory for results, used again. */
#if defined(__linux__) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE
#endif
#include "results.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum {
    HEADER = 64,            /* before what is given out: the size. NumPy's is not asked, arrays can be reshaped in place */
    HUGE_PAGE = 1 << 21
};

struct fad_results {
    size_t most, count;
    char *kept[FAD_MOST_RESULTS];     /* with their headers */
};

static size_t *size_of(char *whole) { return (size_t *)(void *)whole; }

#if defined(__linux__) && defined(MADV_HUGEPAGE) && defined(MADV_FREE)
static char *new_block(size_t bytes)
{
    void *whole = NULL;
    if (bytes < FAD_LARGE_RESULT)
        return malloc(bytes);
    if (posix_memalign(&whole, HUGE_PAGE, bytes) != 0)
        return NULL;
    madvise(whole, bytes, MADV_HUGEPAGE); /* as NumPy does; where it is refused, pages are small */
    return whole;
}

/* Large pages as a whole: a part would split them. The first one has the header. */
static void offer_to_system(char *whole, size_t bytes)
{
    size_t inner = bytes & ~(size_t)(HUGE_PAGE - 1);
    if ((uintptr_t)whole % HUGE_PAGE == 0 && inner > HUGE_PAGE)
        madvise(whole + HUGE_PAGE, inner - HUGE_PAGE, MADV_FREE);
}
#else
static char *new_block(size_t bytes) { return malloc(bytes); }

static void offer_to_system(char *whole, size_t bytes)
{
    (void)whole;
    (void)bytes;
}
#endif

fad_results *fad_results_create(size_t most)
{
    fad_results *r = calloc(1, sizeof *r);
    if (r)
        r->most = most < FAD_MOST_RESULTS ? most : FAD_MOST_RESULTS;
    return r;
}

void fad_results_destroy(fad_results *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->count; i++)
        free(r->kept[i]);
    free(r);
}

void *fad_results_take(void *results, size_t size)
{
    fad_results *r = results;
    if (size > PTRDIFF_MAX - HEADER)
        return NULL;
    for (size_t i = r->count; i-- > 0;)
        if (*size_of(r->kept[i]) == size) { /* the one that was given back last is the warmest */
            char *whole = r->kept[i];
            memmove(&r->kept[i], &r->kept[i + 1], (--r->count - i) * sizeof *r->kept);
            return whole + HEADER;
        }
    char *whole = new_block(size + HEADER);
    if (!whole)
        return NULL;
    *size_of(whole) = size;
    return whole + HEADER;
}

void *fad_results_take_zeros(void *results, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    void *block = fad_results_take(results, count * size);
    return block ? memset(block, 0, count * size) : NULL;
}

void *fad_results_resize(void *results, void *block, size_t size)
{
    if (!block)
        return fad_results_take(results, size);
    if (size > PTRDIFF_MAX - HEADER)
        return NULL;
    char *whole = realloc((char *)block - HEADER, size + HEADER);
    if (!whole)
        return NULL;
    *size_of(whole) = size;
    return whole + HEADER;
}

void fad_results_give(void *results, void *block, size_t size)
{
    fad_results *r = results;
    (void)size;
    if (!block)
        return;
    char *whole = (char *)block - HEADER;
    size_t bytes = *size_of(whole) + HEADER;
    if (r->most == 0 || bytes < FAD_LARGE_RESULT) {
        free(whole);
        return;
    }
    if (r->count == r->most) { /* the oldest makes room: it may be of a size that nobody asks for any more */
        free(r->kept[0]);
        memmove(&r->kept[0], &r->kept[1], --r->count * sizeof *r->kept);
    }
    offer_to_system(whole, bytes);
    r->kept[r->count++] = whole;
}
