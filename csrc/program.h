/* program.h: a program: what a trace is lowered to, and what the executor runs. All of it is plain numbers, so a
 * program can be copied, saved and loaded; nothing in it changes while it runs.
 *
 * A program is a list of steps. Most are REGIONs: a loop over a flat index range in strips, in which all instructions
 * do one strip before the next begins, so that intermediate values stay in the first-level cache. What does not roll
 * into arrays is a block of SCALARS for an interpreter. Memory is addressed as base and byte offset: the workspace,
 * the program's constants, the inputs, the outputs. */
#ifndef FAD_PROGRAM_H
#define FAD_PROGRAM_H

#include "pool.h"
#include "trace.h"

/* Bases. The workspace begins with the program's scalars; inputs and outputs follow the constants. */
enum { FAD_IN_WORKSPACE, FAD_IN_CONSTANTS, FAD_FIRST_INPUT };

typedef enum {
    FAD_AT_STRIP,    /* a temporary of the region: offset in its strips */
    FAD_AT_MEMORY,   /* advances with the index */
    FAD_AT_FIXED,    /* one value for all of the range */
} fad_place;

/* An operand or result of an instruction. */
typedef struct {
    uint8_t place;       /* fad_place */
    uint8_t dtype;
    uint16_t unused;
    uint32_t base;
    uint64_t offset;     /* bytes; of FAD_AT_STRIP: the number of the strip */
} fad_argument;

typedef enum {
    FAD_DO_OP,           /* element-wise op: operands, result */
    FAD_DO_MUL_ADD,      /* x, y, z: x*y + z, rounded once where the machine can */
    FAD_DO_MUL_SUB,      /* x*y - z */
    FAD_DO_SUB_MUL,      /* z - x*y */
    FAD_DO_ZMUL_ADD,     /* x*y + z, and z where x is 0: a strong product */
    FAD_DO_ZMUL_SUB,     /* x*y - z, and -z where x is 0 */
    FAD_DO_SUB_ZMUL,     /* z - x*y, and z where x is 0 */
    FAD_DO_CONVERT,      /* operand, result: another type */
    FAD_DO_LOAD,         /* result[i] = memory at an affine place */
    FAD_DO_STORE,        /* memory at an affine place = operand[i] */
    FAD_DO_ADD,          /* memory at an affine place += operand[i]: sums, overlapping writes */
    FAD_DO_GATHER,       /* result[i] = memory[indices[i]] */
    FAD_DO_PUT,          /* memory[indices[i]] = operand[i] */
    FAD_DO_SCATTER_ADD,  /* memory[indices[i]] += operand[i] */
    FAD_DO_COUNT
} fad_code;

static inline bool fad_is_fused(int code) { return code >= FAD_DO_MUL_ADD && code <= FAD_DO_SUB_ZMUL; }

/* An instruction as it runs: its inner loop and, of one that is nothing but a call of it, all that the call needs, in one
 * line of the cache. A region of a few elements is mostly the reading of its instructions. */
typedef struct {
    fad_loop loop;
    fad_loop pair;          /* does this instruction and the next, which is a call too; NULL: they are done one by one */
    void *data;
    uint64_t places[4];     /* base in the upper 16 bits (FAD_BASE_OF_STRIPS: a strip), and offset, or number of the strip */
    uint8_t steps[4];       /* bytes from element to element */
    uint8_t count;          /* arguments; 0: not only a call, or the first or last of turns */
    uint8_t unused[3];
} fad_ready;

enum { FAD_BASE_OF_STRIPS = 0xffff, FAD_OFFSET_BITS = 48 };

/* Affine places: of flat index i, taken apart into indices by `dims`, the offset is the sum of index times stride. */
typedef struct {
    uint32_t ndim;
    uint32_t first;      /* in the program's numbers: ndim dims, then ndim strides in bytes */
} fad_affine;

typedef struct {
    uint8_t code;        /* fad_code */
    uint8_t dtype;       /* that an element-wise op computes in */
    uint8_t count;       /* arguments; the result, or what is stored, comes last */
    uint8_t unused;
    uint16_t op;
    uint16_t unused_too;
    uint32_t affine;     /* of LOAD, STORE and ADD */
    uint64_t limit;      /* of GATHER, PUT and SCATTER_ADD: elements of the memory */
    fad_argument arguments[4];
} fad_instruction;

/* Beyond the element-wise ops, for scalars: the number at a + (b, c as a 64-bit byte offset) of base `a`; and a number
 * of the workspace in another type. */
enum {
    FAD_SCALAR_LOAD = FAD_ELEMENTWISE_COUNT,
    FAD_SCALAR_STORE,    /* the number at `to` goes to base a, byte offset (b, c) */
    FAD_SCALAR_TO_F32,
    FAD_SCALAR_TO_I64,
    FAD_SCALAR_TO_BOOL,
    FAD_SCALAR_MUL_ADD,  /* a*b + c */
    FAD_SCALAR_MUL_SUB,  /* a*b - c */
    FAD_SCALAR_SUB_MUL,  /* c - a*b */
    FAD_SCALAR_ZMUL_ADD, /* a*b + c, and c where a is 0: a strong product */
    FAD_SCALAR_COUNT
};

/* A product of the first two operands, with a third. */
static inline bool fad_is_fused_scalar(int op) { return op >= FAD_SCALAR_MUL_ADD && op <= FAD_SCALAR_ZMUL_ADD; }

/* Operands and result are numbers of the workspace, in units of 8 bytes. */
typedef struct {
    uint16_t op;
    uint16_t unused;
    uint32_t to, a, b, c;
} fad_scalar_instruction;

/* `count` numbers by one op (element-wise or fused) from operands anywhere in the workspace.
 * The results are side by side, from `to` on (in units of 8 bytes, as the places); no operand is among them. */
typedef struct {
    uint16_t op;
    uint16_t unused;
    uint32_t count, to;
    uint32_t unused_too;
    uint64_t first;      /* in the program's places: `count` of the first operand, then as many of the next */
} fad_group;

static inline size_t fad_scalar_arity(int op)
{
    return op < FAD_ELEMENTWISE_COUNT ? fad_ops[op].arity : fad_is_fused_scalar(op) ? 3 : 1;
}

/* A number of a REPEAT step: at `offset` of its base in the first iteration, and `stride` bytes further in each. */
typedef struct {
    uint32_t base;
    uint32_t unused;
    uint64_t offset;     /* bytes, a multiple of 8 */
    int64_t stride;      /* bytes, a multiple of 8; 0 or negative too */
} fad_moving;

/* An instruction of a REPEAT step: an element-wise op (POS copies) or a fused one, on numbers
 * anywhere. A result is always written, before the next instruction begins. */
typedef struct {
    uint16_t op;
    uint8_t count;       /* operands */
    uint8_t chained;     /* bit k: operand k is the result of the instruction before (of the first one: of the last) */
    uint32_t unused;
    fad_moving to, operands[3];
} fad_repeated;

typedef enum {
    FAD_STEP_REGION,
    FAD_STEP_REGION_BACKWARDS, /* its strips run from the last to the first */
    FAD_STEP_SCALARS,
    FAD_STEP_GROUPS,
    FAD_STEP_REPEAT,     /* `n` times the repeated instructions, each time at the next places */
    FAD_STEP_ZERO,       /* zeros: one argument, `n` bytes */
    FAD_STEP_MATMUL,     /* stacks of matrices: x, y, result */
    FAD_STEP_MATMUL_VIEWS, /* the same; x and y are strided */
    FAD_STEP_CUMSUM,
    FAD_STEP_EXTREMUM,   /* MAX_TO (`first` is 1) or MIN_TO: operand, result */
    FAD_STEP_SUM,        /* SUM_TO in the order of the recording: operand, result */
    FAD_STEP_CALL,       /* a rule of the host */
    FAD_STEP_GUARDS,     /* compares the guards from `first` on; ends the run where one differs */
    FAD_STEP_COUNT
} fad_step_kind;

static inline bool fad_is_region(int kind) { return kind == FAD_STEP_REGION || kind == FAD_STEP_REGION_BACKWARDS; }

typedef struct {
    uint16_t kind;
    uint16_t dtype;
    uint32_t first, count;  /* instructions, scalar or repeated ones, groups, guards; of CALL: the call */
    uint64_t n;             /* length of the range; of REPEAT: iterations; of ZERO: bytes */
    uint32_t strip;         /* elements a strip */
    uint32_t strips;        /* temporaries */
    uint32_t numbers;       /* MATMUL, CUMSUM, EXTREMUM, SUM: shapes and strides (in elements) */
    uint32_t unused;
    uint64_t piece;         /* of a region in a band: each strip ends where so many elements end, or is whole. 0: anywhere */
    fad_argument arguments[3];
} fad_step;

typedef struct {
    uint32_t base;
    uint32_t size;          /* bytes compared */
    uint64_t offset;
    uint64_t expected;      /* where the constants hold what was seen */
} fad_guard;

typedef struct {
    uint8_t dtype;
    uint8_t unused[3];
    uint32_t ndim;
    uint32_t dims;          /* in the numbers */
    uint32_t unused_too;
    uint64_t bytes;
} fad_form;                 /* of an input or output */

/* How the strips of a region may run at the same time (program_turns.c). Instructions of which some write where others
 * of other strips read or write are a group: a strip comes to the first of them when the strip before has passed the
 * last. 0: no group. */
typedef struct {
    uint8_t awaits;         /* the group whose turn it waits for: it is the first of the group */
    uint8_t ends;           /* the group whose turn it ends: it is the last of the group */
} fad_turn;

enum { FAD_MOST_GROUPS = 8, FAD_MOST_TOGETHER = 64 };

enum { FAD_MOST_IN_BAND = 16, FAD_MOST_LOCAL = 8 };

/* Steps that go over the same rows, `block` of them at a time before the next step does those (program_bands.c). */
typedef struct {
    uint32_t first, count;
    uint64_t rows, block;
    uint32_t sums;          /* bit k: step k is a product of matrices whose sums go over the rows */
    uint32_t turns;         /* bit k: blocks do step k in turn, as more than one of them writes to the same memory */
    bool apart;             /* in all else no two blocks meet: several threads may run them */
    uint32_t local_count;   /* arrays of which nothing else reads anything: all blocks may have the place of the first */
    uint64_t local_bytes[FAD_MOST_LOCAL]; /* of a row of each */
} fad_band;

/* The steps of bands as they run: regions have a strip and a piece of their own there, and local array number k is in base
 * fad_first_local(program) + k. */
typedef struct {
    fad_step *steps;
    fad_instruction *instructions;
    fad_ready *bound;
} fad_banded;

static inline bool fad_sums_rows(const fad_band *band, size_t k) { return band->sums >> k & 1; }
static inline bool fad_in_turn(const fad_band *band, size_t k) { return band->turns >> k & 1; }

typedef struct fad_call {
    void *rule;
    uint32_t inputs, outputs;
    uint32_t first;         /* in the calls' arguments and forms */
} fad_call;

typedef struct fad_program {
    fad_allocator allocator;
    const fad_loops *loops;
    fad_custom_host host;
    fad_form *inputs, *outputs, *call_forms;
    fad_step *steps;
    fad_instruction *instructions;
    fad_ready *bound;               /* each instruction as it runs */
    fad_scalar_instruction *scalars;
    fad_repeated *repeats;
    fad_group *groups;
    fad_bound_loop *group_bound;    /* the vector function of each group, or none */
    uint32_t *places;               /* operands of groups */
    fad_affine *affines;
    int64_t *numbers;
    fad_guard *guards;
    fad_call *calls;
    fad_argument *call_arguments;
    uint8_t *columns;               /* of each instruction: how many are done together, with those that follow (program_columns.c) */
    fad_turn *turns;                /* of each instruction; NULL: all strips run one after the other */
    uint8_t *together;              /* of each step, where there are turns: whether its strips may run together */
    fad_band *bands;                /* in the order of their steps */
    fad_banded banded;              /* where there are bands: as many steps and instructions as outside of them */
    double *scalar_constants;       /* copied to the start of every workspace */
    char *constants;
    size_t input_count, output_count, call_form_count, step_count, instruction_count, scalar_count, repeat_count;
    size_t group_count, place_count, band_count;
    size_t affine_count;
    size_t number_count, guard_count, call_count, call_argument_count, scalar_constant_count, constant_bytes;
    size_t workspace_bytes;         /* without the strips */
    size_t strip_bytes;
    size_t room_bytes;              /* fad_program_room_bytes() */
    size_t first_free;              /* steps before this one keep the recording's bits: guards are computed by them; strict: all */
    size_t node_count;              /* of the trace that was lowered */
    bool strict;
} fad_program;

enum { FAD_CACHE_LINE = 64, FAD_MOST_BASES = 64 /* that have no room in the workspace of their own */ };

static inline size_t fad_first_local(const fad_program *p) { return FAD_FIRST_INPUT + p->input_count + p->output_count; }

/* Room of a run for a REPEAT step of `count` instructions: where they are in the iteration at hand. */
static inline size_t fad_repeat_bytes(size_t count) { return (count + 1) * (5 + 4 * 2) * sizeof(int64_t); }

/* A sum over a range of more than one strip: totals of 2^k strips for each bit k of `strips`, those of most strips
 * first. So a sum of n elements rounds each of them about log n times, however long the range. */
typedef struct {
    uint64_t strips;
    double totals[64];
} fad_sum;

/* Makes the program of a trace (whose nodes are marked as dynamic or not). Guards expect the values that `seen` holds:
 * for each guard the bytes, one after the other, each from a multiple of 8 on. */
fad_status fad_lower(const fad_trace *trace, const char *seen, bool strict, fad_program **out);
/* Binds instructions to inner loops. */
fad_status fad_program_bind(fad_program *program);
/* Finds the columns of the same rows. */
fad_status fad_program_columns(fad_program *program);
/* Finds the pairs of instructions that run as one loop. */
fad_status fad_program_pairs(fad_program *program);
/* Elements times instructions of a region that several threads run, in fad_program_bind: some 50 us. */
enum { FAD_LEAST_WORK = 1 << 18 };
/* Finds the regions with so much work that several threads may run, and the turns in them. Again, after a change, and
 * before fad_program_bands. */
fad_status fad_program_turns(fad_program *program, uint64_t least_work);
/* Bytes that steps pass over again in the second-level cache, and leave room for others. */
enum { FAD_CACHE_BYTES = 3 << 16 };
/* Finds the bands of a program that can be run, whose blocks pass over about so many bytes; 0: none. Again, after a change. */
fad_status fad_program_bands(fad_program *program, uint64_t cache_bytes);
/* Room of a run for a step alone: fad_repeat_bytes() of REPEAT, a fad_sum for each ADD of a region of several strips. */
size_t fad_step_room(const fad_program *program, const fad_step *step);
/* Room for the sums over some rows, of step `k` of a band. */
size_t fad_band_room(const fad_program *program, const fad_band *band, size_t k);
/* That of the step that needs most. Bands may need more. */
size_t fad_program_room_bytes(const fad_program *program);
void fad_program_destroy(fad_program *program);

/* Puts the constants into fresh memory of fad_program_bytes() bytes, aligned to a cache line. */
size_t fad_program_bytes(const fad_program *program);
void fad_program_prepare(const fad_program *program, char *workspace);

/* Runs it. `failed` becomes the number of the guard that differs, or guard_count; then the outputs are complete. The
 * threads of `pool` (NULL: none) take part in what is wide; the bits do not depend on them. */
fad_status fad_program_run(const fad_program *program, char *workspace, char *const *inputs, char *const *outputs,
                           fad_pool *pool, size_t *failed);
/* The same with all bases in place: workspace, constants, inputs, outputs. */
fad_status fad_program_steps(const fad_program *program, char *const *bases, fad_pool *pool, size_t *failed);

/* What is wrong with a program, or with a file of one. */
typedef struct {
    const char *part;       /* "byte", "input", "step", "instruction", ...: */
    size_t at;              /* which of them */
    const char *reason;     /* a sentence without a full stop */
    char detail[40];        /* what the reason is about; may be empty */
} fad_fault;

/* True where the executor can run the program: whatever it reads and writes lies within the memory that the program
 * declares, it writes to no input, and every loop it calls exists. Indices that are data are checked as it runs. */
bool fad_program_verify(const fad_program *program, fad_fault *fault);
/* Element operations of one run; UINT64_MAX: more. Of a program that is verified. */
uint64_t fad_program_work(const fad_program *program);

/* program_file.c describes the format. `*size` becomes the bytes needed; they are written where `room` is enough.
 * FAD_BAD_OPERAND: the program has CALL steps, whose rules are the host's. */
fad_status fad_program_write(const fad_program *program, char *to, size_t room, size_t *size);
/* The program that was written, verified and bound. Where it fails, `fault` says at which byte, or in what part. */
fad_status fad_program_read(const char *bytes, size_t size, const fad_allocator *allocator, const fad_loops *loops,
                            fad_program **out, fad_fault *fault);

#endif
