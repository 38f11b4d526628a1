/* update.h: arrays with a part overwritten. A write is a node; in a chain of writes the nodes share one buffer, so that
 * each costs as much as the part. docs/decisions/014-chains-of-writes.md tells why no stale value can be read. */
#ifndef FAD_UPDATE_H
#define FAD_UPDATE_H

#include "tape.h"

/* `a` with `b` where the view of side record `side`, or the flat indices of node `indices` (distinct), point. */
fad_status fad_record_update_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, uint32_t *out);
fad_status fad_record_update_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out);

/* The same where the caller forgets `a` and is the only one that knows `out`: in the buffer of `a`, if it is owned.
 * Who hands `out` to somebody else calls fad_hold first. */
fad_status fad_assign_view(fad_tape *tape, uint32_t a, uint32_t b, uint32_t side, uint32_t *out);
fad_status fad_assign_at(fad_tape *tape, uint32_t a, uint32_t b, uint32_t indices, uint32_t *out);

/* The node's value stays as it is from now on. One that was overwritten is computed anew, in memory of its own. */
fad_status fad_hold(fad_tape *tape, uint32_t node);
/* Value of a superseded node into `to`, C-contiguous memory of its shape and type. */
void fad_rebuild(const fad_tape *tape, uint32_t node, const fad_array *to);
/* If `node` took over the buffer of its operand, that gets one of its own: what is written to the memory of either from
 * now on does not reach the other. */
fad_status fad_cut(fad_tape *tape, uint32_t node);
/* Whether `node` was written into the buffer of its first operand, which nothing can read any more. */
bool fad_took_over(const fad_tape *tape, uint32_t node);

/* Forgets the nodes from `mark` on and undoes their writes (their data stays in the arena until a reset). */
void fad_tape_rewind(fad_tape *tape, size_t mark);
/* The same, and gives back the memory that was taken since. No node before the mark may have been held since. */
void fad_tape_return(fad_tape *tape, const fad_bookmark *mark);

#endif
