/* fastad.h: the whole C library on one screen.
 *
 *   tape.h    nodes, values, shapes, memory             fad_tape_create, fad_push_scalar, ...
 *   record.h  forward pass: compute and append          fad_record_elementwise, fad_record_matmul, ...
 *   update.h  arrays written to in place                fad_assign_view, fad_hold
 *   scalar.h  value, partial, reverse step of scalars   fad_scalar_reverse
 *   sweep.h   numeric reverse sweep                     fad_sweep_begin, fad_sweep_node
 *   emit.h    derivatives as nodes                      fad_emit_reverse, fad_emit_tangent
 *   verify.c  is a tape well formed?                    fad_verify
 *   dump.c    text form                                 fad_dump
 *
 * tests/c/test_tape.c differentiates something with it, without Python.
 */
#ifndef FASTAD_H
#define FASTAD_H

#include "emit.h"
#include "record.h"
#include "sweep.h"
#include "tape.h"
#include "update.h"

/* True where every node has a known op, parents before it, shapes and types that its op allows. Otherwise `*node` is
 * the first offender and `*reason` a sentence. */
bool fad_verify(const fad_tape *tape, size_t *node, const char **reason);

/* Writes nodes start .. stop-1, a line each: "%3 = MUL %1 %2 : f64[10]". */
void fad_dump(const fad_tape *tape, size_t start, size_t stop, void (*write)(void *context, const char *text),
              void *context);

#endif
