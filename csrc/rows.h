/* rows.h: arrays of many rows of few elements, and the nodes that do in every row the same. */
#ifndef FAD_ROWS_H
#define FAD_ROWS_H

#include "trace.h"

enum { FAD_FEWEST_ROWS = 64, FAD_MOST_COLUMNS = 32 };

/* Whether the first axis is long, and what is left of the shape is small. */
static inline bool fad_is_rows(const fad_shape *shape)
{
    return shape->ndim && shape->dims[0] >= FAD_FEWEST_ROWS && shape->size &&
           shape->size / (size_t)shape->dims[0] <= FAD_MOST_COLUMNS;
}

static inline size_t fad_row_size(const fad_shape *shape) { return shape->size / (size_t)shape->dims[0]; }

/* Whether an operand of shape `own` has a row for each of those of `shape`, or one for all. */
static inline bool fad_has_rows_of(const fad_shape *own, const fad_shape *shape)
{
    return own->ndim == shape->ndim && own->dims[0] == shape->dims[0];
}

/* What a node does in each row. `at` is a list of places in a row. */
typedef enum {
    FAD_ROW_OTHER,     /* rows take part in each other, or differ in what they do */
    FAD_ROW_EACH,      /* every element by itself, operands broadcast */
    FAD_ROW_READ,      /* element j is element at[j] of the operand */
    FAD_ROW_ADD,       /* element j of the operand is added to element at[j] */
    FAD_ROW_PUT,       /* a copy of the first operand, with element j of the second at at[j] */
    FAD_ROW_JOIN,      /* operands end to end along an axis */
    FAD_ROW_PRODUCT,   /* of matrices that are small */
    FAD_ROW_BEST,      /* element j of the operand may become element at[j]: MAX_TO, MIN_TO */
    FAD_ROW_GATHER,    /* element j is at[j] places after one that a constant names for the row, of any operand */
} fad_row_kind;

/* Fills `at` (FAD_MOST_COLUMNS) where the kind has one. `node` depends on an input. */
fad_row_kind fad_row_kind_of(const fad_tape *tape, uint32_t node, size_t *at);
/* Sum of index times stride over the indices of element `flat` of `shape`. */
size_t fad_strided_offset(const fad_shape *shape, const ptrdiff_t *strides, size_t flat);
/* Of element `flat` of `shape`: which element of an operand of shape `own` is broadcast to it. */
size_t fad_spread_from(const fad_shape *own, const fad_shape *shape, size_t flat);

/* A component of nodes that are worth it: `apart` of every node of the trace (0 or 1). `uses` is from pass.h. FAD_ROW_BEST
 * only where `last`. */
fad_status fad_choose_rows(const fad_trace *trace, fad_tape *memory, const uint8_t *uses, bool last, uint8_t *apart,
                           bool *any);

#endif
