/* trace.h: a recording on its way to become a program: a tape, and which of its nodes are asked for.
 *
 * Every pass reads one trace and writes another, on a dry tape of its own: the form of all arrays is known, the value
 * only of what does not depend on an input. */
#ifndef FAD_TRACE_H
#define FAD_TRACE_H

#include "tape.h"

typedef struct {
    fad_tape *tape;
    size_t input_count, output_count, guard_count;
    uint32_t *inputs;   /* VARIABLE nodes, one for each input */
    uint32_t *outputs;
    uint32_t *guards;   /* nodes whose values decided which path was recorded, in the order they were asked for */
    uint32_t *after;    /* of each node: one before it that it is not computed before, or FAD_NODE_NONE; NULL: of none */
} fad_trace;

/* Makes an empty trace on a fresh dry tape with the same inputs as `like`, and room for as many outputs and guards.
 * Its lists belong to the tape, and go with it. */
fad_status fad_trace_begin(fad_trace *trace, fad_tape *tape, const fad_trace *like);

/* Sets FAD_IS_DYNAMIC on the nodes that depend on an input, and clears it elsewhere. A value that does not and that
 * was overwritten (update.h) is had again where a node that depends on an input, or an output, asks for it. */
fad_status fad_trace_mark(const fad_trace *trace);

/* Appends a copy of `node` of `from` to `to`; `map` tells where its operands are there. What does not depend on an
 * input is copied as a constant. The outputs of a CUSTOM node follow it: copy each of them in order. */
fad_status fad_trace_copy(fad_tape *to, const fad_tape *from, uint32_t node, const uint32_t *map, uint32_t *out);

/* Ends a dry recording: computes what depends on the variables with FAD_IS_DYNAMIC, which have values, as if it had been
 * recorded with values. Nothing may have been written to, nor have a rule of its own. After a failure it is dry still. */
fad_status fad_trace_fill(fad_tape *tape);

/* Appends `array`, which may be another tape's, as a constant. One whose elements are all one element in memory (all
 * strides 0) stays such: constants of programs need not be contiguous. */
fad_status fad_trace_constant(fad_tape *to, const fad_array *array, uint32_t *out);

/* The shape of `to` with the dimensions of `shape`, which is another tape's. */
fad_status fad_trace_shape(fad_tape *to, const fad_shape *shape, const fad_shape **out);

/* Fills outputs and guards of `to` from those of `from`. */
void fad_trace_finish(fad_trace *to, const fad_trace *from, const uint32_t *map);

#endif
