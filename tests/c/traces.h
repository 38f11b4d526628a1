/* traces.h: what the tests of passes share: recording a trace, running a pass, computing what comes out. */
#ifndef FAD_TESTS_TRACES_H
#define FAD_TESTS_TRACES_H

#include "expect.h"

typedef fad_status (*pass)(const fad_trace *in, fad_trace *out, bool strict);

static inline fad_tape *new_tape(void)
{
    fad_tape *tape = NULL;
    DO(fad_tape_create(&tape, NULL, &loops, 0));
    return tape;
}

/* --- recording --- */

static inline uint32_t scalar(fad_tape *t, double value)
{
    uint32_t out = 0;
    DO(fad_push_scalar(t, FAD_VARIABLE, FAD_IS_ACTIVE, 0, 0, 0, value, &out));
    return out;
}

static inline uint32_t number(fad_tape *t, double value)
{
    uint32_t out = 0;
    DO(fad_constant(t, value, &out));
    return out;
}

static inline const fad_shape *shape_of(fad_tape *t, size_t ndim, const ptrdiff_t *dims)
{
    const fad_shape *shape = NULL;
    DO(fad_shape_intern(t, ndim, dims, &shape));
    return shape;
}

static inline uint32_t array(fad_tape *t, int op, const fad_shape *shape, const double *values)
{
    uint32_t out = 0;
    DO(fad_new_array(t, op, op == FAD_VARIABLE ? FAD_IS_ACTIVE : 0, 0, 0, 0, FAD_F64, shape, &out));
    memcpy(t->values[out].array->data, values, shape->size * sizeof *values);
    return out;
}

static inline uint32_t apply(fad_tape *t, int op, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t operands[] = {a, b, c}, out = 0;
    DO(fad_record_elementwise(t, op, operands, -1, &out));
    return out;
}

static inline uint32_t un(fad_tape *t, int op, uint32_t a) { return apply(t, op, a, 0, 0); }

static inline uint32_t bin(fad_tape *t, int op, uint32_t a, uint32_t b) { return apply(t, op, a, b, 0); }

/* --- a trace and its passes --- */

enum { MOST_NAMED = 16 };

typedef struct {
    fad_trace trace;
    uint32_t inputs[MOST_NAMED], outputs[MOST_NAMED], guards[MOST_NAMED];
} recording;

static inline void begin(recording *r)
{
    memset(r, 0, sizeof *r);
    r->trace = (fad_trace){.tape = new_tape(), .inputs = r->inputs, .outputs = r->outputs, .guards = r->guards};
}

static inline void end(recording *r) { fad_tape_destroy(r->trace.tape); }

static inline void input(recording *r, uint32_t node) { r->inputs[r->trace.input_count++] = node; }

static inline void output(recording *r, uint32_t node) { r->outputs[r->trace.output_count++] = node; }

static inline fad_trace run(pass p, const fad_trace *in, bool strict)
{
    fad_trace out = {.tape = new_tape()};
    size_t bad = 0;
    const char *reason = "";
    DO(fad_trace_mark(in));
    out.tape->host = in->tape->host;
    DO(p(in, &out, strict));
    if (!fad_verify(out.tape, &bad, &reason)) {
        fprintf(stderr, "node %zu: %s\n", bad, reason);
        failures++;
    }
    return out;
}

/* --- evaluating --- */

static inline void put_values(fad_tape *to, uint32_t node, const fad_tape *from, uint32_t like)
{
    fad_array x = fad_value_array(to, node), y = fad_value_array(from, like);
    if (fad_is_array(to, node))
        memcpy(x.data, y.data, x.shape->size * fad_itemsize(x.dtype));
    else
        to->values[node].number = from->values[like].number;
}

/* The nodes of `trace` computed at the inputs of `from`: a tape, and where each node is on it. */
static inline fad_tape *evaluate(const fad_trace *trace, const fad_trace *from, uint32_t *map)
{
    fad_trace values = {.tape = new_tape()};
    DO(fad_trace_begin(&values, values.tape, trace));
    fad_tape *t = values.tape;
    t->dry = false;
    fad_tape_reset(t, 0);
    for (size_t i = 0; i < trace->tape->count; i++) {
        const fad_node *n = &trace->tape->nodes[i];
        map[i] = 0;
        if (n->op == FAD_VARIABLE && fad_is_array(trace->tape, (uint32_t)i)) {
            const fad_shape *shape = NULL, *own = fad_node_shape(trace->tape, (uint32_t)i);
            DO(fad_shape_intern(t, own->ndim, own->dims, &shape));
            DO(fad_new_array(t, FAD_VARIABLE, FAD_INHERITED, 0, 0, 0, fad_node_dtype(trace->tape, (uint32_t)i), shape,
                             &map[i]));
        } else if (n->op == FAD_VARIABLE) {
            DO(fad_push_scalar(t, FAD_VARIABLE, FAD_INHERITED, 0, 0, 0, 0, &map[i]));
        } else {
            DO(fad_trace_copy(t, trace->tape, (uint32_t)i, map, &map[i]));
        }
        for (size_t k = 0; k < trace->input_count && n->op == FAD_VARIABLE; k++)
            if (trace->inputs[k] == i)
                put_values(t, map[i], from->tape, from->inputs[k]);
    }
    return t;
}

static inline double element(const fad_array *a, size_t i)
{
    ptrdiff_t at = 0;
    for (size_t d = a->shape->ndim; d-- > 0;) {
        at += (ptrdiff_t)(i % (size_t)a->shape->dims[d]) * a->strides[d];
        i /= (size_t)a->shape->dims[d];
    }
    return a->dtype == FAD_F64   ? ((const double *)a->data)[at]
           : a->dtype == FAD_F32 ? (double)((const float *)a->data)[at]
           : a->dtype == FAD_I64 ? (double)((const int64_t *)a->data)[at]
                                 : ((const uint8_t *)a->data)[at];
}

/* `tolerance` 0: the same bits, but for NaN. */
static inline bool close_to(double x, double y, double tolerance)
{
    if (isnan(x) || isnan(y))
        return isnan(x) && isnan(y);
    if (tolerance == 0 || isinf(x) || isinf(y))
        return x == y && (tolerance > 0 || signbit(x) == signbit(y));
    return fabs(x - y) <= tolerance * (1 + fabs(y));
}

static inline bool same_values(const fad_array *x, const fad_array *y, double tolerance)
{
    if (x->shape->size != y->shape->size || x->shape->ndim != y->shape->ndim || x->dtype != y->dtype)
        return false;
    if (x->dtype == FAD_F32 && tolerance > 0)
        tolerance = tolerance < 1e-4 ? 1e-4 : tolerance;
    for (size_t i = 0; i < x->shape->size; i++)
        if (!close_to(element(x, i), element(y, i), tolerance))
            return false;
    return true;
}

/* Whether outputs and guards of `out`, computed at the inputs of `in`, are what they are in `in`. */
static inline bool agrees(const fad_trace *in, const fad_trace *out, double tolerance)
{
    uint32_t *map = malloc((out->tape->count + 1) * sizeof *map);
    fad_tape *t = evaluate(out, in, map);
    bool same = true;
    for (size_t i = 0; i < in->output_count; i++) {
        fad_array x = fad_value_array(t, map[out->outputs[i]]), y = fad_value_array(in->tape, in->outputs[i]);
        same &= same_values(&x, &y, tolerance);
    }
    for (size_t i = 0; i < in->guard_count; i++) {
        fad_array x = fad_value_array(t, map[out->guards[i]]), y = fad_value_array(in->tape, in->guards[i]);
        same &= same_values(&x, &y, 0);
    }
    fad_tape_destroy(t);
    free(map);
    return same;
}

/* --- gradients --- */

/* Appends the gradient of scalar `y` by the inputs, as outputs. */
static inline void append_gradient(recording *r, uint32_t y)
{
    uint32_t one = number(r->trace.tape, 1.0), results[MOST_NAMED];
    fad_tape *t = r->trace.tape;
    DO(fad_emit_reverse(t, t->count, 1, &y, &one, r->trace.input_count, r->inputs, results));
    for (size_t i = 0; i < r->trace.input_count; i++)
        if (results[i] != FAD_NODE_NONE)
            output(r, results[i]);
}

static inline uint32_t total(fad_tape *t, uint32_t a)
{
    uint32_t out = 0;
    DO(fad_record_sum_to(t, a, t->shapes[0], &out));
    return out;
}

#endif
