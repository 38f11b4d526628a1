/* roll.h: what the parts of the re-roll pass share (pass_roll.c and the files
 * roll_*.c). Nobody else uses it.
 *
 * Every scalar of the trace has a place: an element of a base, which is an array of the trace (ELEMENT), the array
 * that its run became, or one of two things that are no arrays. A run is a list of scalar nodes of one op that
 * become one array node; the places of its members' operands, slot by slot, tell how they come in. */
#ifndef FAD_ROLL_H
#define FAD_ROLL_H

#include "prefetch.h"
#include "trace.h"

enum { ROLL_ALONE, ROLL_CONSTANT, ROLL_FIRST_ARRAY };

typedef struct {
    uint32_t base;
    uint32_t offset;      /* flat; the node itself of ALONE, the first node with its value of CONSTANT */
} roll_place;

typedef struct {
    uint32_t node;        /* in `to`; FAD_NODE_NONE: not appended yet */
    uint32_t numbers;     /* the same as float64, where `node` holds truth values */
    uint32_t source;      /* in `from`, of an array of the trace */
} roll_base;

enum { ROLL_NEST = 3, ROLL_MOST_PIECES = 12, ROLL_FEW_PIECES = 4, ROLL_MOST_BLOCKS = 20 };

/* Offsets of a nest of loops, the outermost first: start + i*strides[0] + ... */
typedef struct {
    size_t ndim;
    ptrdiff_t start;
    ptrdiff_t dims[ROLL_NEST + 1], strides[ROLL_NEST + 1];
} roll_affine;

/* How the operands of one slot of a run come in. */
typedef enum {
    ROLL_UNIFORM,         /* all members read the same */
    ROLL_AFFINE,          /* one array, in a nest of loops */
    ROLL_LISTED,          /* scalars, or constants, that differ */
    ROLL_PIECES,          /* a few stretches of the above, end to end */
    ROLL_ROWS,            /* rows of equal length, and in all of them the same stretches end to end */
    ROLL_GATHER,          /* no order found */
} roll_kind;

typedef struct {
    roll_kind kind;
    roll_affine affine;   /* UNIFORM, AFFINE */
    uint32_t base;
    size_t parts;         /* PIECES: stretches. ROWS: stretches of a row. GATHER: bases */
    size_t row;           /* ROWS: the length of one */
} roll_plan;

/* Number of uses of something by something: hashes of the consumers of a node, to three depths. */
typedef struct {
    uint32_t one, two, all;
    uint32_t kinds;       /* a bit for each kind of use */
} roll_uses;

typedef struct {
    const fad_tape *from;
    fad_tape *to;
    size_t min_width;
    bool strict;
    roll_place *places;   /* of every node of `from`; an array: its base */
    uint32_t *map;        /* node of `to`, FAD_NODE_NONE: not (yet) a node of its own */
    uint32_t *levels;     /* 0: not needed */
    uint32_t *scratch;    /* for every node or base, FAD_NODE_NONE between two uses: roll_scratch gives it */
    bool scratch_is_clear;
    uint32_t *order;      /* needed nodes by level and kind */
    uint32_t *groups;     /* where each group of one level and kind ends in that */
    size_t ordered, group_count;
    roll_uses *uses;
    roll_base *bases;
    size_t base_count, base_capacity;
    uint32_t *slices;     /* STRIDED nodes of `to`, open addressing, node + 1 */
    size_t slice_count, slice_capacity;
    /* of one group of nodes of one level and op, or one long list */
    size_t room;
    roll_place *operands[4]; /* by slot, and one to spare */
    uint64_t *keys;
    roll_uses *used;      /* uses of the members */
    uint32_t *classes, *members, *list, *merged;
    /* to be given back */
    struct {
        void *p;
        size_t size;
    } blocks[ROLL_MOST_BLOCKS];
    size_t block_count;
} roll;

static inline bool roll_is_scalar_op(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    if (!(n->flags & FAD_IS_DYNAMIC) || n->flags & FAD_IS_ARRAY)
        return false;
    return n->op == FAD_NSUM || (n->op < FAD_ELEMENTWISE_COUNT && !(n->flags & FAD_HAS_ARRAY));
}

static inline bool roll_is_dynamic(const roll *r, uint32_t node)
{
    return (r->from->nodes[node].flags & FAD_IS_DYNAMIC) != 0;
}

/* Where a scalar lives now: a node that reads another one's place follows it. */
static inline roll_place roll_place_of(const roll *r, uint32_t node)
{
    roll_place p = r->places[node];
    return p.base == ROLL_ALONE ? r->places[p.offset] : p;
}

static inline size_t roll_arity(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    return n->op == FAD_NSUM ? ((const fad_list *)tape->side[n->aux])->count : fad_ops[n->op].arity;
}

static inline uint32_t roll_operand(const fad_tape *tape, uint32_t node, size_t slot)
{
    const fad_node *n = &tape->nodes[node];
    if (n->op == FAD_NSUM || n->op == FAD_STACK)
        return ((const fad_list *)tape->side[n->aux])->nodes[slot];
    return slot == 0 ? n->a : slot == 1 ? n->b : n->aux;
}

/* Members of a run are far apart on the tape: what those after member `i` read is asked for early. */
enum { ROLL_NEAR = 8, ROLL_FAR = 16 };
static inline void roll_look_ahead(const roll *r, const uint32_t *members, size_t n, size_t i)
{
    if (i + ROLL_FAR < n)
        FAD_PREFETCH(&r->from->nodes[members[i + ROLL_FAR]]);
    if (i + ROLL_NEAR < n) {
        const fad_node *soon = &r->from->nodes[members[i + ROLL_NEAR]];
        FAD_PREFETCH(&r->places[soon->a]);
        FAD_PREFETCH(&r->places[soon->b]);
    }
}

/* --- roll_order.c --- */

/* Fills places, levels, order, groups and room. */
fad_status roll_order(roll *r, const fad_trace *in);

/* --- roll_pattern.c: order in a list of places; no tape --- */

/* Whether all are in one base, at the offsets of a nest of at most ROLL_NEST loops. */
bool roll_fit(const roll_place *places, size_t n, roll_affine *out);
ptrdiff_t roll_offset(const roll_affine *affine, size_t flat);
/* The same offsets as a nest of loops over `dims`; false where that is none. */
bool roll_refine(const roll_affine *affine, size_t ndim, const ptrdiff_t *dims, ptrdiff_t *strides);
/* How long the stretch is that starts at places[0]: one base, and array places in one loop. */
size_t roll_stretch(const roll_place *places, size_t n);
/* The same in several loops if all that follow in this base are; `affine` tells, unless it is a base of scalars. */
size_t roll_piece(const roll_place *places, size_t n, roll_affine *affine);
/* The length of a row, and where the stretches in it end; 0: there are no rows. */
size_t roll_rows(const roll_place *places, size_t n, size_t *ends, size_t *parts);
void roll_make_plan(const roll_place *places, size_t n, size_t min_width, roll_plan *plan);
/* The p >= 2 such that every p-th member is a run of its own with order in it; 0 if there is none. */
size_t roll_period(const roll_place *const *places, const roll_plan *plans, size_t slots, size_t n, size_t min_width);

/* --- roll_class.c: which nodes do the same thing --- */

void roll_find_uses(roll *r);
/* Sorts the n nodes of r->members, of one level and op, into classes (ends of classes in r->list, their number in
 * *count). The last class, perhaps empty, is of those that stay scalar. */
fad_status roll_classify(roll *r, size_t n, size_t *count);

/* --- roll_operand.c: places to nodes --- */

fad_status roll_new_base(roll *r, uint32_t node, uint32_t source, uint32_t *out);
/* The scalar node of `to` for a scalar of `from`. */
fad_status roll_scalar(roll *r, uint32_t node, uint32_t *out);
fad_status roll_scalar_at(roll *r, roll_place place, uint32_t *out);
/* A nest of places of a base, of shape affine->dims; `truth` allows truth values. */
fad_status roll_slice(roll *r, uint32_t base, const roll_affine *affine, bool truth, uint32_t *out);
fad_status roll_reshape(roll *r, uint32_t node, size_t ndim, const ptrdiff_t *dims, uint32_t *out);
fad_status roll_gather(roll *r, const roll_place *places, size_t n, uint32_t *out);
/* Whether so disordered a slot is worth its instructions. */
bool roll_is_worth_it(roll *r, const roll_place *places, size_t n, roll_plan *plan);
/* The operands as a node that broadcasts to `dims`. */
fad_status roll_build(roll *r, const roll_place *places, size_t n, const roll_plan *plan, size_t ndim,
                      const ptrdiff_t *dims, bool truth, uint32_t *out);

/* --- roll_sum.c: n-ary sums --- */

/* One sum for every member, as few nodes; not `done`, and nothing appended, where they have nothing in common. */
fad_status roll_sums(roll *r, const uint32_t *members, size_t n, bool *done);
/* One sum of scalars, which becomes sums of arrays where its operands are in some. */
fad_status roll_one_sum(roll *r, uint32_t node);

/* --- roll_run.c: scalars of one level and op to array nodes --- */

void roll_fill(const roll *r, const uint32_t *members, size_t n, size_t slot, roll_place *places);
/* The nest of loops in which the operands of `slots` plans come in together; returns its depth. */
size_t roll_common_nest(const roll *r, const roll_plan *plans, size_t slots, size_t n, ptrdiff_t *dims);
/* The members of a run are now the elements of `node`, which broadcasts to `dims`. */
fad_status roll_settle(roll *r, const uint32_t *members, size_t n, size_t ndim, const ptrdiff_t *dims, uint32_t node);
/* The n nodes of r->members, of which r->list tells where each of `classes` classes ends. */
fad_status roll_classes(roll *r, size_t classes);

/* --- pass_roll.c --- */

/* Each as a node of its own. */
fad_status roll_copy_each(roll *r, const uint32_t *nodes, size_t n);
uint32_t *roll_scratch(roll *r);

#endif
