/* lower_emit.h: what the parts of emission share: the program in the making, and where values live in it. */
#ifndef FAD_LOWER_EMIT_H
#define FAD_LOWER_EMIT_H

#include "lower.h"

enum { FAD_BLOCK_CLASSES = 256 };

typedef struct fad_free_block {
    struct fad_free_block *next;
    uint64_t at;
} fad_free_block;

/* A growing list of plain records. */
typedef struct {
    void *data;
    size_t count, capacity, item;
} fad_records;

/* Memory of a REPEAT's values that outlive their iteration. */
typedef struct {
    uint64_t at, size;
    uint32_t last;             /* time when the last of them is read */
} fad_stash;

typedef struct {
    fad_lowering *l;
    fad_tape *tape;
    fad_program *program;
    uint32_t *last;            /* time of the last reading of a root's memory, or of a scalar */
    uint64_t *where;           /* of roots and scalars in the workspace: offset */
    uint8_t *state;            /* of those: FAD_HAS_ROOM, FAD_IS_FREE */
    uint32_t *place;           /* of nodes in the region at hand: the strip that holds them; of scalars: their entry */
    uint32_t *place_region;
    uint32_t time, region;
    uint64_t top;              /* of the workspace */
    uint64_t largest, held;    /* bytes: of the largest array that a region computes; of small ones that are kept */
    uint64_t partial;          /* where the partial sum at hand is */
    uint64_t zero;             /* where the constants hold 0.0, if they do: */
    bool has_zero;
    fad_free_block *scalars_free, *blocks_free[FAD_BLOCK_CLASSES], *spare_blocks;
    fad_records steps, instructions, scalars, repeats, groups, places, affines, numbers, guards, calls, call_arguments, call_forms,
        constants, scalar_constants;
    fad_records strip_last;    /* of the region's strips: the last instruction that reads them */
    fad_records stashes;       /* memory of repeated scalars (lower_repeat.c) */
    uint32_t strip_count;
    size_t first_instruction;
} fad_emitter;

static inline bool fad_is_strip(const fad_argument *a) { return a->place == FAD_AT_STRIP; }

enum { FAD_HAS_ROOM = 1, FAD_IS_FREE = 2 };

/* lower_emit.c */
fad_status fad_emit_push(fad_emitter *e, fad_records *to, const void *record);
fad_status fad_emit_take_scalar(fad_emitter *e, uint64_t *at);
fad_status fad_emit_give_scalar(fad_emitter *e, uint64_t at);
fad_status fad_emit_take_block(fad_emitter *e, uint64_t size, uint64_t *at);
fad_status fad_emit_give_block(fad_emitter *e, uint64_t size, uint64_t at);
/* Room for a root that is about to be written. */
fad_status fad_emit_make_room(fad_emitter *e, uint32_t root);
/* Takes back the room of a root that nothing reads after `time`. */
fad_status fad_emit_free_room(fad_emitter *e, uint32_t owner);
fad_status fad_emit_constant(fad_emitter *e, const void *bytes, size_t size, uint64_t *at);
/* Base and offset of an element of a root. */
fad_argument fad_emit_memory(const fad_emitter *e, uint32_t root, ptrdiff_t offset);
/* Where a STORE item stores, `offset` elements from the start. */
fad_argument fad_emit_target(const fad_emitter *e, const fad_item *item, ptrdiff_t offset);
fad_status fad_emit_scalar(fad_emitter *e, int op, uint64_t to, uint32_t a, uint32_t b, uint32_t c);
fad_status fad_emit_load(fad_emitter *e, const fad_argument *from, uint64_t to);
/* Makes a step of the scalar instructions from number `before` on. */
fad_status fad_emit_flush_scalars(fad_emitter *e, size_t before);
/* Takes back the room of what an item reads for the last time. */
fad_status fad_emit_free_operands(fad_emitter *e, const fad_item *item);

/* A scalar instruction before anything is placed. */
typedef struct {
    uint32_t item, node;       /* node: FAD_NO_INDEX of what is stored, and of partial sums */
    uint32_t time;
    uint16_t op;
    uint8_t count;             /* operands */
    bool partial;              /* a partial sum: the next entry reads it, and nothing else does */
    uint32_t operands[3];      /* number of the entry that makes it; or FAD_OUTSIDE and a node */
} fad_entry;

#define FAD_OUTSIDE UINT32_C(0x80000000)

/* A stretch of entries that repeats: `count` times `period` entries from `first` on. */
typedef struct {
    size_t first, period, count;
} fad_stretch;

/* lower_scalars.c */
fad_status fad_emit_item(fad_emitter *e, const fad_item *item);
fad_status fad_emit_scalars(fad_emitter *e, const fad_region *r);
/* Where a scalar node is: in its own place, or where it is loaded from. */
fad_argument fad_emit_number(const fad_emitter *e, uint32_t node);
/* A scalar node in the workspace, in units of 8 bytes; loads it if need be. */
fad_status fad_emit_unit(fad_emitter *e, uint32_t node, uint32_t *unit);

/* lower_period.c: the stretches of a block of entries that repeat, in order. */
fad_status fad_find_stretches(const fad_emitter *e, const fad_entry *entries, size_t count, fad_records *found);
/* Whether operand `k` of a later entry lies as far from that of an earlier one as their memory: `step` in bytes, or -
 * where both are made by entries of the region - in entries. */
bool fad_entry_step(const fad_emitter *e, const fad_entry *later, const fad_entry *earlier, int k, int64_t *step);
/* Memory that an entry loads from or stores to; false: none. */
bool fad_entry_memory(const fad_emitter *e, const fad_entry *entry, fad_argument *out);
bool fad_entry_is_constant(const fad_emitter *e, uint32_t operand);
/* Whether an entry of `all` goes on with a partial sum. */
bool fad_entry_goes_on(const fad_entry *all, const fad_entry *entry);

/* lower_order.c: the instructions of a region over `n` elements in an order that may need fewer strips. Each strip is made
 * once. */
fad_status fad_lower_order(const fad_emitter *e, const fad_instruction *all, size_t count, uint64_t n, fad_instruction *sorted);

/* lower_demand.c: the entries in another order; and, where that is used, new times for what is read in the block. */
fad_status fad_sort_by_demand(const fad_emitter *e, const fad_entry *all, size_t count, fad_entry *sorted);
void fad_note_sorted(const fad_emitter *e, const fad_entry *before, fad_entry *sorted, size_t count);

/* A list of groups: sorted entries, and where each group ends. */
typedef struct {
    fad_entry *sorted;
    uint32_t *ends;
    size_t count;
} fad_grouping;

/* lower_groups.c: the entries in an order in which those of one op stand together, if enough of
 * them are in wide groups; otherwise `count` is 0. The caller gives the room: `entries` of each. */
fad_status fad_find_groups(const fad_emitter *e, const fad_entry *entries, size_t count, fad_grouping *out);
fad_status fad_emit_groups(fad_emitter *e, const fad_grouping *groups, size_t *scalars_before);

/* lower_repeat.c: emits iterations begin .. begin+count-1 of a stretch as REPEAT steps as far as their operands are
 * affine; `*done` is how many iterations, 0 where the first is not worth it. */
fad_status fad_emit_repeat(fad_emitter *e, const fad_entry *entries, const fad_stretch *stretch, size_t begin,
                           size_t *scalars_before, size_t *done);

#endif
