/* lower_fuse.c: products that only a sum reads become one instruction with it, and take signs with them. */
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

static void count_readers(const fad_instruction *all, size_t count, strip_use *uses, size_t strips)
{
    for (size_t s = 0; s < strips; s++) {
        uses[s].maker = FAD_NO_INDEX;
        uses[s].readers = 0;
    }
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < all[i].count && all[i].code != FAD_DO_COUNT; k++) {
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

/* `product` minus something (k = 0), or something minus it. */
static int subtracted(const fad_instruction *product, int k)
{
    bool strong = product->op == FAD_ZMUL;
    return k == 0 ? (strong ? FAD_DO_ZMUL_SUB : FAD_DO_MUL_SUB) : strong ? FAD_DO_SUB_ZMUL : FAD_DO_SUB_MUL;
}

/* Makes `sum` (an ADD or SUB) take the factors of operand `k`, a product that nobody else reads. */
static bool fuse(fad_instruction *sum, int k, fad_instruction *all, const strip_use *uses)
{
    fad_instruction *product = own_maker(all, uses, &sum->arguments[k]);
    if (!product || !is_product(product) || product->dtype != sum->dtype)
        return false;
    int code = sum->op == FAD_ADD ? added(product) : subtracted(product, k);
    become(sum, code, product, sum->arguments[1 - k], sum->arguments[2]);
    product->code = FAD_DO_COUNT;
    return true;
}

/* With the sign of what is added turned, to the bit. 0: there is none. */
static int with_addend_turned(int code)
{
    return code == FAD_DO_MUL_ADD    ? FAD_DO_MUL_SUB
           : code == FAD_DO_MUL_SUB  ? FAD_DO_MUL_ADD
           : code == FAD_DO_ZMUL_ADD ? FAD_DO_ZMUL_SUB
           : code == FAD_DO_ZMUL_SUB ? FAD_DO_ZMUL_ADD
                                     : 0;
}

static bool subtracts_addend(int code) { return code == FAD_DO_MUL_SUB || code == FAD_DO_ZMUL_SUB; }

/* Whether a product may be computed later: no memory that others may write to until then. */
static bool may_wait(const fad_instruction *product)
{
    for (int k = 0; k < 2 - (product->code == FAD_DO_OP && product->op == FAD_SQUARE); k++)
        if (product->arguments[k].place == FAD_AT_MEMORY)
            return false;
    return true;
}

/* (p*q +- x*y) + z is (p*q + z) +- x*y, and (x*y - p*q) + z is x*y + (z - p*q): two instructions, not three, where z is
 * there before the first is needed. */
static bool join(fad_instruction *sum, int k, fad_instruction *all, const strip_use *uses)
{
    fad_instruction *part = sum->op == FAD_ADD ? own_maker(all, uses, &sum->arguments[k]) : NULL;
    const fad_argument other = sum->arguments[1 - k];
    if (!part || !fad_is_fused(part->code) || part->dtype != sum->dtype || !may_wait(part) ||
        other.place != FAD_AT_STRIP || &all[uses[other.offset].maker] >= part)
        return false;
    fad_instruction *product = own_maker(all, uses, &part->arguments[2]);
    if (!product || !is_product(product) || product->dtype != sum->dtype || !may_wait(product))
        return false;
    bool turned = subtracts_addend(part->code);
    fad_instruction last = *part;
    last.code = (uint8_t)(turned ? with_addend_turned(last.code) : last.code);
    become(part, turned ? subtracted(product, 1) : added(product), product, other, last.arguments[3]);
    product->code = FAD_DO_COUNT;
    const fad_argument result = sum->arguments[2];
    *sum = last;
    sum->arguments[2] = last.arguments[3];
    sum->arguments[3] = result;
    return true;
}

/* --- signs --- */

/* What makes argument `a`, if that is a NEG of a strip: whoever reads it may read what it negates. */
static fad_instruction *negation(fad_instruction *all, const strip_use *uses, const fad_argument *a, int dtype)
{
    fad_instruction *at = a->place == FAD_AT_STRIP ? &all[uses[a->offset].maker] : NULL;
    bool is_one = at && at->code == FAD_DO_OP && at->op == FAD_NEG && at->dtype == dtype;
    return is_one && at->arguments[0].place == FAD_AT_STRIP ? at : NULL;
}

/* Reads what `negated` negates in place of its result; the last reader takes it with it. */
static void read_through(fad_argument *a, fad_instruction *negated, strip_use *uses)
{
    if (--uses[a->offset].readers == 0)
        negated->code = FAD_DO_COUNT;
    else
        uses[negated->arguments[0].offset].readers++;
    *a = negated->arguments[0];
}

/* The same with the product's sign turned, to the bit. 0: there is none. */
static int with_product_turned(int code)
{
    return code == FAD_DO_MUL_ADD    ? FAD_DO_SUB_MUL
           : code == FAD_DO_SUB_MUL  ? FAD_DO_MUL_ADD
           : code == FAD_DO_ZMUL_ADD ? FAD_DO_SUB_ZMUL
           : code == FAD_DO_SUB_ZMUL ? FAD_DO_ZMUL_ADD
                                     : 0;
}

/* -x*y + z is z - x*y, and z + w where w is -x*y is z - w. The first to the bit, the second to the sign of a zero. */
static void take_signs(fad_instruction *sum, fad_instruction *all, strip_use *uses)
{
    for (int k = 0; k < 2 && with_product_turned(sum->code); k++) {
        fad_instruction *negated = negation(all, uses, &sum->arguments[k], sum->dtype);
        if (!negated)
            continue;
        read_through(&sum->arguments[k], negated, uses);
        sum->code = (uint8_t)with_product_turned(sum->code);
    }
    fad_instruction *addend = own_maker(all, uses, &sum->arguments[2]);
    if (!addend || !is_product(addend) || addend->op == FAD_SQUARE || addend->dtype != sum->dtype)
        return;
    for (int k = 0; k < 2 && with_addend_turned(sum->code); k++) {
        fad_instruction *negated = negation(all, uses, &addend->arguments[k], addend->dtype);
        if (!negated)
            continue;
        read_through(&addend->arguments[k], negated, uses);
        sum->code = (uint8_t)with_addend_turned(sum->code);
    }
}

/* --- sums in memory --- */

/* The product that a sum of products begins with, none of them read by others: `last` is the whole sum. */
static fad_instruction *first_product(fad_instruction *last, fad_instruction *all, const strip_use *uses)
{
    fad_instruction *at = last;
    while (at && !is_product(at)) {
        bool sum = at->code == FAD_DO_OP && at->op == FAD_ADD, fused = fad_is_fused(at->code) && !subtracts_addend(at->code);
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
    count_readers(all, count, uses, strips);
    for (size_t i = 0; i < count; i++)
        if (all[i].code == FAD_DO_OP && (all[i].op == FAD_ADD || all[i].op == FAD_SUB) && fad_is_float(all[i].dtype))
            if (!fuse(&all[i], 0, all, uses) && !fuse(&all[i], 1, all, uses) && !join(&all[i], 0, all, uses))
                join(&all[i], 1, all, uses);
    for (size_t i = 0; i < count; i++)
        if (all[i].code == FAD_DO_ADD && runs_through(&all[i], affines, numbers))
            sum_in_memory(&all[i], all, uses, n);
    count_readers(all, count, uses, strips); /* a square that was fused is read twice */
    for (size_t i = 0; i < count; i++)
        if (fad_is_fused(all[i].code))
            take_signs(&all[i], all, uses);
    for (size_t i = 0; i < count; i++)
        if (all[i].code != FAD_DO_COUNT)
            all[kept++] = all[i];
    return kept;
}
