/* pass_transposes.c: element-wise work on arrays whose axes are permuted alike is done before they are permuted, and so
 * are sums and extrema over axes: they read memory in its own order. What is left of the permutation moves on to those
 * who read the result, and ends at a product of matrices, which takes it as it is, or at a sum. */
#include "pass.h"
#include "record.h"
#include "try.h"

/* The side record of `node` where it is an array with the axes of another in a different order; else NULL. */
static const fad_view *permutation(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    if (n->op != FAD_VIEW)
        return NULL;
    const fad_view *view = tape->side[n->aux];
    bool moves = false;
    if (!view->bijective || view->part->ndim != view->whole->ndim || view->part->size == 0)
        return NULL;
    for (size_t i = 0; i < view->part->ndim; i++) {
        if (view->source[i] < 0 || view->start[view->source[i]] != 0 || (view->part->dims[i] > 1 && view->step[i] != 1))
            return NULL;
        moves = moves || view->source[i] != (int)i;
    }
    return moves ? view : NULL;
}

static bool same_permutation(const fad_view *v, const fad_view *w)
{
    return v->whole == w->whole && v->part == w->part &&
           memcmp(v->source, w->source, v->part->ndim * sizeof *v->source) == 0;
}

static fad_status make_transpose(fad_rewriter *r, uint32_t a, const int *axes, uint32_t *out)
{
    size_t mark = r->to->count;
    TRY(fad_record_transpose(r->to, a, axes, out));
    return fad_settle(r, mark, *out, out);
}

/* `shape` with ones in front, up to `ndim` axes. */
static fad_status padded(fad_tape *tape, const fad_shape *shape, size_t ndim, const fad_shape **out)
{
    ptrdiff_t dims[FAD_MAX_NDIM];
    for (size_t i = 0; i < ndim; i++)
        dims[i] = i < ndim - shape->ndim ? 1 : shape->dims[i - (ndim - shape->ndim)];
    return fad_shape_intern(tape, ndim, dims, out);
}

/* Operand `a`, which is smaller than the result, with its axes where `view` has them in the whole. */
static fad_status spread_axes(fad_rewriter *r, const fad_view *view, uint32_t a, uint32_t *out)
{
    const fad_shape *shape;
    int axes[FAD_MAX_NDIM];
    TRY(padded(r->to, fad_node_shape(r->to, a), view->part->ndim, &shape));
    if (shape != fad_node_shape(r->to, a))
        TRY(fad_make_reshape(r, a, shape, &a));
    for (size_t i = 0; i < view->part->ndim; i++)
        axes[view->source[i]] = (int)i;
    return make_transpose(r, a, axes, out);
}

/* Not strict: a sum that follows adds in another order. */
fad_status fad_rewrite_transposed(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint16_t op = tape->nodes[node].op;
    const fad_shape *shape = fad_node_shape(tape, node);
    const fad_view *view = NULL, *other;
    uint32_t operands[3] = {0, 0, 0}, side = 0, made;
    int dtype = fad_node_dtype(tape, node);
    for (size_t k = 0; k < fad_ops[op].arity && !r->strict; k++) {
        uint32_t p = operands[k] = fad_parent(tape, node, k);
        if (fad_ops[op].kind == FAD_PREDICATE && fad_is_array(tape, p))
            dtype = fad_node_dtype(tape, p);
        if (!view && fad_node_shape(tape, p) == shape && (view = permutation(tape, p)))
            side = tape->nodes[p].aux;
    }
    if (!view)
        return FAD_OK;
    for (size_t k = 0; k < fad_ops[op].arity; k++) {
        bool whole = fad_node_shape(tape, operands[k])->size == shape->size;
        if (whole && (!(other = permutation(tape, operands[k])) || !same_permutation(view, other)))
            return FAD_OK;
    }
    for (size_t k = 0; k < fad_ops[op].arity; k++) {
        if (fad_node_shape(tape, operands[k])->size == shape->size)
            operands[k] = tape->nodes[operands[k]].a;
        else if (fad_node_shape(tape, operands[k])->ndim)
            TRY(spread_axes(r, view, operands[k], &operands[k]));
    }
    TRY(fad_make(r, op, operands[0], operands[1], operands[2], dtype, &made));
    return fad_node_shape(tape, made) == view->whole ? fad_make_part(r, made, side, out) : FAD_OK;
}

/* Not strict. SUM_TO, MAX_TO or MIN_TO: the axes that are left are permuted. */
fad_status fad_rewrite_reduced_transpose(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    fad_node n = tape->nodes[node];
    const fad_view *view = permutation(tape, n.a);
    const fad_shape *shape = fad_node_shape(tape, node), *wide, *whole;
    ptrdiff_t dims[FAD_MAX_NDIM];
    uint32_t made, a = tape->nodes[n.a].a;
    if (r->strict || !view || shape->ndim == 0)
        return FAD_OK;
    TRY(padded(tape, shape, view->part->ndim, &wide));
    for (size_t i = 0; i < wide->ndim; i++)
        dims[view->source[i]] = wide->dims[i];
    TRY(fad_shape_intern(tape, wide->ndim, dims, &whole));
    size_t mark = tape->count;
    TRY(n.op == FAD_SUM_TO ? fad_record_sum_to(tape, a, whole, &made) : fad_record_extremum_to(tape, n.op, a, whole, &made));
    TRY(fad_settle(r, mark, made, &made));
    TRY(make_transpose(r, made, view->source, &made));
    return fad_make_reshape(r, made, shape, out);
}

/* The next axis from `i` on that has more than one element. */
static size_t next_axis(const fad_shape *shape, size_t i)
{
    while (i < shape->ndim && shape->dims[i] == 1)
        i++;
    return i;
}

static bool same_but_ones(const fad_shape *x, const fad_shape *y)
{
    size_t i = next_axis(x, 0), j = next_axis(y, 0);
    for (; i < x->ndim && j < y->ndim; i = next_axis(x, i + 1), j = next_axis(y, j + 1))
        if (x->dims[i] != y->dims[j])
            return false;
    return i >= x->ndim && j >= y->ndim;
}

/* Exact. Axes of one element come and go before the others are permuted. */
fad_status fad_rewrite_reshaped_transpose(fad_rewriter *r, uint32_t node, uint32_t *out)
{
    fad_tape *tape = r->to;
    uint32_t a = tape->nodes[node].a, made;
    const fad_view *view = permutation(tape, a);
    const fad_shape *shape = fad_node_shape(tape, node), *whole;
    ptrdiff_t dims[FAD_MAX_NDIM];
    int place[FAD_MAX_NDIM], axes[FAD_MAX_NDIM], ones = 0, n = 0;
    if (!view || shape->ndim == 0 || !same_but_ones(view->part, shape))
        return FAD_OK;
    for (size_t i = 0; i < shape->ndim; i++)
        if (shape->dims[i] == 1)
            dims[ones++] = 1;
    n = ones;
    for (size_t s = 0; s < view->whole->ndim; s++) {
        place[s] = n;
        if (view->whole->dims[s] != 1)
            dims[n++] = view->whole->dims[s];
    }
    size_t from = 0;
    for (size_t i = 0, one = 0; i < shape->ndim; i++) {
        if (shape->dims[i] == 1) {
            axes[i] = (int)one++;
            continue;
        }
        from = next_axis(view->part, from);
        axes[i] = place[view->source[from++]];
    }
    TRY(fad_shape_intern(tape, shape->ndim, dims, &whole));
    TRY(fad_make_reshape(r, tape->nodes[a].a, whole, &made));
    return make_transpose(r, made, axes, out);
}
