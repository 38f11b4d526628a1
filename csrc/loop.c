/* loop.c: a program run step after step, forwards and backwards. */
#include "loop.h"

fad_status fad_body_step(fad_body *b, size_t k, char *from, char *to, bool *fits)
{
    for (size_t tried = 0, i = b->last; tried < b->count; tried++, i = i + 1 < b->count ? i + 1 : 0) {
        const fad_program *p = b->programs[i];
        char **base = b->bases;
        base[FAD_IN_WORKSPACE] = b->workspaces[i];
        base[FAD_IN_CONSTANTS] = p->constants;
        base += FAD_FIRST_INPUT;
        for (size_t j = 0; j < b->carries; j++)
            *base++ = from + b->offsets[j];
        for (size_t j = b->carries; j < p->input_count; j++)
            *base++ = b->origins[j] + (ptrdiff_t)k * b->strides[j];
        for (size_t j = 0; j < b->carries; j++)
            *base++ = to + b->offsets[j];
        for (size_t j = b->inputs + b->carries; j < b->inputs + b->outputs; j++)
            *base++ = b->origins[j] + (ptrdiff_t)k * b->strides[j];
        size_t failed;
        fad_status status = fad_program_steps(p, b->bases, b->pool, &failed);
        if (status != FAD_OK || failed == p->guard_count) {
            b->last = i;
            *fits = true;
            return status;
        }
    }
    *fits = false;
    return FAD_OK;
}

static void swap(char *pair[2])
{
    char *first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

fad_status fad_loop_run(fad_body *body, size_t *at, size_t to, size_t budget, char *states[2], bool *fits)
{
    *fits = true;
    for (; *at < to && budget; budget--) {
        fad_status status = fad_body_step(body, *at, states[0], states[1], fits);
        if (status != FAD_OK || !*fits)
            return status;
        swap(states);
        ++*at;
    }
    return FAD_OK;
}

/* --- binomial checkpointing --- */

/* min(C(s + r, s), limit + 1): steps that `s` states kept reverse with each step taken forward at most r times. */
static size_t reversible(size_t s, size_t r, size_t limit)
{
    size_t small = s < r ? s : r, large = s < r ? r : s, product = 1;
    for (size_t i = 1; i <= small; i++) { /* product = C(large + i, i) after each turn */
        if (product > SIZE_MAX / (large + i))
            return limit + 1;
        product = product * (large + i) / i;
        if (product > limit)
            return limit + 1;
    }
    return product;
}

size_t fad_revolve_split(size_t steps, size_t slots)
{
    size_t r = 1;
    while (reversible(slots, r, steps) < steps)
        r++;
    size_t most = reversible(slots, r - 1, steps), rest = steps - reversible(slots - 1, r - 1, steps);
    return most < rest ? most : rest;
}

static char *snapshot(const fad_revolve *r, size_t slot) { return r->snapshots + slot * r->forward->state_bytes; }

/* Reverses the last step that is left, which begins in `state`. */
static fad_status reverse_step(fad_revolve *r, char *state)
{
    fad_body *b = r->reverse;
    bool fits;
    for (size_t j = 0; j < r->forward->carries; j++)
        b->origins[b->carries + j] = state + r->forward->offsets[j];
    fad_status status = fad_body_step(b, r->end - 1, r->cotangents[0], r->cotangents[1], &fits);
    if (status != FAD_OK)
        return status;
    r->missed_reverse = !fits;
    if (fits) {
        swap(r->cotangents);
        r->end--;
    }
    return FAD_OK;
}

/* Chooses where to advance to from the slot filled last. */
static void plan(fad_revolve *r)
{
    size_t base = r->steps[r->top], left = r->end - base, free = r->slots - 1 - r->top;
    r->at = base;
    r->goal = free ? base + fad_revolve_split(left, free + 1) : r->end - 1;
    memcpy(r->states[0], snapshot(r, r->top), r->forward->state_bytes);
    r->moving = true;
}

static fad_status arrived(fad_revolve *r)
{
    if (r->top + 1 < r->slots) {
        r->steps[++r->top] = r->goal;
        memcpy(snapshot(r, r->top), r->states[0], r->forward->state_bytes);
        r->moving = false;
        return FAD_OK;
    }
    fad_status status = reverse_step(r, r->states[0]);
    r->moving = r->missed_reverse;
    return status;
}

fad_status fad_revolve_run(fad_revolve *r, size_t budget)
{
    fad_status status = FAD_OK;
    r->missed_forward = r->missed_reverse = false;
    while (r->end && budget && status == FAD_OK && !r->missed_forward && !r->missed_reverse) {
        if (r->moving) {
            size_t from = r->at;
            bool fits;
            status = fad_loop_run(r->forward, &r->at, r->goal, budget, r->states, &fits);
            r->missed_forward = !fits;
            r->advanced += r->at - from;
            budget -= r->at - from;
            if (status == FAD_OK && r->at == r->goal)
                status = arrived(r);
        } else if (r->end - r->steps[r->top] == 1) {
            status = reverse_step(r, snapshot(r, r->top));
            budget--;
            if (r->top && r->end == r->steps[r->top])
                r->top--;
        } else {
            plan(r);
        }
    }
    return status;
}
