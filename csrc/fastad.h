/* fastad.h: the whole C library on one screen.
 *
 *   tape.h    nodes, values, shapes, memory             fad_tape_create, fad_push_scalar, ...
 *   record.h  forward pass: compute and append          fad_record_elementwise, fad_record_matmul, ...
 *   update.h  arrays written to in place                fad_assign_view, fad_hold
 *   scalar.h  value, partial, tangent of scalars        fad_scalar_value, fad_scalar_partial
 *   sweep.h   numeric reverse sweep                     fad_sweep_begin, fad_sweep_scalars, fad_sweep_node
 *   emit.h    derivatives as nodes                      fad_emit_reverse, fad_emit_tangent
 *   batch.h   operations over lanes as nodes            fad_emit_batch
 *   trace.h   a recording on its way to a program       fad_trace_copy
 *   pass_*.c  a trace to a better one                   fad_pass_simplify, fad_pass_columns, fad_pass_reassociate,
 *                                                       fad_pass_roll
 *   program.h what a trace is lowered to, and its run   fad_lower, fad_program_run
 *   pool.h    threads that take part in a run           fad_pool_create
 *   loop.h    a program run step after step, and back   fad_loop_run, fad_revolve_run
 *   verify.c  is a tape well formed?                    fad_verify
 *   dump.c    text form                                 fad_dump
 *
 * tests/c/test_tape.c differentiates something with it, without Python.
 */
#ifndef FASTAD_H
#define FASTAD_H

#include "batch.h"
#include "emit.h"
#include "loop.h"
#include "pass.h"
#include "program.h"
#include "record.h"
#include "sweep.h"
#include "tape.h"
#include "trace.h"
#include "update.h"

/* Passes. `in` is marked (fad_trace_mark) and is not changed; the caller makes out->tape, which is empty. */

/* Arrays that are written place by place are joined of what was written. Where no two writes follow one another,
 * out->tape stays empty. */
fad_status fad_pass_writes(const fad_trace *in, fad_trace *out, bool strict);

/* A long loop over scalars that most of the trace is becomes arrays over its turns. Where there is none, out->tape stays
 * empty. */
fad_status fad_pass_vectorize(const fad_trace *in, fad_trace *out);

/* Sums of sums become n-ary sums, where nobody else reads the intermediate ones: another order of additions. */
fad_status fad_pass_reassociate(const fad_trace *in, fad_trace *out);

/* Arrays of many rows of few elements become vectors, one for each column, where that pays. Where it pays nowhere,
 * out->tape stays empty. `last`: no derivatives are taken of it afterwards, so that extrema of rows may be taken apart. */
fad_status fad_pass_columns(const fad_trace *in, fad_trace *out, bool last);

/* The last one, of what is lowered and not differentiated any more: arrays that are read long after they were made are
 * computed again where they are read, where that is cheap and more than `least` bytes need not be kept; and where large
 * arrays take more than `least` bytes, none is computed long before what was recorded before it. Where there is nothing to
 * do, out->tape stays empty. */
fad_status fad_pass_again(const fad_trace *in, fad_trace *out, size_t least);

/* Scalar nodes that do the same thing to other operands, at least `min_width` of them, become one array node. Unless
 * `strict`, the operands of an n-ary sum may be added in another order. */
fad_status fad_pass_roll(const fad_trace *in, fad_trace *out, size_t min_width, bool strict);

/* True where every node has a known op, parents before it, shapes and types that its op allows. Otherwise `*node` is
 * the first offender and `*reason` a sentence. */
bool fad_verify(const fad_tape *tape, size_t *node, const char **reason);

/* Writes nodes start .. stop-1, a line each: "%3 = MUL %1 %2 : f64[10]". */
void fad_dump(const fad_tape *tape, size_t start, size_t stop, void (*write)(void *context, const char *text),
              void *context);

#endif
