/* program_pairs.c: which instructions of a region run together with the next one, as one loop.
 *
 * The second of a pair reads what the first writes, element by element. In one loop both do an element before either does
 * the next, where before the first did a whole strip: so what one of the two writes, the other may neither read nor write
 * at another place. That is decided over all of the range. */
#include "kernels.h"
#include "program_access.h"

typedef fad_ready ready;

static uint64_t base_of(uint64_t place) { return place >> FAD_OFFSET_BITS; }
static uint64_t offset_of(uint64_t place) { return place & ((UINT64_C(1) << FAD_OFFSET_BITS) - 1); }

/* The number by which fad_pair_loop knows an instruction; -1: it is not of float64, or not only a call. */
static int number_of(const fad_instruction *i, const ready *r)
{
    if (!r->count || i->dtype != FAD_F64)
        return -1;
    return i->code == FAD_DO_OP      ? i->op
           : i->code == FAD_DO_ADD   ? FAD_ADD /* program.c */
           : fad_is_fused(i->code) ? FAD_ELEMENTWISE_COUNT + i->code
                                   : -1;
}

static bool same_place(const ready *r, int k, const ready *s, int l)
{
    return r->places[k] == s->places[l] && r->steps[k] == s->steps[l];
}

/* Whether two arguments of float64 meet at no element of the range. */
static bool apart(const ready *r, int k, const ready *s, int l, uint64_t n)
{
    uint64_t base = base_of(r->places[k]), x = offset_of(r->places[k]), y = offset_of(s->places[l]);
    if (base != base_of(s->places[l]))
        return true;
    if (base == FAD_BASE_OF_STRIPS)
        return x != y;
    uint64_t x_size = r->steps[k] ? n * sizeof(double) : sizeof(double);
    uint64_t y_size = s->steps[l] ? n * sizeof(double) : sizeof(double);
    return x + x_size <= y || y + y_size <= x;
}

/* Which operand of `s` alone is the result of `r`; -1: none, or the two may not run element by element. */
static int handed_on(const ready *r, const ready *s, uint64_t n)
{
    const int made = r->count - 1, out = s->count - 1;
    int at = -1;
    if (r->steps[made] == 0 || s->steps[out] == 0)
        return -1;
    for (int l = 0; l < out; l++) {
        if (at < 0 && same_place(r, made, s, l))
            at = l;
        else if (!apart(r, made, s, l, n))
            return -1;
    }
    for (int k = 0; at >= 0 && k <= made; k++)
        if (!same_place(r, k, s, out) && !apart(r, k, s, out, n))
            return -1;
    return at;
}

/* --- operands that may change places --- */

static bool commutes(int number)
{
    return number == FAD_ADD || number == FAD_MUL || number == FAD_ELEMENTWISE_COUNT + FAD_DO_MUL_ADD ||
           number == FAD_ELEMENTWISE_COUNT + FAD_DO_MUL_SUB || number == FAD_ELEMENTWISE_COUNT + FAD_DO_SUB_MUL;
}

static void exchange(ready *r)
{
    uint64_t place = r->places[0];
    uint8_t step = r->steps[0];
    r->places[0] = r->places[1];
    r->steps[0] = r->steps[1];
    r->places[1] = place;
    r->steps[1] = step;
}

/* --- regions --- */

/* live[s]: strip s is read, from here on, before it is written. This goes back over one instruction. */
static void see_before(const fad_instruction *i, bool *live)
{
    const int operands = fad_code_stores(i->code) ? i->count : i->count - 1;
    for (int k = operands; k < i->count; k++)
        if (i->arguments[k].place == FAD_AT_STRIP)
            live[i->arguments[k].offset] = false;
    for (int k = 0; k < operands; k++)
        if (i->arguments[k].place == FAD_AT_STRIP)
            live[i->arguments[k].offset] = true;
}

/* The loop of instruction `i` and the next one, after which `live` strips are read. */
static fad_loop loop_of(const fad_instruction *i, ready *r, uint64_t n, const bool *live)
{
    const int first = number_of(&i[0], &r[0]), second = number_of(&i[1], &r[1]);
    if (first < 0 || second < 0)
        return NULL;
    const uint64_t made = r[0].places[r[0].count - 1], out = r[1].places[r[1].count - 1];
    if (made != out && (base_of(made) != FAD_BASE_OF_STRIPS || live[offset_of(made)]))
        return NULL; /* somebody else reads it */
    const int at = handed_on(&r[0], &r[1], n);
    const bool swap = at == 1 && commutes(second);
    fad_loop loop = at < 0 ? NULL : fad_pair_loop(first, second, swap ? 0 : at);
    if (loop && swap)
        exchange(&r[1]);
    return loop;
}

/* From the last to the first, as it is then known which strips are still to be read. */
static void pair_region(const fad_program *p, const fad_step *step, bool *live)
{
    const fad_instruction *all = p->instructions + step->first;
    ready *bound = p->bound + step->first;
    memset(live, 0, step->strips * sizeof *live);
    for (size_t i = step->count; i-- > 0;) /* what one strip of the range leaves to the next */
        see_before(&all[i], live);
    for (size_t i = step->count; i-- > 0;) {
        if (i && (bound[i - 1].pair = loop_of(&all[i - 1], &bound[i - 1], step->n, live)))
            see_before(&all[i--], live);
        see_before(&all[i], live);
    }
}

fad_status fad_program_pairs(fad_program *p)
{
    size_t strips = 1;
    for (size_t i = 0; i < p->step_count; i++)
        if (fad_is_region(p->steps[i].kind) && p->steps[i].strips > strips)
            strips = p->steps[i].strips;
    bool *live = p->allocator.resize(p->allocator.context, NULL, 0, strips * sizeof *live);
    if (!live)
        return FAD_NO_MEMORY;
    for (size_t i = 0; i < p->step_count; i++)
        if (fad_is_region(p->steps[i].kind))
            pair_region(p, &p->steps[i], live);
    p->allocator.resize(p->allocator.context, live, strips * sizeof *live, 0);
    return FAD_OK;
}
