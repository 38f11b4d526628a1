/* kernels.h: inner loops of a program's own instructions. */
#ifndef FAD_KERNELS_H
#define FAD_KERNELS_H

#include "program.h"

/* Loop of a fused instruction, FAD_DO_MUL_ADD to SUB_ZMUL: x, y, z and the result. Operands are contiguous or fixed;
 * the result may be one of them. */
fad_loop fad_fused_loop(int code, int dtype);

/* A loop for element-wise `op` that is faster on strips than the host's: the same bits, or, unless `strict`, good to 4
 * units in the last place. False: there is none. */
bool fad_own_loop(int op, int dtype, bool strict, fad_bound_loop *out);

/* pairs.c: a loop of two instructions of float64, the second of which has the first's result as its operand `at`, and
 * nobody else has it. Its arguments are those of the first and then those of the second; the bits are those of their two
 * loops, one after the other. An instruction is the number of its op, or FAD_ELEMENTWISE_COUNT and its code. NULL: there
 * is none. */
fad_loop fad_pair_loop(int first, int second, int at);

/* vector_math.c: the C library's vector function for a row whose value is one call of it; false where there is none. */
bool fad_vector_loop(int op, fad_bound_loop *out);

#endif
