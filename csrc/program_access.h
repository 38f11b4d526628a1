/* program_access.h: what steps read and write, for those who run them in another order. */
#ifndef FAD_PROGRAM_ACCESS_H
#define FAD_PROGRAM_ACCESS_H

#include "program.h"

/* Memory that an instruction reads or writes over the whole range. Flat index i lies at `first` + sum of its indices times
 * strides; the range is from `begin` to `end`. */
typedef struct {
    uint32_t instruction, base;
    bool writes;
    bool indexed;               /* anywhere in the range */
    bool whole;                 /* of all instructions, results: element by element, all of the range */
    uint32_t ndim;
    const int64_t *dims, *strides;
    int64_t own[2];             /* dims and strides of what is one stretch */
    uint64_t first, begin, end, item;
} fad_access;

static inline const int64_t *fad_access_dims(const fad_access *x) { return x->dims ? x->dims : &x->own[0]; }
static inline const int64_t *fad_access_strides(const fad_access *x) { return x->dims ? x->strides : &x->own[1]; }

/* Whether the last argument is what is stored, and the first where. */
bool fad_code_stores(int code);
/* Argument `k` of instruction `number` of the step. False: it is in no memory. */
bool fad_see_access(const fad_program *p, const fad_step *step, uint32_t number, int k, fad_access *out);

/* program_live.c: whether what the workspace holds from `begin` to `end` is read by this step or a later one, before it is
 * written anew. */
bool fad_is_read_later(const fad_program *p, size_t step, uint64_t begin, uint64_t end);

#endif
