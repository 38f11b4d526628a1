/* program_access.c: the memory of a region's instructions. */
#include "program_access.h"

bool fad_code_stores(int code)
{
    return code == FAD_DO_STORE || code == FAD_DO_ADD || code == FAD_DO_PUT || code == FAD_DO_SCATTER_ADD;
}

static bool has_affine(int code) { return code == FAD_DO_LOAD || code == FAD_DO_STORE || code == FAD_DO_ADD; }

static uint64_t size_of(int64_t stride) { return stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride; }

static void see_affine(const fad_program *p, const fad_affine *affine, fad_access *x)
{
    x->ndim = affine->ndim;
    x->dims = p->numbers + affine->first;
    x->strides = x->dims + affine->ndim;
    for (uint32_t d = 0; d < x->ndim; d++) {
        uint64_t span = size_of(x->strides[d]) * ((uint64_t)x->dims[d] - 1);
        if (x->strides[d] < 0)
            x->begin -= span;
        else
            x->end += span;
    }
}

bool fad_see_access(const fad_program *p, const fad_step *step, uint32_t number, int k, fad_access *out)
{
    const fad_instruction *i = &p->instructions[step->first + number];
    const fad_argument *a = &i->arguments[k];
    if (a->place == FAD_AT_STRIP)
        return false;
    uint64_t item = fad_itemsize(a->dtype);
    fad_access x = {.instruction = number, .base = a->base, .ndim = 1, .own = {(int64_t)step->n, (int64_t)item},
                    .first = a->offset, .begin = a->offset, .end = a->offset + item, .item = item};
    x.writes = fad_code_stores(i->code) ? k == 0 : k == i->count - 1;
    if (k == 0 && has_affine(i->code)) {
        see_affine(p, &p->affines[i->affine], &x);
    } else if (k == 0 && i->code >= FAD_DO_GATHER) {
        x.indexed = true;
        x.end = a->offset + i->limit * item;
    } else if (a->place == FAD_AT_FIXED) {
        x.own[1] = 0;
    } else {
        x.end = a->offset + step->n * item;
        x.whole = x.writes && k == i->count - 1;
    }
    *out = x;
    return true;
}
