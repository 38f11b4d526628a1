/* program_live.c: whether what lies somewhere in the workspace is read before it is written again. Of programs that are
 * verified. */
#include "program_access.h"

typedef struct {
    const fad_program *p;
    uint64_t begin, end;    /* of the workspace, in bytes */
    bool read, written;     /* written: all of it */
} watched;

static void see(watched *w, uint32_t base, uint64_t begin, uint64_t end, bool reads)
{
    if (base != FAD_IN_WORKSPACE || end <= w->begin || begin >= w->end)
        return;
    w->read = w->read || reads;
    w->written = w->written || (!reads && begin <= w->begin && end >= w->end);
}

static void see_number(watched *w, uint64_t number, bool reads)
{
    see(w, FAD_IN_WORKSPACE, number * sizeof(double), (number + 1) * sizeof(double), reads);
}

/* Whatever a strip reads of it counts: it may come before what another strip writes. So does all that is not one stretch
 * of results. */
static void see_region(watched *w, const fad_step *step)
{
    fad_access x;
    for (uint32_t i = 0; i < step->count; i++)
        for (int k = 0; k < w->p->instructions[step->first + i].count; k++)
            if (fad_see_access(w->p, step, i, k, &x))
                see(w, x.base, x.begin, x.end, !(x.writes && x.whole));
}

static void see_scalars(watched *w, const fad_step *step)
{
    const fad_scalar_instruction *i = w->p->scalars + step->first, *end = i + step->count;
    for (; i < end; i++) {
        const uint32_t operands[3] = {i->a, i->b, i->c};
        const uint64_t at = (uint64_t)i->b << 32 | i->c;
        if (i->op == FAD_SCALAR_STORE) {
            see_number(w, i->to, true);
            see(w, i->a, at, at + sizeof(double), false);
            continue;
        }
        if (i->op == FAD_SCALAR_LOAD)
            see(w, i->a, at, at + sizeof(double), true);
        for (size_t k = 0; i->op != FAD_SCALAR_LOAD && k < fad_scalar_arity(i->op); k++)
            see_number(w, operands[k], true);
        see_number(w, i->to, false);
    }
}

static void see_groups(watched *w, const fad_step *step)
{
    const fad_group *g = w->p->groups + step->first, *end = g + step->count;
    for (; g < end; g++) {
        const size_t count = g->count * fad_scalar_arity(g->op);
        for (size_t k = 0; k < count; k++)
            see_number(w, w->p->places[g->first + k], true);
        see(w, FAD_IN_WORKSPACE, g->to * sizeof(double), ((uint64_t)g->to + g->count) * sizeof(double), false);
    }
}

/* A result that moves is no stretch: at most its first number is sure to be written. */
static void see_moving(watched *w, const fad_moving *m, uint64_t times, bool reads)
{
    uint64_t last = m->offset + (uint64_t)m->stride * (times - 1); /* verified: neither end is outside of the memory */
    uint64_t begin = m->offset < last ? m->offset : last, end = (m->offset < last ? last : m->offset) + sizeof(double);
    if (reads || m->stride == 0)
        see(w, m->base, begin, end, reads);
}

static void see_repeat(watched *w, const fad_step *step)
{
    const fad_repeated *i = w->p->repeats + step->first, *end = i + step->count;
    for (; i < end; i++) {
        for (int k = 0; k < i->count; k++)
            see_moving(w, &i->operands[k], step->n, true);
        see_moving(w, &i->to, step->n, false);
    }
}

static uint64_t bytes_of(const int64_t *dims, uint64_t ndim, uint64_t item)
{
    for (uint64_t d = 0; d < ndim; d++)
        item *= (uint64_t)dims[d];
    return item;
}

/* Dense arrays, the last of which is the result; or of MATMUL_VIEWS: operands anywhere from the lowest address that any
 * stride leads to. */
static void see_arrays(watched *w, const fad_step *step, int count)
{
    const int64_t *numbers = w->p->numbers + step->numbers, *strides = numbers;
    const uint64_t item = fad_itemsize(step->dtype);
    for (int k = 0; k < count; k++)
        strides += 1 + *strides;
    for (int k = 0; k < count; k++, numbers += 1 + *numbers) {
        const uint64_t ndim = (uint64_t)numbers[0], bytes = bytes_of(numbers + 1, ndim, item);
        uint64_t begin = step->arguments[k].offset, end = begin + bytes;
        bool views = step->kind == FAD_STEP_MATMUL_VIEWS && k < count - 1;
        end = views && bytes ? begin + item : end;
        for (uint64_t d = 0; views && bytes && d < ndim; d++) {
            int64_t reach = strides[d] * (numbers[1 + d] - 1) * (int64_t)item;
            begin += reach < 0 ? (uint64_t)reach : 0;
            end += reach > 0 ? (uint64_t)reach : 0;
        }
        strides += views ? ndim : 0;
        see(w, step->arguments[k].base, begin, end, k < count - 1);
    }
}

static void see_cumsum(watched *w, const fad_step *step)
{
    const uint64_t bytes = bytes_of(w->p->numbers + step->numbers, 3, fad_itemsize(step->dtype));
    for (int k = 0; k < 2; k++)
        see(w, step->arguments[k].base, step->arguments[k].offset, step->arguments[k].offset + bytes, k == 0);
}

static void see_call(watched *w, const fad_step *step)
{
    const fad_call *call = &w->p->calls[step->first];
    for (uint32_t k = 0; k < call->inputs + call->outputs; k++) {
        const fad_argument *a = &w->p->call_arguments[call->first + k];
        see(w, a->base, a->offset, a->offset + w->p->call_forms[call->first + k].bytes, k < call->inputs);
    }
}

static void see_guards(watched *w, const fad_step *step)
{
    for (size_t i = step->first; i < (size_t)step->first + step->count; i++)
        see(w, w->p->guards[i].base, w->p->guards[i].offset, w->p->guards[i].offset + w->p->guards[i].size, true);
}

static void see_step(watched *w, const fad_step *step)
{
    const fad_argument *a = step->arguments;
    switch (step->kind) {
    case FAD_STEP_REGION:
    case FAD_STEP_REGION_BACKWARDS:
        see_region(w, step);
        break;
    case FAD_STEP_SCALARS:
        see_scalars(w, step);
        break;
    case FAD_STEP_GROUPS:
        see_groups(w, step);
        break;
    case FAD_STEP_REPEAT:
        see_repeat(w, step);
        break;
    case FAD_STEP_ZERO:
        see(w, a->base, a->offset, a->offset + step->n, false);
        break;
    case FAD_STEP_MATMUL:
    case FAD_STEP_MATMUL_VIEWS:
        see_arrays(w, step, 3);
        break;
    case FAD_STEP_EXTREMUM:
    case FAD_STEP_SUM:
        see_arrays(w, step, 2);
        break;
    case FAD_STEP_CUMSUM:
        see_cumsum(w, step);
        break;
    case FAD_STEP_CALL:
        see_call(w, step);
        break;
    case FAD_STEP_GUARDS:
        see_guards(w, step);
        break;
    default:
        w->read = true;
    }
}

bool fad_is_read_later(const fad_program *p, size_t step, uint64_t begin, uint64_t end)
{
    watched w = {.p = p, .begin = begin, .end = end};
    for (; step < p->step_count && !w.read && !w.written; step++)
        see_step(&w, &p->steps[step]);
    return w.read;
}
