/* program_verify.c: does a program stay within its memory? What the executor reads without looking, this has seen. */
#include "kernels.h"

#define REQUIRE(condition, reason) \
    do {                           \
        if (!(condition))          \
            return (reason);       \
    } while (0)
#define CHECK(call)                   \
    do {                              \
        const char *reason_ = (call); \
        if (reason_)                  \
            return reason_;           \
    } while (0)

enum { MOST_CALL_ARGUMENTS = 1024 };
static const uint64_t MOST_WORK = UINT64_C(1) << 53; /* months */

/* Memory that something reads or writes. Of strips, begin and end are their numbers. */
typedef struct {
    uint32_t base;
    uint64_t begin, end;
} range;

#define NO_BASE UINT32_C(0xffffffff)

/* --- memory --- */

static uint64_t memory_bytes(const fad_program *p, uint32_t base)
{
    size_t form = (size_t)base - FAD_FIRST_INPUT;
    return base == FAD_IN_WORKSPACE   ? p->workspace_bytes
           : base == FAD_IN_CONSTANTS ? p->constant_bytes
           : form < p->input_count    ? p->inputs[form].bytes
                                      : p->outputs[form - p->input_count].bytes;
}

static const char *memory_range(const fad_program *p, uint32_t base, uint64_t offset, uint64_t bytes, uint64_t align,
                                range *out)
{
    REQUIRE(base < FAD_FIRST_INPUT + p->input_count + p->output_count, "there is no such base");
    uint64_t all = memory_bytes(p, base);
    REQUIRE(offset <= all && bytes <= all - offset, "it reaches beyond the memory of its base");
    REQUIRE(offset % align == 0, "an operand is not aligned to its type");
    range r = {base, offset, offset + bytes};
    *out = r;
    return NULL;
}

/* Inputs belong to the caller, constants to every run: a program writes to its workspace and its outputs alone. */
static const char *writable(const fad_program *p, const range *r)
{
    REQUIRE(r->base == NO_BASE || r->base == FAD_IN_WORKSPACE || r->base >= FAD_FIRST_INPUT + p->input_count,
            "it writes to an input or a constant");
    REQUIRE(r->base != FAD_IN_WORKSPACE || r->begin >= p->scalar_constant_count * sizeof(double),
            "it writes to a scalar constant");
    return NULL;
}

static bool overlap(const range *x, const range *y)
{
    return x->base == y->base && x->begin < y->end && y->begin < x->end;
}

static bool same(const range *x, const range *y)
{
    return x->base == y->base && x->begin == y->begin && x->end == y->end;
}

/* Elements of a shape of `ndim` numbers; the product with `item` fits a ptrdiff_t. */
static const char *shape_bytes(const int64_t *dims, uint64_t ndim, uint64_t item, uint64_t *out)
{
    uint64_t bytes = item;
    bool empty = false;
    for (uint64_t d = 0; d < ndim; d++) {
        REQUIRE(dims[d] >= 0, "a dimension is negative");
        empty = empty || dims[d] == 0;
        REQUIRE(dims[d] == 0 || bytes <= (uint64_t)PTRDIFF_MAX / (uint64_t)dims[d], "a shape has too many elements");
        bytes *= dims[d] ? (uint64_t)dims[d] : 1;
    }
    *out = empty ? 0 : bytes;
    return NULL;
}

static const char *numbers_exist(const fad_program *p, uint64_t first, uint64_t count)
{
    REQUIRE(first <= p->number_count && count <= p->number_count - first, "its numbers are not there");
    return NULL;
}

static const char *check_form(const fad_program *p, const fad_form *form)
{
    uint64_t bytes;
    REQUIRE(form->dtype < FAD_DTYPE_COUNT, "there is no such type");
    REQUIRE(form->ndim <= FAD_MAX_NDIM, "it has too many dimensions");
    CHECK(numbers_exist(p, form->dims, form->ndim));
    CHECK(shape_bytes(p->numbers + form->dims, form->ndim, fad_itemsize(form->dtype), &bytes));
    REQUIRE(bytes == form->bytes, "its bytes are not those of its shape");
    return NULL;
}

/* --- instructions --- */

/* What argument `k` covers in the whole range of the region. */
static const char *argument_range(const fad_program *p, const fad_step *step, const fad_argument *a, range *out)
{
    REQUIRE(a->dtype < FAD_DTYPE_COUNT, "there is no such type");
    uint64_t item = fad_itemsize(a->dtype);
    switch (a->place) {
    case FAD_AT_STRIP:
        REQUIRE(a->offset < step->strips, "there is no such strip");
        range strip = {NO_BASE, a->offset, a->offset + 1};
        *out = strip;
        return NULL;
    case FAD_AT_MEMORY:
        return memory_range(p, a->base, a->offset, step->n * item, item, out);
    case FAD_AT_FIXED:
        return memory_range(p, a->base, a->offset, item, item, out);
    default:
        return "there is no such place";
    }
}

/* Widens `out`, the first element's range, to all that strides (in `unit` bytes) reach. The sums cannot overflow: each is
 * compared with what is left of the memory before it is made. */
static const char *reach(const fad_program *p, uint32_t base, uint64_t ndim, const int64_t *dims, const int64_t *strides,
                         uint64_t unit, uint64_t item, range *out)
{
    uint64_t all = memory_bytes(p, base), room = all - out->end;
    for (uint64_t d = 0; d < ndim; d++) {
        uint64_t stride = strides[d] < 0 ? 0 - (uint64_t)strides[d] : (uint64_t)strides[d], times = (uint64_t)dims[d] - 1;
        REQUIRE(stride <= all / unit, "it reaches beyond the memory of its base");
        stride *= unit;
        REQUIRE(stride % item == 0, "a stride is not aligned to its type");
        REQUIRE(stride == 0 || times <= all / stride, "it reaches beyond the memory of its base");
        uint64_t span = stride * times;
        REQUIRE(span <= (strides[d] < 0 ? out->begin : room), "it reaches beyond the memory of its base");
        if (strides[d] < 0) {
            out->begin -= span;
        } else {
            out->end += span;
            room -= span;
        }
    }
    return NULL;
}

/* From the lowest to the highest place that an affine argument reaches. */
static const char *affine_range(const fad_program *p, const fad_step *step, const fad_instruction *i, range *out)
{
    const fad_argument *a = &i->arguments[0];
    REQUIRE(i->affine < p->affine_count, "there is no such affine place");
    const fad_affine *affine = &p->affines[i->affine];
    uint64_t item = fad_itemsize(i->dtype), elements;
    REQUIRE(affine->ndim >= 1 && affine->ndim <= FAD_MAX_NDIM, "an affine place has no or too many dimensions");
    CHECK(numbers_exist(p, affine->first, 2 * (uint64_t)affine->ndim));
    const int64_t *dims = p->numbers + affine->first, *strides = dims + affine->ndim;
    CHECK(shape_bytes(dims, affine->ndim, 1, &elements));
    REQUIRE(elements >= 1 && elements == step->n, "an affine place has not as many elements as the range");
    CHECK(memory_range(p, a->base, a->offset, item, item, out));
    return reach(p, a->base, affine->ndim, dims, strides, 1, item, out);
}

/* The result may be where an operand of the same size is, or apart from all of them. */
static const char *check_result(const fad_program *p, const fad_instruction *i, const range *ranges, int result)
{
    const fad_argument *to = &i->arguments[result];
    REQUIRE(to->place != FAD_AT_FIXED, "its result has one place for all elements");
    CHECK(writable(p, &ranges[result]));
    for (int k = 0; k < result; k++) {
        const fad_argument *a = &i->arguments[k];
        bool in_place = a->place == to->place && same(&ranges[k], &ranges[result]) &&
                        fad_itemsize(a->dtype) == fad_itemsize(to->dtype);
        REQUIRE(in_place || !overlap(&ranges[k], &ranges[result]), "its result overlaps an operand");
    }
    return NULL;
}

static const char *check_ranges(const fad_program *p, const fad_step *step, const fad_instruction *i, int from,
                                range *ranges)
{
    for (int k = from; k < i->count; k++)
        CHECK(argument_range(p, step, &i->arguments[k], &ranges[k]));
    return NULL;
}

static const char *check_op(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    range ranges[4];
    REQUIRE(i->op < FAD_ELEMENTWISE_COUNT, "there is no such operation");
    REQUIRE(i->dtype < FAD_DTYPE_COUNT && p->loops->elementwise[i->op][i->dtype].loop,
            "its operation has no loop for its type");
    int arity = fad_ops[i->op].arity, result = fad_ops[i->op].kind == FAD_PREDICATE ? FAD_BOOL : i->dtype;
    REQUIRE(i->count == arity + 1, "it has not as many arguments as its operation");
    for (int k = 0; k <= arity; k++)
        REQUIRE(i->arguments[k].dtype == (k == arity ? result : i->op == FAD_SELECT && k == 0 ? FAD_BOOL : i->dtype),
                "an argument has not the type of its operation");
    CHECK(check_ranges(p, step, i, 0, ranges));
    return check_result(p, i, ranges, arity);
}

static const char *check_fused(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    range ranges[4];
    REQUIRE(fad_is_float(i->dtype), "a product with a sum is of a floating type");
    REQUIRE(i->count == 4, "it has not four arguments");
    for (int k = 0; k < 4; k++)
        REQUIRE(i->arguments[k].dtype == i->dtype, "an argument has not the type of its operation");
    CHECK(check_ranges(p, step, i, 0, ranges));
    return check_result(p, i, ranges, 3);
}

static const char *check_convert(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    range ranges[4];
    REQUIRE(i->count == 2, "it has not two arguments");
    CHECK(check_ranges(p, step, i, 0, ranges));
    return check_result(p, i, ranges, 1);
}

/* LOAD, STORE and ADD. */
static const char *check_affine(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    range ranges[4];
    REQUIRE(i->count == 2, "it has not two arguments");
    REQUIRE(i->dtype < FAD_DTYPE_COUNT && i->arguments[0].dtype == i->dtype && i->arguments[1].dtype == i->dtype,
            "an argument has not the type of its operation");
    REQUIRE(i->code != FAD_DO_ADD || fad_is_float(i->dtype), "sums are of a floating type");
    REQUIRE(i->arguments[0].place != FAD_AT_STRIP, "an affine place is not in a strip");
    CHECK(affine_range(p, step, i, &ranges[0]));
    CHECK(check_ranges(p, step, i, 1, ranges));
    REQUIRE(!overlap(&ranges[0], &ranges[1]), "its result overlaps an operand");
    if (i->code == FAD_DO_LOAD)
        return check_result(p, i, ranges, 1);
    return writable(p, &ranges[0]);
}

/* GATHER, PUT and SCATTER_ADD: what the indices name is compared with the limit as it runs. */
static const char *check_indexed(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    range ranges[4];
    const fad_argument *whole = &i->arguments[0];
    REQUIRE(i->count == 3, "it has not three arguments");
    REQUIRE(i->dtype < FAD_DTYPE_COUNT && whole->dtype == i->dtype && i->arguments[2].dtype == i->dtype,
            "an argument has not the type of its operation");
    REQUIRE(i->arguments[1].dtype == FAD_I64, "indices are 64-bit integers");
    REQUIRE(i->code != FAD_DO_SCATTER_ADD || fad_is_float(i->dtype), "sums are of a floating type");
    REQUIRE(whole->place == FAD_AT_FIXED, "what is indexed has one place for all elements");
    uint64_t item = fad_itemsize(i->dtype);
    REQUIRE(i->limit <= (uint64_t)PTRDIFF_MAX / item, "its limit is too large");
    CHECK(memory_range(p, whole->base, whole->offset, i->limit * item, item, &ranges[0]));
    CHECK(check_ranges(p, step, i, 1, ranges));
    REQUIRE(!overlap(&ranges[0], &ranges[1]) && !overlap(&ranges[0], &ranges[2]), "its result overlaps an operand");
    if (i->code == FAD_DO_GATHER)
        return check_result(p, i, ranges, 2);
    return writable(p, &ranges[0]);
}

static const char *check_instruction(const fad_program *p, const fad_step *step, const fad_instruction *i)
{
    switch (i->code) {
    case FAD_DO_OP:
        return check_op(p, step, i);
    case FAD_DO_MUL_ADD:
    case FAD_DO_MUL_SUB:
    case FAD_DO_SUB_MUL:
    case FAD_DO_ZMUL_ADD:
    case FAD_DO_ZMUL_SUB:
    case FAD_DO_SUB_ZMUL:
        return check_fused(p, step, i);
    case FAD_DO_CONVERT:
        return check_convert(p, step, i);
    case FAD_DO_LOAD:
    case FAD_DO_STORE:
    case FAD_DO_ADD:
        return check_affine(p, step, i);
    case FAD_DO_GATHER:
    case FAD_DO_PUT:
    case FAD_DO_SCATTER_ADD:
        return check_indexed(p, step, i);
    default:
        return "there is no such instruction";
    }
}

/* --- scalars --- */

static const char *check_scalar(const fad_program *p, const fad_scalar_instruction *i)
{
    const uint64_t units = p->workspace_bytes / sizeof(double);
    const uint32_t operands[3] = {i->a, i->b, i->c};
    range r;
    REQUIRE(i->op < FAD_SCALAR_COUNT, "there is no such operation");
    REQUIRE(i->to < units, "its result is beyond the workspace");
    REQUIRE(i->op == FAD_SCALAR_STORE || i->to >= p->scalar_constant_count, "it writes to a scalar constant");
    if (i->op == FAD_SCALAR_LOAD || i->op == FAD_SCALAR_STORE) {
        CHECK(memory_range(p, i->a, (uint64_t)i->b << 32 | i->c, sizeof(double), 1, &r));
        return i->op == FAD_SCALAR_STORE ? writable(p, &r) : NULL;
    }
    for (size_t k = 0; k < fad_scalar_arity(i->op); k++)
        REQUIRE(operands[k] < units, "an operand is beyond the workspace");
    return NULL;
}

/* Groups share out the places in order, as steps do the groups. */
static const char *check_group(const fad_program *p, const fad_group *g, uint64_t *done)
{
    const uint64_t units = p->workspace_bytes / sizeof(double);
    REQUIRE(g->op < FAD_ELEMENTWISE_COUNT || fad_is_fused_scalar(g->op), "there is no such operation");
    REQUIRE(g->to <= units && g->count <= units - g->to, "its results are beyond the workspace");
    REQUIRE(g->to >= p->scalar_constant_count, "it writes to a scalar constant");
    uint64_t count = g->count * (uint64_t)fad_scalar_arity(g->op);
    REQUIRE(g->first == *done && count <= p->place_count - *done, "its places are not there, or are another group's");
    for (; count; count--) {
        uint32_t place = p->places[(*done)++];
        REQUIRE(place < units, "an operand is beyond the workspace");
        REQUIRE(place < g->to || place - g->to >= g->count, "an operand is among its results");
    }
    return NULL;
}

/* All that a number of a REPEAT step is in, first iteration to last. */
static const char *moving_range(const fad_program *p, const fad_step *step, const fad_moving *m, range *out)
{
    const uint64_t item = sizeof(double);
    CHECK(memory_range(p, m->base, m->offset, item, item, out));
    uint64_t all = memory_bytes(p, m->base);
    uint64_t stride = m->stride < 0 ? 0 - (uint64_t)m->stride : (uint64_t)m->stride, times = step->n - 1;
    REQUIRE(stride % item == 0, "a stride is not aligned to its type");
    REQUIRE(stride == 0 || times <= all / stride, "it reaches beyond the memory of its base");
    REQUIRE(stride * times <= (m->stride < 0 ? out->begin : all - out->end), "it reaches beyond the memory of its base");
    if (m->stride < 0)
        out->begin -= stride * times;
    else
        out->end += stride * times;
    return NULL;
}

static const char *check_repeated(const fad_program *p, const fad_step *step, const fad_repeated *i)
{
    bool fused = fad_is_fused_scalar(i->op);
    range r;
    REQUIRE(i->op < FAD_ELEMENTWISE_COUNT || fused, "there is no such operation");
    REQUIRE(i->count == (fused ? 3 : fad_ops[i->op].arity), "it has not as many operands as its operation");
    REQUIRE(i->chained >> i->count == 0, "an operand that is not there is the result before");
    for (int k = 0; k < i->count; k++)
        CHECK(moving_range(p, step, &i->operands[k], &r));
    CHECK(moving_range(p, step, &i->to, &r));
    return writable(p, &r);
}

/* --- steps --- */

/* What has been run so far: every instruction belongs to one step, in order. */
typedef struct {
    uint64_t instructions, scalars, repeats, groups, places, guards, calls;
} progress;

static const char *check_span(const fad_step *step, uint64_t *done, size_t count)
{
    REQUIRE(step->first == *done && step->count <= count - *done, "what it runs is not there, or is another step's");
    *done = (uint64_t)step->first + step->count;
    return NULL;
}

/* Whether neighbours are added to one place: what a strip leaves of a row, the next one goes on with. */
static bool is_sum(const fad_program *p, const fad_instruction *i)
{
    const fad_affine *affine = &p->affines[i->affine];
    return i->code == FAD_DO_ADD && p->numbers[affine->first + 2 * (uint64_t)affine->ndim - 1] == 0;
}

static const char *check_region(const fad_program *p, const fad_step *step, uint64_t *done, fad_fault *fault)
{
    CHECK(check_span(step, done, p->instruction_count));
    REQUIRE(step->n <= (uint64_t)PTRDIFF_MAX / sizeof(double), "its range is too long");
    REQUIRE(step->strip > 0, "its strips have no elements");
    REQUIRE((uint64_t)step->strips * step->strip <= p->strip_bytes / sizeof(double), "its strips have no room");
    REQUIRE(p->room_bytes >= fad_step_room(p, step), "its sums have no room");
    for (size_t i = step->first; i < *done; i++) {
        fault->at = i;
        fault->part = "instruction";
        CHECK(check_instruction(p, step, &p->instructions[i]));
        REQUIRE(step->kind == FAD_STEP_REGION || !is_sum(p, &p->instructions[i]), "a sum runs from the first to the last");
    }
    return NULL;
}

static const char *check_scalars(const fad_program *p, const fad_step *step, uint64_t *done, fad_fault *fault)
{
    CHECK(check_span(step, done, p->scalar_count));
    for (size_t i = step->first; i < *done; i++) {
        fault->at = i;
        fault->part = "scalar instruction";
        CHECK(check_scalar(p, &p->scalars[i]));
    }
    return NULL;
}

static const char *check_groups(const fad_program *p, const fad_step *step, progress *done, fad_fault *fault)
{
    CHECK(check_span(step, &done->groups, p->group_count));
    for (size_t i = step->first; i < done->groups; i++) {
        fault->at = i;
        fault->part = "group";
        CHECK(check_group(p, &p->groups[i], &done->places));
    }
    return NULL;
}

static const char *check_repeat(const fad_program *p, const fad_step *step, uint64_t *done, fad_fault *fault)
{
    CHECK(check_span(step, done, p->repeat_count));
    REQUIRE(step->count > 0 && step->n > 0, "nothing is repeated, or not once");
    REQUIRE(p->room_bytes >= fad_step_room(p, step), "its instructions have no room");
    for (size_t i = step->first; i < *done; i++) {
        fault->at = i;
        fault->part = "repeated instruction";
        CHECK(check_repeated(p, step, &p->repeats[i]));
    }
    return NULL;
}

/* An array that a step reads or writes, its shape among the numbers. */
typedef struct {
    uint64_t ndim;
    const int64_t *dims;
    range range;
} operand;

/* Argument `k` of a step: a dense array of so many bytes. */
static const char *check_array(const fad_program *p, const fad_step *step, int k, uint64_t bytes, range *out)
{
    const fad_argument *a = &step->arguments[k];
    REQUIRE(a->dtype == step->dtype, "its arrays are not of one type");
    REQUIRE(a->place != FAD_AT_STRIP, "a strip is no place for an array");
    return memory_range(p, a->base, a->offset, bytes, fad_itemsize(step->dtype), out);
}

/* Arguments whose numbers are ndim, then the dims, of each in turn; `strided`: then strides of all but the last. */
static const char *check_operands(const fad_program *p, const fad_step *step, int count, int64_t least_ndim,
                                  bool strided, operand *o)
{
    uint64_t at = step->numbers, bytes, item = fad_itemsize(step->dtype);
    for (int k = 0; k < count; k++) {
        CHECK(numbers_exist(p, at, 1));
        int64_t ndim = p->numbers[at++];
        REQUIRE(ndim >= least_ndim && ndim <= FAD_MAX_NDIM, "it has not the right number of dimensions");
        CHECK(numbers_exist(p, at, (uint64_t)ndim));
        o[k].ndim = (uint64_t)ndim;
        o[k].dims = p->numbers + at;
        at += o[k].ndim;
        CHECK(shape_bytes(o[k].dims, o[k].ndim, item, &bytes));
        bool views = strided && k < count - 1 && bytes > 0;
        CHECK(check_array(p, step, k, views ? item : bytes, &o[k].range));
    }
    for (int k = 0; strided && k < count - 1; at += o[k++].ndim) {
        CHECK(numbers_exist(p, at, o[k].ndim));
        if (o[k].range.end > o[k].range.begin)
            CHECK(reach(p, o[k].range.base, o[k].ndim, o[k].dims, p->numbers + at, item, item, &o[k].range));
    }
    return NULL;
}

/* Whether the first `ndim` dimensions broadcast to those of `wide`. */
static bool expands(const int64_t *dims, uint64_t ndim, const int64_t *wide, uint64_t wide_ndim)
{
    if (ndim > wide_ndim)
        return false;
    for (uint64_t d = 0; d < ndim; d++)
        if (dims[d] != 1 && dims[d] != wide[wide_ndim - ndim + d])
            return false;
    return true;
}

static const char *check_zero(const fad_program *p, const fad_step *step)
{
    const fad_argument *a = &step->arguments[0];
    range r;
    REQUIRE(a->place != FAD_AT_STRIP, "a strip is no place for an array");
    CHECK(memory_range(p, a->base, a->offset, step->n, 1, &r));
    return writable(p, &r);
}

static const char *check_matmul(const fad_program *p, const fad_step *step)
{
    operand o[3];
    REQUIRE(fad_is_float(step->dtype), "products are of a floating type");
    CHECK(check_operands(p, step, 3, 2, step->kind == FAD_STEP_MATMUL_VIEWS, o));
    REQUIRE(p->loops->matmul[step->dtype].loop, "products of its type have no loop");
    const int64_t *x = o[0].dims + o[0].ndim - 2, *y = o[1].dims + o[1].ndim - 2, *to = o[2].dims + o[2].ndim - 2;
    REQUIRE(x[1] == y[0] && to[0] == x[0] && to[1] == y[1], "its matrices do not fit each other");
    for (int k = 0; k < 2; k++) {
        REQUIRE(expands(o[k].dims, o[k].ndim - 2, o[2].dims, o[2].ndim - 2), "its stacks do not fit each other");
        REQUIRE(!overlap(&o[2].range, &o[k].range), "its result overlaps an operand");
    }
    return writable(p, &o[2].range);
}

/* EXTREMUM and SUM. */
static const char *check_reduction(const fad_program *p, const fad_step *step)
{
    operand o[2];
    CHECK(check_operands(p, step, 2, 0, false, o));
    REQUIRE(step->kind != FAD_STEP_SUM || fad_is_float(step->dtype), "sums are of a floating type");
    REQUIRE(step->first <= 1, "it is neither a largest nor a smallest");
    REQUIRE(expands(o[1].dims, o[1].ndim, o[0].dims, o[0].ndim), "its result is no part of its operand's shape");
    REQUIRE(!overlap(&o[1].range, &o[0].range), "its result overlaps an operand");
    return writable(p, &o[1].range);
}

static const char *check_cumsum(const fad_program *p, const fad_step *step)
{
    uint64_t bytes;
    range ranges[2];
    REQUIRE(fad_is_float(step->dtype), "sums are of a floating type");
    CHECK(numbers_exist(p, step->numbers, 4));
    CHECK(shape_bytes(p->numbers + step->numbers, 3, fad_itemsize(step->dtype), &bytes));
    CHECK(check_array(p, step, 0, bytes, &ranges[0]));
    CHECK(check_array(p, step, 1, bytes, &ranges[1]));
    REQUIRE(!overlap(&ranges[1], &ranges[0]), "its result overlaps an operand");
    return writable(p, &ranges[1]);
}

static const char *check_call(const fad_program *p, const fad_step *step, uint64_t *done)
{
    REQUIRE(step->first == *done && step->first < p->call_count, "there is no such call");
    *done += 1;
    const fad_call *call = &p->calls[step->first];
    uint64_t count = (uint64_t)call->inputs + call->outputs;
    REQUIRE(call->rule && p->host.call, "its rule is not there");
    REQUIRE(count <= MOST_CALL_ARGUMENTS, "a rule has too many arguments");
    REQUIRE(call->first <= p->call_argument_count && count <= p->call_argument_count - call->first &&
                call->first <= p->call_form_count && count <= p->call_form_count - call->first,
            "its arguments are not there");
    for (uint64_t k = 0; k < count; k++) {
        const fad_argument *a = &p->call_arguments[call->first + k];
        const fad_form *form = &p->call_forms[call->first + k];
        range r;
        CHECK(check_form(p, form));
        CHECK(memory_range(p, a->base, a->offset, form->bytes, fad_itemsize(form->dtype), &r));
        if (k >= call->inputs)
            CHECK(writable(p, &r));
    }
    return NULL;
}

static const char *check_guards(const fad_program *p, const fad_step *step, uint64_t *done, fad_fault *fault)
{
    CHECK(check_span(step, done, p->guard_count));
    for (size_t i = step->first; i < *done; i++) {
        const fad_guard *g = &p->guards[i];
        range r;
        fault->at = i;
        fault->part = "guard";
        CHECK(memory_range(p, g->base, g->offset, g->size, 1, &r));
        CHECK(memory_range(p, FAD_IN_CONSTANTS, g->expected, g->size, 1, &r));
    }
    return NULL;
}

static const char *check_step(const fad_program *p, const fad_step *step, progress *done, fad_fault *fault)
{
    REQUIRE(step->dtype < FAD_DTYPE_COUNT, "there is no such type");
    switch (step->kind) {
    case FAD_STEP_REGION:
    case FAD_STEP_REGION_BACKWARDS:
        return check_region(p, step, &done->instructions, fault);
    case FAD_STEP_SCALARS:
        return check_scalars(p, step, &done->scalars, fault);
    case FAD_STEP_GROUPS:
        return check_groups(p, step, done, fault);
    case FAD_STEP_REPEAT:
        return check_repeat(p, step, &done->repeats, fault);
    case FAD_STEP_ZERO:
        return check_zero(p, step);
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
        return check_matmul(p, step);
    case FAD_STEP_CUMSUM:
        return check_cumsum(p, step);
    case FAD_STEP_EXTREMUM:
    case FAD_STEP_SUM:
        return check_reduction(p, step);
    case FAD_STEP_CALL:
        return check_call(p, step, &done->calls);
    case FAD_STEP_GUARDS:
        return check_guards(p, step, &done->guards, fault);
    default:
        return "there is no such step";
    }
}

/* --- the whole --- */

static const char *check_sizes(const fad_program *p)
{
    const size_t counts[] = {p->input_count,  p->output_count, p->step_count, p->instruction_count,   p->scalar_count,
                             p->repeat_count, p->affine_count, p->number_count, p->guard_count,
                             p->scalar_constant_count, p->call_count, p->group_count};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        REQUIRE(counts[i] < UINT32_MAX / 2, "it has too many parts");
    REQUIRE(p->workspace_bytes % sizeof(double) == 0 && p->strip_bytes % sizeof(double) == 0,
            "its workspace is not aligned");
    REQUIRE(p->workspace_bytes <= PTRDIFF_MAX / 4 && p->strip_bytes <= PTRDIFF_MAX / 4 && p->constant_bytes <= PTRDIFF_MAX,
            "its workspace is too large");
    REQUIRE(p->scalar_constant_count <= p->workspace_bytes / sizeof(double), "its scalar constants have no room");
    return NULL;
}

static const char *check_program(const fad_program *p, fad_fault *fault)
{
    progress done = {0, 0, 0, 0, 0, 0, 0};
    fault->part = "program";
    fault->at = 0;
    CHECK(check_sizes(p));
    for (fault->at = 0; fault->at < p->input_count; fault->at++) {
        fault->part = "input";
        CHECK(check_form(p, &p->inputs[fault->at]));
    }
    for (fault->at = 0; fault->at < p->output_count; fault->at++) {
        fault->part = "output";
        CHECK(check_form(p, &p->outputs[fault->at]));
    }
    for (size_t i = 0; i < p->step_count; i++) {
        fault->at = i;
        fault->part = "step";
        CHECK(check_step(p, &p->steps[i], &done, fault));
    }
    fault->part = "program";
    fault->at = 0;
    REQUIRE(done.instructions == p->instruction_count && done.scalars == p->scalar_count &&
                done.repeats == p->repeat_count && done.groups == p->group_count && done.places == p->place_count &&
                done.guards == p->guard_count && done.calls == p->call_count,
            "some of its instructions or guards belong to no step");
    REQUIRE(fad_program_work(p) <= MOST_WORK, "it would run for months");
    return NULL;
}

bool fad_program_verify(const fad_program *p, fad_fault *fault)
{
    fault->detail[0] = 0;
    fault->reason = check_program(p, fault);
    if (!fault->reason && p->bound)
        for (size_t i = 0; i < p->instruction_count && !fault->reason; i++) {
            int code = p->instructions[i].code;
            fault->part = "instruction";
            fault->at = i;
            if ((code == FAD_DO_OP || fad_is_fused(code)) && !p->bound[i].loop)
                fault->reason = "its loop is not bound";
        }
    return !fault->reason;
}

/* --- work --- */

static uint64_t times(uint64_t x, uint64_t y) { return y && x > UINT64_MAX / y ? UINT64_MAX : x * y; }

/* Of the dims that follow their number. */
static uint64_t elements(const int64_t *numbers)
{
    uint64_t product = 1;
    for (int64_t d = 1; d <= numbers[0]; d++)
        product = times(product, (uint64_t)numbers[d]);
    return product;
}

static uint64_t step_work(const fad_program *p, const fad_step *step)
{
    const int64_t *numbers = p->numbers ? p->numbers + step->numbers : NULL;
    uint64_t work = 1;
    switch (step->kind) {
    case FAD_STEP_REGION:
    case FAD_STEP_REGION_BACKWARDS:
    case FAD_STEP_REPEAT:
        return times(step->n, (uint64_t)step->count + 1);
    case FAD_STEP_ZERO:
        return step->n / sizeof(double);
    case FAD_STEP_CUMSUM:
        return (uint64_t)(numbers[0] * numbers[1] * numbers[2]);
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
        work = (uint64_t)numbers[numbers[0]] + 1; /* the last dimension of x */
        numbers += numbers[0] + 1;
        numbers += numbers[0] + 1;
        return times(work, elements(numbers));
    case FAD_STEP_EXTREMUM:
    case FAD_STEP_SUM:
        work = elements(numbers); /* result and operand: one may be empty, or one number */
        return work + elements(numbers + numbers[0] + 1);
    case FAD_STEP_GROUPS:
        for (size_t i = step->first; i < step->first + (size_t)step->count; i++)
            work += p->groups[i].count;
        return work;
    default:
        return step->count;
    }
}

uint64_t fad_program_work(const fad_program *p)
{
    uint64_t work = 0;
    for (size_t i = 0; i < p->step_count; i++) {
        uint64_t more = step_work(p, &p->steps[i]);
        work = more > UINT64_MAX - work ? UINT64_MAX : work + more;
    }
    return work;
}
