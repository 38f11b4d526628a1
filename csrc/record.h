/* record.h: one function per kind of primitive: checks the operands, computes the value, appends the node.
 * The front end, and the derivatives written as nodes (emit.c), record through these. */
#ifndef FAD_RECORD_H
#define FAD_RECORD_H

#include "tape.h"

/* Element-wise `op` of operands that broadcast. `dtype` is the floating type to compute in, or -1: the widest of
 * the array operands (a scalar node then takes the type of the arrays, as a Python number does in NumPy). */
fad_status fad_record_elementwise(fad_tape *tape, int op, const uint32_t *operands, int dtype, uint32_t *out);

fad_status fad_record_cast(fad_tape *tape, uint32_t a, int dtype, uint32_t *out);
fad_status fad_record_reshape(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out);
fad_status fad_record_broadcast_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out);
fad_status fad_record_sum_to(fad_tape *tape, uint32_t a, const fad_shape *shape, uint32_t *out);
/* `op` is MAX_TO or MIN_TO; the operand may have any type. */
fad_status fad_record_extremum_to(fad_tape *tape, int op, uint32_t a, const fad_shape *shape, uint32_t *out);

/* Side record of a VIEW; arrays are copied. Fails with FAD_BAD_OPERAND where it would read outside of `whole`. */
fad_status fad_make_view(fad_tape *tape, const fad_shape *whole, size_t ndim, const ptrdiff_t *dims,
                         const ptrdiff_t *start, const ptrdiff_t *step, const int *source, uint32_t *side);
fad_status fad_record_view(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out);
fad_status fad_record_embed(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out);
fad_status fad_record_transpose(fad_tape *tape, uint32_t a, const int *axes, uint32_t *out);

fad_status fad_record_element(fad_tape *tape, uint32_t a, size_t offset, uint32_t *out);
fad_status fad_record_stack(fad_tape *tape, size_t count, const uint32_t *nodes, uint32_t *out);
fad_status fad_record_concatenate(fad_tape *tape, size_t count, const uint32_t *nodes, size_t axis, uint32_t *out);
fad_status fad_record_nsum(fad_tape *tape, size_t count, const uint32_t *nodes, uint32_t *out);

/* `indices` is a node of flat int64 indices into an array of shape `whole`; every one is checked. */
fad_status fad_check_indices(const fad_tape *tape, uint32_t indices, const fad_shape *whole);
fad_status fad_record_gather(fad_tape *tape, uint32_t a, uint32_t indices, uint32_t *out);
fad_status fad_record_scatter_add(fad_tape *tape, uint32_t a, uint32_t indices, const fad_shape *shape, uint32_t *out);

/* Side record of a STRIDED; strides are copied. Fails with FAD_BAD_OPERAND where it would read outside of `whole`. */
fad_status fad_make_strided(fad_tape *tape, const fad_shape *whole, size_t ndim, const ptrdiff_t *dims,
                            ptrdiff_t start, const ptrdiff_t *strides, uint32_t *side);
bool fad_strided_is_inside(const fad_shape *whole, const fad_shape *part, ptrdiff_t start, const ptrdiff_t *strides);
fad_status fad_record_strided(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out);
fad_status fad_record_strided_add(fad_tape *tape, uint32_t a, uint32_t side, uint32_t *out);

fad_status fad_record_matmul(fad_tape *tape, uint32_t a, uint32_t b, uint32_t *out);
fad_status fad_record_cumsum(fad_tape *tape, uint32_t a, size_t axis, bool backwards, uint32_t *out);

/* A CUSTOM node and one OUTPUT node for every further output, values uninitialised. */
fad_status fad_new_custom(fad_tape *tape, void *rule, size_t count, const uint32_t *nodes, uint32_t outputs,
                          const uint8_t *dtypes, const fad_shape **shapes, uint32_t *first);

/* Constant arrays. */
fad_status fad_record_zeros(fad_tape *tape, int dtype, const fad_shape *shape, uint32_t *out);
fad_status fad_record_indices(fad_tape *tape, size_t count, const int64_t *indices, uint32_t *out);

#endif
