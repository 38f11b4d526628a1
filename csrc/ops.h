/* ops.h: the primitives as numbers, and what is known of each. Read from the two tables. */
#ifndef FAD_OPS_H
#define FAD_OPS_H

#include <stdint.h>

enum {
#define OP(NAME, ...) FAD_##NAME,
#include "ops.def"
#undef OP
    FAD_ELEMENTWISE_COUNT,
    FAD_BEFORE_STRUCTURAL = FAD_ELEMENTWISE_COUNT - 1,
#define ST(NAME, ...) FAD_##NAME,
#include "structural.def"
#undef ST
    FAD_OP_COUNT
};

typedef enum { FAD_LINEAR, FAD_BILINEAR, FAD_SMOOTH, FAD_KINK, FAD_FLAT, FAD_PREDICATE, FAD_STRUCTURAL } fad_kind;
typedef enum { FAD_AUX_NOTHING, FAD_AUX_SHAPE, FAD_AUX_NODE, FAD_AUX_SIDE, FAD_AUX_NUMBER } fad_aux_kind;
typedef enum { FAD_SWAP_NO, FAD_SWAP_LOOSE, FAD_SWAP_YES } fad_swap;
enum { FAD_MANY = 255 };

/* The strong-zero products, and what routes one of its operands: in their derivatives a partial of 0 gives 0 too,
 * whatever it meets. The operand that was not taken gets nothing of an infinite or NaN cotangent. */
#define FAD_IS_STRONG(op)                                                                                              \
    ((op) == FAD_ZMUL || (op) == FAD_SMUL || (op) == FAD_SELECT || (op) == FAD_MAXIMUM || (op) == FAD_MINIMUM ||       \
     (op) == FAD_FMAX || (op) == FAD_FMIN)

/* Slots where an array of truth values does as it is; elsewhere it must become numbers. */
static inline int fad_takes_truth(int op, unsigned slot)
{
    return op == FAD_LOGICAL_AND || op == FAD_LOGICAL_OR || op == FAD_LOGICAL_XOR || op == FAD_LOGICAL_NOT ||
           (op == FAD_SELECT && slot == 0);
}

#define FAD_IN_DEGREES 0x1.ca5dc1a63c1f8p+5 /* 180 / pi */
#define FAD_IN_RADIANS 0x1.1df46a2529d39p-6 /* pi / 180 */

typedef struct {
    const char *name;       /* as in the table: "MUL" */
    const char *spelled;    /* NumPy's name, or the structural table's; "" for an internal row */
    uint8_t arity;          /* number of operands, FAD_MANY for a list */
    uint8_t kind;           /* fad_kind */
    uint8_t aux;            /* fad_aux_kind */
    uint8_t swap;           /* fad_swap: may the operands change places? */
    const char *value;      /* the cell, as written; "" for a structural row */
    const char *domains[2]; /* where tests sample the operands */
    const char *partials[3];/* the cells, as written */
    const char *doc;
} fad_op_info;

/* Indexed by op; FAD_OP_COUNT rows. */
extern const fad_op_info fad_ops[FAD_OP_COUNT];

/* The partial of element-wise `op` with respect to operand `k` where it does not depend on the operands
 * (1 for both of ADD, -1 for NEG), else NaN. */
double fad_constant_partial(int op, int k);

/* What the partial of element-wise `op` by operand `k` depends on, as a set of these bits. */
enum { FAD_USES_X = 1, FAD_USES_Y = 2, FAD_USES_Z = 4, FAD_USES_V = 8 };
unsigned fad_partial_uses(int op, int k);
/* How many calls that partial makes; strips.c has room for FAD_MOST_CALLS. */
enum { FAD_MOST_CALLS = 16 };
unsigned fad_partial_calls(int op, int k);

#endif
