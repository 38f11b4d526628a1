/* vectorize_find.c: the loop that a recording is.
 *
 * The period is that of the ops in the middle of the tape, by the failure function of Knuth, Morris and Pratt (1977,
 * Fast pattern matching in strings): the shortest in linear time, whatever the length of the body. From there the loop
 * is followed to both sides, and every turn is compared with one of the first, operand by operand. */
#include "vectorize.h"

#include "try.h"

enum {
    FEWEST_NODES = 4096,    /* a shorter trace is rolled in no time */
    LONGEST_WINDOW = 1 << 16,
    PERIODS = 4,            /* in a window; and multiples of the period of ops that are tried */
    MODEL = 3,              /* the turn that others are compared with: what reads two turns back can be seen in it */
    FEWEST_TURNS = 64,
    MOST_SHIFT = 16,
    LONGEST_BODY = 8,       /* nodes a turn: of short arrays of a long body, rolling makes longer ones */
};

static bool is_dynamic(const fad_tape *tape, uint32_t node) { return (tape->nodes[node].flags & FAD_IS_DYNAMIC) != 0; }

/* The next node from `i` on that depends on an input. */
static uint32_t next(const fad_tape *tape, uint32_t i)
{
    while (i < tape->count && !is_dynamic(tape, i))
        i++;
    return i;
}

/* The last one before `i`; FAD_NODE_NONE: there is none. */
static uint32_t previous(const fad_tape *tape, uint32_t i)
{
    while (i-- > 0)
        if (is_dynamic(tape, i))
            return i;
    return FAD_NODE_NONE;
}

static uint32_t skip(const fad_tape *tape, uint32_t i, uint32_t count)
{
    for (i = next(tape, i); count && i < tape->count; count--)
        i = next(tape, i + 1);
    return i;
}

static void *take(found_loop *l, size_t count, size_t item, fad_status *status)
{
    if (count > SIZE_MAX / item) {
        *status = FAD_NO_MEMORY;
        return NULL;
    }
    return fad_resize(l->memory, NULL, 0, count * item, status);
}

static void give(found_loop *l, void *p, size_t size)
{
    fad_status ignored = FAD_OK;
    if (p)
        fad_resize(l->memory, p, size, 0, &ignored);
}

/* --- the period --- */

/* The shortest period of n ops; n where there is none. `links` is room for n numbers. */
static uint32_t period_of(const uint16_t *ops, uint32_t n, uint32_t *links)
{
    uint32_t k = links[0] = 0;
    for (uint32_t i = 1; i < n; i++) {
        while (k && ops[i] != ops[k])
            k = links[k - 1];
        k += ops[i] == ops[k];
        links[i] = k;
    }
    return n - k;
}

/* 0: none that comes PERIODS times. */
static fad_status find_period(found_loop *l, uint32_t middle, uint32_t *period)
{
    const fad_tape *tape = l->from;
    uint32_t room = (uint32_t)(tape->count / 4 < LONGEST_WINDOW ? tape->count / 4 : LONGEST_WINDOW), n = 0;
    fad_status status = FAD_OK;
    size_t item = sizeof(uint32_t) + sizeof(uint16_t);
    uint32_t *links = take(l, room, item, &status);
    if (!links)
        return status;
    uint16_t *ops = (uint16_t *)(links + room);
    for (uint32_t i = middle; n < room && i < tape->count; i = next(tape, i + 1))
        ops[n++] = tape->nodes[i].op;
    *period = n ? period_of(ops, n, links) : 0;
    if (*period > n / PERIODS)
        *period = 0;
    give(l, links, room * item);
    return FAD_OK;
}

/* The first node from which on ops repeat after `period`. */
static uint32_t find_start(const fad_tape *tape, uint32_t middle, uint32_t period)
{
    uint32_t start = middle, later = skip(tape, middle, period), i, k;
    while ((i = previous(tape, start)) != FAD_NODE_NONE && (k = previous(tape, later)) != FAD_NODE_NONE &&
           tape->nodes[i].op == tape->nodes[k].op) {
        start = i;
        later = k;
    }
    return start;
}

/* --- the body --- */

/* Fills `nodes` with the next turn from `*at` on; false where its ops are others. */
static bool read_turn(const found_loop *l, uint32_t *at, uint32_t *nodes)
{
    const fad_tape *tape = l->from;
    for (uint32_t j = 0, i = *at; j < l->body; j++) {
        if (i >= tape->count || tape->nodes[i].op != l->positions[j].op)
            return false;
        nodes[j] = i;
        *at = i = next(tape, i + 1);
    }
    return true;
}

static uint32_t find_position(const uint32_t *nodes, uint32_t n, uint32_t node)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (nodes[mid] < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && nodes[low] == node ? low : FAD_NODE_NONE;
}

static body_slot read_slot(const found_loop *l, const uint32_t *turn, uint32_t parent)
{
    body_slot slot = {.kind = SLOT_FIXED, .where = parent};
    if (parent < l->start || !is_dynamic(l->from, parent))
        return slot;
    slot.where = find_position(turn, l->body, parent);
    slot.kind = slot.where == FAD_NODE_NONE ? SLOT_CARRIED : SLOT_SAME;
    return slot;
}

/* A position as the model turn has it. */
static void read_position(const found_loop *l, const uint32_t *turn, uint32_t j)
{
    const fad_node *n = &l->from->nodes[turn[j]];
    body_node *p = &l->positions[j];
    bool is_element = n->op == FAD_ELEMENT;
    bool is_scalar = n->op < FAD_ELEMENTWISE_COUNT && !(n->flags & (FAD_IS_ARRAY | FAD_HAS_ARRAY));
    p->offset = turn[j] - turn[0];
    p->arity = is_element ? 1 : is_scalar ? fad_ops[n->op].arity : 0;
    p->is_affine = true;
    p->node = p->numbers = FAD_NODE_NONE;
    for (uint32_t k = 0; k < p->arity; k++)
        p->slots[k] = read_slot(l, turn, fad_parent(l->from, turn[j], k));
}

static bool is_carried(const found_loop *l, uint32_t j)
{
    const body_node *p = &l->positions[j];
    bool carried = p->arity == 0;
    for (uint32_t k = 0; k < p->arity; k++)
        carried = carried || p->slots[k].kind == SLOT_CARRIED ||
                  (p->slots[k].kind == SLOT_SAME && l->positions[p->slots[k].where].kind == BODY_SCALAR);
    return carried;
}

/* The body as the turn MODEL from `start` on has it; false where the turns before it are others. `*carried`: how many
 * of its nodes depend on an earlier turn. */
static bool read_body(found_loop *l, uint32_t start, uint32_t *turn, uint32_t *carried)
{
    const fad_tape *tape = l->from;
    uint32_t at = l->start = start, i = start;
    for (uint32_t j = 0; j < l->body; j++, i = next(tape, i + 1)) {
        if (i >= tape->count)
            return false;
        l->positions[j] = (body_node){.op = tape->nodes[i].op};
    }
    for (int t = 0; t <= MODEL; t++)
        if (!read_turn(l, &at, turn))
            return false;
    *carried = 0;
    for (uint32_t j = 0; j < l->body; j++) {
        read_position(l, turn, j);
        l->positions[j].kind = is_carried(l, j) ? BODY_SCALAR : BODY_VECTOR;
        *carried += l->positions[j].kind == BODY_SCALAR;
    }
    return true;
}

/* Nodes before the loop may look like the end of its body: of the places to start from, where least is carried. */
static bool choose_start(found_loop *l, uint32_t earliest, uint32_t *turn)
{
    uint32_t least = l->body + 1, best = earliest, start = earliest, carried;
    for (uint32_t shift = 0; shift < l->body && shift < MOST_SHIFT && least > 0; shift++) {
        if (read_body(l, start, turn, &carried) && carried < least) {
            least = carried;
            best = start;
        }
        start = next(l->from, start + 1);
    }
    return least <= l->body / 4 && read_body(l, best, turn, &carried);
}

/* --- the turns --- */

/* The nodes of an odd turn, else NULL. */
static const uint32_t *odd_at(const found_loop *l, uint32_t turn)
{
    for (size_t i = 0; i < l->odd_count; i++)
        if (l->odd[i].turn == turn)
            return l->odd[i].nodes;
    return NULL;
}

static uint32_t node_without_table(const found_loop *l, uint32_t turn, uint32_t position)
{
    const uint32_t *nodes = odd_at(l, turn);
    return nodes ? nodes[position] : l->firsts[turn] + l->positions[position].offset;
}

static bool same_number(const fad_tape *tape, uint32_t x, uint32_t y)
{
    return !is_dynamic(tape, x) && !is_dynamic(tape, y) &&
           memcmp(&tape->values[x].number, &tape->values[y].number, sizeof(double)) == 0;
}

/* Offsets start, start + step, ... over turns. */
static bool follows(int64_t offset, uint32_t turn, int64_t *start, int64_t *step)
{
    if (turn == 0)
        *start = offset;
    else if (turn == 1)
        *step = offset - *start;
    return offset == *start + (int64_t)turn * *step;
}

/* What an operand from outside of the loop is in `turn`, as far as turns were alike until now. */
static void follow_slot(const fad_tape *tape, body_slot *slot, uint32_t turn, uint32_t parent)
{
    const fad_node *n = &tape->nodes[parent];
    if (turn == 0) {
        slot->where = parent;
        if (n->op == FAD_ELEMENT && is_dynamic(tape, parent))
            slot->start = n->aux;
        return;
    }
    if (slot->kind == SLOT_FIXED && (parent == slot->where || same_number(tape, parent, slot->where)))
        return;
    const fad_node *first = &tape->nodes[slot->where];
    if (slot->kind == SLOT_FIXED && !is_dynamic(tape, slot->where))
        slot->kind = SLOT_NUMBERS;
    else if (slot->kind == SLOT_FIXED) /* the same for a while, and then another: not at equal distances */
        slot->kind = turn == 1 && first->op == FAD_ELEMENT ? SLOT_ELEMENTS : SLOT_CARRIED;
    if (slot->kind == SLOT_NUMBERS && is_dynamic(tape, parent))
        slot->kind = SLOT_CARRIED;
    if (slot->kind == SLOT_ELEMENTS && !(is_dynamic(tape, parent) && n->op == FAD_ELEMENT && n->a == first->a &&
                                         follows(n->aux, turn, &slot->start, &slot->step)))
        slot->kind = SLOT_CARRIED;
}

/* Whether the operands of a turn are where the model has them; what comes from outside is outside. */
static bool is_alike(const found_loop *l, const uint32_t *turn)
{
    const fad_tape *tape = l->from;
    for (uint32_t j = 0; j < l->body; j++) {
        const body_node *p = &l->positions[j];
        const fad_node *n = &tape->nodes[turn[j]];
        bool is_scalar = n->op == FAD_ELEMENT || !(n->flags & (FAD_IS_ARRAY | FAD_HAS_ARRAY));
        if (p->arity && !is_scalar)
            return false;
        for (uint32_t k = 0; k < p->arity; k++) {
            const body_slot *slot = &p->slots[k];
            uint32_t parent = k == 0 ? n->a : k == 1 ? n->b : n->aux;
            if (slot->kind == SLOT_SAME ? parent != turn[slot->where]
                                        : slot->kind != SLOT_CARRIED && parent >= l->start && is_dynamic(tape, parent))
                return false;
        }
    }
    return true;
}

static void follow(found_loop *l, const uint32_t *nodes, uint32_t turn)
{
    const fad_tape *tape = l->from;
    for (uint32_t j = 0; j < l->body; j++) {
        body_node *p = &l->positions[j];
        for (uint32_t k = 0; k < p->arity; k++)
            if (p->slots[k].kind >= SLOT_FIXED)
                follow_slot(tape, &p->slots[k], turn, fad_parent(tape, nodes[j], k));
        if (p->op == FAD_ELEMENT && p->is_affine)
            p->is_affine = follows(tape->nodes[nodes[j]].aux, turn, &p->start, &p->step);
    }
}

static fad_status make_table(found_loop *l, size_t room)
{
    fad_status status = FAD_OK;
    l->table = take(l, room, sizeof *l->table, &status);
    l->table_size = l->table ? room : 0;
    for (uint32_t t = 0; t < l->turns && l->table; t++)
        for (uint32_t j = 0; j < l->body; j++)
            l->table[(size_t)t * l->body + j] = node_without_table(l, t, j);
    return status;
}

/* Where the nodes of a turn are, unless they are where the model has them. */
static fad_status note_places(found_loop *l, const uint32_t *nodes)
{
    fad_status status = FAD_OK;
    uint32_t j = 0;
    l->firsts[l->turns] = nodes[0];
    while (!l->table && j < l->body && nodes[j] - nodes[0] == l->positions[j].offset)
        j++;
    if (j == l->body)
        return FAD_OK;
    if (!l->table && l->odd_count == VECTOR_MOST_ODD)
        TRY(make_table(l, l->from->count - l->start));
    if (l->table) {
        memcpy(l->table + (size_t)l->turns * l->body, nodes, l->body * sizeof *nodes);
        return FAD_OK;
    }
    uint32_t *copy = take(l, l->body, sizeof *copy, &status);
    if (!copy)
        return status;
    memcpy(copy, nodes, l->body * sizeof *copy);
    l->odd[l->odd_count++] = (odd_turn){l->turns, copy};
    return FAD_OK;
}

/* The loop from its start on, for as long as its turns are alike. */
static fad_status follow_turns(found_loop *l, uint32_t *nodes)
{
    uint32_t at = l->start;
    l->turns = 0;
    l->end = l->start;
    while (at < l->from->count && read_turn(l, &at, nodes) && is_alike(l, nodes)) {
        TRY(note_places(l, nodes));
        follow(l, nodes, l->turns++);
        l->end = nodes[l->body - 1] + 1;
    }
    return FAD_OK;
}

/* --- what becomes of it --- */

static body_kind kind_of(const found_loop *l, const body_node *p)
{
    if (p->arity == 0)
        return BODY_SCALAR;
    body_kind kind = BODY_UNIFORM;
    if (p->op == FAD_ELEMENT) {
        const body_slot *array = &p->slots[0];
        if (array->kind != SLOT_FIXED || fad_node_dtype(l->from, array->where) != FAD_F64)
            return BODY_SCALAR;
        return !p->is_affine ? BODY_SCALAR : p->step ? BODY_VECTOR : BODY_UNIFORM;
    }
    for (uint32_t k = 0; k < p->arity; k++) {
        const body_slot *slot = &p->slots[k];
        body_kind from = slot->kind == SLOT_SAME      ? l->positions[slot->where].kind
                         : slot->kind == SLOT_CARRIED ? BODY_SCALAR
                         : slot->kind == SLOT_FIXED   ? BODY_UNIFORM
                                                      : BODY_VECTOR;
        if (slot->kind == SLOT_ELEMENTS && fad_node_dtype(l->from, l->from->nodes[slot->where].a) != FAD_F64)
            from = BODY_SCALAR;
        if (from == BODY_SCALAR)
            return BODY_SCALAR;
        kind = from == BODY_VECTOR ? BODY_VECTOR : kind;
    }
    return kind;
}

/* Whether most of the trace becomes arrays. An element that is read at no equal distances tells of a nest of loops, in
 * which rolling sees more. */
static bool is_worth_it(found_loop *l)
{
    uint32_t vectors = 0;
    if (l->turns < FEWEST_TURNS || l->body / LONGEST_BODY > l->turns || l->end - l->start < l->from->count / 4 * 3)
        return false;
    for (uint32_t j = 0; j < l->body; j++) {
        body_node *p = &l->positions[j];
        p->kind = kind_of(l, p);
        vectors += p->kind != BODY_SCALAR;
        if (p->op == FAD_ELEMENT && p->kind == BODY_SCALAR)
            return false;
    }
    return vectors >= l->body - l->body / 4;
}

bool vectorize_lives(found_loop *l, const uint8_t *uses)
{
    size_t living = 0, computed = 0;
    for (uint32_t t = 0; t < l->turns; t++)
        for (uint32_t j = 0; j < l->body; j++)
            l->positions[j].living += uses[vectorize_node(l, t, j)] != 0;
    for (uint32_t j = 0; j < l->body; j++)
        if (l->positions[j].kind == BODY_VECTOR && l->positions[j].living) {
            living += l->positions[j].living;
            computed += l->turns;
        }
    return living >= computed - computed / 8;
}

static fad_status index_positions(found_loop *l)
{
    fad_status status = FAD_OK;
    l->span = l->positions[l->body - 1].offset + 1;
    l->at = take(l, l->span, sizeof *l->at, &status);
    if (!l->at)
        return status;
    memset(l->at, 0xff, l->span * sizeof *l->at);
    for (uint32_t j = 0; j < l->body; j++)
        l->at[l->positions[j].offset] = j;
    return FAD_OK;
}

static fad_status try_period(found_loop *l, uint32_t middle, uint32_t period, bool *found)
{
    fad_status status = FAD_OK;
    size_t most = l->from->count / period + 1;
    l->body = period;
    l->positions = take(l, period, sizeof *l->positions, &status);
    l->firsts = l->positions ? take(l, most, sizeof *l->firsts, &status) : NULL;
    uint32_t *nodes = l->firsts ? take(l, period, sizeof *nodes, &status) : NULL;
    if (nodes && choose_start(l, find_start(l->from, middle, period), nodes)) {
        status = follow_turns(l, nodes);
        *found = status == FAD_OK && is_worth_it(l);
    }
    give(l, nodes, period * sizeof *nodes);
    return status;
}

fad_status vectorize_find(found_loop *l, bool *found)
{
    const fad_tape *tape = l->from;
    uint32_t period = 0;
    *found = false;
    if (tape->count < FEWEST_NODES)
        return FAD_OK;
    uint32_t middle = next(tape, (uint32_t)(tape->count / 2));
    TRY(find_period(l, middle, &period));
    /* Ops may repeat sooner than operands do. */
    for (uint32_t k = 1; period && k <= PERIODS && !*found; k++) {
        vectorize_free(l);
        TRY(try_period(l, middle, k * period, found));
    }
    return *found ? index_positions(l) : FAD_OK;
}

void vectorize_free(found_loop *l)
{
    for (size_t i = 0; i < l->odd_count; i++)
        give(l, l->odd[i].nodes, l->body * sizeof *l->odd[i].nodes);
    give(l, l->table, l->table_size * sizeof *l->table);
    give(l, l->at, l->span * sizeof *l->at);
    give(l, l->firsts, l->body ? (l->from->count / l->body + 1) * sizeof *l->firsts : 0);
    give(l, l->positions, l->body * sizeof *l->positions);
    *l = (found_loop){.from = l->from, .memory = l->memory};
}

/* --- places --- */

uint32_t vectorize_node(const found_loop *l, uint32_t turn, uint32_t position)
{
    return l->table ? l->table[(size_t)turn * l->body + position] : node_without_table(l, turn, position);
}

bool vectorize_place(const found_loop *l, uint32_t node, uint32_t *turn, uint32_t *position)
{
    if (node < l->start || node >= l->end || !is_dynamic(l->from, node))
        return false;
    uint32_t low = 0, high = l->turns; /* firsts[low] <= node < firsts[high] */
    if (*turn < l->turns && l->firsts[*turn] <= node)
        low = *turn;
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (l->firsts[mid] <= node)
            low = mid;
        else
            high = mid;
    }
    const uint32_t *nodes = l->table ? l->table + (size_t)low * l->body : odd_at(l, low);
    uint32_t distance = node - l->firsts[low];
    *turn = low;
    *position = nodes ? find_position(nodes, l->body, node) : distance < l->span ? l->at[distance] : FAD_NODE_NONE;
    return *position != FAD_NODE_NONE;
}
