/* exec.h: what the parts of the executor share. */
#ifndef FAD_EXEC_H
#define FAD_EXEC_H

#include "program.h"

/* exec_scalars.c: runs a block of scalar instructions. */
void fad_run_scalars(const fad_scalar_instruction *i, size_t count, char *const *bases);
/* exec_groups.c: runs groups; `bound`: of each its vector function, or none. */
void fad_run_groups(const fad_group *g, size_t count, const fad_bound_loop *bound, const uint32_t *places, double *w);
/* exec_repeat.c: runs a body of instructions `n` times. `room`: fad_repeat_bytes(count), of this run. */
fad_status fad_run_repeat(const fad_repeated *body, size_t count, uint64_t n, char *const *bases, char *room);

#endif
