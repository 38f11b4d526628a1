/* program_columns.c: which instructions do columns of the same rows, and so are done together: rows that lie side by side
 * are then read and written once, and not once for each column. */
#include "program.h"

static bool same_place(const fad_argument *x, const fad_argument *y)
{
    return x->place == y->place && x->dtype == y->dtype && x->base == y->base && x->offset == y->offset;
}

/* Whether `i` is the column after `columns - 1` others of which `first` is the first. */
static bool is_next_store(const fad_program *p, const fad_instruction *first, const fad_instruction *i, uint64_t columns)
{
    const fad_affine *affine = &p->affines[i->affine], *of_first = &p->affines[first->affine];
    const fad_argument *to = &i->arguments[0], *from = &i->arguments[1];
    uint64_t item = fad_itemsize(i->dtype);
    if (affine->ndim != 1 || of_first->ndim != 1 || (from->place != FAD_AT_STRIP && from->base == to->base))
        return false; /* memory that is read may be what another column writes */
    int64_t stride = p->numbers[affine->first + 1];
    uint64_t row = stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride;
    return stride == p->numbers[of_first->first + 1] && to->base == first->arguments[0].base &&
           to->offset == first->arguments[0].offset + (columns - 1) * item && columns * item <= row;
}

static bool is_next_gather(const fad_instruction *first, const fad_instruction *i, uint64_t columns)
{
    const fad_argument *indices = &i->arguments[1], *to = &i->arguments[2];
    if (to->place != FAD_AT_STRIP || (indices->place == FAD_AT_STRIP && indices->offset == to->offset))
        return false;
    return same_place(indices, &first->arguments[1]) && i->arguments[0].base == first->arguments[0].base &&
           i->arguments[0].offset == first->arguments[0].offset + (columns - 1) * fad_itemsize(i->dtype);
}

static bool is_next(const fad_program *p, const fad_instruction *first, const fad_instruction *i, uint64_t columns)
{
    if (i->code != first->code || i->dtype != first->dtype || fad_itemsize(i->dtype) < sizeof(int32_t))
        return false;
    return i->code == FAD_DO_STORE ? is_next_store(p, first, i, columns)
                                   : i->code == FAD_DO_GATHER && is_next_gather(first, i, columns);
}

fad_status fad_program_columns(fad_program *p)
{
    p->columns = p->allocator.resize(p->allocator.context, NULL, 0, p->instruction_count * sizeof *p->columns);
    if (!p->columns)
        return FAD_NO_MEMORY;
    memset(p->columns, 1, p->instruction_count);
    for (size_t s = 0; s < p->step_count; s++) {
        const fad_step *step = &p->steps[s];
        size_t end = (size_t)step->first + step->count;
        if (step->kind != FAD_STEP_REGION)
            continue;
        for (size_t i = step->first, columns; i < end; i += columns) {
            const fad_instruction *first = &p->instructions[i];
            columns = 0;
            while (i + columns < end && columns < FAD_MOST_TOGETHER &&
                   is_next(p, first, &p->instructions[i + columns], columns + 1))
                columns++;
            columns += columns == 0;
            p->columns[i] = (uint8_t)columns;
        }
    }
    return FAD_OK;
}
