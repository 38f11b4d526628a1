/* loop.h: a program run step after step, its first outputs the next step's first inputs; and the reverse of such a
 * loop with few states kept. No allocation; all memory is the caller's. */
#ifndef FAD_LOOP_H
#define FAD_LOOP_H

#include "program.h"

/* One step. The state that goes from step to step is one block of memory, with the first `carries` inputs (and outputs)
 * at `offsets`. Every other input and output moves on by `strides` bytes a step. */
typedef struct {
    size_t count;                        /* programs: for each path through the step one */
    const fad_program **programs;        /* same inputs (a path may lack the last ones) and outputs */
    char **workspaces;                   /* of each program, prepared */
    size_t last;                         /* the path that was taken last */
    size_t carries, inputs, outputs;
    const size_t *offsets;               /* `carries` */
    size_t state_bytes;
    char **origins;                      /* inputs + outputs: where step 0 finds them (unused for those carried) */
    const ptrdiff_t *strides;
    fad_pool *pool;                      /* threads for what is wide; NULL: none */
    char **bases;                        /* room: FAD_FIRST_INPUT + inputs + outputs */
} fad_body;

/* Step `k`, from a state to another. `*fits`: whether one of the paths was the right one; if not, nothing was done. */
fad_status fad_body_step(fad_body *body, size_t k, char *from, char *to, bool *fits);

/* Steps *at .. to-1, at most `budget` of them. The state is states[0]; the two change places at each step. */
fad_status fad_loop_run(fad_body *body, size_t *at, size_t to, size_t budget, char *states[2], bool *fits);

/* The reverse of a loop of `length` steps with `slots` states kept: binomial checkpointing, after A. Griewank and
 * A. Walther, Algorithm 799: Revolve, ACM TOMS 26 (2000), 19-45. Step k of `reverse` reads the state before step k of
 * `forward` as the inputs that follow those it carries. */
typedef struct {
    fad_body *forward, *reverse;
    size_t slots;
    char *snapshots;       /* slots * forward->state_bytes; the first is the initial state */
    size_t *steps;         /* of each slot in use */
    size_t top;            /* the slot filled last */
    size_t end;            /* steps that are still to be reversed; at first, all */
    char *states[2];       /* to advance in */
    char *cotangents[2];   /* states of `reverse`; the first holds what has been reached */
    size_t at, goal;
    bool moving;
    bool missed_forward, missed_reverse;   /* no path fits: add one, and go on */
    uint64_t advanced;     /* forward steps so far */
} fad_revolve;

/* Goes on for about `budget` steps; done when end is 0. */
fad_status fad_revolve_run(fad_revolve *revolve, size_t budget);

/* How far to advance before the next state is kept, with `steps` (at least 2) to reverse and `slots` (at least 2), of
 * which the first holds the initial state: with fewest forward steps in all. */
size_t fad_revolve_split(size_t steps, size_t slots);

#endif
