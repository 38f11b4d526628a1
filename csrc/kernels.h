/* kernels.h: inner loops of a program's own instructions. */
#ifndef FAD_KERNELS_H
#define FAD_KERNELS_H

#include "program.h"

/* Loop of FAD_DO_MUL_ADD, FAD_DO_MUL_SUB or FAD_DO_SUB_MUL: x, y, z and the result. Operands are contiguous or fixed;
 * the result may be one of them. */
fad_loop fad_fused_loop(int code, int dtype);

#endif
