/* roll_operand.c: nodes for the operands of a run, from the places of its members' operands. */
#include "record.h"
#include "roll.h"
#include "try.h"

/* --- bases --- */

fad_status roll_new_base(roll *r, uint32_t node, uint32_t source, uint32_t *out)
{
    if (r->base_count == r->base_capacity) {
        fad_status status = FAD_OK;
        size_t capacity = r->base_capacity ? 2 * r->base_capacity : 64, item = sizeof *r->bases;
        if (capacity > SIZE_MAX / item)
            return FAD_NO_MEMORY;
        roll_base *grown = fad_resize(r->to, r->bases, r->base_capacity * item, capacity * item, &status);
        if (!grown)
            return status;
        r->bases = grown;
        r->base_capacity = capacity;
    }
    if (r->base_count >= FAD_NODE_NONE)
        return FAD_TOO_MANY;
    *out = (uint32_t)r->base_count++;
    r->bases[*out] = (roll_base){node, FAD_NODE_NONE, source};
    return FAD_OK;
}

static fad_status array_of(roll *r, uint32_t base, bool truth, uint32_t *out)
{
    roll_base *b = &r->bases[base];
    *out = b->node;
    if (truth || fad_node_dtype(r->to, b->node) == FAD_F64)
        return FAD_OK;
    if (b->numbers == FAD_NODE_NONE)
        TRY(fad_record_cast(r->to, b->node, FAD_F64, &b->numbers));
    *out = b->numbers;
    return FAD_OK;
}

/* --- parts of arrays, each appended once --- */

static size_t hash_slice(uint32_t node, size_t ndim, const ptrdiff_t *dims, ptrdiff_t start, const ptrdiff_t *strides)
{
    uint64_t h = (node * 0x9e3779b97f4a7c15u ^ (uint64_t)start) * 0xff51afd7ed558ccdu;
    for (size_t d = 0; d < ndim; d++)
        h = ((h ^ (h >> 31) ^ (uint64_t)dims[d]) * 0x9e3779b97f4a7c15u ^ (uint64_t)strides[d]) * 0xff51afd7ed558ccdu;
    return (size_t)(h ^ (h >> 32));
}

static size_t hash_node(const fad_tape *tape, uint32_t node)
{
    const fad_node *n = &tape->nodes[node];
    if (n->op == FAD_ELEMENT)
        return hash_slice(n->a, 0, NULL, (ptrdiff_t)n->aux, NULL);
    const fad_strided *s = tape->side[n->aux];
    return hash_slice(n->a, s->part->ndim, s->part->dims, s->start, s->strides);
}

static bool is_slice(const fad_tape *tape, uint32_t node, uint32_t a, size_t ndim, const ptrdiff_t *dims,
                     ptrdiff_t start, const ptrdiff_t *strides)
{
    const fad_node *n = &tape->nodes[node];
    if (n->a != a || (n->op == FAD_ELEMENT) != (ndim == 0))
        return false;
    if (ndim == 0)
        return n->aux == (uint32_t)start;
    const fad_strided *s = tape->side[n->aux];
    return s->start == start && s->part->ndim == ndim && memcmp(s->part->dims, dims, ndim * sizeof *dims) == 0 &&
           memcmp(s->strides, strides, ndim * sizeof *strides) == 0;
}

static fad_status grow_slices(roll *r)
{
    fad_status status = FAD_OK;
    size_t capacity = r->slice_capacity ? 2 * r->slice_capacity : 64;
    uint32_t *grown = fad_resize(r->to, NULL, 0, capacity * sizeof *grown, &status);
    if (!grown)
        return status;
    memset(grown, 0, capacity * sizeof *grown);
    for (size_t i = 0; i < r->slice_capacity; i++) {
        if (!r->slices[i])
            continue;
        size_t at = hash_node(r->to, r->slices[i] - 1) & (capacity - 1);
        while (grown[at])
            at = (at + 1) & (capacity - 1);
        grown[at] = r->slices[i];
    }
    fad_resize(r->to, r->slices, r->slice_capacity * sizeof *grown, 0, &status);
    r->slices = grown;
    r->slice_capacity = capacity;
    return FAD_OK;
}

/* STRIDED of array `a`, ELEMENT where ndim is 0. */
static fad_status part_of(roll *r, uint32_t a, size_t ndim, const ptrdiff_t *dims, ptrdiff_t start,
                          const ptrdiff_t *strides, uint32_t *out)
{
    if (2 * (r->slice_count + 1) > r->slice_capacity)
        TRY(grow_slices(r));
    size_t at = hash_slice(a, ndim, dims, start, strides) & (r->slice_capacity - 1);
    for (; r->slices[at]; at = (at + 1) & (r->slice_capacity - 1))
        if (is_slice(r->to, r->slices[at] - 1, a, ndim, dims, start, strides)) {
            *out = r->slices[at] - 1;
            return FAD_OK;
        }
    uint32_t side;
    if (ndim == 0) {
        TRY(fad_record_element(r->to, a, (size_t)start, out));
    } else {
        TRY(fad_make_strided(r->to, fad_node_shape(r->to, a), ndim, dims, start, strides, &side));
        TRY(fad_record_strided(r->to, a, side, out));
    }
    r->slices[at] = *out + 1;
    r->slice_count++;
    return FAD_OK;
}

fad_status roll_reshape(roll *r, uint32_t node, size_t ndim, const ptrdiff_t *dims, uint32_t *out)
{
    const fad_shape *shape;
    TRY(fad_shape_intern(r->to, ndim, dims, &shape));
    return fad_record_reshape(r->to, node, shape, out);
}

static bool is_everything(const fad_shape *whole, const roll_affine *a)
{
    ptrdiff_t stride = 1;
    for (size_t d = a->ndim; d-- > 0;) {
        if (a->dims[d] > 1 && a->strides[d] != stride)
            return false;
        stride *= a->dims[d];
    }
    return a->start == 0 && (size_t)stride == whole->size;
}

static fad_status slice_of(roll *r, uint32_t a, const roll_affine *affine, uint32_t *out)
{
    if (is_everything(fad_node_shape(r->to, a), affine))
        return roll_reshape(r, a, affine->ndim, affine->dims, out);
    return part_of(r, a, affine->ndim, affine->dims, affine->start, affine->strides, out);
}

fad_status roll_slice(roll *r, uint32_t base, const roll_affine *affine, bool truth, uint32_t *out)
{
    uint32_t a;
    TRY(array_of(r, base, truth, &a));
    return slice_of(r, a, affine, out);
}

/* --- scalars --- */

fad_status roll_scalar_at(roll *r, roll_place place, uint32_t *out)
{
    uint32_t a;
    if (place.base == ROLL_CONSTANT)
        return fad_constant(r->to, r->from->values[place.offset].number, out);
    if (place.base == ROLL_ALONE) {
        *out = r->map[place.offset];
        return FAD_OK;
    }
    TRY(array_of(r, place.base, false, &a));
    const fad_node *n = &r->to->nodes[a];
    if (n->op == FAD_STACK) {
        *out = ((const fad_list *)r->to->side[n->aux])->nodes[place.offset];
        return FAD_OK;
    }
    return part_of(r, a, 0, NULL, (ptrdiff_t)place.offset, NULL, out);
}

fad_status roll_scalar(roll *r, uint32_t node, uint32_t *out)
{
    if (r->map[node] == FAD_NODE_NONE)
        TRY(roll_scalar_at(r, roll_place_of(r, node), &r->map[node]));
    *out = r->map[node];
    return FAD_OK;
}

/* Scalars or constants side by side, places[0].base telling which. Uses r->classes. */
static fad_status list_of(roll *r, const roll_place *places, size_t n, uint32_t *out)
{
    if (places[0].base == ROLL_CONSTANT) {
        const fad_shape *shape;
        ptrdiff_t dim = (ptrdiff_t)n;
        TRY(fad_shape_intern(r->to, 1, &dim, &shape));
        TRY(fad_new_array(r->to, FAD_CONSTANT, 0, 0, 0, 0, FAD_F64, shape, out));
        double *to = (double *)r->to->values[*out].array->data;
        for (size_t i = 0; i < n; i++)
            to[i] = r->from->values[places[i].offset].number;
        return FAD_OK;
    }
    for (size_t i = 0; i < n; i++)
        TRY(roll_scalar_at(r, places[i], &r->classes[i]));
    return fad_record_stack(r->to, n, r->classes, out);
}

/* --- operands --- */

/* Part of array `a` that broadcasts to `dims`. */
static fad_status build_affine(roll *r, uint32_t a, const roll_affine *affine, size_t ndim, const ptrdiff_t *dims,
                               uint32_t *out)
{
    ptrdiff_t strides[ROLL_NEST + 1];
    roll_affine part = {.start = affine->start};
    if (!roll_refine(affine, ndim, dims, strides)) {
        TRY(slice_of(r, a, affine, out));
        return roll_reshape(r, *out, ndim, dims, out);
    }
    for (size_t d = 0; d < ndim; d++) {
        if (part.ndim == 0 && strides[d] == 0)
            continue; /* broadcasting adds it */
        part.dims[part.ndim] = strides[d] ? dims[d] : 1;
        part.strides[part.ndim++] = strides[d];
    }
    return slice_of(r, a, &part, out);
}

/* Different scalars, each once, and a nest of loops over them; or all of them as they come. Uses r->keys. */
static fad_status build_listed(roll *r, const roll_place *places, size_t n, size_t ndim, const ptrdiff_t *dims,
                               uint32_t *out)
{
    size_t different = 0;
    uint32_t *scratch = roll_scratch(r);
    roll_place *once = r->operands[3], *ordinals = (roll_place *)r->keys;
    roll_affine affine;
    for (size_t i = 0; i < n; i++) {
        uint32_t *ordinal = &scratch[places[i].offset];
        if (*ordinal == FAD_NODE_NONE) {
            *ordinal = (uint32_t)different;
            once[different++] = places[i];
        }
        ordinals[i] = (roll_place){0, *ordinal};
    }
    for (size_t i = 0; i < different; i++)
        scratch[once[i].offset] = FAD_NODE_NONE;
    if (different < n && roll_fit(ordinals, n, &affine)) {
        TRY(list_of(r, once, different, out));
        return build_affine(r, *out, &affine, ndim, dims, out);
    }
    TRY(list_of(r, places, n, out));
    return roll_reshape(r, *out, ndim, dims, out);
}

static fad_status build_pieces(roll *r, const roll_place *places, size_t n, uint32_t *out)
{
    uint32_t pieces[ROLL_MOST_PIECES + 1];
    size_t count = 0;
    for (size_t i = 0; i < n && count <= ROLL_MOST_PIECES; count++) {
        roll_affine affine;
        size_t c = roll_piece(places + i, n - i, &affine);
        ptrdiff_t dim = (ptrdiff_t)c;
        if (places[i].base < ROLL_FIRST_ARRAY) {
            TRY(list_of(r, places + i, c, &pieces[count]));
        } else {
            if (!roll_fit(places + i, c, &affine))
                return FAD_BAD_OPERAND;
            TRY(roll_slice(r, places[i].base, &affine, false, &pieces[count]));
            TRY(roll_reshape(r, pieces[count], 1, &dim, &pieces[count]));
        }
        i += c;
    }
    return fad_record_concatenate(r->to, count, pieces, 0, out);
}

/* The stretch of `width` places in every row, as an array of two axes. Uses r->operands[3]. */
static fad_status build_column(roll *r, const roll_place *places, size_t rows, size_t row, size_t width, uint32_t *out)
{
    roll_affine nest = {.ndim = 2, .start = places[0].offset, .dims = {(ptrdiff_t)rows, (ptrdiff_t)width}};
    if (places[0].base >= ROLL_FIRST_ARRAY) {
        nest.strides[0] = (ptrdiff_t)places[row].offset - (ptrdiff_t)places[0].offset;
        nest.strides[1] = width > 1 ? (ptrdiff_t)places[1].offset - (ptrdiff_t)places[0].offset : 0;
        return roll_slice(r, places[0].base, &nest, false, out);
    }
    for (size_t i = 0; i < rows; i++)
        memcpy(r->operands[3] + i * width, places + i * row, width * sizeof *places);
    TRY(list_of(r, r->operands[3], rows * width, out));
    return roll_reshape(r, *out, 2, nest.dims, out);
}

static fad_status build_rows(roll *r, const roll_place *places, size_t n, uint32_t *out)
{
    uint32_t columns[ROLL_FEW_PIECES];
    size_t ends[ROLL_FEW_PIECES], parts, start = 0, row = roll_rows(places, n, ends, &parts);
    if (row == 0)
        return FAD_BAD_OPERAND;
    for (size_t k = 0; k < parts; start = ends[k++])
        TRY(build_column(r, places + start, n / row, row, ends[k] - start, &columns[k]));
    return fad_record_concatenate(r->to, parts, columns, 1, out);
}

/* An index array of n elements, for the caller to fill. */
static fad_status new_indices(roll *r, size_t n, uint32_t *out, int64_t **data)
{
    const fad_shape *shape;
    ptrdiff_t dim = (ptrdiff_t)n;
    TRY(fad_shape_intern(r->to, 1, &dim, &shape));
    TRY(fad_new_array(r->to, FAD_CONSTANT, 0, 0, 0, 0, FAD_I64, shape, out));
    *data = (int64_t *)r->to->values[*out].array->data;
    return FAD_OK;
}

fad_status roll_gather(roll *r, const roll_place *places, size_t n, uint32_t *out)
{
    uint32_t a, indices;
    int64_t *data;
    TRY(array_of(r, places[0].base, false, &a));
    TRY(new_indices(r, n, &indices, &data));
    for (size_t i = 0; i < n; i++)
        data[i] = places[i].offset;
    return fad_record_gather(r->to, a, indices, out);
}

/* --- several bases: put end to end, and gathered from there --- */

typedef struct {
    uint32_t *nodes;      /* to be put end to end */
    size_t *starts;       /* of each base in that, by its place in `nodes` */
    size_t count, size;
    uint32_t *ordinals;   /* of each base in `nodes` */
    roll_place *scalars;  /* ALONE from the left, CONSTANT from the right */
    size_t alone, constants;
} pool;

static size_t base_size(const roll *r, uint32_t base) { return fad_node_shape(r->to, r->bases[base].node)->size; }

static fad_status fill_pool(roll *r, const roll_place *places, size_t n, pool *p)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t base = places[i].base, *ordinal = &p->ordinals[base];
        if (base == ROLL_ALONE)
            p->scalars[p->alone++] = places[i];
        else if (base == ROLL_CONSTANT)
            p->scalars[n - ++p->constants] = places[i];
        if (base < ROLL_FIRST_ARRAY || *ordinal != FAD_NODE_NONE)
            continue;
        ptrdiff_t dim = (ptrdiff_t)base_size(r, base);
        TRY(array_of(r, base, false, &p->nodes[p->count]));
        TRY(roll_reshape(r, p->nodes[p->count], 1, &dim, &p->nodes[p->count]));
        *ordinal = (uint32_t)p->count;
        p->starts[p->count++] = p->size;
        p->size += (size_t)dim;
    }
    return FAD_OK;
}

static size_t start_of(const pool *p, uint32_t base) { return p->starts[p->ordinals[base]]; }

static fad_status gather_from_pool(roll *r, const roll_place *places, size_t n, pool *p, uint32_t *out)
{
    size_t alone = p->size, constant = alone + p->alone + p->constants;
    uint32_t indices, all;
    int64_t *data;
    if (p->alone)
        TRY(list_of(r, p->scalars, p->alone, &p->nodes[p->count++]));
    if (p->constants)
        TRY(list_of(r, p->scalars + n - p->constants, p->constants, &p->nodes[p->count++]));
    TRY(fad_record_concatenate(r->to, p->count, p->nodes, 0, &all));
    TRY(new_indices(r, n, &indices, &data));
    for (size_t i = 0; i < n; i++)
        data[i] = (int64_t)(places[i].base == ROLL_ALONE      ? alone++
                            : places[i].base == ROLL_CONSTANT ? --constant
                                                              : start_of(p, places[i].base) + places[i].offset);
    return fad_record_gather(r->to, all, indices, out);
}

static fad_status build_pool(roll *r, const roll_place *places, size_t n, uint32_t *out)
{
    fad_status status = FAD_OK, ignored = FAD_OK;
    size_t item = sizeof(roll_place) + sizeof(size_t) + sizeof(uint32_t), size = (n + 2) * item;
    if (n + 2 > SIZE_MAX / item)
        return FAD_NO_MEMORY;
    pool p = {.ordinals = roll_scratch(r), .scalars = fad_resize(r->to, NULL, 0, size, &status)};
    if (!p.scalars)
        return status;
    p.starts = (size_t *)(p.scalars + n + 2);
    p.nodes = (uint32_t *)(p.starts + n + 2);
    status = fill_pool(r, places, n, &p);
    if (status == FAD_OK)
        status = gather_from_pool(r, places, n, &p, out);
    for (size_t i = 0; i < n; i++)
        p.ordinals[places[i].base] = FAD_NODE_NONE;
    fad_resize(r->to, p.scalars, size, 0, &ignored);
    return status;
}

bool roll_is_worth_it(roll *r, const roll_place *places, size_t n, roll_plan *plan)
{
    enum { MEMBERS_A_PART = 4, MOST_UNUSED = 16 };
    size_t size = 0;
    if (plan->kind != ROLL_GATHER || plan->parts == 1)
        return true;
    uint32_t *seen = roll_scratch(r);
    plan->parts = 0;
    for (size_t i = 0; i < n; i++) {
        if (places[i].base >= ROLL_FIRST_ARRAY && seen[places[i].base] != FAD_NODE_NONE)
            continue;
        plan->parts++;
        size += 1;
        if (places[i].base >= ROLL_FIRST_ARRAY) {
            seen[places[i].base] = 0;
            size += base_size(r, places[i].base);
        }
    }
    for (size_t i = 0; i < n; i++)
        seen[places[i].base] = FAD_NODE_NONE;
    return plan->parts <= n / MEMBERS_A_PART && size / MOST_UNUSED <= n;
}

fad_status roll_build(roll *r, const roll_place *places, size_t n, const roll_plan *plan, size_t ndim,
                      const ptrdiff_t *dims, bool truth, uint32_t *out)
{
    uint32_t a;
    switch (plan->kind) {
    case ROLL_UNIFORM:
        return roll_scalar_at(r, places[0], out);
    case ROLL_AFFINE:
        TRY(array_of(r, plan->base, truth, &a));
        return build_affine(r, a, &plan->affine, ndim, dims, out);
    case ROLL_LISTED:
        return build_listed(r, places, n, ndim, dims, out);
    case ROLL_PIECES:
        TRY(build_pieces(r, places, n, out));
        break;
    case ROLL_ROWS:
        TRY(build_rows(r, places, n, out));
        break;
    default:
        TRY(plan->parts == 1 ? roll_gather(r, places, n, out) : build_pool(r, places, n, out));
        break;
    }
    return roll_reshape(r, *out, ndim, dims, out);
}
