/* lower_order.c: another order for a region of many temporaries, so that it has fewer at a time.
 *
 * A region computes values in the order of the trace. What a gradient makes of a loop's values alone - the slopes of its
 * functions - may come first, for all turns, and be kept until the adjoints come to them; and the terms of a long sum may be
 * kept until the last of them is there. Those are thousands of strips, which no near cache holds, where a few dozen would do.
 * Here what is made of memory alone is made just before it is first read, and a long chain of operations, each of
 * which takes the place of its operand, goes on as soon as its operands are there. */
#include "lower_emit.h"

#include <stdlib.h>

typedef struct {
    uint64_t base, begin, end;
} stretch;

typedef struct {
    uint32_t instruction;
    int operand;
} visit;

typedef struct {
    const fad_instruction *all;
    fad_instruction *sorted;
    size_t count, made;
    uint64_t n;
    const stretch *written; /* apart from each other, in order */
    size_t written_count;
    uint32_t *maker;       /* of strips: the instruction */
    uint32_t *first;       /* of strips: where its readers begin among them; of one more, where they end */
    uint32_t *readers;
    uint32_t *length;      /* of instructions: of the chain that ends with it */
    uint8_t *when;         /* of instructions */
    uint8_t *size;         /* of instructions that come late: how many come with it */
    uint8_t *missing;      /* of instructions: operands that are not made, and are not made for them */
    uint8_t *done;
    uint32_t *ready;       /* a queue */
    size_t ready_count;
    visit *stack;
} walk;

/* When an instruction is done: in its turn, as its result is read, or as soon as its operands are there. */
enum { IN_TURN, LATE, SOON };

enum {
    FEW = 8,   /* operations that are done just before their result is read */
    LONG = 16, /* of a chain */
};

/* --- memory that the region writes --- */

static int compare(const void *x, const void *y)
{
    const stretch *a = x, *b = y;
    if (a->base != b->base)
        return a->base < b->base ? -1 : 1;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Elements before and behind the first, of an affine place. */
static void reach(const fad_emitter *e, const fad_instruction *at, uint64_t *before, uint64_t *behind)
{
    const fad_affine *affine = (const fad_affine *)e->affines.data + at->affine;
    const int64_t *dims = (const int64_t *)e->numbers.data + affine->first, *strides = dims + affine->ndim;
    for (uint32_t d = 0; d < affine->ndim; d++) {
        uint64_t steps = dims[d] > 0 ? (uint64_t)dims[d] - 1 : 0;
        *before += strides[d] < 0 ? steps * -(uint64_t)strides[d] : 0;
        *behind += strides[d] > 0 ? steps * (uint64_t)strides[d] : 0;
    }
}

/* What an instruction writes. False: a strip. */
static bool find_written(const fad_emitter *e, const fad_instruction *at, uint64_t n, stretch *out)
{
    const bool stores = at->code == FAD_DO_STORE || at->code == FAD_DO_ADD;
    const bool indexed = at->code == FAD_DO_PUT || at->code == FAD_DO_SCATTER_ADD;
    const fad_argument *to = &at->arguments[stores || indexed ? 0 : at->count - 1];
    const uint64_t item = fad_itemsize(to->dtype);
    uint64_t before = 0, behind = 0;
    if (to->place == FAD_AT_STRIP)
        return false;
    if (stores)
        reach(e, at, &before, &behind);
    else if (indexed)
        behind = at->limit * item;
    else if (to->place == FAD_AT_MEMORY)
        behind = n * item;
    out->base = to->base;
    out->begin = to->offset > before ? to->offset - before : 0;
    out->end = to->offset + behind + item;
    return true;
}

/* Sorts stretches, and makes one of those that touch. */
static size_t join(stretch *all, size_t count)
{
    size_t kept = 0;
    qsort(all, count, sizeof *all, compare);
    for (size_t i = 0; i < count; i++) {
        stretch *last = kept ? &all[kept - 1] : NULL;
        if (last && last->base == all[i].base && all[i].begin <= last->end)
            last->end = all[i].end > last->end ? all[i].end : last->end;
        else
            all[kept++] = all[i];
    }
    return kept;
}

static bool is_written(const walk *w, const fad_argument *a)
{
    const uint64_t end = a->offset + (a->place == FAD_AT_MEMORY ? w->n : 1) * fad_itemsize(a->dtype);
    size_t low = 0, high = w->written_count; /* the first that ends behind the argument's beginning */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const stretch *s = &w->written[middle];
        if (s->base < a->base || (s->base == a->base && s->end <= a->offset))
            low = middle + 1;
        else
            high = middle;
    }
    return low < w->written_count && w->written[low].base == a->base && w->written[low].begin < end;
}

/* --- when --- */

static const fad_argument *result_of(const fad_instruction *at) { return &at->arguments[at->count - 1]; }

/* Nothing but a strip, of strips and of memory that the region leaves as it is. */
static bool may_move(const walk *w, const fad_instruction *at)
{
    if ((at->code != FAD_DO_OP && at->code != FAD_DO_CONVERT && !fad_is_fused(at->code)) || !fad_is_strip(result_of(at)))
        return false;
    for (int k = 0; k + 1 < at->count; k++)
        if (!fad_is_strip(&at->arguments[k]) && is_written(w, &at->arguments[k]))
            return false;
    return true;
}

/* Whether operand `k` is a strip that no operand before it is. */
static bool is_new_strip(const fad_instruction *at, int k)
{
    for (int j = 0; j < k; j++)
        if (fad_is_strip(&at->arguments[j]) && at->arguments[j].offset == at->arguments[k].offset)
            return false;
    return fad_is_strip(&at->arguments[k]);
}

/* Operands: all arguments, of what makes no strip. */
static int operand_count(const walk *w, uint32_t i)
{
    const fad_argument *own = result_of(&w->all[i]);
    return w->all[i].count - (fad_is_strip(own) && w->maker[own->offset] == i);
}

static void note_readers(walk *w, size_t strips)
{
    for (uint32_t i = (uint32_t)w->count; i-- > 0;) /* what stores a strip has it as its last argument, too */
        if (fad_is_strip(result_of(&w->all[i])))
            w->maker[result_of(&w->all[i])->offset] = i;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < w->count; i++)
            for (int k = 0; k < operand_count(w, i); k++)
                if (is_new_strip(&w->all[i], k)) {
                    uint32_t *at = &w->first[w->all[i].arguments[k].offset + 1];
                    if (pass)
                        w->readers[(*at)++] = i;
                    else
                        ++*at;
                }
        for (size_t s = strips; s > 0 && !pass; s--) /* ends */
            w->first[s] = w->first[s - 1];
        for (size_t s = 1; s <= strips && !pass; s++)
            w->first[s] += w->first[s - 1];
    }
}

/* The instruction that makes operand `k`, if it alone reads that. */
static uint32_t own_maker(const walk *w, const fad_instruction *at, int k)
{
    const fad_argument *a = &at->arguments[k];
    return is_new_strip(at, k) && w->first[a->offset + 1] - w->first[a->offset] == 1 ? w->maker[a->offset] : FAD_NO_INDEX;
}

static void decide(walk *w)
{
    uint32_t maker;
    for (uint32_t i = 0; i < w->count; i++) {
        const fad_instruction *at = &w->all[i];
        bool late = may_move(w, at);
        w->length[i] = 0;
        w->size[i] = 1;
        for (int k = 0; k < operand_count(w, i); k++) {
            if (fad_is_strip(&at->arguments[k])) {
                maker = w->maker[at->arguments[k].offset];
                late = late && w->when[maker] == LATE;
                w->size[i] = late ? w->size[i] + w->size[maker] : 1;
            }
            if ((maker = own_maker(w, at, k)) != FAD_NO_INDEX && w->length[maker] > w->length[i])
                w->length[i] = w->length[maker];
        }
        w->length[i]++;
        w->when[i] = late && w->size[i] <= FEW ? LATE : IN_TURN;
    }
    for (uint32_t i = (uint32_t)w->count; i-- > 0;) {
        const fad_instruction *at = &w->all[i];
        if (w->when[i] == IN_TURN && w->length[i] >= LONG && may_move(w, at))
            w->when[i] = SOON;
        for (int k = 0; k < operand_count(w, i) && w->when[i] == SOON; k++)
            if ((maker = own_maker(w, at, k)) != FAD_NO_INDEX && w->when[maker] == IN_TURN && may_move(w, &w->all[maker]))
                w->when[maker] = SOON;
    }
    for (uint32_t i = 0; i < w->count; i++)
        for (int k = 0; k < operand_count(w, i); k++)
            w->missing[i] += is_new_strip(&w->all[i], k) && w->when[w->maker[w->all[i].arguments[k].offset]] != LATE;
}

/* --- the order --- */

static void finish(walk *w, uint32_t i)
{
    const fad_argument *own = result_of(&w->all[i]);
    w->sorted[w->made++] = w->all[i];
    if (!fad_is_strip(own) || w->maker[own->offset] != i || w->when[i] == LATE)
        return;
    for (uint32_t r = w->first[own->offset]; r < w->first[own->offset + 1]; r++) {
        const uint32_t reader = w->readers[r];
        if (--w->missing[reader] == 0 && w->when[reader] == SOON)
            w->ready[w->ready_count++] = reader;
    }
}

/* An instruction, and before it what has waited for it. */
static void demand(walk *w, uint32_t instruction)
{
    size_t depth = 0;
    w->done[instruction] = 1;
    w->stack[depth++] = (visit){instruction, 0};
    while (depth) {
        visit *v = &w->stack[depth - 1];
        if (v->operand == operand_count(w, v->instruction)) {
            finish(w, v->instruction);
            depth--;
            continue;
        }
        const fad_argument *a = &w->all[v->instruction].arguments[v->operand++];
        const uint32_t maker = fad_is_strip(a) ? w->maker[a->offset] : FAD_NO_INDEX;
        if (maker != FAD_NO_INDEX && w->when[maker] == LATE && !w->done[maker]) {
            w->done[maker] = 1;
            w->stack[depth++] = (visit){maker, 0};
        }
    }
}

static void sort(walk *w)
{
    size_t next = 0;
    for (int pass = 0; pass < 2; pass++) /* what has waited for nobody comes last */
        for (uint32_t i = 0; i < w->count; i++) {
            if (!w->done[i] && (pass || w->when[i] != LATE))
                demand(w, i);
            for (; next < w->ready_count; next++)
                if (!w->done[w->ready[next]])
                    demand(w, w->ready[next]);
        }
}

fad_status fad_lower_order(const fad_emitter *e, const fad_instruction *all, size_t count, uint64_t n, fad_instruction *sorted)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    const size_t strips = e->strip_count, numbers = 5 * count + 2 * strips + 1; /* at most three operands each */
    const size_t bytes = count * (sizeof(stretch) + sizeof(visit)) + numbers * sizeof(uint32_t) + 4 * count;
    stretch *written = fad_resize(e->tape, NULL, 0, bytes, &status);
    if (!written)
        return status;
    walk w = {.all = all, .sorted = sorted, .count = count, .n = n, .written = written};
    w.stack = (visit *)(void *)(written + count);
    w.maker = (uint32_t *)(void *)(w.stack + count);
    w.first = w.maker + strips;
    w.length = w.first + strips + 1;
    w.ready = w.length + count;
    w.readers = w.ready + count;
    w.when = (uint8_t *)(w.readers + 3 * count);
    w.missing = w.when + count;
    w.done = w.missing + count;
    w.size = w.done + count;
    memset(w.stack, 0, bytes - count * sizeof *written);
    for (size_t i = 0; i < count; i++)
        w.written_count += find_written(e, &all[i], n, &written[w.written_count]);
    w.written_count = join(written, w.written_count);
    note_readers(&w, strips);
    decide(&w);
    sort(&w);
    fad_resize(e->tape, written, bytes, 0, &ignored);
    return FAD_OK;
}
