/* results.h: memory of large results. What the caller has dropped is given out again: fresh memory would be zeroed page
 * by page before a program writes to it. What waits for that, the system may take back when it needs memory. */
#ifndef FAD_RESULTS_H
#define FAD_RESULTS_H

#include <stddef.h>

enum { FAD_LARGE_RESULT = 1 << 22, FAD_MOST_RESULTS = 8 };

typedef struct fad_results fad_results;

/* Keeps at most `most` blocks (up to FAD_MOST_RESULTS) that nobody has. NULL: no memory. */
fad_results *fad_results_create(size_t most);
/* When every block has been given back. */
void fad_results_destroy(fad_results *results);

/* As malloc, calloc, realloc and free, in the form in which NumPy asks for them. Not for several threads at once. */
void *fad_results_take(void *results, size_t size);
void *fad_results_take_zeros(void *results, size_t count, size_t size);
void *fad_results_resize(void *results, void *block, size_t size);
void fad_results_give(void *results, void *block, size_t size);

#endif
