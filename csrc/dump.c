/* dump.c: the text form of a tape. */
#include <stdio.h>

#include "fastad.h"

typedef struct {
    void (*write)(void *context, const char *text);
    void *context;
} sink;

static void put(const sink *s, const char *text) { s->write(s->context, text); }

static void put_type(const sink *s, const fad_tape *tape, uint32_t node)
{
    static const char *const names[] = {"f64", "f32", "i64", "bool"};
    char text[32];
    const fad_shape *shape = fad_node_shape(tape, node);
    put(s, names[fad_node_dtype(tape, node)]);
    if (!fad_is_array(tape, node))
        return;
    put(s, "[");
    for (size_t i = 0; i < shape->ndim; i++) {
        snprintf(text, sizeof text, i ? ",%td" : "%td", shape->dims[i]);
        put(s, text);
    }
    put(s, "]");
}

/* "@5:3,1": start, then a stride for each axis of the part. */
static void put_places(const sink *s, const fad_strided *strided)
{
    char text[32];
    snprintf(text, sizeof text, " @%td:", strided->start);
    put(s, text);
    for (size_t i = 0; i < strided->part->ndim; i++) {
        snprintf(text, sizeof text, i ? ",%td" : "%td", strided->strides[i]);
        put(s, text);
    }
}

void fad_dump(const fad_tape *tape, size_t start, size_t stop, void (*write)(void *context, const char *text),
              void *context)
{
    sink s = {write, context};
    char text[64];
    for (size_t i = start; i < stop && i < tape->count; i++) {
        const fad_node *n = &tape->nodes[i];
        snprintf(text, sizeof text, "%%%zu = %s", i, fad_ops[n->op].name);
        put(&s, text);
        uint32_t parent;
        for (size_t k = 0; (parent = fad_parent(tape, (uint32_t)i, k)) != FAD_NODE_NONE; k++) {
            snprintf(text, sizeof text, " %%%u", (unsigned)parent);
            put(&s, text);
        }
        if (fad_ops[n->op].aux == FAD_AUX_NUMBER) {
            snprintf(text, sizeof text, " #%u", (unsigned)n->aux);
            put(&s, text);
        }
        if (n->op == FAD_STRIDED || n->op == FAD_STRIDED_ADD)
            put_places(&s, tape->side[n->aux]);
        if (n->op == FAD_CONSTANT && !fad_is_array(tape, (uint32_t)i)) {
            snprintf(text, sizeof text, " %.17g", tape->values[i].number);
            put(&s, text);
        }
        put(&s, " : ");
        put_type(&s, tape, (uint32_t)i);
        put(&s, "\n");
    }
}
