/* lower_margins.c: joins that are no copies. A CONCATENATE or EMBED that holds a stretch of a root, and what else it has
 * before or behind all of the root, is a window of the root's memory if there is room around it: its margins. So
 * y[i - 1] with y[-1] given, or the transpose of a slice, are read where y is. */
#include "lower.h"
#include "try.h"

static const fad_margins NONE = {0, 0};

fad_margins fad_lower_margins(const fad_lowering *l, uint32_t root)
{
    return l->margin[root] == FAD_NO_INDEX ? NONE : l->margins[l->margin[root]];
}

static bool has_memory(const fad_lowering *l, uint32_t root)
{
    return l->source[root] == FAD_FROM_REGION || l->source[root] == FAD_FROM_STORES || l->source[root] == FAD_FROM_STEP;
}

/* Room around the root of `part` if `node` holds `part` from element `at` on, and most of its elements are those. */
static bool fits(const fad_lowering *l, uint32_t node, uint32_t part, ptrdiff_t at, fad_margins *out)
{
    uint32_t root = l->root[part];
    ptrdiff_t all = (ptrdiff_t)fad_lower_shape(l, node)->size, length = (ptrdiff_t)fad_lower_shape(l, part)->size;
    if (!has_memory(l, root) || !fad_lower_is_array(l, root) || !fad_lower_is_array(l, part) ||
        fad_lower_dtype(l, root) != fad_lower_dtype(l, node) || !fad_lower_is_dense(l, part) || length < all - length)
        return false;
    ptrdiff_t own = (ptrdiff_t)fad_lower_shape(l, root)->size, first = fad_lower_window(l, part).offset;
    ptrdiff_t begin = first - at, end = begin + all;
    if (first != (begin > 0 ? begin : 0) || first + length != (end < own ? end : own))
        return false; /* other elements of the root lie in between */
    fad_margins before = fad_lower_margins(l, root);
    out->before = begin < 0 ? (size_t)-begin : 0;
    out->behind = end > own ? (size_t)(end - own) : 0;
    if ((out->before && before.before) || (out->behind && before.behind))
        return false; /* somebody else's elements are there */
    out->before += before.before;
    out->behind += before.behind;
    return true;
}

fad_status fad_lower_surround(fad_lowering *l, uint32_t node, uint32_t part, ptrdiff_t at, bool *done)
{
    fad_margins margins;
    uint32_t root = l->root[part];
    *done = fits(l, node, part, at, &margins);
    if (!*done)
        return FAD_OK;
    if (l->margin[root] == FAD_NO_INDEX) {
        TRY(fad_make_room(l->tape, &l->margins, sizeof *l->margins, l->margin_count + 1, &l->margin_capacity));
        l->margin[root] = (uint32_t)l->margin_count++;
    }
    l->margins[l->margin[root]] = margins;
    return fad_lower_look_at(l, node, part, fad_lower_window(l, part).offset - at, fad_lower_shape(l, node)->strides);
}
