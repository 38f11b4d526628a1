/* array.h: operations on array values, in place and without a tape. */
#ifndef FAD_ARRAY_H
#define FAD_ARRAY_H

#include "tape.h"

/* Nested loops over a shape for several operands that broadcast to it, neighbouring axes merged where every
 * operand allows it. Steps are in bytes; the innermost axis is the last. */
typedef struct {
    size_t operands;
    size_t ndim;   /* at least 1 unless the shape has no elements */
    bool empty;
    ptrdiff_t dims[FAD_MAX_NDIM + 1];
    ptrdiff_t steps[FAD_MAX_NDIM + 1][FAD_MAX_OPERANDS + 2];
} fad_nest;

void fad_nest_init(fad_nest *nest, const fad_shape *shape, size_t operands, const fad_array *const *arrays);

/* Calls body(context, pointers, count, steps) for every innermost run. */
typedef void (*fad_nest_body)(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps);
void fad_nest_run(const fad_nest *nest, char *const *data, fad_nest_body body, void *context);

/* result = op(operands), all broadcast to `shape`; operand dtypes as the loop for `dtype` expects. */
void fad_apply_elementwise(const fad_loops *loops, int op, int dtype, const fad_shape *shape, size_t operands,
                           const fad_array *const *arrays, const fad_array *result);

/* to = from (broadcast to `to`), converted to `to`'s dtype. */
void fad_copy(const fad_array *to, const fad_array *from);
void fad_fill_zero(const fad_array *to);
/* to += from: `from` broadcasts to `to`. */
void fad_add(const fad_loops *loops, const fad_array *to, const fad_array *from);
/* to += from summed over the axes along which `to` broadcasts to `from`. */
void fad_add_reduced(const fad_loops *loops, const fad_array *to, const fad_array *from);

/* extrema.c: `to` becomes the largest (or smallest) element of `from` over the axes along which `to` broadcasts to
 * `from`, NaN if there is one. */
void fad_extremum(const fad_array *to, const fad_array *from, bool largest);
/* shares (float64) = g divided by how many elements of `x` tie for the extremum. */
void fad_extremum_shares(const fad_array *shares, const fad_array *g, const fad_array *extrema, const fad_array *x);
/* to (+)= the share of each element of `x` that ties for its extremum, 0 of the others. */
void fad_extremum_share(const fad_array *to, const fad_array *x, const fad_array *extrema, const fad_array *shares,
                        bool add);

/* The part of `whole` that `view` reads. `strides` is room for part->ndim numbers. */
fad_array fad_view_apply(const fad_array *whole, const fad_view *view, ptrdiff_t *strides);
/* The whole of which `part` is the (bijective) view. `strides` is room for whole->ndim numbers. */
fad_array fad_view_invert(const fad_array *part, const fad_view *view, ptrdiff_t *strides);
/* `from` with zero strides along the axes that broadcasting to `shape` repeats. */
fad_array fad_broadcast_view(const fad_array *from, const fad_shape *shape, ptrdiff_t *strides);

/* The places of `whole` (C-contiguous) that `strided` names. */
fad_array fad_strided_apply(const fad_array *whole, const fad_strided *strided);

/* Flat, C-order element access; `indices` are int64 and were checked when they were recorded. */
void fad_gather(const fad_array *to, const fad_array *from, const fad_array *indices);
void fad_scatter_add(const fad_array *to, const fad_array *from, const fad_array *indices);
void fad_put(const fad_array *to, const fad_array *from, const fad_array *indices);
/* Cumulative sum along `axis`, from the end where `backwards`. */
void fad_cumsum(const fad_array *to, const fad_array *from, size_t axis, bool backwards);
/* to = x @ y, for stacks of matrices (ndim >= 2) of one floating dtype. */
void fad_matmul(const fad_loops *loops, const fad_array *to, const fad_array *x, const fad_array *y);
/* products.c: the same, but for rounding; faster where matrices are narrow, or mostly zeros. These may be some of `rows`. */
void fad_product(const fad_loops *loops, const fad_array *to, const fad_array *x, const fad_array *y, ptrdiff_t rows);
/* `a` with its last two axes swapped. */
fad_array fad_matrix_transpose(const fad_array *a, fad_shape *shape, ptrdiff_t *room);

#endif
