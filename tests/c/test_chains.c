/* test_chains.c: regions that read what they wrote behind or ahead of themselves (lower_chain.c) give the bits that were
 * recorded, for any length of a strip. Traces here are of arrays of one length, each made of others at the same and at
 * shifted places. Prints "ok". */
#include "programs.h"

enum { PROGRAMS = 200, LENGTH = 1100 /* more than the longest strip */, MOST_ARRAYS = 32 };

static size_t forwards, backwards;

typedef struct {
    generator g;
    const fad_shape *whole;
    uint32_t arrays[MOST_ARRAYS];
    size_t count;
    bool overwrites;
} chain_generator;

static uint32_t values(chain_generator *c)
{
    double all[LENGTH];
    for (size_t i = 0; i < LENGTH; i++)
        all[i] = sample(&c->g);
    uint32_t node = array(c->g.r.trace.tape, FAD_VARIABLE, c->whole, all);
    input(&c->g.r, node);
    return node;
}

static uint32_t recent(chain_generator *c)
{
    size_t few = c->count > 3 && pick(&c->g, 4) ? 3 : c->count;
    return c->arrays[c->count - 1 - pick(&c->g, (unsigned)few)];
}

/* `count` elements of `a` from `start` on, or in the other order. */
static uint32_t part_of(chain_generator *c, uint32_t a, ptrdiff_t start, ptrdiff_t count, bool turned)
{
    static const int source = 0;
    fad_tape *t = c->g.r.trace.tape;
    ptrdiff_t first = turned ? start + count - 1 : start, step = turned ? -1 : 1;
    uint32_t side, out = a;
    DO(fad_make_view(t, c->whole, 1, &count, &first, &step, &source, &side));
    DO(fad_record_view(t, a, side, &out));
    return out;
}

/* Elements that come in at an end: given, of an input, of the array itself, of another one. */
static uint32_t edge(chain_generator *c, uint32_t a, ptrdiff_t count)
{
    fad_tape *t = c->g.r.trace.tape;
    const fad_shape *shape = shape_of(t, 1, &count);
    ptrdiff_t start = pick(&c->g, 2) ? LENGTH - count : 0;
    uint32_t out;
    switch (pick(&c->g, 5)) {
    case 0:
        DO(fad_record_broadcast_to(t, number(t, sample_constant(&c->g)), shape, &out));
        return out;
    case 1:
        return part_of(c, a, start, count, false);
    case 2:
        return part_of(c, recent(c), start, count, pick(&c->g, 4) == 0);
    default:
        return part_of(c, c->arrays[0], start, count, false);
    }
}

static uint32_t shifted(chain_generator *c, uint32_t a)
{
    fad_tape *t = c->g.r.trace.tape;
    ptrdiff_t by = 1 + (ptrdiff_t)pick(&c->g, 3), rest = LENGTH - by;
    bool behind = c->g.state >> 60 & 1 ? pick(&c->g, 2) : c->count & 4;
    uint32_t nodes[2] = {behind ? edge(c, a, by) : part_of(c, a, by, rest, false), 0}, side, out = a;
    if (pick(&c->g, 6) == 0) { /* zeros come in */
        static const int source = 0;
        ptrdiff_t start = behind ? by : 0, step = 1;
        DO(fad_make_view(t, c->whole, 1, &rest, &start, &step, &source, &side));
        DO(fad_record_embed(t, part_of(c, a, by - start, rest, false), side, &out));
        return out;
    }
    nodes[1] = behind ? part_of(c, a, 0, rest, false) : edge(c, a, by);
    DO(fad_record_concatenate(t, 2, nodes, 0, &out));
    return out;
}

/* Some elements of `a` are taken over from another array, or added to them at any places. */
static uint32_t overwritten(chain_generator *c, uint32_t a)
{
    static const int source = 0;
    fad_tape *t = c->g.r.trace.tape;
    ptrdiff_t count = 1 + (ptrdiff_t)pick(&c->g, LENGTH - 3), step = 1;
    ptrdiff_t to = (ptrdiff_t)pick(&c->g, 4), from = (ptrdiff_t)pick(&c->g, 4);
    uint32_t side, out = a;
    if (pick(&c->g, 3) == 0) {
        DO(random_indices(&c->g, c->whole, LENGTH, &side));
        DO(fad_record_scatter_add(t, a, side, c->whole, &out));
        return bin(t, FAD_ADD, out, recent(c));
    }
    DO(fad_make_view(t, c->whole, 1, &count, &to, &step, &source, &side));
    DO(fad_record_update_view(t, a, part_of(c, recent(c), from, count, false), side, &out));
    return out;
}

static uint32_t next(chain_generator *c)
{
    static const int ops[] = {FAD_ADD, FAD_SUB, FAD_MUL, FAD_MAXIMUM};
    fad_tape *t = c->g.r.trace.tape;
    uint32_t a = recent(c), b = pick(&c->g, 8) ? shifted(c, recent(c)) : part_of(c, recent(c), 0, LENGTH, true), sum;
    a = bin(t, ops[pick(&c->g, 4)], a, b);
    switch (pick(&c->g, 8)) {
    case 0:
        return bin(t, FAD_SUB, a, shifted(c, recent(c)));
    case 1:
        DO(fad_record_sum_to(t, a, t->shapes[0], &sum));
        return bin(t, FAD_ADD, a, un(t, FAD_TANH, sum));
    case 2: /* behind and ahead at once */
        b = recent(c);
        return bin(t, FAD_MUL, shifted(c, b), shifted(c, b));
    case 3:
        return c->overwrites ? overwritten(c, a) : a;
    default:
        return un(t, pick(&c->g, 2) ? FAD_NEG : FAD_TANH, a);
    }
}

static void generate_chain(chain_generator *c, uint64_t seed)
{
    const ptrdiff_t length = LENGTH;
    *c = (chain_generator){.g = {.state = seed * 0x9e3779b97f4a7c15u + 1, .smooth = true}, .overwrites = seed % 4 == 3};
    begin(&c->g.r);
    c->whole = shape_of(c->g.r.trace.tape, 1, &length);
    for (; c->count < 2; c->count++)
        c->arrays[c->count] = values(c);
    for (unsigned stages = 2 + pick(&c->g, 18); stages; stages--) {
        uint32_t made = next(c);
        c->arrays[c->count++] = made;
    }
    output(&c->g.r, c->arrays[c->count - 1]);
    output(&c->g.r, recent(c));
    if (seed & 1)
        append_gradient(&c->g.r, sum_of_outputs(&c->g.r));
}

/* --- running them --- */

static bool reads_behind(const fad_program *p, const fad_step *step)
{
    fad_access x, y;
    for (uint32_t i = 0; i < step->count; i++)
        for (uint32_t j = 0; j < step->count; j++)
            for (int k = 0; k < p->instructions[step->first + j].count; k++)
                if (fad_see_access(p, step, i, p->instructions[step->first + i].count - 1, &x) && x.writes &&
                    fad_see_access(p, step, j, k, &y) && !y.writes && x.base == y.base && y.begin < x.begin &&
                    x.begin < y.end)
                    return true;
    return false;
}

static void count_chains(const fad_program *p)
{
    for (size_t i = 0; i < p->step_count; i++) {
        backwards += p->steps[i].kind == FAD_STEP_REGION_BACKWARDS;
        forwards += p->steps[i].kind == FAD_STEP_REGION && reads_behind(p, &p->steps[i]);
    }
}

/* But for sums, whose parts are strips, strict programs have the recording's bits. */
static void test_seed(uint64_t seed, bool strict)
{
    static const uint32_t strips[] = {1024, 1, 2, 7, 500};
    chain_generator c;
    fad_program *p = NULL;
    generate_chain(&c, seed);
    for (size_t k = 0; k < sizeof strips / sizeof *strips; k++) {
        memory m;
        size_t failed;
        DO(lower(&c.g.r, strict, &p));
        count_chains(p);
        for (size_t i = 0; i < p->step_count; i++)
            if (fad_is_region(p->steps[i].kind) && p->steps[i].strip > strips[k])
                p->steps[i].strip = strips[k];
        p->room_bytes = fad_program_room_bytes(p);
        allocate(&m, p);
        fill_inputs(&m, p, &c.g.r);
        DO(run_program(p, &m, &failed));
        for (size_t i = 0; i < p->output_count; i++) {
            fad_array recorded = fad_value_array(c.g.r.trace.tape, c.g.r.outputs[i]), found = recorded;
            found.data = m.outputs[i];
            found.strides = found.shape->strides;
            if (!same_values(&found, &recorded, strict ? 1e-12 : 1e-9)) {
                fprintf(stderr, "seed %lu, strips of %u: output %zu is not what was recorded\n", (unsigned long)seed,
                        (unsigned)strips[k], i);
                failures++;
            }
        }
        deallocate(&m, p);
        fad_program_destroy(p);
    }
    end(&c.g.r);
}

int main(void)
{
    fad_default_loops(&loops);
    for (uint64_t seed = 0; seed < PROGRAMS; seed++) {
        test_seed(seed, true);
        test_seed(seed, false);
    }
    EXPECT(forwards > PROGRAMS && backwards > PROGRAMS);
    return finish();
}
