/* lower_fuse.c: products that only a sum reads become one instruction with it. */
#include "lower.h"

enum { FARTHEST = 256 };   /* instructions between a product and the addition to memory that it may be one with */

/* What is known of a strip: the instruction that makes it, and how many read it. */
typedef struct {
    uint32_t maker, readers;
} strip_use;

static bool is_product(const fad_instruction *at)
{
    return at->code == FAD_DO_OP && (at->op == FAD_MUL || at->op == FAD_SQUARE || at->op == FAD_ZMUL) && fad_is_float(at->dtype);
}

static void count_readers(const fad_instruction *all, size_t count, strip_use *uses)
{
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < all[i].count; k++) {
            const fad_argument *a = &all[i].arguments[k];
            if (a->place != FAD_AT_STRIP)
                continue;
            strip_use *use = &uses[a->offset];
            if (use->maker == FAD_NO_INDEX)
                use->maker = (uint32_t)i;
            else
                use->readers++;
        }
}

/* The instruction that makes argument `a`, if that is a strip which nobody else reads. */
static fad_instruction *own_maker(fad_instruction *all, const strip_use *uses, const fad_argument *a)
{
    return a->place == FAD_AT_STRIP && uses[a->offset].readers == 1 ? &all[uses[a->offset].maker] : NULL;
}

/* Makes `at` the sum of a product and `addend`, or a difference of them. */
static void become(fad_instruction *at, int code, const fad_instruction *product, fad_argument addend, fad_argument result)
{
    const fad_argument x = product->arguments[0], y = product->arguments[product->op == FAD_SQUARE ? 0 : 1];
    at->code = (uint8_t)code;
    at->count = 4;
    at->arguments[0] = x;
    at->arguments[1] = y;
    at->arguments[2] = addend;
    at->arguments[3] = result;
}

static int added(const fad_instruction *product) { return product->op == FAD_ZMUL ? FAD_DO_ZMUL_ADD : FAD_DO_MUL_ADD; }

/* Makes `sum` (an ADD or SUB) take the factors of operand `k`, a product that nobody else reads. */
static bool fuse(fad_instruction *sum, int k, fad_instruction *all, const strip_use *uses)
{
    fad_instruction *product = own_maker(all, uses, &sum->arguments[k]);
    if (!product || !is_product(product) || product->dtype != sum->dtype || (sum->op == FAD_SUB && product->op == FAD_ZMUL))
        return false;
    int code = sum->op == FAD_ADD ? added(product) : k == 0 ? FAD_DO_MUL_SUB : FAD_DO_SUB_MUL;
    become(sum, code, product, sum->arguments[1 - k], sum->arguments[2]);
    product->code = FAD_DO_COUNT;
    return true;
}

/* The product that a sum of products begins with, none of them read by others: `last` is the whole sum. */
static fad_instruction *first_product(fad_instruction *last, fad_instruction *all, const strip_use *uses)
{
    fad_instruction *at = last;
    while (at && !is_product(at)) {
        bool sum = at->code == FAD_DO_OP && at->op == FAD_ADD, fused = at->code == FAD_DO_MUL_ADD || at->code == FAD_DO_ZMUL_ADD;
        at = sum ? own_maker(all, uses, &at->arguments[0]) : fused ? own_maker(all, uses, &at->arguments[2]) : NULL;
    }
    return at;
}

/* Whether an instruction between two may write to some of the `bytes` of `memory`, or reads them. */
static bool is_touched(const fad_instruction *from, const fad_instruction *to, const fad_argument *memory, uint64_t bytes)
{
    for (const fad_instruction *at = from + 1; at < to; at++) {
        if (at->code == FAD_DO_COUNT)
            continue;
        if (at->code == FAD_DO_STORE || at->code == FAD_DO_ADD || at->code >= FAD_DO_GATHER)
            return true;
        for (int k = 0; k < at->count; k++)
            if (at->arguments[k].place != FAD_AT_STRIP && at->arguments[k].base == memory->base &&
                at->arguments[k].offset + bytes > memory->offset && memory->offset + bytes > at->arguments[k].offset)
                return true;
    }
    return false;
}

/* Memory += sum of products, element by element: the sum begins with what is there instead, and goes there. */
static void sum_in_memory(fad_instruction *add, fad_instruction *all, const strip_use *uses, size_t n)
{
    fad_instruction *last = own_maker(all, uses, &add->arguments[1]), *first;
    fad_argument memory = add->arguments[0];
    memory.place = FAD_AT_MEMORY;
    if (!last || last->dtype != add->dtype || !(first = first_product(last, all, uses)) || first->dtype != add->dtype ||
        add - first > FARTHEST || is_touched(first, add, &memory, n * fad_itemsize(add->dtype)))
        return;
    last->arguments[last->count - 1] = memory;
    become(first, added(first), first, memory, first->arguments[first->count - 1]);
    add->code = FAD_DO_COUNT;
}

static bool runs_through(const fad_instruction *at, const fad_affine *affines, const int64_t *numbers)
{
    const fad_affine *places = &affines[at->affine];
    return places->ndim == 1 && numbers[places->first + 1] == (int64_t)fad_itemsize(at->dtype);
}

size_t fad_lower_fuse(fad_instruction *all, size_t count, size_t strips, size_t n, const fad_affine *affines,
                      const int64_t *numbers, void *room)
{
    strip_use *uses = room;
    size_t kept = 0;
    for (size_t s = 0; s < strips; s++) {
        uses[s].maker = FAD_NO_INDEX;
        uses[s].readers = 0;
    }
    count_readers(all, count, uses);
    for (size_t i = 0; i < count; i++)
        if (all[i].code == FAD_DO_OP && (all[i].op == FAD_ADD || all[i].op == FAD_SUB) && fad_is_float(all[i].dtype))
            if (!fuse(&all[i], 0, all, uses))
                fuse(&all[i], 1, all, uses);
    for (size_t i = 0; i < count; i++)
        if (all[i].code == FAD_DO_ADD && runs_through(&all[i], affines, numbers))
            sum_in_memory(&all[i], all, uses, n);
    for (size_t i = 0; i < count; i++)
        if (all[i].code != FAD_DO_COUNT)
            all[kept++] = all[i];
    return kept;
}
