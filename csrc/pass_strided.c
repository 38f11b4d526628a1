/* pass_strided.c: identities of STRIDED, which reads the places of a nest of loops, and of its transpose. */
#include "pass.h"
#include "record.h"
#include "try.h"

/* Whether the places are the elements of the whole, in their order. */
static bool keeps_order(const fad_strided *s)
{
    for (size_t i = 0; i < s->part->ndim; i++)
        if (s->part->dims[i] > 1 && s->strides[i] != s->part->strides[i])
            return false;
    return s->start == 0 && s->part->size == s->whole->size;
}

/* Elements start, start + step, ... of `of`, in C order. */
typedef struct {
    uint32_t of;
    ptrdiff_t start, step;
} line;

static bool strided_line(const fad_strided *s, line *l)
{
    bool found = false;
    l->start = s->start;
    l->step = 1;
    for (size_t i = s->part->ndim; i-- > 0;) {
        if (s->part->dims[i] < 2)
            continue;
        if (!found)
            l->step = s->strides[i]; /* the innermost axis that has more than one element: its own stride is 1 */
        ptrdiff_t stride;
        if (__builtin_mul_overflow(l->step, s->part->strides[i], &stride) || s->strides[i] != stride)
            return false;
        found = true;
    }
    return true;
}

/* Whether `node` is such a line: then what reads it can read `of` itself. */
static bool is_line(const fad_tape *tape, uint32_t node, line *l)
{
    const fad_node *n = &tape->nodes[node];
    l->of = n->a;
    if (n->op == FAD_STRIDED)
        return strided_line(tape->side[n->aux], l);
    if (n->op == FAD_RESHAPE && fad_node_shape(tape, n->a)->ndim) {
        l->start = 0;
        l->step = 1;
        return true;
    }
    if (n->op != FAD_VIEW)
        return false;
    const fad_view *view = tape->side[n->aux];
    if (view->whole->ndim != 1 || view->part->ndim != 1 || view->source[0] != 0)
        return false;
    l->start = view->start[0];
    l->step = view->step[0];
    return true;
}

/* Exact. */
static fad_status read_along(fad_rewriter *r, const fad_strided *s, line l, uint32_t *out)
{
    fad_tape *tape = r->to;
    ptrdiff_t strides[FAD_MAX_NDIM];
    uint32_t side;
    for (size_t i = 0; i < s->part->ndim; i++)
        strides[i] = s->part->dims[i] > 1 ? s->strides[i] * l.step : 0;
    TRY(fad_make_strided(tape, fad_node_shape(tape, l.of), s->part->ndim, s->part->dims, l.start + s->start * l.step,
                         strides, &side));
    size_t mark = tape->count;
    TRY(fad_record_strided(tape, l.of, side, out));
    return fad_settle(r, mark, *out, out);
}

static fad_status reshape(fad_rewriter *r, uint32_t a, const fad_shape *shape, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_reshape(r->to, a, shape, out));
    return fad_settle(r, mark, *out, out);
}

/* Exact. */
fad_status fad_rewrite_strided(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node], of = tape->nodes[n.a];
    const fad_strided *s = tape->side[n.aux];
    line l;
    if (s->part->size == 0)
        return FAD_OK;
    if (keeps_order(s))
        return reshape(r, n.a, s->part, out);
    if (of.op == FAD_BROADCAST_TO && fad_node_shape(tape, of.a)->ndim == 0)
        return fad_stand_in(r, node, of.a, out);
    return is_line(tape, n.a, &l) ? read_along(r, s, l, out) : FAD_OK;
}

/* Not strict: 0 + -0 is +0, a copy of -0 is not. */
fad_status fad_rewrite_strided_add(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_node n = r->to->nodes[node];
    const fad_strided *s = r->to->side[n.aux];
    return r->strict || !keeps_order(s) ? FAD_OK : reshape(r, n.a, s->whole, out);
}
