/* test_batch.c: a recording of one lane repeated over all of them gives, in each lane, what recording that lane
 * gives; for every structural row, seeds that vary and seeds that do not, and with every allocation failing once.
 * Prints what failed and exits with 1, or prints "ok". */
#include "array.h"
#include "expect.h"

/* --- a host with one rule: an index for each element of a vector, which tells where the last positive one is --- */

static char rule;

static void rotate(int64_t *to, const double *from, size_t n)
{
    int64_t by = 0;
    for (size_t i = 0; i < n; i++)
        if (from[i] > 0)
            by = (int64_t)i;
    for (size_t i = 0; i < n; i++)
        to[i] = ((int64_t)i + by) % (int64_t)n;
}

static fad_status record_rotation(fad_tape *tape, uint32_t a, uint32_t *out)
{
    uint8_t dtype = FAD_I64;
    const fad_shape *shape = fad_node_shape(tape, a);
    TRY(fad_new_custom(tape, &rule, 1, &a, 1, &dtype, &shape, out));
    rotate((int64_t *)tape->values[*out].array->data, (const double *)tape->values[a].array->data, shape->size);
    return FAD_OK;
}

static fad_status batch_rotation(void *context, fad_tape *tape, const fad_custom *custom, size_t lanes,
                                 const uint32_t *operands, uint32_t *results)
{
    uint8_t dtype = FAD_I64;
    const fad_shape *shape = fad_node_shape(tape, operands[0]);
    size_t n = shape->size / lanes;
    (void)context;
    TRY(fad_new_custom(tape, custom->rule, 1, operands, 1, &dtype, &shape, results));
    int64_t *to = (int64_t *)tape->values[results[0]].array->data;
    const double *from = (const double *)tape->values[operands[0]].array->data;
    for (size_t lane = 0; lane < lanes; lane++)
        rotate(to + lane * n, from + lane * n, n);
    return FAD_OK;
}

static fad_tape *new_tape(counter *c)
{
    fad_tape *tape = NULL;
    fad_allocator allocator = {counting, c};
    if (fad_tape_create(&tape, &allocator, &loops, 0) != FAD_OK)
        return NULL;
    tape->host.emit_batch = batch_rotation;
    return tape;
}

/* --- the recording --- */

enum { LANES = 3, ROWS = 3, COLUMNS = 4, LENGTH = 5, SEEDS = 3, MOST = 40 };

static const size_t ranks[SEEDS] = {2, 1, 0};
static const ptrdiff_t dims[SEEDS][2] = {{ROWS, COLUMNS}, {LENGTH, 0}, {0, 0}};

typedef struct {
    double matrix[ROWS * COLUMNS], vector[LENGTH], number;
} lane_values;

static void sample(lane_values *to)
{
    unsigned state = 12345;
    double *p = (double *)to;
    for (size_t i = 0; i < LANES * sizeof *to / sizeof *p; i++) {
        state = state * 1103515245u + 12345u;
        p[i] = (double)(state >> 16 & 0x7fff) / 16384.0 - 1.0;
    }
}

static const double *part_of(const lane_values *values, size_t seed)
{
    return seed == 0 ? values->matrix : seed == 1 ? values->vector : &values->number;
}

static fad_status new_array(fad_tape *tape, int op, size_t ndim, const ptrdiff_t *shape_dims, const double *values,
                            uint32_t *out)
{
    const fad_shape *shape;
    unsigned active = op == FAD_VARIABLE ? FAD_IS_ACTIVE : 0;
    if (ndim == 0)
        return fad_push_scalar(tape, op, active, 0, 0, 0, *values, out);
    TRY(fad_shape_intern(tape, ndim, shape_dims, &shape));
    TRY(fad_new_array(tape, op, active, 0, 0, 0, FAD_F64, shape, out));
    memcpy(tape->values[*out].array->data, values, shape->size * sizeof *values);
    return FAD_OK;
}

typedef struct {
    uint32_t nodes[MOST];
    size_t count;
} list;

/* The node that `call` puts in OUT is one more output. */
#define ADD(call)                                \
    do {                                         \
        TRY(call);                               \
        outputs->count++;                        \
    } while (0)
#define OUT (&outputs->nodes[outputs->count])

static fad_status strided_rows(fad_tape *tape, uint32_t a, uint32_t *read, uint32_t *written)
{
    const ptrdiff_t loops_of[3] = {2, 3, 2}, strides[3] = {4, -1, 0};
    uint32_t side;
    TRY(fad_make_strided(tape, fad_node_shape(tape, a), 3, loops_of, 3, strides, &side));
    TRY(fad_record_strided(tape, a, side, read));
    return fad_record_strided_add(tape, *read, side, written);
}

/* One lane of every row; x is a matrix, v a vector, s a number. */
static fad_status record_lane(fad_tape *tape, const uint32_t *seeds, list *outputs)
{
    uint32_t x = seeds[0], v = seeds[1], s = seeds[2], side, t, two, places, both[3];
    const ptrdiff_t wide[3] = {2, ROWS, COLUMNS}, flat[1] = {ROWS * COLUMNS}, whole[2] = {LENGTH, LENGTH};
    const ptrdiff_t start[2] = {2, 1}, step[2] = {-1, 2}, part[2] = {2, 2};
    const int swapped[2] = {1, 0}, source[2] = {0, 1};
    const int64_t at[4] = {7, 0, 0, 11}, distinct[LENGTH] = {4, 0, 2, 9, 1};
    const fad_shape *shape;
    both[0] = x, both[1] = s;
    ADD(fad_record_elementwise(tape, FAD_MUL, both, -1, OUT));
    both[0] = s, both[1] = s;
    ADD(fad_record_elementwise(tape, FAD_SUB, both, -1, OUT));
    both[1] = outputs->nodes[1];
    ADD(fad_record_elementwise(tape, FAD_GREATER, both, -1, OUT)); /* a truth value of scalars is a number */
    both[0] = outputs->nodes[2];
    both[1] = x, both[2] = s;
    ADD(fad_record_elementwise(tape, FAD_SELECT, both, -1, OUT));
    TRY(fad_shape_intern(tape, 1, flat, &shape));
    TRY(fad_record_transpose(tape, x, swapped, &t));
    ADD(fad_record_reshape(tape, x, shape, OUT));
    ADD(fad_record_reshape(tape, t, shape, OUT));
    TRY(fad_shape_intern(tape, 3, wide, &shape));
    ADD(fad_record_broadcast_to(tape, x, shape, OUT));
    ADD(fad_record_broadcast_to(tape, s, shape, OUT));
    ADD(fad_record_sum_to(tape, x, tape->shapes[0], OUT));
    TRY(fad_shape_intern(tape, 1, &wide[2], &shape));
    ADD(fad_record_sum_to(tape, x, shape, OUT));
    TRY(fad_make_view(tape, fad_node_shape(tape, x), 2, part, start, step, source, &side));
    ADD(fad_record_view(tape, x, side, OUT));
    TRY(fad_record_view(tape, x, side, &both[0]));
    ADD(fad_record_embed(tape, both[0], side, OUT));
    ADD(fad_record_update_view(tape, x, both[0], side, OUT));
    ADD(fad_record_element(tape, x, 6, OUT));
    TRY(fad_constant(tape, 2.0, &two));
    TRY(fad_record_element(tape, v, 1, &both[0]));
    both[1] = s, both[2] = two;
    ADD(fad_record_stack(tape, 3, both, OUT));
    both[0] = x, both[1] = outputs->nodes[0], both[2] = x;
    ADD(fad_record_concatenate(tape, 3, both, 1, OUT));
    ADD(fad_record_nsum(tape, 3, both, OUT));
    TRY(fad_record_indices(tape, 4, at, &places));
    ADD(fad_record_gather(tape, x, places, OUT));
    TRY(fad_record_gather(tape, x, places, &both[0]));
    ADD(fad_record_scatter_add(tape, both[0], places, fad_node_shape(tape, x), OUT));
    TRY(fad_record_indices(tape, LENGTH, distinct, &places));
    ADD(fad_record_update_at(tape, x, v, places, OUT));
    TRY(record_rotation(tape, v, &places));
    ADD(fad_record_gather(tape, v, places, OUT));
    ADD(fad_record_gather(tape, x, places, OUT));
    TRY(fad_shape_intern(tape, 2, whole, &shape));
    ADD(fad_record_scatter_add(tape, v, places, shape, OUT));
    ADD(fad_record_update_at(tape, x, v, places, OUT));
    ADD(fad_record_matmul(tape, x, t, OUT));
    ADD(fad_record_matmul(tape, t, x, OUT));
    ADD(fad_record_cumsum(tape, x, 1, false, OUT));
    ADD(fad_record_cumsum(tape, x, 0, true, OUT));
    TRY(fad_record_cast(tape, x, FAD_F32, &both[0]));
    ADD(fad_record_cast(tape, both[0], FAD_F64, OUT));
    TRY(strided_rows(tape, x, &both[0], &both[1]));
    *OUT = both[0], outputs->count++;
    *OUT = both[1], outputs->count++;
    return FAD_OK;
}

static const double *numbers(const fad_tape *tape, uint32_t node) { return (const double *)fad_value_array(tape, node).data; }

static fad_status dense(fad_tape *tape, uint32_t *node)
{
    if (!fad_is_array(tape, *node) || fad_contiguous(tape->values[*node].array))
        return FAD_OK;
    uint32_t both[2] = {*node, 0};
    TRY(fad_constant(tape, 1.0, &both[1]));
    return fad_record_elementwise(tape, FAD_MUL, both, -1, node);
}

/* --- the comparison --- */

/* Seeds whose bit is set vary; the others are the first lane's. All lanes of all outputs go to `results`. */
static fad_status over_lanes(fad_tape *tape, const lane_values *values, unsigned varying, list *outputs,
                             uint32_t *results)
{
    uint32_t seeds[SEEDS], given[SEEDS], batched[SEEDS];
    size_t n = 0;
    double all[LANES * ROWS * COLUMNS];
    for (size_t k = 0; k < SEEDS; k++) {
        ptrdiff_t lane_dims[3] = {LANES, dims[k][0], dims[k][1]};
        size_t size = ranks[k] == 2 ? ROWS * COLUMNS : ranks[k] == 1 ? LENGTH : 1;
        if (!(varying >> k & 1))
            continue;
        for (size_t lane = 0; lane < LANES; lane++)
            memcpy(all + lane * size, part_of(&values[lane], k), size * sizeof *all);
        TRY(new_array(tape, FAD_CONSTANT, ranks[k] + 1, lane_dims, all, &batched[n++]));
    }
    size_t start = tape->count;
    n = 0;
    for (size_t k = 0; k < SEEDS; k++) {
        TRY(new_array(tape, FAD_VARIABLE, ranks[k], dims[k], part_of(&values[0], k), &seeds[k]));
        if (varying >> k & 1)
            given[n++] = seeds[k];
    }
    TRY(record_lane(tape, seeds, outputs));
    return fad_emit_batch(tape, start, tape->count, LANES, n, given, batched, outputs->count, outputs->nodes, results);
}

static fad_status compare(counter *c, unsigned varying)
{
    static lane_values values[LANES];
    list outputs = {{0}, 0};
    uint32_t results[MOST], seeds[SEEDS];
    size_t bad;
    const char *reason;
    fad_status status = FAD_OK;
    sample(values);
    fad_tape *tape = new_tape(c);
    if (!tape)
        return FAD_NO_MEMORY;
    status = over_lanes(tape, values, varying, &outputs, results);
    EXPECT(fad_verify(tape, &bad, &reason));
    for (size_t lane = 0; lane < LANES && status == FAD_OK; lane++) {
        list alone = {{0}, 0};
        for (size_t k = 0; k < SEEDS && status == FAD_OK; k++)
            status = new_array(tape, FAD_VARIABLE, ranks[k], dims[k],
                               part_of(&values[varying >> k & 1 ? lane : 0], k), &seeds[k]);
        if (status == FAD_OK)
            status = record_lane(tape, seeds, &alone);
        for (size_t i = 0; i < outputs.count && status == FAD_OK; i++) {
            uint32_t ours = results[i] == FAD_NODE_NONE ? outputs.nodes[i] : results[i], theirs = alone.nodes[i];
            status = dense(tape, &ours);
            if (status == FAD_OK)
                status = dense(tape, &theirs);
            if (status != FAD_OK)
                break;
            size_t size = fad_node_shape(tape, theirs)->size;
            bool varies = results[i] != FAD_NODE_NONE;
            EXPECT(fad_node_shape(tape, ours)->size == size * (varies ? LANES : 1));
            EXPECT(fad_node_shape(tape, ours)->ndim == fad_node_shape(tape, theirs)->ndim + varies);
            const double *p = numbers(tape, ours) + (varies ? lane * size : 0), *q = numbers(tape, theirs);
            for (size_t j = 0; j < size; j++)
                if (fabs(p[j] - q[j]) > 1e-14) {
                    fprintf(stderr, "output %zu, lane %zu, element %zu: %g instead of %g\n", i, lane, j, p[j], q[j]);
                    failures++;
                    break;
                }
        }
    }
    fad_tape_destroy(tape);
    EXPECT(c->blocks == 0);
    return status;
}

static void test_every_row(void)
{
    for (unsigned varying = 1; varying < 1u << SEEDS; varying++) {
        counter c = {0};
        EXPECT(compare(&c, varying) == FAD_OK);
    }
}

static void test_every_allocation_fails_once(void)
{
    long n = 0;
    for (fad_status status = FAD_NO_MEMORY; status != FAD_OK && failures == 0;) {
        counter c = {.failing_in = ++n};
        status = compare(&c, 7);
        EXPECT(status == FAD_OK || status == FAD_NO_MEMORY);
    }
    EXPECT(n > 5);
    printf("%ld allocations failed, one at a time\n", n - 1);
}

static void test_refusals(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c);
    const double ones[4] = {1, 1, 1, 1};
    const ptrdiff_t four = 4;
    uint32_t x, y, lanes, result = 0;
    EXPECT(new_array(tape, FAD_CONSTANT, 1, &four, ones, &lanes) == FAD_OK);
    EXPECT(new_array(tape, FAD_VARIABLE, 0, NULL, ones, &x) == FAD_OK);
    EXPECT(fad_record_elementwise(tape, FAD_SIN, &x, -1, &y) == FAD_OK);
    EXPECT(fad_emit_batch(tape, 1, 9, 4, 1, &x, &lanes, 1, &y, &result) == FAD_BAD_OPERAND);
    EXPECT(fad_emit_batch(tape, 2, 3, 4, 1, &x, &lanes, 1, &y, &result) == FAD_BAD_OPERAND);
    EXPECT(fad_emit_batch(tape, 1, 3, 5, 1, &x, &lanes, 1, &y, &result) == FAD_BAD_SHAPE);
    EXPECT(fad_emit_batch(tape, 1, 3, 4, 1, &x, &lanes, 1, &lanes, &result) == FAD_OK && result == FAD_NODE_NONE);
    EXPECT(fad_emit_batch(tape, 1, 3, 4, 1, &x, &lanes, 1, &x, &result) == FAD_OK && result == lanes);
    size_t count = tape->count;
    EXPECT(fad_emit_batch(tape, 1, 3, 4, 1, &x, &lanes, 1, &y, &result) == FAD_OK && result == count);
    EXPECT(fad_node_shape(tape, result)->dims[0] == 4);
    tape->host.emit_batch = NULL;
    EXPECT(record_rotation(tape, lanes, &y) == FAD_OK);
    fad_tape_destroy(tape);
    EXPECT(c.blocks == 0);
}

/* Recording again from a place that was returned to takes no memory that was not there. */
static void test_return(void)
{
    counter c = {0};
    fad_tape *tape = new_tape(&c);
    fad_bookmark places[2] = {fad_tape_bookmark(tape), {0, 0, 0, NULL}};
    const double ones[LENGTH] = {1, 1, 1, 1, 1};
    const ptrdiff_t length = LENGTH;
    uint32_t x = 0, y = 0, v = 0;
    for (int round = 0; round < 6; round++) {
        size_t bytes = tape->bytes;
        fad_tape_return(tape, &places[round % 2]);
        EXPECT(tape->count == places[round % 2].count);
        if (round % 2 == 0) {
            EXPECT(new_array(tape, FAD_VARIABLE, 1, &length, ones, &v) == FAD_OK);
            places[1] = fad_tape_bookmark(tape);
        }
        for (int i = 0; i < 1000; i++) {
            EXPECT(fad_record_elementwise(tape, FAD_SIN, i ? &x : &v, -1, &x) == FAD_OK);
            EXPECT(fad_record_transpose(tape, x, (const int[]){0}, &y) == FAD_OK);
        }
        EXPECT(numbers(tape, v)[4] == 1);
        EXPECT(round == 0 || tape->bytes == bytes);
    }
    fad_tape_destroy(tape);
    EXPECT(c.blocks == 0);
}

int main(void)
{
    fad_default_loops(&loops);
    test_every_row();
    test_every_allocation_fails_once();
    test_refusals();
    test_return();
    return finish();
}
