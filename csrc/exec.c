/* exec.c: runs a program. No allocation but by the pool, nothing shared but what is read: any number of runs at once,
 * each with a workspace of its own. */
#include "array.h"
#include "exec.h"
#include "prefetch.h"

typedef fad_machine machine;

enum { MOST_OPERANDS = 1024, CACHE_LINE = 64, LONG_REGION = 1 << 15 };

static char *memory(const machine *m, const fad_argument *a) { return m->bases[a->base] + a->offset; }

/* --- indexed places --- */

#define INDEXED(T, STATEMENT)                                                   \
    for (uint64_t i = 0; i < count; i++) {                                      \
        int64_t at = *(const int64_t *)(indices + (ptrdiff_t)i * index_step);   \
        if (at < 0 || (uint64_t)at >= limit)                                    \
            return FAD_BAD_OPERAND;                                             \
        T *one = (T *)whole + at;                                               \
        T *item = (T *)(run + (ptrdiff_t)i * run_step);                         \
        STATEMENT;                                                              \
    }

static fad_status run_indexed(int code, int dtype, char *whole, uint64_t limit, const char *indices,
                              ptrdiff_t index_step, char *run, ptrdiff_t run_step, uint64_t count)
{
    size_t size = fad_itemsize(dtype);
    if (code == FAD_DO_SCATTER_ADD) {
        if (dtype == FAD_F64)
            INDEXED(double, *one += *item)
        else
            INDEXED(float, *one += *item)
    } else if (code == FAD_DO_GATHER) {
        if (size == 8)
            INDEXED(int64_t, *item = *one)
        else if (size == 4)
            INDEXED(int32_t, *item = *one)
        else
            INDEXED(uint8_t, *item = *one)
    } else {
        if (size == 8)
            INDEXED(int64_t, *one = *item)
        else if (size == 4)
            INDEXED(int32_t, *one = *item)
        else
            INDEXED(uint8_t, *one = *item)
    }
    return FAD_OK;
}

/* --- another type --- */

static double number_at(const char *p, int dtype)
{
    return dtype == FAD_F64   ? *(const double *)p
           : dtype == FAD_F32 ? (double)*(const float *)p
           : dtype == FAD_I64 ? (double)*(const int64_t *)p
                              : (double)*(const uint8_t *)p;
}

static void convert(char *to, ptrdiff_t to_step, int to_dtype, const char *from, ptrdiff_t from_step, int from_dtype,
                    uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, to += to_step, from += from_step) {
        if (to_dtype == from_dtype && to_dtype == FAD_I64) {
            *(int64_t *)to = *(const int64_t *)from;
            continue;
        }
        double x = number_at(from, from_dtype);
        if (to_dtype == FAD_F64)
            *(double *)to = x;
        else if (to_dtype == FAD_F32)
            *(float *)to = (float)x;
        else if (to_dtype == FAD_I64)
            *(int64_t *)to = (int64_t)x;
        else
            *(uint8_t *)to = x != 0;
    }
}

/* --- a region --- */

/* Of `count` instructions that are done at once. False: a strip has failed. */
static bool begin_turns(fad_crew *crew, const fad_turn *turn, int count, uint64_t strip)
{
    for (int k = 0; k < count; k++)
        if (turn[k].awaits && !fad_await_turn(crew, turn[k].awaits, strip))
            return false;
    return true;
}

static const fad_turn *end_turns(fad_crew *crew, const fad_turn *turn, int count, uint64_t strip)
{
    for (; count; count--, turn++)
        if (turn->ends)
            fad_end_turn(crew, turn->ends, strip);
    return turn;
}

/* Where the arguments of a call are. */
static inline void find_ready(char *const *bases, char *strips, const fad_ready *r, size_t strip_bytes, uint64_t start,
                              char **data, ptrdiff_t *steps)
{
    for (int k = 0; k < r->count; k++) {
        uint64_t base = r->places[k] >> FAD_OFFSET_BITS, at = r->places[k] & ((UINT64_C(1) << FAD_OFFSET_BITS) - 1);
        steps[k] = r->steps[k];
        data[k] = base == FAD_BASE_OF_STRIPS ? strips + at * strip_bytes : bases[base] + at + start * r->steps[k];
    }
}

/* The instructions from `r` on that are nothing but calls of their loops; gives the first that is more. Apart from all
 * else, so that what it needs is in registers. */
static const fad_ready *run_ready(const machine *m, const fad_ready *r, const fad_ready *end, size_t strip_bytes,
                                  uint64_t start, ptrdiff_t n)
{
    char *const *bases = m->bases, *strips = m->strips, *data[8];
    ptrdiff_t steps[8];
    for (; r < end && r->count; r++) {
        find_ready(bases, strips, r, strip_bytes, start, data, steps);
        if (r->pair) {
            const int count = r->count;
            const fad_loop pair = r++->pair;
            find_ready(bases, strips, r, strip_bytes, start, data + count, steps + count);
            pair(data, &n, steps, NULL);
        } else {
            r->loop(data, &n, steps, r->data);
        }
    }
    return r;
}

fad_status fad_run_strip(const fad_machine *m, const fad_step *step, fad_crew *crew, uint64_t start, uint64_t count)
{
    const fad_instruction *i = m->program->instructions + step->first, *end = i + step->count;
    const fad_ready *bound = m->program->bound + step->first;
    const uint8_t *columns = m->program->columns + step->first;
    const uint64_t strip = crew ? fad_strip_number(step, start) : 0;
    const size_t strip_bytes = (size_t)step->strip * sizeof(double);
    const fad_turn *turn = crew ? m->program->turns + step->first : NULL;
    fad_sum *sum = (fad_sum *)(void *)m->room;
    for (; i < end; i++, bound++, columns++) {
        if (bound->count) {
            const fad_ready *next = run_ready(m, bound, bound + (end - i), strip_bytes, start, (ptrdiff_t)count);
            i += next - bound;
            columns += next - bound;
            turn = turn ? turn + (next - bound) : NULL;
            bound = next;
            if (i == end)
                break;
        }
        int together = *columns;
        if (turn && !begin_turns(crew, turn, together, strip))
            return FAD_BAD_OPERAND;
        if (together > 1) {
            fad_status status = fad_run_columns(m, step, i, together, start, count);
            if (status != FAD_OK)
                return status;
            i += together - 1;
            bound += together - 1;
            columns += together - 1;
            if (turn)
                turn = end_turns(crew, turn, together, strip);
            continue;
        }
        char *data[4];
        ptrdiff_t steps[4], n = (ptrdiff_t)count;
        for (int k = 0; k < i->count; k++)
            data[k] = fad_find_run(m, step, &i->arguments[k], start, &steps[k]);
        fad_status status = FAD_OK;
        switch (i->code) {
        case FAD_DO_OP:
        case FAD_DO_MUL_ADD:
        case FAD_DO_MUL_SUB:
        case FAD_DO_SUB_MUL:
        case FAD_DO_ZMUL_ADD:
        case FAD_DO_ZMUL_SUB:
        case FAD_DO_SUB_ZMUL:
            bound->loop(data, &n, steps, bound->data);
            break;
        case FAD_DO_CONVERT:
            if (i->arguments[0].dtype == i->arguments[1].dtype && steps[0] == steps[1])
                fad_copy_bytes(data[1], data[0], (size_t)(n * steps[0]));
            else
                convert(data[1], steps[1], i->arguments[1].dtype, data[0], steps[0], i->arguments[0].dtype, count);
            break;
        case FAD_DO_LOAD:
        case FAD_DO_STORE:
            fad_run_affine(m, i, start, count, data[1], steps[1]);
            break;
        case FAD_DO_ADD:
            fad_run_sum(m, step, i, start, count, data[1], steps[1], sum++);
            break;
        case FAD_DO_GATHER:
        case FAD_DO_PUT:
        case FAD_DO_SCATTER_ADD:
            status = run_indexed(i->code, i->dtype, data[0], i->limit, data[1], steps[1], data[2], steps[2], count);
            break;
        default:
            status = FAD_BAD_OPERAND;
        }
        if (status != FAD_OK)
            return status;
        if (turn)
            turn = end_turns(crew, turn, 1, strip);
    }
    return FAD_OK;
}

/* --- memory beyond the caches --- */

static void add_stream(fad_streams *all, const char *at, size_t size)
{
    for (int k = 0; k < all->count; k++)
        if (at > all->at[k] - CACHE_LINE && at < all->at[k] + CACHE_LINE)
            return;
    if (all->count < FAD_MOST_STREAMS) {
        all->at[all->count] = at;
        all->size[all->count++] = size;
    }
}

void fad_find_streams(const fad_machine *m, const fad_step *step, fad_streams *all)
{
    const fad_instruction *i = m->program->instructions + step->first, *end = i + step->count;
    all->count = 0;
    if (step->n < LONG_REGION)
        return;
    for (; i < end; i++)
        for (int k = 0; k < i->count; k++) {
            const fad_argument *a = &i->arguments[k];
            bool affine = k == 0 && i->code >= FAD_DO_LOAD && i->code <= FAD_DO_ADD;
            size_t size = fad_itemsize(a->dtype);
            if (affine) {
                const fad_affine *places = &m->program->affines[i->affine];
                if (places->ndim != 1 || m->program->numbers[places->first + 1] != (int64_t)size)
                    continue;
            } else if (a->place != FAD_AT_MEMORY)
                continue;
            add_stream(all, memory(m, a), size);
        }
}

void fad_prefetch_strip(const fad_streams *all, const fad_step *step, uint64_t start)
{
    if (start >= step->n)
        return;
    uint64_t count = step->n - start < step->strip ? step->n - start : step->strip;
    for (int k = 0; k < all->count; k++) {
        const char *from = all->at[k] + start * all->size[k];
        for (size_t at = 0; at < count * all->size[k]; at += CACHE_LINE)
            FAD_PREFETCH(from + at);
    }
}

/* No row of a sum goes on from strip to strip here (program_verify.c). */
static fad_status run_backwards(const machine *m, const fad_step *step)
{
    fad_status status = FAD_OK;
    for (uint64_t end = step->n, count; end > 0 && status == FAD_OK; end -= count) {
        count = (end - 1) % step->strip + 1; /* the last strip may be shorter */
        status = fad_run_strip(m, step, NULL, end - count, count);
    }
    return status;
}

fad_status fad_run_alone(const fad_machine *m, const fad_step *step)
{
    if (step->n && step->n <= step->strip)
        return fad_run_strip(m, step, NULL, 0, step->n);
    fad_streams all;
    fad_find_streams(m, step, &all);
    for (uint64_t start = 0, count; start < step->n; start += count) {
        count = fad_strip_from(step, start);
        fad_prefetch_strip(&all, step, start + count);
        fad_status status = fad_run_strip(m, step, NULL, start, count);
        if (status != FAD_OK)
            return status;
    }
    return FAD_OK;
}

static fad_status run_region(const machine *m, const fad_step *step, fad_pool *pool)
{
    const fad_program *p = m->program;
    bool together = pool && p->together && p->together[step - p->steps];
    return together ? fad_run_together(m, step, pool) : fad_run_alone(m, step);
}

/* --- other steps --- */

/* Arrays for a step's first `count` arguments, dense, their shapes read from its numbers. */
typedef struct {
    fad_array arrays[3];
    fad_shape shapes[3];
    ptrdiff_t dims[3][FAD_MAX_NDIM], strides[3][FAD_MAX_NDIM];
} operands;

/* The numbers after the shapes. */
static const int64_t *read_operands(const machine *m, const fad_step *step, int count, operands *o)
{
    const int64_t *numbers = m->program->numbers + step->numbers;
    for (int k = 0; k < count; k++) {
        fad_shape *shape = &o->shapes[k];
        shape->ndim = (uint32_t)*numbers++;
        shape->size = 1;
        shape->id = 0;
        for (uint32_t d = 0; d < shape->ndim; d++)
            o->dims[k][d] = (ptrdiff_t)numbers[d];
        for (uint32_t d = shape->ndim; d-- > 0;) {
            o->strides[k][d] = (ptrdiff_t)shape->size;
            shape->size *= (size_t)o->dims[k][d];
        }
        numbers += shape->ndim;
        shape->dims = o->dims[k];
        shape->strides = o->strides[k];
        fad_array a = {memory(m, &step->arguments[k]), shape, o->strides[k], (uint8_t)step->dtype};
        o->arrays[k] = a;
    }
    return numbers;
}

/* MATMUL, MATMUL_VIEWS and EXTREMUM. */
static void read_arrays(const machine *m, const fad_step *step, operands *o)
{
    const int64_t *numbers = read_operands(m, step, step->kind == FAD_STEP_EXTREMUM ? 2 : 3, o);
    for (int k = 0; k < 2 && step->kind == FAD_STEP_MATMUL_VIEWS; k++)
        for (uint32_t d = 0; d < o->shapes[k].ndim; d++)
            o->strides[k][d] = (ptrdiff_t)*numbers++;
}

static void run_arrays(const machine *m, const fad_step *step, const operands *o)
{
    const fad_program *p = m->program;
    if (step->kind == FAD_STEP_EXTREMUM)
        fad_extremum(&o->arrays[1], &o->arrays[0], step->first != 0);
    else if ((size_t)(step - p->steps) < p->first_free)
        fad_matmul(p->loops, &o->arrays[2], &o->arrays[0], &o->arrays[1]);
    else
        fad_product(p->loops, &o->arrays[2], &o->arrays[0], &o->arrays[1], (ptrdiff_t)p->numbers[step->numbers + 1]);
}

static void run_all(const machine *m, const fad_step *step)
{
    operands o;
    read_arrays(m, step, &o);
    run_arrays(m, step, &o);
}

/* Of operand `k` those with index `first` .. first+count-1 along an axis. */
static void take(operands *o, int k, int axis, uint64_t first, uint64_t count)
{
    fad_array *a = &o->arrays[k];
    o->shapes[k].size = o->shapes[k].size / (size_t)o->dims[k][axis] * (size_t)count;
    o->dims[k][axis] = (ptrdiff_t)count;
    a->data = (char *)a->data + (ptrdiff_t)first * o->strides[k][axis] * (ptrdiff_t)fad_itemsize(a->dtype);
}

static void run_zero(const machine *m, const fad_step *step) { memset(memory(m, &step->arguments[0]), 0, step->n); }

void fad_run_rows(const fad_machine *m, const fad_step *step, uint64_t first, uint64_t count)
{
    operands o;
    if (step->kind == FAD_STEP_ZERO) {
        run_zero(m, step);
        return;
    }
    read_arrays(m, step, &o);
    take(&o, 0, 0, first, count);
    take(&o, step->kind == FAD_STEP_EXTREMUM ? 1 : 2, 0, first, count);
    run_arrays(m, step, &o);
}

void fad_add_rows(const fad_machine *m, const fad_step *step, uint64_t first, uint64_t count)
{
    operands o;
    read_arrays(m, step, &o);
    take(&o, 0, 1, first, count);
    take(&o, 1, 0, first, count);
    fad_array sums = o.arrays[2];
    if (first)
        o.arrays[2].data = m->room;
    run_arrays(m, step, &o);
    if (first)
        fad_add(m->program->loops, &sums, &o.arrays[2]);
}

static void run_sum(const machine *m, const fad_step *step)
{
    operands o;
    read_operands(m, step, 2, &o);
    fad_fill_zero(&o.arrays[1]);
    fad_add_reduced(m->program->loops, &o.arrays[1], &o.arrays[0]);
}

static void run_cumsum(const machine *m, const fad_step *step)
{
    const int64_t *numbers = m->program->numbers + step->numbers;
    ptrdiff_t dims[3] = {(ptrdiff_t)numbers[0], (ptrdiff_t)numbers[1], (ptrdiff_t)numbers[2]};
    ptrdiff_t strides[3] = {dims[1] * dims[2], dims[2], 1};
    fad_shape shape = {0, 3, (size_t)(dims[0] * dims[1] * dims[2]), dims, strides};
    fad_array from = {memory(m, &step->arguments[0]), &shape, strides, (uint8_t)step->dtype};
    fad_array to = {memory(m, &step->arguments[1]), &shape, strides, (uint8_t)step->dtype};
    fad_cumsum(&to, &from, 1, numbers[3] != 0);
}

static fad_status run_call(const machine *m, const fad_step *step)
{
    const fad_program *p = m->program;
    const fad_call *call = &p->calls[step->first];
    char *data[MOST_OPERANDS];
    if ((uint64_t)call->inputs + call->outputs > MOST_OPERANDS || !p->host.call)
        return FAD_BAD_OPERAND;
    for (uint32_t k = 0; k < call->inputs + call->outputs; k++)
        data[k] = memory(m, &p->call_arguments[call->first + k]);
    return p->host.call(p->host.context, p, call, data);
}

/* The first guard that differs. */
static size_t check_guards(const machine *m, const fad_step *step)
{
    const fad_program *p = m->program;
    for (size_t i = step->first; i < step->first + step->count; i++) {
        const fad_guard *g = &p->guards[i];
        if (g->size && memcmp(m->bases[g->base] + g->offset, p->constants + g->expected, g->size) != 0)
            return i;
    }
    return p->guard_count;
}

/* --- the whole --- */

static fad_status run_step(const machine *m, const fad_step *step, fad_pool *pool, size_t *failed)
{
    const fad_program *p = m->program;
    switch (step->kind) {
    case FAD_STEP_REGION:
        return run_region(m, step, pool);
    case FAD_STEP_REGION_BACKWARDS:
        return run_backwards(m, step);
    case FAD_STEP_SCALARS:
        fad_run_scalars(p->scalars + step->first, step->count, m->bases);
        return FAD_OK;
    case FAD_STEP_GROUPS:
        fad_run_groups(p->groups + step->first, step->count, p->group_bound + step->first, p->places,
                       (double *)m->bases[FAD_IN_WORKSPACE]);
        return FAD_OK;
    case FAD_STEP_REPEAT:
        return fad_run_repeat(p->repeats + step->first, step->count, step->n, m->bases, m->room);
    case FAD_STEP_ZERO:
        run_zero(m, step);
        return FAD_OK;
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
    case FAD_STEP_EXTREMUM:
        run_all(m, step);
        return FAD_OK;
    case FAD_STEP_CUMSUM:
        run_cumsum(m, step);
        return FAD_OK;
    case FAD_STEP_SUM:
        run_sum(m, step);
        return FAD_OK;
    case FAD_STEP_CALL:
        return run_call(m, step);
    default:
        *failed = check_guards(m, step);
        return FAD_OK;
    }
}

/* Where blocks meet, threads take the strips of one region after the other, and no array is local. */
static fad_status run_together(machine m, const fad_band *band, fad_pool *pool, size_t *failed)
{
    char *bases[FAD_MOST_BASES];
    const size_t local = fad_first_local(m.program);
    fad_status status = FAD_OK;
    if (band->local_count) {
        memcpy(bases, m.bases, local * sizeof *bases);
        for (size_t k = 0; k < band->local_count; k++)
            bases[local + k] = bases[FAD_IN_WORKSPACE];
        m.bases = bases;
    }
    for (size_t i = band->first; i < band->first + band->count && status == FAD_OK; i++) {
        const fad_step *step = &m.program->steps[i];
        if (step->kind == FAD_STEP_MATMUL || step->kind == FAD_STEP_MATMUL_VIEWS)
            fad_run_blocks(&m, step, band);
        else
            status = run_step(&m, step, pool, failed);
    }
    return status;
}

static fad_status run_band(const machine *m, const fad_band *band, fad_pool *pool, size_t *failed)
{
    fad_program banded = *m->program;
    machine with = *m;
    bool together = false;
    banded.steps = banded.banded.steps;
    banded.instructions = banded.banded.instructions;
    banded.bound = banded.banded.bound;
    with.program = &banded;
    for (size_t i = band->first; i < band->first + band->count; i++)
        together = together || (pool && banded.together && banded.together[i]);
    if (!together)
        return fad_run_band(&with, band);
    return band->apart ? fad_run_blocks_together(&with, band, pool) : run_together(with, band, pool, failed);
}

fad_status fad_program_steps(const fad_program *p, char *const *bases, fad_pool *pool, size_t *failed)
{
    fad_status status = FAD_OK;
    *failed = p->guard_count;
    char *strips = bases[FAD_IN_WORKSPACE] + p->workspace_bytes;
    machine m = {p, bases, strips, strips + p->strip_bytes};
    const fad_band *band = p->bands;
    size_t bands = p->band_count;
    for (size_t i = 0; i < p->step_count && status == FAD_OK && *failed == p->guard_count; i++) {
        if (bands && i == band->first) {
            status = run_band(&m, band, pool, failed);
            i += band++->count - 1;
            bands--;
        } else {
            status = run_step(&m, &p->steps[i], pool, failed);
        }
    }
    return status;
}

#ifdef FAD_DEBUG
/* NaNs where nothing is written yet: a value that is read before it is written, that is, of the run before, shows. */
static void poison(const fad_program *p, char *workspace)
{
    size_t constants = p->scalar_constant_count * sizeof(double);
    memset(workspace + constants, 0xff, p->workspace_bytes + p->strip_bytes - constants);
}
#else
static void poison(const fad_program *p, char *workspace)
{
    (void)p;
    (void)workspace;
}
#endif

fad_status fad_program_run(const fad_program *p, char *workspace, char *const *inputs, char *const *outputs,
                           fad_pool *pool, size_t *failed)
{
    char *few[FAD_MOST_BASES], **bases = few;
    size_t count = FAD_FIRST_INPUT + p->input_count + p->output_count;
    poison(p, workspace);
    if (count > FAD_MOST_BASES) /* room for them is part of the workspace */
        bases = (char **)(workspace + p->workspace_bytes + p->strip_bytes + p->room_bytes);
    bases[FAD_IN_WORKSPACE] = workspace;
    bases[FAD_IN_CONSTANTS] = p->constants;
    for (size_t i = 0; i < p->input_count; i++)
        bases[FAD_FIRST_INPUT + i] = inputs[i];
    for (size_t i = 0; i < p->output_count; i++)
        bases[FAD_FIRST_INPUT + p->input_count + i] = outputs[i];
    return fad_program_steps(p, bases, pool, failed);
}

size_t fad_program_bytes(const fad_program *p)
{
    size_t count = FAD_FIRST_INPUT + p->input_count + p->output_count;
    return p->workspace_bytes + p->strip_bytes + p->room_bytes + (count > FAD_MOST_BASES ? count * sizeof(char *) : 0) +
           FAD_CACHE_LINE;
}

void fad_program_prepare(const fad_program *p, char *workspace)
{
    if (p->scalar_constant_count)
        memcpy(workspace, p->scalar_constants, p->scalar_constant_count * sizeof(double));
}
