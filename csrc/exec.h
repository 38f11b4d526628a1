/* exec.h: what the parts of the executor share. */
#ifndef FAD_EXEC_H
#define FAD_EXEC_H

#include "program.h"

/* exec_scalars.c: runs a block of scalar instructions. */
void fad_run_scalars(const fad_scalar_instruction *i, size_t count, char *const *bases);

#endif
