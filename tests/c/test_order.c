/* test_order.c: the instructions of a region in the order of lower_order.c leave the same numbers in memory, and slopes that
 * come first and sums that come last need few strips. Instructions here are run one by one over the whole range. Prints "ok". */
#include "lower_emit.h"
#include "traces.h"

enum { LISTS = 3000, COUNT = 120, N = 4, NUMBERS = 96 /* of memory */ };

typedef struct {
    fad_emitter e;
    fad_instruction all[COUNT], sorted[COUNT];
    fad_affine affines[COUNT];
    int64_t numbers[2 * COUNT];
    size_t count;
    uint32_t chain;
    uint64_t state;
} list;

static unsigned pick(list *l, unsigned n)
{
    l->state = l->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(l->state >> 33) % n;
}

/* --- instructions --- */

static fad_argument strip(uint32_t s) { return (fad_argument){FAD_AT_STRIP, FAD_F64, 0, 0, s}; }

static fad_argument at(list *l, fad_place place)
{
    return (fad_argument){(uint8_t)place, FAD_F64, 0, pick(l, 2), sizeof(double) * pick(l, NUMBERS - N)};
}

static fad_argument operand(list *l)
{
    unsigned kind = pick(l, 4);
    return kind == 0 || !l->e.strip_count ? at(l, FAD_AT_MEMORY) : kind == 1 ? at(l, FAD_AT_FIXED) : strip(pick(l, l->e.strip_count));
}

static fad_argument new_strip(list *l) { return strip(l->e.strip_count++); }

static fad_instruction *add(list *l, int code, int count)
{
    fad_instruction *i = &l->all[l->count++];
    *i = (fad_instruction){.code = (uint8_t)code, .dtype = FAD_F64, .count = (uint8_t)count, .op = FAD_ADD};
    return i;
}

/* To or from neighbours, every other number, backwards, or one and the same. */
static void add_affine(list *l, int code)
{
    static const int64_t strides[] = {8, 16, -8, 0};
    fad_instruction *i = add(l, code, 2);
    i->affine = (uint32_t)l->count;
    l->affines[i->affine] = (fad_affine){1, 2 * i->affine};
    l->numbers[2 * i->affine] = N;
    l->numbers[2 * i->affine + 1] = strides[pick(l, code == FAD_DO_STORE ? 3 : 4)];
    i->arguments[0] = (fad_argument){FAD_AT_FIXED, FAD_F64, 0, 0, sizeof(double) * (8 + pick(l, NUMBERS - 16))};
    i->arguments[1] = code == FAD_DO_LOAD ? new_strip(l) : operand(l);
}

static void add_any(list *l)
{
    unsigned kind = pick(l, 16);
    if (kind < 2 && l->e.strip_count) {
        add_affine(l, kind ? FAD_DO_STORE : FAD_DO_ADD);
    } else if (kind == 2) {
        add_affine(l, FAD_DO_LOAD);
    } else if (kind < 8 && l->chain != FAD_NO_INDEX) { /* a long sum goes on */
        fad_instruction *i = add(l, FAD_DO_MUL_ADD, 4);
        i->arguments[0] = operand(l), i->arguments[1] = operand(l), i->arguments[2] = strip(l->chain);
        l->chain = (uint32_t)(i->arguments[3] = new_strip(l)).offset;
    } else {
        fad_instruction *i = add(l, FAD_DO_OP, 3);
        i->op = pick(l, 2) ? FAD_ADD : FAD_MUL;
        i->arguments[0] = operand(l), i->arguments[1] = operand(l);
        i->arguments[2] = pick(l, 5) ? new_strip(l) : at(l, FAD_AT_MEMORY);
        l->chain = i->arguments[2].place == FAD_AT_STRIP && pick(l, 12) == 0 ? (uint32_t)i->arguments[2].offset : l->chain;
    }
}

static void start(list *l, uint64_t seed, fad_tape *tape)
{
    memset(l, 0, sizeof *l);
    l->state = seed;
    l->chain = FAD_NO_INDEX;
    l->e.tape = tape;
    l->e.affines.data = l->affines;
    l->e.numbers.data = l->numbers;
}

/* --- what they do --- */

typedef struct {
    double memory[2][NUMBERS + N], strips[COUNT][N];
    bool made[COUNT];
} machine;

static double *find(machine *m, const fad_argument *a, int i)
{
    if (a->place == FAD_AT_STRIP)
        return &m->strips[a->offset][i];
    return &m->memory[a->base][a->offset / sizeof(double) + (size_t)(a->place == FAD_AT_MEMORY ? i : 0)];
}

static bool execute(machine *m, const list *l, const fad_instruction *all)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < NUMBERS; i++)
        m->memory[0][i] = 1.0 + i / 64.0, m->memory[1][i] = 1.5 - i / 128.0;
    for (size_t k = 0; k < l->count; k++) {
        const fad_instruction *i = &all[k];
        const fad_argument *a = i->arguments, *own = &a[i->count - 1];
        bool makes = own->place == FAD_AT_STRIP && i->code != FAD_DO_STORE && i->code != FAD_DO_ADD;
        for (int j = 0; j < i->count - makes; j++)
            if (a[j].place == FAD_AT_STRIP && !m->made[a[j].offset])
                return false;
        for (int n = 0; n < N; n++) {
            double *far = i->code >= FAD_DO_LOAD ? find(m, &a[0], 0) + n * l->numbers[2 * i->affine + 1] / 8 : NULL;
            if (i->code == FAD_DO_LOAD)
                *find(m, own, n) = *far;
            else if (i->code == FAD_DO_STORE)
                *far = *find(m, own, n);
            else if (i->code == FAD_DO_ADD)
                *far += *find(m, own, n);
            else if (i->code == FAD_DO_MUL_ADD)
                *find(m, own, n) = *find(m, &a[0], n) * *find(m, &a[1], n) + *find(m, &a[2], n);
            else
                *find(m, own, n) = i->op == FAD_ADD ? *find(m, &a[0], n) + *find(m, &a[1], n) : *find(m, &a[0], n) * *find(m, &a[1], n);
            if (!isfinite(*find(m, own, n)))
                *find(m, own, n) = 1.0;
        }
        if (makes)
            m->made[own->offset] = true;
    }
    return true;
}

/* Whether the order for a range of `n` elements leaves the same in memory. */
static bool is_same(list *l, uint64_t n)
{
    static machine before, after;
    DO(fad_lower_order(&l->e, l->all, l->count, n, l->sorted));
    EXPECT(execute(&before, l, l->all));
    return execute(&after, l, l->sorted) && !memcmp(before.memory, after.memory, sizeof before.memory);
}

static void test_same_numbers(fad_tape *tape)
{
    static list l;
    size_t wrong = 0, moved = 0, caught = 0;
    for (uint64_t seed = 1; seed <= LISTS; seed++) {
        start(&l, seed, tape);
        while (l.count < COUNT - 1)
            add_any(&l);
        wrong += !is_same(&l, N);
        moved += memcmp(l.all, l.sorted, l.count * sizeof *l.all) != 0;
        caught += !is_same(&l, 0); /* planted: arrays that are written are taken for one number */
    }
    EXPECT(wrong == 0);
    EXPECT(moved > LISTS / 2);
    EXPECT(caught > LISTS / 100);
}

/* --- how many strips there are at a time --- */

static size_t most_strips(const list *l, const fad_instruction *all)
{
    size_t last[COUNT] = {0}, live = 0, most = 0;
    for (size_t k = 0; k < l->count; k++)
        for (int j = 0; j < all[k].count; j++)
            if (all[k].arguments[j].place == FAD_AT_STRIP)
                last[all[k].arguments[j].offset] = k;
    for (size_t k = 0; k < l->count; k++) {
        live += all[k].code != FAD_DO_STORE;
        most = live > most ? live : most;
        for (uint32_t s = 0; s < l->e.strip_count; s++)
            live -= last[s] == k;
    }
    return most;
}

/* The slopes of all turns, then their adjoints, then the sum of products with them. */
static void test_few_strips(fad_tape *tape)
{
    enum { TURNS = 20 };
    static list l;
    uint32_t adjoint[TURNS + 1];
    start(&l, 1, tape);
    for (int t = 0; t < TURNS; t++) {
        fad_instruction *i = add(&l, FAD_DO_OP, 3);
        i->arguments[0] = i->arguments[1] = (fad_argument){FAD_AT_MEMORY, FAD_F64, 0, 1, 8 * (uint64_t)t};
        i->arguments[2] = new_strip(&l);
    }
    add_affine(&l, FAD_DO_LOAD);
    adjoint[0] = l.e.strip_count - 1;
    for (int t = 0; t < TURNS; t++) {
        fad_instruction *i = add(&l, FAD_DO_OP, 3);
        i->arguments[0] = strip(adjoint[t]), i->arguments[1] = strip((uint32_t)t), i->arguments[2] = new_strip(&l);
        adjoint[t + 1] = (uint32_t)i->arguments[2].offset;
    }
    for (int t = 0; t <= TURNS; t++) {
        fad_instruction *i = add(&l, t ? FAD_DO_MUL_ADD : FAD_DO_OP, t ? 4 : 3);
        i->arguments[0] = strip(adjoint[t]), i->arguments[1] = (fad_argument){FAD_AT_MEMORY, FAD_F64, 0, 1, 8 * (uint64_t)t};
        if (t)
            i->arguments[2] = strip(l.e.strip_count - 1);
        i->arguments[i->count - 1] = new_strip(&l);
    }
    add_affine(&l, FAD_DO_STORE);
    l.all[l.count - 1].arguments[1] = strip(l.e.strip_count - 1);
    EXPECT(is_same(&l, N));
    EXPECT(most_strips(&l, l.all) > TURNS);
    EXPECT(most_strips(&l, l.sorted) <= 4);
}

int main(void)
{
    fad_default_loops(&loops);
    fad_tape *tape = new_tape();
    test_same_numbers(tape);
    test_few_strips(tape);
    fad_tape_destroy(tape);
    return finish();
}
