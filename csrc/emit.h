/* emit.h: derivatives as nodes on the same tape, values computed as they are appended. */
#ifndef FAD_EMIT_H
#define FAD_EMIT_H

#include "tape.h"

/* Reverse mode. Given cotangents of `outputs`, appends the cotangents of `wrt` and puts their nodes in `results`
 * (FAD_NODE_NONE: zero, nothing appended). Only nodes between the first of `wrt` and `end` that depend on `wrt`
 * are visited. */
fad_status fad_emit_reverse(fad_tape *tape, size_t end, size_t output_count, const uint32_t *outputs,
                            const uint32_t *cotangents, size_t wrt_count, const uint32_t *wrt, uint32_t *results);

/* Forward mode. Given tangents of `wrt`, appends the tangents of `outputs` and puts their nodes in `results`. */
fad_status fad_emit_tangent(fad_tape *tape, size_t end, size_t wrt_count, const uint32_t *wrt,
                            const uint32_t *tangents, size_t output_count, const uint32_t *outputs,
                            uint32_t *results);

#endif
