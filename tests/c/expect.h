/* expect.h: what all C tests share: expectations, an allocator that counts and fails, the end. */
#ifndef FAD_TESTS_EXPECT_H
#define FAD_TESTS_EXPECT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastad.h"
#include "try.h"

static int failures;

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);     \
            failures++;                                                                  \
        }                                                                                \
    } while (0)
#define DO(call) EXPECT((call) == FAD_OK)

static fad_loops loops;

/* The last line of main. */
static inline int finish(void)
{
    if (failures) {
        fprintf(stderr, "%d expectations failed\n", failures);
        return EXIT_FAILURE;
    }
    puts("ok");
    return EXIT_SUCCESS;
}

/* --- an allocator that counts, and fails from the n-th growth on --- */

typedef struct {
    long blocks, failing_in;
    size_t bytes;
    bool wrong_size;       /* a block was not given back with the size that it was taken with */
} counter;

enum { HEADER = 16 };

static inline void *counting(void *context, void *p, size_t old_size, size_t size)
{
    counter *c = context;
    char *block = p ? (char *)p - HEADER : NULL;
    if (block && *(size_t *)block != old_size)
        c->wrong_size = true;
    if (size > old_size && c->failing_in > 0 && --c->failing_in == 0) {
        c->failing_in = 1;
        return NULL;
    }
    if (size == 0) {
        if (block) {
            c->blocks--;
            c->bytes -= old_size;
        }
        free(block);
        return NULL;
    }
    /* Always another place, so that a pointer into a table that grew is found by the sanitizer. */
    char *grown = malloc(size + HEADER);
    if (!grown)
        return NULL;
    if (block)
        memcpy(grown + HEADER, p, old_size < size ? old_size : size);
    else
        c->blocks++;
    free(block);
    *(size_t *)grown = size;
    c->bytes += size - old_size;
    return grown + HEADER;
}

#endif
