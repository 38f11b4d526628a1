/* test_pairs.c: two instructions as one loop (pairs.c) give the bits of one after the other, for all sets of vectors that
 * this machine has; and no two are one where that could change a bit (program_pairs.c). Prints "ok". */
#include "kernels.h"
#define fad_pair_loop pair_loop_of_this_file
fad_loop pair_loop_of_this_file(int first, int second, int at);
#include "pairs.c" /* the loops themselves */
#undef fad_pair_loop
#include "programs.h"

enum { LENGTH = 70, ROOM = 96, NUMBERS = FAD_ELEMENTWISE_COUNT + FAD_DO_COUNT };

/* --- loops --- */

static double product_and(double x, double y, double z, bool fused)
{
    volatile double product = x * y; /* rounded, whatever the compiler is told */
    return fused ? fma(x, y, z) : product + z;
}

static double value_of(int number, bool fused, double x, double y, double z)
{
    switch (number) {
    case FAD_NEG: return -x;
    case FAD_SQUARE: return x * x;
    case FAD_RECIPROCAL: return 1 / x;
    case FAD_ADD: return x + y;
    case FAD_SUB: return x - y;
    case FAD_MUL: return x * y;
    case FAD_ZMUL: return x == 0 ? 0 : x * y;
    case FAD_ELEMENTWISE_COUNT + FAD_DO_MUL_ADD: return product_and(x, y, z, fused);
    case FAD_ELEMENTWISE_COUNT + FAD_DO_MUL_SUB: return product_and(x, y, -z, fused);
    case FAD_ELEMENTWISE_COUNT + FAD_DO_SUB_MUL: return product_and(-x, y, z, fused);
    case FAD_ELEMENTWISE_COUNT + FAD_DO_ZMUL_ADD: return x == 0 ? z : product_and(x, y, z, fused);
    default: EXPECT(!"an instruction without a value"); return 0;
    }
}

static int arity_of(int number) { return number < FAD_ELEMENTWISE_COUNT ? fad_ops[number].arity : 3; }

static bool same_bits(double x, double y) { return (isnan(x) && isnan(y)) || memcmp(&x, &y, sizeof x) == 0; }

static double special(unsigned k)
{
    static const double all[] = {0.0,      -0.0,    1.0,    -1.0,   INFINITY, -INFINITY, NAN,
                                 0x1p-1074, -0x1p-1040, 0x1.8p-1022, 1e308, -1e308,  1.0 / 3, 0x1.0000000000001p0};
    return k % 3 ? sin(1.7 * k) * (1 + k % 11) : all[k / 3 % (sizeof all / sizeof *all)];
}

typedef struct {
    int first, second, at;
    fad_loop loop;
    bool fused;
} pair;

/* Operand `o` of six is an array or, if that bit of `fixed` is set, a number; `n` elements from element `shift` of a line
 * on. `in_place`: the result is operand in_place - 1, where that is an array. */
static void test_pair(const pair *p, ptrdiff_t n, unsigned fixed, int shift, int in_place, unsigned seed)
{
    static _Alignas(FAD_CACHE_LINE) double arrays[6][ROOM], expected[ROOM], out_of_place[ROOM];
    const int a = arity_of(p->first), b = arity_of(p->second);
    char *args[8];
    ptrdiff_t steps[8];
    double *operands[6], *out = out_of_place + shift;
    bool runs[6];
    for (int o = 0; o < 6; o++) {
        for (int i = 0; i < ROOM; i++)
            arrays[o][i] = special(seed + (unsigned)(i * (5 + 2 * o) + 31 * o));
        operands[o] = arrays[o] + shift;
        runs[o] = !(fixed >> o & 1);
    }
    int given = 0, count = 0;
    for (int k = 0; k < a; k++, given++, count++)
        args[count] = (char *)operands[given], steps[count] = runs[given] ? 8 : 0;
    args[count] = NULL, steps[count++] = 8; /* the first one's result: nowhere */
    for (int k = 0; k < b; k++, count++) {
        args[count] = k == p->at ? NULL : (char *)operands[given];
        steps[count] = k == p->at || runs[given] ? 8 : 0;
        given += k != p->at;
    }
    if (in_place && in_place <= given && runs[in_place - 1])
        out = operands[in_place - 1];
    args[count] = (char *)out, steps[count] = 8;
    memcpy(expected, out - shift, sizeof expected);
    for (ptrdiff_t i = 0; i < n; i++) {
        double x[4] = {0}, y[4] = {0};
        int o = 0;
        for (int k = 0; k < a; k++, o++)
            x[k] = operands[o][runs[o] ? i : 0];
        const double made = value_of(p->first, p->fused, x[0], x[1], x[2]);
        for (int k = 0; k < b; k++) {
            y[k] = k == p->at ? made : operands[o][runs[o] ? i : 0];
            o += k != p->at;
        }
        expected[shift + i] = value_of(p->second, p->fused, y[0], y[1], y[2]);
    }
    p->loop(args, &n, steps, NULL);
    for (int i = 0; i < ROOM; i++)
        if (!same_bits(out[i - shift], expected[i])) {
            fprintf(stderr, "%d %d %d, n = %td, fixed %u, shift %d, in place %d: element %d is %a, expected %a\n", p->first,
                    p->second, p->at, n, fixed, shift, in_place, i - shift, out[i - shift], expected[i]);
            failures++;
            return;
        }
}

static void test_set(const fad_loop *set, bool fused)
{
    size_t row = 0;
#define TEST(SET, FIRST, SECOND, AT)                                                       \
    {                                                                                      \
        const pair p = {NUMBER_##FIRST, NUMBER_##SECOND, AT, set[row++], fused};           \
        for (ptrdiff_t n = 0; n <= LENGTH; n++)                                            \
            for (unsigned k = 0; k < 8; k++)                                               \
                test_pair(&p, n, k < 2 ? 0 : (unsigned)(n * 7 + k * 13) % 64, k % 3, (int)(k * 5 + (unsigned)n) % 6, \
                          (unsigned)n * 8 + k);                                            \
    }
    PAIRS(TEST, )
}

/* The loops that are one by one, for the set that this machine takes. */
static void test_bits_of_single_loops(void)
{
    const bool fused = products_are_fused();
    for (int number = 0; number < NUMBERS; number++) {
        bool used = false;
        for (int other = 0; other < NUMBERS; other++)
            for (int at = 0; at < 3; at++)
                used = used || fad_pair_loop(number, other, at) || fad_pair_loop(other, number, at);
        if (!used)
            continue;
        fad_bound_loop one = {NULL, NULL};
        if (number >= FAD_ELEMENTWISE_COUNT)
            one.loop = fad_fused_loop(number - FAD_ELEMENTWISE_COUNT, FAD_F64);
        else
            EXPECT(fad_own_loop(number, FAD_F64, true, &one));
        double operands[3][ROOM], out[ROOM];
        for (int o = 0; o < 3; o++)
            for (int i = 0; i < ROOM; i++)
                operands[o][i] = special((unsigned)(i * (7 + 4 * o) + o));
        char *args[4] = {(char *)operands[0], (char *)operands[1], (char *)operands[2], (char *)out};
        args[arity_of(number)] = (char *)out;
        const ptrdiff_t n = ROOM, steps[4] = {8, 8, 8, 8};
        one.loop(args, &n, steps, one.data);
        for (int i = 0; i < ROOM; i++)
            EXPECT(same_bits(out[i], value_of(number, fused, operands[0][i], operands[1][i], operands[2][i])));
    }
}

static void test_loops(void)
{
    test_set(in_xmm, false);
#if defined(HAS_WIDE_VECTORS)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        test_set(in_ymm, true);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        test_set(in_zmm, true);
#endif
    test_bits_of_single_loops();
    EXPECT(!fad_pair_loop(FAD_EXP, FAD_LOG, 0) && !fad_pair_loop(FAD_ADD, FAD_ADD, 1));
}

/* --- which instructions are one --- */

enum { RANGE = 150, STRIP = 64, ARRAY = 2048 /* bytes from array to array */, ARRAYS = 8, STRIPS = 3 };

static fad_argument at_strip(uint64_t number) { return (fad_argument){.place = FAD_AT_STRIP, .dtype = FAD_F64, .offset = number}; }

/* Array `k` of the workspace from element `from` on. */
static fad_argument at_memory(uint64_t k, int from)
{
    return (fad_argument){.place = FAD_AT_MEMORY, .dtype = FAD_F64, .offset = k * ARRAY + 64 + (uint64_t)(8 * from)};
}

static fad_argument at_number(uint64_t k, int element)
{
    fad_argument a = at_memory(k, element);
    a.place = FAD_AT_FIXED;
    return a;
}

static fad_instruction op2(int op, fad_argument x, fad_argument y, fad_argument to)
{
    return (fad_instruction){.code = FAD_DO_OP, .dtype = FAD_F64, .count = 3, .op = (uint16_t)op, .arguments = {x, y, to}};
}

static fad_instruction mul_add(fad_argument x, fad_argument y, fad_argument z, fad_argument to)
{
    return (fad_instruction){.code = FAD_DO_MUL_ADD, .dtype = FAD_F64, .count = 4, .arguments = {x, y, z, to}};
}

static fad_instruction sum_to(fad_argument to, fad_argument x)
{
    return (fad_instruction){.code = FAD_DO_ADD, .dtype = FAD_F64, .count = 2, .arguments = {to, x}};
}

static void *take(const fad_allocator *from, size_t bytes) { return from->resize(from->context, NULL, 0, bytes); }

static fad_program *program_of(const fad_allocator *from, const fad_instruction *all, uint32_t count, int kind)
{
    fad_program *p = take(from, sizeof *p);
    memset(p, 0, sizeof *p);
    p->allocator = *from;
    p->loops = &loops;
    p->steps = take(from, sizeof *p->steps);
    p->instructions = take(from, count * sizeof *all);
    p->affines = take(from, sizeof *p->affines);
    p->numbers = take(from, 2 * sizeof *p->numbers);
    memcpy(p->instructions, all, count * sizeof *all);
    p->steps[0] = (fad_step){.kind = (uint16_t)kind, .count = count, .n = RANGE, .strip = STRIP, .strips = STRIPS};
    p->affines[0] = (fad_affine){.ndim = 1};
    p->numbers[0] = RANGE;
    p->numbers[1] = 8;
    p->step_count = p->affine_count = 1;
    p->instruction_count = count;
    p->number_count = 2;
    p->workspace_bytes = ARRAYS * ARRAY;
    p->strip_bytes = STRIPS * STRIP * sizeof(double);
    p->room_bytes = fad_program_room_bytes(p);
    DO(fad_program_bind(p));
    return p;
}

/* The workspace after a run from the same beginning. */
static void run_from(const fad_program *p, double *workspace)
{
    char *bases[] = {(char *)workspace, NULL};
    size_t failed;
    for (size_t i = 0; i < (p->workspace_bytes + p->strip_bytes) / sizeof(double); i++)
        workspace[i] = special((unsigned)i * 2 + 1);
    DO(fad_program_steps(p, bases, NULL, &failed));
}

/* Runs the program with its pairs and without them; how many there are. */
static size_t pairs_of_kind(const fad_instruction *all, uint32_t count, int kind)
{
    static _Alignas(FAD_CACHE_LINE) double with[ARRAYS * ARRAY / 8 + STRIPS * STRIP + 4096],
        without[ARRAYS * ARRAY / 8 + STRIPS * STRIP + 4096];
    counter c = {0};
    const fad_allocator from = {counting, &c};
    fad_program *p = program_of(&from, all, count, kind);
    size_t pairs = 0;
    run_from(p, with);
    for (size_t i = 0; i < count; i++) {
        pairs += p->bound[i].pair != NULL;
        p->bound[i].pair = NULL;
    }
    run_from(p, without);
    for (size_t i = 0; i < ARRAYS * ARRAY / 8; i++)
        if (!same_bits(with[i], without[i])) {
            fprintf(stderr, "number %zu of the workspace: %a as pairs, %a without\n", i, with[i], without[i]);
            failures++;
            break;
        }
    fad_program_destroy(p);
    EXPECT(c.blocks == 0 && !c.wrong_size);
    return pairs;
}

static size_t pairs_of(const fad_instruction *all, uint32_t count)
{
    size_t pairs = pairs_of_kind(all, count, FAD_STEP_REGION);
    EXPECT(pairs_of_kind(all, count, FAD_STEP_REGION_BACKWARDS) == pairs);
    return pairs;
}

#define PAIRS_OF(...) pairs_of((const fad_instruction[]){__VA_ARGS__}, sizeof((const fad_instruction[]){__VA_ARGS__}) / sizeof(fad_instruction))

static void test_choice(void)
{
    const fad_argument s0 = at_strip(0), s1 = at_strip(1), m0 = at_memory(0, 0), m1 = at_memory(1, 0), m2 = at_memory(2, 0),
                       m3 = at_memory(3, 0), m4 = at_memory(4, 0);
    const size_t one = fad_pair_loop(FAD_ADD, FAD_MUL, 0) ? 1 : 0; /* none on this machine */
    const fad_instruction first = op2(FAD_ADD, m0, m1, s0), second = op2(FAD_MUL, s0, m2, m3);
    EXPECT(PAIRS_OF(first, second) == one);
    EXPECT(PAIRS_OF(first, op2(FAD_MUL, m2, s0, m3)) == one);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, at_number(5, 3), s0), op2(FAD_MUL, at_number(6, 9), s0, m3)) == one);
    EXPECT(PAIRS_OF(first, op2(FAD_ADD, s0, m2, s0), op2(FAD_ADD, s0, m3, s0), op2(FAD_ADD, s0, m4, m4)) == 2 * one);
    EXPECT(PAIRS_OF(first, op2(FAD_SUB, m2, s0, m3)) == (fad_pair_loop(FAD_ADD, FAD_SUB, 1) ? 1 : 0));
    EXPECT(PAIRS_OF(op2(FAD_MUL, m0, m1, s0), mul_add(m2, s0, m3, m4)) == one);
    EXPECT(PAIRS_OF(op2(FAD_MUL, m0, m1, s0), mul_add(m2, m3, s0, m4)) == one);
    /* in the place of an operand */
    EXPECT(PAIRS_OF(op2(FAD_ADD, m3, m1, s0), second) == one);
    EXPECT(PAIRS_OF(first, op2(FAD_MUL, s0, m3, m3)) == one);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m3), op2(FAD_MUL, m3, m2, m3)) == one);
    /* a sum in memory */
    EXPECT(PAIRS_OF(first, sum_to(m3, s0)) == (fad_pair_loop(FAD_ADD, FAD_ADD, 0) ? 1 : 0));
    EXPECT(PAIRS_OF(first, sum_to(m3, m0)) == 0);
    /* somebody else reads what the first makes */
    EXPECT(PAIRS_OF(first, second, op2(FAD_MUL, s0, m1, m4)) == 0);
    EXPECT(PAIRS_OF(first, op2(FAD_MUL, s0, s0, m3)) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m4), op2(FAD_MUL, m4, m2, m3)) == 0);
    EXPECT(PAIRS_OF(op2(FAD_SUB, s0, m0, m4), first, second) == 0);    /* what the strip before has left */
    EXPECT(PAIRS_OF(first, op2(FAD_MUL, s1, m2, m3)) == 0);
    /* at other places */
    EXPECT(PAIRS_OF(op2(FAD_ADD, at_memory(3, 1), m1, s0), second) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, at_memory(3, -1), m1, s0), second) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, at_number(3, 16), s0), second) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, at_number(3, RANGE), s0), second) == one);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m3), op2(FAD_ADD, m3, at_memory(3, 1), m3)) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m3), op2(FAD_MUL, m3, at_number(3, 2), m3)) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m3), op2(FAD_MUL, at_memory(3, 1), m2, m4)) == 0);
    EXPECT(PAIRS_OF(op2(FAD_ADD, m0, m1, m3), op2(FAD_MUL, at_memory(3, 1), m3, m3)) == 0);
    /* of another type */
    fad_instruction narrow[2] = {first, second};
    for (int i = 0; i < 2; i++) {
        narrow[i].dtype = FAD_F32;
        for (int k = 0; k < 3; k++)
            narrow[i].arguments[k].dtype = FAD_F32;
    }
    EXPECT(pairs_of(narrow, 2) == 0);
}

/* A call that becomes more than a call, by turns, is in no pair. */
static void test_turns(void)
{
    const fad_argument s0 = at_strip(0), m0 = at_memory(0, 0), m2 = at_memory(2, 0);
    const fad_instruction all[] = {op2(FAD_ADD, m0, at_memory(1, 0), s0), op2(FAD_MUL, s0, m2, at_memory(3, 0)),
                                   op2(FAD_SUB, at_memory(3, 1), m2, at_memory(4, 0)),
                                   op2(FAD_MUL, m0, m2, at_memory(5, 0)), op2(FAD_MUL, m0, m2, at_memory(6, 0)),
                                   op2(FAD_MUL, m0, m2, at_memory(7, 0))};
    counter c = {0};
    const fad_allocator from = {counting, &c};
    fad_program *p = program_of(&from, all, sizeof all / sizeof *all, FAD_STEP_REGION);
    EXPECT(!p->bound[0].pair == !fad_pair_loop(FAD_ADD, FAD_MUL, 0));
    DO(fad_program_turns(p, 1));
    EXPECT(!FAD_HAS_THREADS || (p->together[0] && p->bound[1].count == 0 && !p->bound[0].pair));
    fad_program_destroy(p);
}

int main(void)
{
    fad_default_loops(&loops);
    test_loops();
    test_choice();
    test_turns();
    return finish();
}
