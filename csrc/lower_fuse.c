/* lower_fuse.c: products that only a sum reads become one instruction with it. */
#include "lower.h"

enum { MANY = 2 };

/* What is known of a strip: the instruction that makes it, and how many read it. */
typedef struct {
    uint32_t maker, readers;
} strip_use;

static bool is_product(const fad_instruction *at) { return at->code == FAD_DO_OP && (at->op == FAD_MUL || at->op == FAD_SQUARE); }

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

/* Makes `sum` (an ADD or SUB) take the factors of operand `k`, a product that nobody else reads. */
static bool fuse(fad_instruction *sum, int k, fad_instruction *all, const strip_use *uses)
{
    const fad_argument *a = &sum->arguments[k];
    if (a->place != FAD_AT_STRIP || uses[a->offset].readers != 1)
        return false;
    fad_instruction *product = &all[uses[a->offset].maker];
    if (!is_product(product) || product->dtype != sum->dtype)
        return false;
    fad_argument other = sum->arguments[1 - k], result = sum->arguments[2];
    sum->code = sum->op == FAD_ADD ? FAD_DO_MUL_ADD : k == 0 ? FAD_DO_MUL_SUB : FAD_DO_SUB_MUL;
    sum->count = 4;
    sum->arguments[0] = product->arguments[0];
    sum->arguments[1] = product->arguments[product->op == FAD_SQUARE ? 0 : 1];
    sum->arguments[2] = other;
    sum->arguments[3] = result;
    product->code = FAD_DO_COUNT;
    return true;
}

size_t fad_lower_fuse(fad_instruction *all, size_t count, size_t strips, void *room)
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
        if (all[i].code != FAD_DO_COUNT)
            all[kept++] = all[i];
    return kept;
}
