/* vectorize.h: what the two parts of the vectorizing pass share (vectorize_find.c, pass_vectorize.c). Nobody else
 * uses it.
 *
 * A loop in the recording is a stretch of the tape in which the same `body` nodes come `turns` times. Nodes that
 * depend on no input lie between them and do not count: they are made once, in the first turns. A node of the body is
 * known by its position, and a node of the loop by its turn and position. */
#ifndef FAD_VECTORIZE_H
#define FAD_VECTORIZE_H

#include "trace.h"

enum { VECTOR_SLOTS = 3, VECTOR_MOST_ODD = 16 };

/* Where an operand of a position comes from. */
typedef enum {
    SLOT_SAME,      /* position `where` of its own turn */
    SLOT_CARRIED,   /* an earlier turn, or nothing that every turn has alike */
    SLOT_FIXED,     /* node `where`, before the loop or a constant: the same in all turns, or the same number */
    SLOT_NUMBERS,   /* a constant of each turn's own */
    SLOT_ELEMENTS,  /* ELEMENTs of one array, before the loop, at equal distances; `where` is the first turn's */
} slot_kind;

typedef struct {
    slot_kind kind;
    uint32_t where;
    int64_t start, step;  /* ELEMENTS: offsets */
} body_slot;

/* What becomes of a position: a node for every turn, one array of all turns, or one scalar for all turns. */
typedef enum { BODY_SCALAR, BODY_VECTOR, BODY_UNIFORM } body_kind;

typedef struct {
    uint16_t op;
    uint16_t arity;           /* slots that are looked at; 0: a node that can only stay as it is */
    body_kind kind;
    uint32_t offset;          /* of its node from the turn's first, in all turns but the odd ones */
    int64_t start, step;      /* ELEMENT: flat offsets in the array, by turn */
    bool is_affine;
    uint32_t living;          /* turns in which it is used */
    body_slot slots[VECTOR_SLOTS];
    /* pass_vectorize.c: nodes of the result */
    uint32_t node, numbers;   /* `numbers`: truth values as float64; FAD_NODE_NONE: not yet */
} body_node;

/* A turn with constants where others have none. */
typedef struct {
    uint32_t turn;
    uint32_t *nodes;          /* by position */
} odd_turn;

typedef struct {
    const fad_tape *from;
    fad_tape *memory;
    uint32_t body, turns;
    uint32_t start, end;      /* nodes of the loop, constants between them too */
    body_node *positions;
    uint32_t *firsts;         /* the first node of every turn */
    odd_turn odd[VECTOR_MOST_ODD];
    size_t odd_count;
    uint32_t *table;          /* all nodes by turn and position, where more turns are odd; else NULL */
    size_t table_size;
    uint32_t *at;             /* position of a node by its distance from the turn's first; FAD_NODE_NONE: no position */
    uint32_t span;            /* length of that */
} found_loop;

/* The loop that most of the trace is, and what becomes of its nodes. `found` stays false where there is none, or where
 * too little of it would become arrays. */
fad_status vectorize_find(found_loop *loop, bool *found);
/* Whether nearly all turns of what would become arrays are used; `uses` is of every node, 0: by nothing. An array lives
 * as a whole: where many turns are dead, it would compute them. */
bool vectorize_lives(found_loop *loop, const uint8_t *uses);
/* The node at a position of a turn. */
uint32_t vectorize_node(const found_loop *loop, uint32_t turn, uint32_t position);
/* Where a node that depends on an input is, if it is in the loop. `turn` is a guess on entry. */
bool vectorize_place(const found_loop *loop, uint32_t node, uint32_t *turn, uint32_t *position);
void vectorize_free(found_loop *loop);

#endif
