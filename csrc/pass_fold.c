/* pass_fold.c: constants: what does not depend on an input is one, equal ones are one, and one whose elements are all
 * equal takes the room of one element. */
#include "pass.h"
#include "try.h"

fad_status fad_make_number(fad_rewriter *r, double value, uint32_t *out)
{
    /* Not fad_constant, whose memory would name a node that goes. */
    TRY(fad_push_scalar(r->to, FAD_CONSTANT, 0, 0, 0, 0, value, out));
    return fad_unify(r, *out, out);
}

/* Indices stay as they are: GATHER wants them contiguous. */
static bool is_even(const fad_array *a)
{
    size_t item = fad_itemsize(a->dtype);
    return a->dtype != FAD_I64 && a->shape->size > 1 && fad_contiguous(a) &&
           memcmp(a->data, a->data + item, (a->shape->size - 1) * item) == 0;
}

fad_status fad_make_constant(fad_rewriter *r, const fad_array *value, uint32_t *out)
{
    static const ptrdiff_t repeated[FAD_MAX_NDIM];
    fad_array view = *value;
    if (is_even(value))
        view.strides = repeated;
    TRY(fad_trace_constant(r->to, &view, out));
    if (is_even(r->to->values[*out].array)) { /* it was not contiguous before */
        view = *r->to->values[*out].array;
        view.strides = repeated;
        r->to->count--;
        TRY(fad_trace_constant(r->to, &view, out));
    }
    return fad_unify(r, *out, out);
}

static double as_number(const fad_array *a)
{
    switch (a->dtype) {
    case FAD_F64:
        return *(const double *)a->data;
    case FAD_F32:
        return *(const float *)a->data;
    default:
        return *(const uint8_t *)a->data;
    }
}

bool fad_is_number(const fad_tape *tape, uint32_t node, double *value)
{
    if (tape->nodes[node].op != FAD_CONSTANT)
        return false;
    if (!fad_is_array(tape, node)) {
        *value = tape->values[node].number;
        return true;
    }
    const fad_array *a = tape->values[node].array;
    if (a->dtype == FAD_I64 || (a->shape->size != 1 && !fad_repeats(a)))
        return false;
    *value = as_number(a);
    return true;
}

bool fad_is_number_in(const fad_tape *tape, uint32_t like, uint32_t node, double *value)
{
    if (!fad_is_number(tape, node, value))
        return false;
    if (fad_node_dtype(tape, like) == FAD_F32)
        *value = (float)*value;
    return true;
}

/* One element of type `dtype` in `room`. */
static void put_number(double value, int dtype, char *room)
{
    float narrow = (float)value;
    uint8_t truth = value != 0;
    if (dtype == FAD_F64)
        memcpy(room, &value, sizeof value);
    else if (dtype == FAD_F32)
        memcpy(room, &narrow, sizeof narrow);
    else
        memcpy(room, &truth, sizeof truth);
}

fad_status fad_fill_like(fad_rewriter *r, uint32_t like, double value, uint32_t *out)
{
    static const ptrdiff_t repeated[FAD_MAX_NDIM];
    char room[sizeof value];
    if (!fad_is_array(r->to, like))
        return fad_make_number(r, value, out);
    fad_array all = *r->to->values[like].array;
    if (all.dtype == FAD_I64)
        return FAD_OK;
    put_number(value, all.dtype, room);
    all.data = room;
    all.strides = repeated;
    if (all.shape->size < 2)
        all.strides = all.shape->strides;
    TRY(fad_trace_constant(r->to, &all, out));
    return fad_unify(r, *out, out);
}
