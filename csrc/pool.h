/* pool.h: threads that wait to take part in a task. A pool is an object that its owner passes in; nothing here is global.
 * Where the platform has no threads a pool has none, and whoever runs a task does all of it. */
#ifndef FAD_POOL_H
#define FAD_POOL_H

#include <stdbool.h>
#include <stddef.h>

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__STDC_NO_ATOMICS__)
#define FAD_HAS_THREADS 1
#else
#define FAD_HAS_THREADS 0
#endif

enum { FAD_MOST_THREADS = 1024 };

typedef struct fad_pool fad_pool;

/* What each thread does that takes part, each with room of its own. The task itself says who does what: any number of
 * threads may come, one alone too, and some of them late. */
typedef void (*fad_task)(void *context, char *room);

/* A pool for tasks of `threads` threads, the caller of fad_pool_run included. It has fewer where they cannot be started.
 * NULL: no memory. */
fad_pool *fad_pool_create(size_t threads);
/* Ends its threads. Nobody may be running a task on it. In a forked child, which has none of them, only frees memory. */
void fad_pool_destroy(fad_pool *pool);
/* False in a forked child, which has none of the threads: then a task runs alone. */
bool fad_pool_is_here(const fad_pool *pool);

/* Runs `task` in this thread, with `room`, and at the same time in the pool's, each with `bytes` of room aligned to a
 * cache line and zero at first, and in the floating-point environment of this thread. Returns when all are done. Where
 * the pool is NULL, busy with another caller's task, or has no memory for the rooms, this thread runs it alone. */
void fad_pool_run(fad_pool *pool, fad_task task, void *context, char *room, size_t bytes);

/* One turn of a loop that waits for another thread; `turns` counts them, from 0. */
void fad_pause(size_t turns);

#endif
