/* array.c: nested loops and the kernels of the structural primitives. */
#include "array.h"

/* --- nested loops --- */

static bool mergeable(const fad_nest *nest, const ptrdiff_t *outer, const ptrdiff_t *inner, ptrdiff_t inner_dim)
{
    for (size_t k = 0; k < nest->operands; k++)
        if (outer[k] != inner[k] * inner_dim)
            return false;
    return true;
}

void fad_nest_init(fad_nest *nest, const fad_shape *shape, size_t operands, const fad_array *const *arrays)
{
    nest->operands = operands;
    nest->ndim = 0;
    nest->empty = shape->size == 0;
    for (size_t i = 0; i < shape->ndim; i++) {
        if (shape->dims[i] == 1)
            continue;
        ptrdiff_t *steps = nest->steps[nest->ndim];
        for (size_t k = 0; k < operands; k++) {
            const fad_array *a = arrays[k];
            ptrdiff_t missing = (ptrdiff_t)shape->ndim - (ptrdiff_t)a->shape->ndim;
            ptrdiff_t axis = (ptrdiff_t)i - missing;
            steps[k] = axis >= 0 && a->shape->dims[axis] != 1
                           ? a->strides[axis] * (ptrdiff_t)fad_itemsize(a->dtype)
                           : 0;
        }
        if (nest->ndim && mergeable(nest, nest->steps[nest->ndim - 1], steps, shape->dims[i])) {
            memcpy(nest->steps[nest->ndim - 1], steps, operands * sizeof *steps);
            nest->dims[nest->ndim - 1] *= shape->dims[i];
        } else {
            nest->dims[nest->ndim++] = shape->dims[i];
        }
    }
    if (nest->ndim == 0) {
        nest->dims[0] = 1;
        for (size_t k = 0; k < operands; k++)
            nest->steps[0][k] = 0;
        nest->ndim = 1;
    }
}

void fad_nest_run(const fad_nest *nest, char *const *data, fad_nest_body body, void *context)
{
    if (nest->empty)
        return;
    size_t inner = nest->ndim - 1;
    char *at[FAD_MAX_OPERANDS + 2], *run[FAD_MAX_OPERANDS + 2];
    ptrdiff_t index[FAD_MAX_NDIM + 1];
    for (size_t k = 0; k < nest->operands; k++)
        at[k] = data[k];
    memset(index, 0, (inner + 1) * sizeof *index);
    for (;;) {
        memcpy(run, at, nest->operands * sizeof *at);
        body(context, run, nest->dims[inner], nest->steps[inner]);
        size_t d = inner;
        while (d-- > 0) {
            index[d]++;
            for (size_t k = 0; k < nest->operands; k++)
                at[k] += nest->steps[d][k];
            if (index[d] < nest->dims[d])
                break;
            for (size_t k = 0; k < nest->operands; k++)
                at[k] -= nest->steps[d][k] * nest->dims[d];
            index[d] = 0;
        }
        if (d == (size_t)-1)
            return;
    }
}

static void run_loop(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    const fad_bound_loop *bound = context;
    bound->loop(data, &count, steps, bound->data);
}

void fad_apply_elementwise(const fad_loops *loops, int op, int dtype, const fad_shape *shape, size_t operands,
                           const fad_array *const *arrays, const fad_array *result)
{
    fad_bound_loop bound = loops->elementwise[op][dtype];
    const fad_array *all[FAD_MAX_OPERANDS + 1];
    char *data[FAD_MAX_OPERANDS + 1];
    for (size_t k = 0; k < operands; k++) {
        all[k] = arrays[k];
        data[k] = arrays[k]->data;
    }
    all[operands] = result;
    data[operands] = result->data;
    fad_nest nest;
    fad_nest_init(&nest, shape, operands + 1, all);
    fad_nest_run(&nest, data, run_loop, &bound);
}

/* --- copies and sums --- */

typedef struct {
    int to, from;
} conversion;

static double load(const char *p, int dtype)
{
    switch (dtype) {
    case FAD_F64:
        return *(const double *)p;
    case FAD_F32:
        return *(const float *)p;
    case FAD_I64:
        return (double)*(const int64_t *)p;
    default:
        return *(const uint8_t *)p;
    }
}

static void store(char *p, int dtype, double x)
{
    switch (dtype) {
    case FAD_F64:
        *(double *)p = x;
        break;
    case FAD_F32:
        *(float *)p = (float)x;
        break;
    case FAD_I64:
        *(int64_t *)p = (int64_t)x;
        break;
    default:
        *(uint8_t *)p = x != 0;
        break;
    }
}

static void copy_run(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    const conversion *types = context;
    char *to = data[0], *from = data[1];
    ptrdiff_t size = (ptrdiff_t)fad_itemsize(types->to);
    if (types->to == types->from) {
        if (steps[0] == size && steps[1] == size) {
            memmove(to, from, (size_t)(count * size));
        } else if (size == 8) {
            for (ptrdiff_t i = 0; i < count; i++)
                *(int64_t *)(to + i * steps[0]) = *(const int64_t *)(from + i * steps[1]);
        } else {
            for (ptrdiff_t i = 0; i < count; i++)
                memcpy(to + i * steps[0], from + i * steps[1], (size_t)size);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++)
        store(to + i * steps[0], types->to, load(from + i * steps[1], types->from));
}

static void run_two(const fad_shape *shape, const fad_array *x, const fad_array *y, fad_nest_body body, void *context)
{
    const fad_array *arrays[] = {x, y};
    char *data[] = {x->data, y->data};
    fad_nest nest;
    fad_nest_init(&nest, shape, 2, arrays);
    fad_nest_run(&nest, data, body, context);
}

void fad_copy(const fad_array *to, const fad_array *from)
{
    conversion types = {to->dtype, from->dtype};
    run_two(to->shape, to, from, copy_run, &types);
}

static void zero_run(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    size_t size = *(const size_t *)context;
    if (steps[0] == (ptrdiff_t)size)
        memset(data[0], 0, (size_t)count * size);
    else
        for (ptrdiff_t i = 0; i < count; i++)
            memset(data[0] + i * steps[0], 0, size);
}

void fad_fill_zero(const fad_array *to)
{
    size_t size = fad_itemsize(to->dtype);
    run_two(to->shape, to, to, zero_run, &size);
}

static void add_run(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    const fad_bound_loop *bound = context;
    char *args[] = {data[0], data[1], data[0]};
    ptrdiff_t three[] = {steps[0], steps[1], steps[0]};
    bound->loop(args, &count, three, bound->data);
}

/* The sum of operands of two floating types, in the type of the result. */
static void add_converted_run(void *context, char **data, ptrdiff_t count, const ptrdiff_t *steps)
{
    const conversion *types = context;
    for (ptrdiff_t i = 0; i < count; i++) {
        char *to = data[0] + i * steps[0];
        store(to, types->to, load(to, types->to) + load(data[1] + i * steps[1], types->from));
    }
}

static void add_over(const fad_loops *loops, const fad_shape *shape, const fad_array *to, const fad_array *from)
{
    fad_bound_loop bound = loops->elementwise[FAD_ADD][to->dtype];
    conversion types = {to->dtype, from->dtype};
    if (to->dtype == from->dtype)
        run_two(shape, to, from, add_run, &bound);
    else
        run_two(shape, to, from, add_converted_run, &types);
}

void fad_add(const fad_loops *loops, const fad_array *to, const fad_array *from)
{
    add_over(loops, to->shape, to, from);
}

void fad_add_reduced(const fad_loops *loops, const fad_array *to, const fad_array *from)
{
    add_over(loops, from->shape, to, from);
}

/* --- views --- */

static bool strides_are_contiguous(const fad_shape *shape, const ptrdiff_t *strides)
{
    for (size_t i = 0; i < shape->ndim; i++)
        if (shape->dims[i] > 1 && strides[i] != shape->strides[i])
            return false;
    return true;
}

static fad_array with_strides(char *data, const fad_shape *shape, const ptrdiff_t *strides, int dtype)
{
    fad_array a = {data, shape, strides_are_contiguous(shape, strides) ? shape->strides : strides, (uint8_t)dtype};
    return a;
}

fad_array fad_view_apply(const fad_array *whole, const fad_view *view, ptrdiff_t *strides)
{
    ptrdiff_t offset = 0;
    for (size_t s = 0; s < view->whole->ndim; s++)
        offset += view->start[s] * whole->strides[s];
    for (size_t i = 0; i < view->part->ndim; i++)
        strides[i] = view->source[i] < 0 ? 0 : whole->strides[view->source[i]] * view->step[i];
    if (view->part->size == 0)
        offset = 0;
    return with_strides(whole->data + offset * (ptrdiff_t)fad_itemsize(whole->dtype), view->part, strides,
                        whole->dtype);
}

fad_array fad_view_invert(const fad_array *part, const fad_view *view, ptrdiff_t *strides)
{
    ptrdiff_t offset = 0;
    for (size_t s = 0; s < view->whole->ndim; s++)
        strides[s] = 0;
    for (size_t i = 0; i < view->part->ndim; i++) {
        int s = view->source[i];
        if (s < 0)
            continue;
        strides[s] = part->strides[i] * view->step[i];
        if (view->step[i] < 0)
            offset += part->strides[i] * (view->part->dims[i] - 1);
    }
    if (view->whole->size == 0)
        offset = 0;
    return with_strides(part->data + offset * (ptrdiff_t)fad_itemsize(part->dtype), view->whole, strides,
                        part->dtype);
}

fad_array fad_broadcast_view(const fad_array *from, const fad_shape *shape, ptrdiff_t *strides)
{
    size_t missing = shape->ndim - from->shape->ndim;
    for (size_t i = 0; i < shape->ndim; i++)
        strides[i] = i >= missing && from->shape->dims[i - missing] != 1 ? from->strides[i - missing] : 0;
    return with_strides(from->data, shape, strides, from->dtype);
}

fad_array fad_strided_apply(const fad_array *whole, const fad_strided *strided)
{
    ptrdiff_t start = strided->part->size == 0 ? 0 : strided->start;
    return with_strides(whole->data + start * (ptrdiff_t)fad_itemsize(whole->dtype), strided->part, strided->strides,
                        whole->dtype);
}

fad_array fad_matrix_transpose(const fad_array *a, fad_shape *shape, ptrdiff_t *room)
{
    size_t ndim = a->shape->ndim;
    ptrdiff_t *dims = room, *strides = room + ndim;
    memcpy(dims, a->shape->dims, ndim * sizeof *dims);
    memcpy(strides, a->strides, ndim * sizeof *strides);
    dims[ndim - 1] = a->shape->dims[ndim - 2];
    dims[ndim - 2] = a->shape->dims[ndim - 1];
    strides[ndim - 1] = a->strides[ndim - 2];
    strides[ndim - 2] = a->strides[ndim - 1];
    *shape = *a->shape;
    shape->dims = dims;
    shape->strides = NULL;
    fad_array t = {a->data, shape, strides, a->dtype};
    return t;
}

/* --- indexed access --- */

/* Offset in elements of flat C-order index `flat`. */
static ptrdiff_t offset_of(const fad_array *a, ptrdiff_t flat)
{
    if (fad_contiguous(a))
        return flat;
    ptrdiff_t offset = 0;
    for (size_t i = a->shape->ndim; i-- > 0;) {
        ptrdiff_t dim = a->shape->dims[i];
        offset += flat % dim * a->strides[i];
        flat /= dim;
    }
    return offset;
}

/* `many` has the shape of the indices, `whole` is what they point into. */
#define INDEXED(T, STATEMENT)                                                          \
    for (ptrdiff_t i = 0; i < n; i++) {                                                \
        T *one = (T *)whole->data + offset_of(whole, at[offset_of(indices, i)]);       \
        T *item = (T *)many->data + offset_of(many, i);                                \
        STATEMENT;                                                                     \
    }

void fad_gather(const fad_array *many, const fad_array *whole, const fad_array *indices)
{
    const int64_t *at = (const int64_t *)indices->data;
    ptrdiff_t n = (ptrdiff_t)indices->shape->size;
    switch (whole->dtype) {
    case FAD_F64:
    case FAD_I64:
        INDEXED(int64_t, *item = *one);
        break;
    case FAD_F32:
        INDEXED(int32_t, *item = *one);
        break;
    default:
        INDEXED(uint8_t, *item = *one);
        break;
    }
}

void fad_scatter_add(const fad_array *whole, const fad_array *many, const fad_array *indices)
{
    const int64_t *at = (const int64_t *)indices->data;
    ptrdiff_t n = (ptrdiff_t)indices->shape->size;
    if (whole->dtype == FAD_F64) {
        INDEXED(double, *one += *item);
    } else {
        INDEXED(float, *one += *item);
    }
}

void fad_put(const fad_array *whole, const fad_array *many, const fad_array *indices)
{
    const int64_t *at = (const int64_t *)indices->data;
    ptrdiff_t n = (ptrdiff_t)indices->shape->size;
    if (whole->dtype == FAD_F64) {
        INDEXED(double, *one = *item);
    } else {
        INDEXED(float, *one = *item);
    }
}

/* --- cumulative sum --- */

static void cumsum_line(char *to, ptrdiff_t to_step, const char *from, ptrdiff_t from_step, ptrdiff_t n, int dtype)
{
    if (dtype == FAD_F64) {
        double sum = 0;
        for (ptrdiff_t i = 0; i < n; i++)
            *(double *)(to + i * to_step) = sum += *(const double *)(from + i * from_step);
    } else {
        float sum = 0;
        for (ptrdiff_t i = 0; i < n; i++)
            *(float *)(to + i * to_step) = sum += *(const float *)(from + i * from_step);
    }
}

void fad_cumsum(const fad_array *to, const fad_array *from, size_t axis, bool backwards)
{
    const fad_shape *shape = to->shape;
    if (shape->size == 0)
        return;
    ptrdiff_t item = (ptrdiff_t)fad_itemsize(to->dtype), n = shape->dims[axis];
    ptrdiff_t to_step = to->strides[axis] * item, from_step = from->strides[axis] * item;
    ptrdiff_t index[FAD_MAX_NDIM] = {0};
    char *p = to->data + (backwards ? (n - 1) * to_step : 0);
    const char *q = from->data + (backwards ? (n - 1) * from_step : 0);
    if (backwards) {
        to_step = -to_step;
        from_step = -from_step;
    }
    for (size_t lines = shape->size / (size_t)n; lines-- > 0;) {
        cumsum_line(p, to_step, q, from_step, n, to->dtype);
        for (size_t d = shape->ndim; d-- > 0;) {
            if (d == axis)
                continue;
            p += to->strides[d] * item;
            q += from->strides[d] * item;
            if (++index[d] < shape->dims[d])
                break;
            p -= to->strides[d] * item * shape->dims[d];
            q -= from->strides[d] * item * shape->dims[d];
            index[d] = 0;
        }
    }
}

/* --- matrix product --- */

static ptrdiff_t stack_step(const fad_array *a, size_t axis, size_t stack_ndim)
{
    ptrdiff_t own = (ptrdiff_t)axis - ((ptrdiff_t)stack_ndim - ((ptrdiff_t)a->shape->ndim - 2));
    return own < 0 || a->shape->dims[own] == 1 ? 0 : a->strides[own] * (ptrdiff_t)fad_itemsize(a->dtype);
}

void fad_matmul(const fad_loops *loops, const fad_array *to, const fad_array *x, const fad_array *y)
{
    const fad_array *all[] = {x, y, to};
    size_t ndim = to->shape->ndim, stack = ndim - 2;
    ptrdiff_t item = (ptrdiff_t)fad_itemsize(to->dtype);
    if (to->shape->size == 0)
        return;
    /* gufunc layout: counts n, m, k, p; steps of the three operands in the stack, then within matrices. */
    ptrdiff_t counts[4] = {1, to->shape->dims[ndim - 2], x->shape->dims[x->shape->ndim - 1], to->shape->dims[ndim - 1]};
    ptrdiff_t steps[9], index[FAD_MAX_NDIM] = {0};
    char *at[3];
    for (int k = 0; k < 3; k++) {
        size_t own = all[k]->shape->ndim;
        at[k] = all[k]->data;
        steps[k] = 0;
        steps[3 + 2 * k] = all[k]->strides[own - 2] * item;
        steps[4 + 2 * k] = all[k]->strides[own - 1] * item;
    }
    if (stack > 0) {
        counts[0] = to->shape->dims[stack - 1];
        for (int k = 0; k < 3; k++)
            steps[k] = stack_step(all[k], stack - 1, stack);
    }
    fad_loop loop = loops->matmul[to->dtype].loop;
    for (;;) {
        char *run[3] = {at[0], at[1], at[2]};
        loop(run, counts, steps, loops->matmul[to->dtype].data);
        size_t d = stack > 0 ? stack - 1 : 0;
        while (d-- > 0) {
            index[d]++;
            for (int k = 0; k < 3; k++)
                at[k] += stack_step(all[k], d, stack);
            if (index[d] < to->shape->dims[d])
                break;
            for (int k = 0; k < 3; k++)
                at[k] -= stack_step(all[k], d, stack) * to->shape->dims[d];
            index[d] = 0;
        }
        if (d == (size_t)-1)
            return;
    }
}
