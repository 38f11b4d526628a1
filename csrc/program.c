/* program.c: a program's inner loops and its end. */
#include "kernels.h"

/* The steps before this one are what guards are computed by. */
static size_t after_guards(const fad_program *p)
{
    size_t after = 0;
    for (size_t i = 0; i < p->step_count; i++)
        if (p->steps[i].kind == FAD_STEP_GUARDS)
            after = i + 1;
    return after;
}

/* Instructions, or groups, before this one are what guards are computed by: they keep the recording's bits. */
static size_t decided_by(const fad_program *p, bool groups)
{
    size_t last = 0, after = after_guards(p);
    for (size_t i = 0; i < after; i++)
        if (groups ? p->steps[i].kind == FAD_STEP_GROUPS : fad_is_region(p->steps[i].kind))
            last = p->steps[i].first + (size_t)p->steps[i].count;
    return last;
}

/* Groups have loops of their own, but for functions that a vector library computes faster, with other last bits. */
static fad_status bind_groups(fad_program *p)
{
    if (p->group_count == 0)
        return FAD_OK;
    fad_bound_loop by_op[FAD_ELEMENTWISE_COUNT];
    bool known[FAD_ELEMENTWISE_COUNT] = {false};
    memset(by_op, 0, sizeof by_op);
    p->group_bound = p->allocator.resize(p->allocator.context, NULL, 0, p->group_count * sizeof *p->group_bound);
    if (!p->group_bound)
        return FAD_NO_MEMORY;
    memset(p->group_bound, 0, p->group_count * sizeof *p->group_bound);
    for (size_t i = p->strict ? p->group_count : decided_by(p, true); i < p->group_count; i++) {
        int op = p->groups[i].op;
        if (op >= FAD_ELEMENTWISE_COUNT)
            continue;
        if (!known[op] && !fad_vector_loop(op, &by_op[op]))
            by_op[op].loop = NULL;
        known[op] = true;
        p->group_bound[i] = by_op[op];
    }
    return FAD_OK;
}

/* Places and steps of a call. False: they do not fit; it runs as it is written. */
static bool make_ready(const fad_instruction *i, fad_ready *out)
{
    for (int k = 0; k < i->count; k++) {
        const fad_argument *a = &i->arguments[k];
        uint64_t base = a->place == FAD_AT_STRIP ? (uint64_t)FAD_BASE_OF_STRIPS : a->base;
        if ((a->place != FAD_AT_STRIP && base >= FAD_BASE_OF_STRIPS) || a->offset >> FAD_OFFSET_BITS)
            return false;
        out->places[k] = base << FAD_OFFSET_BITS | a->offset;
        out->steps[k] = a->place == FAD_AT_FIXED ? 0 : (uint8_t)fad_itemsize(a->dtype);
    }
    return true;
}

/* An addition to memory, of which all elements lie side by side, is a sum that replaces one of its terms. */
static bool as_sum(const fad_program *p, const fad_instruction *i, fad_instruction *out)
{
    if (i->code != FAD_DO_ADD || i->dtype != FAD_F64)
        return false;
    const fad_affine *affine = &p->affines[i->affine];
    if (affine->ndim != 1 || p->numbers[affine->first + 1] != (int64_t)sizeof(double))
        return false;
    if (i->arguments[1].place != FAD_AT_STRIP && i->arguments[1].base == i->arguments[0].base)
        return false; /* it may read what it has written */
    *out = *i;
    out->code = FAD_DO_OP;
    out->op = FAD_ADD;
    out->count = 3;
    out->arguments[0].place = FAD_AT_MEMORY;
    out->arguments[2] = out->arguments[0];
    return true;
}

static fad_status bind_instructions(fad_program *p)
{
    if (p->instruction_count == 0)
        return FAD_OK;
    p->bound = p->allocator.resize(p->allocator.context, NULL, 0, p->instruction_count * sizeof *p->bound);
    if (!p->bound)
        return FAD_NO_MEMORY;
    size_t decided = decided_by(p, false);
    for (size_t i = 0; i < p->instruction_count; i++) {
        const fad_instruction *at = &p->instructions[i];
        fad_instruction sum;
        fad_bound_loop call = {NULL, NULL};
        fad_ready ready = {.loop = NULL};
        if (as_sum(p, at, &sum))
            at = &sum;
        if (at->code == FAD_DO_OP && !fad_own_loop(at->op, at->dtype, p->strict || i < decided, &call))
            call = p->loops->elementwise[at->op][at->dtype];
        if (fad_is_fused(at->code))
            call.loop = fad_fused_loop(at->code, at->dtype);
        if (at->code == FAD_DO_OP && !call.loop)
            return FAD_BAD_OPERAND;
        ready.loop = call.loop;
        ready.data = call.data;
        if (call.loop && make_ready(at, &ready))
            ready.count = at->count;
        p->bound[i] = ready;
    }
    fad_status status = fad_program_columns(p);
    if (status == FAD_OK)
        status = fad_program_turns(p, FAD_LEAST_WORK);
    return status == FAD_OK ? fad_program_pairs(p) : status;
}

fad_status fad_program_bind(fad_program *p)
{
    p->first_free = p->strict ? p->step_count : after_guards(p);
    fad_status status = bind_instructions(p);
    if (status == FAD_OK)
        status = bind_groups(p);
    return status == FAD_OK ? fad_program_bands(p, FAD_CACHE_BYTES) : status;
}

/* Of programs from files too, before they are verified. */
size_t fad_step_room(const fad_program *p, const fad_step *step)
{
    size_t sums = 0;
    if (step->kind == FAD_STEP_REPEAT)
        return fad_repeat_bytes(step->count);
    if (step->kind != FAD_STEP_REGION || step->n <= step->strip)
        return 0;
    for (size_t i = step->first; i < p->instruction_count && i - step->first < step->count; i++)
        sums += p->instructions[i].code == FAD_DO_ADD;
    return sums * sizeof(fad_sum);
}

size_t fad_band_room(const fad_program *p, const fad_band *band, size_t k)
{
    const fad_step *step = &p->banded.steps[band->first + k];
    const int64_t *to = p->numbers + step->numbers + 6;
    if (!fad_sums_rows(band, k))
        return fad_step_room(p, step);
    return ((size_t)(to[1] * to[2]) * fad_itemsize(step->dtype) + sizeof(double) - 1) / sizeof(double) * sizeof(double);
}

size_t fad_program_room_bytes(const fad_program *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->step_count; i++) {
        size_t room = fad_step_room(p, &p->steps[i]);
        most = room > most ? room : most;
    }
    return most;
}

void fad_program_destroy(fad_program *p)
{
    if (!p)
        return;
    fad_allocator from = p->allocator;
    for (size_t i = 0; i < p->call_count; i++)
        if (p->host.release)
            p->host.release(p->host.context, p->calls[i].rule);
#define FREE(field, count) from.resize(from.context, p->field, (count) * sizeof *p->field, 0)
    FREE(inputs, p->input_count);
    FREE(outputs, p->output_count);
    FREE(call_forms, p->call_form_count);
    FREE(steps, p->step_count);
    FREE(instructions, p->instruction_count);
    FREE(bound, p->instruction_count);
    FREE(columns, p->instruction_count);
    FREE(turns, p->instruction_count);
    FREE(together, p->step_count);
    FREE(bands, p->band_count);
    FREE(banded.steps, p->step_count);
    FREE(banded.instructions, p->instruction_count);
    FREE(banded.bound, p->instruction_count);
    FREE(scalars, p->scalar_count);
    FREE(repeats, p->repeat_count);
    FREE(groups, p->group_count);
    FREE(group_bound, p->group_count);
    FREE(places, p->place_count);
    FREE(affines, p->affine_count);
    FREE(numbers, p->number_count);
    FREE(guards, p->guard_count);
    FREE(calls, p->call_count);
    FREE(call_arguments, p->call_argument_count);
    FREE(scalar_constants, p->scalar_constant_count);
    FREE(constants, p->constant_bytes);
#undef FREE
    from.resize(from.context, p, sizeof *p, 0);
}
