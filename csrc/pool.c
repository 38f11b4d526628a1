/* pool.c: threads that wait to take part in a task. */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#if FAD_HAS_THREADS

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 64, TURNS = 2000 /* some 20 to 50 us, what it takes to wake a thread */ };

typedef struct {
    fad_pool *pool;
    pthread_t thread;
    size_t number;
} worker;

struct fad_pool {
    pthread_mutex_t lock;
    pthread_cond_t called, left;
    size_t count;                /* threads that were started */
    worker *workers;
    pid_t process;
    bool busy, stop;
    uint64_t round;              /* the task at hand: a thread comes once */
    atomic_size_t open;          /* how many may still join the task at hand */
    atomic_size_t active;        /* how many are at it */
    fad_task task;
    void *context;
    fenv_t environment;
    char *raw, *rooms;
    size_t room_bytes;           /* of one, a multiple of LINE */
};

void fad_pause(size_t turns)
{
    if (turns % 256 == 255)
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool is_called(const fad_pool *pool, uint64_t before)
{
    return pool->stop || (atomic_load(&pool->open) > 0 && pool->round != before);
}

/* Until a task is open other than `before`; at first without sleep. The lock is held before and after. */
static void await_task(fad_pool *pool, uint64_t before)
{
    if (is_called(pool, before))
        return;
    pthread_mutex_unlock(&pool->lock);
    for (size_t turns = 0; turns < TURNS && atomic_load(&pool->open) == 0; turns++)
        fad_pause(turns);
    pthread_mutex_lock(&pool->lock);
    while (!is_called(pool, before))
        pthread_cond_wait(&pool->called, &pool->lock);
}

static void *serve(void *context)
{
    const worker *w = context;
    fad_pool *pool = w->pool;
    uint64_t round = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        await_task(pool, round);
        if (pool->stop)
            break;
        round = pool->round;
        atomic_fetch_sub(&pool->open, 1);
        atomic_fetch_add(&pool->active, 1);
        fad_task task = pool->task;
        void *given = pool->context;
        char *room = pool->rooms + w->number * pool->room_bytes;
        fenv_t environment = pool->environment;
        pthread_mutex_unlock(&pool->lock);
        fesetenv(&environment);
        task(given, room);
        pthread_mutex_lock(&pool->lock);
        if (atomic_fetch_sub(&pool->active, 1) == 1)
            pthread_cond_signal(&pool->left);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals that come from outside are for the host's threads. */
static void start(fad_pool *pool, size_t threads)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&all, own[i]);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return;
    while (pool->count + 1 < threads) {
        worker *w = &pool->workers[pool->count];
        w->pool = pool;
        w->number = pool->count;
        if (pthread_create(&w->thread, NULL, serve, w) != 0)
            break;
        pool->count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

fad_pool *fad_pool_create(size_t threads)
{
    if (threads > FAD_MOST_THREADS)
        threads = FAD_MOST_THREADS;
    fad_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->workers = calloc(threads + 1, sizeof *pool->workers);
    if (!pool->workers || pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool->workers);
        free(pool);
        return NULL;
    }
    atomic_init(&pool->open, 0);
    atomic_init(&pool->active, 0);
    pool->process = getpid();
    bool called = pthread_cond_init(&pool->called, NULL) == 0;
    bool left = called && pthread_cond_init(&pool->left, NULL) == 0;
    if (left) {
        start(pool, threads);
        return pool;
    }
    if (called)
        pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
    return NULL;
}

void fad_pool_destroy(fad_pool *pool)
{
    if (!pool)
        return;
    if (fad_pool_is_here(pool)) { /* else lock and threads are those of another process */
        pthread_mutex_lock(&pool->lock);
        pool->stop = true;
        pthread_cond_broadcast(&pool->called);
        pthread_mutex_unlock(&pool->lock);
        for (size_t i = 0; i < pool->count; i++)
            pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->called);
        pthread_cond_destroy(&pool->left);
        pthread_mutex_destroy(&pool->lock);
    }
    free(pool->workers);
    free(pool->raw);
    free(pool);
}

bool fad_pool_is_here(const fad_pool *pool) { return pool->process == getpid(); }

/* Rooms of `bytes` for all of the pool's threads. False: there is no memory for them. */
static bool make_rooms(fad_pool *pool, size_t bytes)
{
    if (bytes > SIZE_MAX / 4 / FAD_MOST_THREADS)
        return false;
    size_t each = (bytes + LINE - 1) / LINE * LINE + LINE; /* a line apart */
    if (pool->rooms && each <= pool->room_bytes)
        return true;
    free(pool->raw);
    pool->rooms = NULL;
    pool->raw = calloc(pool->count * each + LINE, 1);
    if (!pool->raw)
        return false;
    pool->rooms = (char *)(((uintptr_t)pool->raw + LINE - 1) & ~(uintptr_t)(LINE - 1));
    pool->room_bytes = each;
    return true;
}

/* Whether the pool is now this caller's, with rooms of `bytes`. */
static bool take(fad_pool *pool, size_t bytes)
{
    if (!pool || pool->count == 0 || !fad_pool_is_here(pool))
        return false;
    pthread_mutex_lock(&pool->lock);
    bool mine = !pool->busy && make_rooms(pool, bytes);
    if (mine)
        pool->busy = true;
    pthread_mutex_unlock(&pool->lock);
    return mine;
}

void fad_pool_run(fad_pool *pool, fad_task task, void *context, char *room, size_t bytes)
{
    if (!take(pool, bytes)) {
        task(context, room);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->round++;
    pool->task = task;
    pool->context = context;
    fegetenv(&pool->environment);
    atomic_store(&pool->open, pool->count);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->lock);
    task(context, room);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->open, 0); /* who has not come by now need not */
    pthread_mutex_unlock(&pool->lock);
    for (size_t turns = 0; turns < TURNS && atomic_load(&pool->active) > 0; turns++)
        fad_pause(turns);
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->active) > 0)
        pthread_cond_wait(&pool->left, &pool->lock);
    pool->busy = false;
    pthread_mutex_unlock(&pool->lock);
}

#else

#include <stdlib.h>

struct fad_pool {
    char unused;
};

fad_pool *fad_pool_create(size_t threads)
{
    (void)threads;
    return calloc(1, sizeof(fad_pool));
}

void fad_pool_destroy(fad_pool *pool) { free(pool); }

bool fad_pool_is_here(const fad_pool *pool)
{
    (void)pool;
    return true;
}

void fad_pool_run(fad_pool *pool, fad_task task, void *context, char *room, size_t bytes)
{
    (void)pool;
    (void)bytes;
    task(context, room);
}

void fad_pause(size_t turns) { (void)turns; }

#endif
