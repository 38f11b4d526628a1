/* roll_class.c: which scalar nodes of one level and op do the same thing. Hashes decide: what two nodes have in
 * common only says that it is worth looking at them together. */
#include "roll.h"
#include "scalar.h"
#include "try.h"

/* Uses split nodes with equal operands into at most so many classes: beyond, they are no roles in a loop's body. */
enum { MOST_ROLES = 32, ALMOST = 8, MOST_SLOTS = 8 };

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* --- how nodes are used --- */

/* Whether the order of two operands says nothing, judged by trial. */
static bool commutes(int op)
{
    return fad_ops[op].arity == 2 && fad_scalar_value(op, 0.3, 0.7, 0) == fad_scalar_value(op, 0.7, 0.3, 0) &&
           fad_scalar_value(op, 2.5, -1.25, 0) == fad_scalar_value(op, -1.25, 2.5, 0);
}

/* A use adds to the hashes of what is used, so that the order of uses says nothing. */
static void add_use(roll_uses *to, const roll_uses *from, uint32_t how)
{
    to->one += (uint32_t)mix(1, how);
    to->two += (uint32_t)mix(from->one, how);
    to->all += (uint32_t)mix(from->all, how);
    to->kinds |= 1u << (mix(2, how) >> 59);
}

void roll_find_uses(roll *r)
{
    const fad_tape *tape = r->from;
    bool unordered[FAD_OP_COUNT] = {[FAD_NSUM] = true, [FAD_STACK] = true};
    memset(r->uses, 0, tape->count * sizeof *r->uses);
    for (int op = 0; op < FAD_ELEMENTWISE_COUNT; op++)
        unordered[op] = commutes(op);
    for (size_t i = tape->count; i-- > 0;) {
        uint32_t p;
        const fad_node *n = &tape->nodes[i];
        if (!r->levels[i] || !(n->flags & FAD_IS_DYNAMIC))
            continue;
        for (size_t k = 0; (p = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++)
            add_use(&r->uses[p], &r->uses[i], n->op * 8u + (unordered[n->op] ? 0 : k < 7 ? (unsigned)k : 7));
    }
}

/* --- counting by key --- */

typedef struct {
    uint64_t key;
    uint64_t operands;         /* the coarser key */
    uint32_t count;            /* 0: free */
    uint32_t class;            /* FAD_NODE_NONE: none yet */
    uint32_t largest;
    uint32_t smallest, sum, rest;
} tally;

typedef struct {
    fad_tape *tape;
    tally *entries;
    size_t size, used;
} table;

static void clear(table *t)
{
    if (t->entries)
        memset(t->entries, 0, t->size * sizeof *t->entries);
    t->used = 0;
}

static tally *find(const table *t, uint64_t key)
{
    size_t at = (size_t)(key ^ (key >> 32)) & (t->size - 1);
    while (t->entries[at].count && t->entries[at].key != key)
        at = (at + 1) & (t->size - 1);
    return &t->entries[at];
}

static fad_status grow(table *t)
{
    fad_status status = FAD_OK;
    table larger = {t->tape, NULL, t->size ? 4 * t->size : 64, t->used};
    larger.entries = fad_resize(t->tape, NULL, 0, larger.size * sizeof *larger.entries, &status);
    if (!larger.entries)
        return status;
    memset(larger.entries, 0, larger.size * sizeof *larger.entries);
    for (size_t i = 0; i < t->size; i++)
        if (t->entries[i].count)
            *find(&larger, t->entries[i].key) = t->entries[i];
    fad_resize(t->tape, t->entries, t->size * sizeof *t->entries, 0, &status);
    *t = larger;
    return FAD_OK;
}

/* The entry of `key`, one more counted. */
static fad_status count_key(table *t, uint64_t key, tally **out)
{
    if (2 * (t->used + 1) > t->size)
        TRY(grow(t));
    tally *e = find(t, key);
    if (e->count == 0) {
        e->key = key;
        e->class = FAD_NODE_NONE;
        t->used++;
    }
    e->count++;
    *out = e;
    return FAD_OK;
}

/* --- classes --- */

typedef struct {
    roll *r;
    size_t n;
    size_t rest;           /* members without a class */
    uint32_t class_count;  /* sizes in r->list, which has room for a class a member */
    table keys, roles;
} sorter;

/* From fine to coarse: what operands, and what uses. */
typedef enum { BY_ALL_USES, BY_NEAR_USES, BY_OPERANDS } fineness;

static uint64_t key_of(const sorter *s, size_t i, fineness f)
{
    const roll *r = s->r;
    uint64_t used = f == BY_ALL_USES ? r->used[i].all : (uint64_t)r->used[i].two << 32;
    return f == BY_OPERANDS ? r->keys[i] : mix(r->keys[i], used);
}

/* The class of an operand: its base. */
static uint64_t operand_class(const roll *r, uint32_t node, size_t slot)
{
    return roll_place_of(r, roll_operand(r->from, node, slot)).base;
}

/* Keys of the members' operands, and their uses side by side. */
static void hash_members(const sorter *s)
{
    const roll *r = s->r;
    for (size_t i = 0; i < s->n; i++) {
        roll_look_ahead(r, r->members, s->n, i);
        if (i + ROLL_FAR < s->n)
            FAD_PREFETCH(&r->uses[r->members[i + ROLL_FAR]]);
        size_t arity = roll_arity(r->from, r->members[i]);
        uint64_t h = mix(0, arity);
        for (size_t k = 0; k < arity; k++)
            h = mix(h, operand_class(r, r->members[i], k));
        r->keys[i] = h;
        r->used[i] = r->uses[r->members[i]];
    }
}

/* What classes of uses nodes with equal operands would have. */
static fad_status count_roles(sorter *s)
{
    tally *role;
    clear(&s->roles);
    for (size_t i = 0; i < s->keys.size; i++) {
        const tally *e = &s->keys.entries[i];
        if (e->count < s->r->min_width)
            continue;
        TRY(count_key(&s->roles, e->operands, &role));
        role->largest = role->count == 1 || e->count > role->largest ? e->count : role->largest;
        role->smallest = role->count == 1 || e->count < role->smallest ? e->count : role->smallest;
        role->sum = role->count == 1 ? e->count : role->sum + e->count;
    }
    for (size_t i = 0; i < s->keys.size && s->roles.size; i++) {
        const tally *e = &s->keys.entries[i];
        role = find(&s->roles, e->operands);
        if (role->count && e->count && e->count < s->r->min_width)
            role->rest += e->count;
    }
    return FAD_OK;
}

/* Whether classes of uses are roles in a loop's body: not many, one as frequent as another, and (almost) all there
 * is. In a stencil, each distance from the edge would be another class. */
static bool are_roles(const sorter *s, const tally *e)
{
    const tally *role = find(&s->roles, e->operands);
    return role->count <= MOST_ROLES && ALMOST * (uint64_t)role->smallest >= (ALMOST - 1) * (uint64_t)role->largest &&
           ALMOST * (uint64_t)role->rest <= role->sum;
}

/* Where classes exist that a member could join, the largest of each key. */
static fad_status enter_classes(sorter *s, fineness f)
{
    const roll *r = s->r;
    tally *e;
    for (size_t i = 0; i < s->n && s->class_count; i++) {
        uint32_t class = r->classes[i];
        if (class == FAD_NODE_NONE)
            continue;
        TRY(count_key(&s->keys, key_of(s, i, f), &e));
        e->operands = r->keys[i];
        if (e->class == FAD_NODE_NONE || r->list[class] > e->largest) {
            e->class = class;
            e->largest = r->list[class];
        }
    }
    return FAD_OK;
}

static void join(sorter *s, size_t i, uint32_t class)
{
    s->r->classes[i] = class;
    s->r->list[class]++;
    s->rest--;
}

/* Those that no class has yet join one of their key, or make one where they are enough. */
static fad_status sort_by(sorter *s, fineness f)
{
    roll *r = s->r;
    tally *e;
    clear(&s->keys);
    TRY(enter_classes(s, f));
    for (size_t i = 0; i < s->n; i++)
        if (r->classes[i] == FAD_NODE_NONE) {
            TRY(count_key(&s->keys, key_of(s, i, f), &e));
            e->operands = r->keys[i];
        }
    TRY(f == BY_OPERANDS ? FAD_OK : count_roles(s));
    for (size_t i = 0; i < s->n; i++) {
        if (r->classes[i] != FAD_NODE_NONE)
            continue;
        e = find(&s->keys, key_of(s, i, f));
        if (e->class == FAD_NODE_NONE && e->count >= r->min_width && (f == BY_OPERANDS || are_roles(s, e))) {
            e->class = s->class_count++;
            r->list[e->class] = 0;
        }
        if (e->class != FAD_NODE_NONE)
            join(s, i, e->class);
    }
    return FAD_OK;
}

static uint64_t slot_key(const sorter *s, size_t i, size_t slot, bool with_uses)
{
    const roll *r = s->r;
    uint64_t h = mix(mix(slot + 2, operand_class(r, r->members[i], slot)), roll_arity(r->from, r->members[i]));
    return mix(h, with_uses ? (uint64_t)r->used[i].two + 1 : 0);
}

static size_t slots_of(const sorter *s, size_t i)
{
    size_t arity = roll_arity(s->r->from, s->r->members[i]);
    return arity < MOST_SLOTS ? arity : MOST_SLOTS;
}

/* The edges of a stencil: a member without a class joins one with which it shares an operand's class. */
static fad_status join_by_slots(sorter *s)
{
    roll *r = s->r;
    tally *e;
    clear(&s->keys);
    clear(&s->roles);
    for (size_t i = 0; i < s->n; i++) {
        uint32_t class = r->classes[i];
        if (class == FAD_NODE_NONE)
            continue;
        TRY(count_key(&s->roles, class, &e)); /* one member speaks for its class */
        for (size_t k = 0; k < slots_of(s, i) && e->count == 1; k++)
            for (int with_uses = 0; with_uses < 2; with_uses++) {
                tally *slot;
                TRY(count_key(&s->keys, slot_key(s, i, k, with_uses), &slot));
                if (slot->class == FAD_NODE_NONE || r->list[class] > r->list[slot->class])
                    slot->class = class;
            }
    }
    for (size_t i = 0; i < s->n && s->keys.size; i++) {
        uint32_t class = r->classes[i];
        for (int with_uses = 2; with_uses-- > 0;)
            for (size_t k = slots_of(s, i); k-- > 0 && class == FAD_NODE_NONE;) {
                const tally *slot = find(&s->keys, slot_key(s, i, k, with_uses));
                class = slot->count ? slot->class : FAD_NODE_NONE;
            }
        if (r->classes[i] == FAD_NODE_NONE && class != FAD_NODE_NONE)
            join(s, i, class);
    }
    return FAD_OK;
}

/* The rest: one class that has nothing in common but the op, if it is wide enough. */
static void sort_rest(sorter *s)
{
    if (s->rest < s->r->min_width)
        return;
    s->r->list[s->class_count] = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->r->classes[i] == FAD_NODE_NONE)
            join(s, i, s->class_count);
    s->class_count++;
}

/* Members by class, in the order of recording within each; r->list becomes the ends of classes. */
static void distribute(const sorter *s)
{
    roll *r = s->r;
    uint32_t *sorted = (uint32_t *)r->keys, start = 0;
    for (uint32_t c = 0; c < s->class_count; c++) {
        uint32_t size = r->list[c];
        r->list[c] = start;
        start += size;
    }
    r->list[s->class_count] = start;
    for (size_t i = 0; i < s->n; i++) {
        uint32_t class = r->classes[i] == FAD_NODE_NONE ? s->class_count : r->classes[i];
        sorted[r->list[class]++] = r->members[i];
    }
    memcpy(r->members, sorted, s->n * sizeof *sorted);
}

static fad_status classify(sorter *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->r->classes[i] = FAD_NODE_NONE;
    hash_members(s);
    for (fineness f = BY_ALL_USES; f <= BY_OPERANDS && s->rest; f++)
        TRY(sort_by(s, f));
    return s->rest && s->class_count ? join_by_slots(s) : FAD_OK;
}

fad_status roll_classify(roll *r, size_t n, size_t *count)
{
    fad_status ignored = FAD_OK;
    sorter s = {.r = r, .n = n, .rest = n, .keys.tape = r->to, .roles.tape = r->to};
    fad_status status = classify(&s);
    if (status == FAD_OK) {
        sort_rest(&s);
        distribute(&s);
        *count = (size_t)s.class_count + 1;
    }
    fad_resize(r->to, s.keys.entries, s.keys.size * sizeof(tally), 0, &ignored);
    fad_resize(r->to, s.roles.entries, s.roles.size * sizeof(tally), 0, &ignored);
    return status;
}
