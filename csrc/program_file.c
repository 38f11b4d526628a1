/* program_file.c: a program as bytes, and back.
 *
 * All numbers are little-endian and follow each other without gaps. Version 1, 2 where something repeats, 3 where
 * there are groups:
 *
 *   at   bytes
 *    0    8    89 'F' 'A' 'D' 0d 0a 1a 0a: neither text, nor changed by a transfer as text
 *    8    4    version
 *   12    4    CRC-32 (zlib's) of everything from byte 16 on
 *   16    8    bytes of the file
 *   24    8    nodes of the trace that was lowered
 *   32    8    bytes of the workspace, without strips
 *   40    8    bytes of strips
 *   48    8    options: bit 0, strict
 *   56   12x8  how many of each, in this order: words (bytes), inputs, outputs, numbers, affine places, guards,
 *              instructions, scalar instructions, steps, scalar constants, constants (bytes), and words once more: the
 *              number of them
 *  152    8    of version 2 and 3: how many repeated instructions
 *  160   2x8  of version 3: how many groups, and how many places
 *  152, 160 or 176  the lists, in that order:
 *              word                 u8 length, letters
 *              input, output        u8 type, u32 ndim, u32 first of its dims in the numbers, u64 bytes
 *              number               i64
 *              affine place         u32 ndim, u32 first number
 *              guard                u32 base, u32 size, u64 offset, u64 offset of what is expected in the constants
 *              instruction          u16 word, u8 type, u8 arguments, u32 affine place, u64 limit, 4 arguments
 *              scalar instruction   u16 word, u32 to, u32 a, u32 b, u32 c
 *              step                 u16 word, u8 type, u32 first, u32 count, u32 strip, u32 strips, u32 number, u64 n,
 *                                   3 arguments
 *              scalar constant      f64
 *              constants            bytes
 *              repeated instruction u16 word, u8 operands, u8 those that are the result before, result, 3 operands
 *              group                u16 word, u32 count, u32 first result, u64 first place
 *              place                u32
 *   result and operands of repeated instructions: u32 base, u64 offset, i64 stride
 *   argument: u8 place ('s' strip, 'm' memory, 'f' fixed), u8 type, u32 base, u64 offset
 *   type: NumPy's letter, 'd' f64, 'f' f32, 'q' i64, '?' bool
 *
 * Words are what operations are called: "MUL" as in ops.def, "load", "region". A file names those it uses, in the order
 * of their first use, so that no number of an enumeration is part of the format. A list's place in `lists` below is
 * its one description: the same function writes and reads a record. */
#include <stdio.h>

#include "program.h"

enum { CRC_FROM = 16, HEADER = 152, LONGEST_WORD = 31 };

static const unsigned char MAGIC[8] = {0x89, 'F', 'A', 'D', '\r', '\n', 0x1a, '\n'};
static const char TYPES[] = "dfq?", PLACES[] = "smf";

/* --- words --- */

static const char *const STEPS[] = {"region", "region backwards", "scalars",  "groups", "repeat", "zero",  "matmul", "matmul of views",
                                    "cumsum", "extremum", "sum",    "call",   "guards"};
static const char *const CODES[] = {"", "mul-add", "mul-sub", "sub-mul", "zmul-add", "zmul-sub", "sub-zmul", "convert", "load",
                                    "store", "add", "gather", "put", "scatter-add"};
static const char *const SCALARS[] = {"scalar load", "scalar store", "to f32", "to i64", "to bool",
                                      "scalar mul-add", "scalar mul-sub", "scalar sub-mul", "scalar zmul-add"};
#define ENTRIES(array) (sizeof(array) / sizeof *(array))
_Static_assert(ENTRIES(STEPS) == FAD_STEP_COUNT, "every kind of step has a word");
_Static_assert(ENTRIES(CODES) == FAD_DO_COUNT, "every instruction has a word");
_Static_assert(ENTRIES(SCALARS) == FAD_SCALAR_COUNT - FAD_ELEMENTWISE_COUNT, "every scalar instruction has a word");

/* A word's number in this build: steps, instructions, scalar instructions of their own, element-wise operations. */
enum {
    FIRST_CODE = FAD_STEP_COUNT,
    FIRST_SCALAR = FIRST_CODE + FAD_DO_COUNT,
    FIRST_OP = FIRST_SCALAR + FAD_SCALAR_COUNT - FAD_ELEMENTWISE_COUNT,
    WORDS = FIRST_OP + FAD_ELEMENTWISE_COUNT,
    NO_WORD = 0xffff
};

static const char *spelled(int word)
{
    return word < FIRST_CODE     ? STEPS[word]
           : word < FIRST_SCALAR ? CODES[word - FIRST_CODE]
           : word < FIRST_OP     ? SCALARS[word - FIRST_SCALAR]
                                 : fad_ops[word - FIRST_OP].name;
}

static int word_of_instruction(const fad_instruction *i)
{
    return i->code == FAD_DO_OP ? FIRST_OP + i->op : FIRST_CODE + i->code;
}

static int word_of_scalar(int op)
{
    return op < FAD_ELEMENTWISE_COUNT ? FIRST_OP + op : FIRST_SCALAR + op - FAD_ELEMENTWISE_COUNT;
}

/* --- bytes --- */

typedef struct {
    bool reading;
    unsigned char *to;           /* writing: the next byte */
    const unsigned char *from;   /* reading: the next byte; whoever reads knows that it is there */
    const char *wrong;
    size_t word_count;
    uint16_t words[WORDS];       /* reading: of each word of the file its number; writing: the reverse */
    uint16_t in_order[WORDS];    /* writing: the words of the file */
} codec;

static uint64_t exchange(codec *c, uint64_t value, int bytes)
{
    if (!c->reading) {
        for (int i = 0; i < bytes; i++)
            *c->to++ = (unsigned char)(value >> 8 * i);
        return value;
    }
    value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)*c->from++ << 8 * i;
    return value;
}

#define U8(field)  ((field) = (uint8_t)exchange(c, (field), 1))
#define U16(field) ((field) = (uint16_t)exchange(c, (field), 2))
#define U32(field) ((field) = (uint32_t)exchange(c, (field), 4))
#define U64(field) ((field) = exchange(c, (field), 8))

/* `value` as the letter that stands at its place. */
static int letter(codec *c, unsigned value, const char *letters, const char *wrong)
{
    uint64_t read = exchange(c, (unsigned char)letters[value], 1);
    for (int i = 0; letters[i]; i++)
        if ((unsigned char)letters[i] == read)
            return i;
    c->wrong = wrong;
    return 0;
}

#define TYPE(field) ((field) = (uint8_t)letter(c, (field), TYPES, "there is no such type"))

/* The number of a word; NO_WORD where it is not one of those from `first` to `end`-1, nor an operation's. */
static int word(codec *c, int number, int first, int end, bool or_op)
{
    size_t read = (size_t)exchange(c, c->reading ? 0 : c->words[number], 2);
    if (!c->reading)
        return number;
    int found = read < c->word_count ? c->words[read] : NO_WORD;
    if ((found >= first && found < end) || (or_op && found >= FIRST_OP && found < WORDS))
        return found;
    c->wrong = "the word is not one of these";
    return first;
}

/* --- records --- */

static void argument(codec *c, fad_argument *a)
{
    a->place = (uint8_t)letter(c, a->place, PLACES, "there is no such place");
    TYPE(a->dtype);
    U32(a->base);
    U64(a->offset);
}

static void form(codec *c, void *record)
{
    fad_form *f = record;
    TYPE(f->dtype);
    U32(f->ndim);
    U32(f->dims);
    U64(f->bytes);
}

static void number(codec *c, void *record)
{
    uint64_t bits;
    memcpy(&bits, record, sizeof bits);
    U64(bits);
    memcpy(record, &bits, sizeof bits);
}

static void affine(codec *c, void *record)
{
    fad_affine *a = record;
    U32(a->ndim);
    U32(a->first);
}

static void guard(codec *c, void *record)
{
    fad_guard *g = record;
    U32(g->base);
    U32(g->size);
    U64(g->offset);
    U64(g->expected);
}

static void instruction(codec *c, void *record)
{
    fad_instruction *i = record;
    int w = word(c, c->reading ? 0 : word_of_instruction(i), FIRST_CODE + 1, FIRST_SCALAR, true);
    i->code = (uint8_t)(w < FIRST_OP ? w - FIRST_CODE : FAD_DO_OP);
    i->op = (uint16_t)(w < FIRST_OP ? 0 : w - FIRST_OP);
    TYPE(i->dtype);
    U8(i->count);
    U32(i->affine);
    U64(i->limit);
    for (int k = 0; k < 4; k++)
        argument(c, &i->arguments[k]);
}

static uint16_t scalar_op(codec *c, int op)
{
    int w = word(c, c->reading ? 0 : word_of_scalar(op), FIRST_SCALAR, FIRST_OP, true);
    return (uint16_t)(w < FIRST_OP ? w - FIRST_SCALAR + FAD_ELEMENTWISE_COUNT : w - FIRST_OP);
}

static void scalar(codec *c, void *record)
{
    fad_scalar_instruction *i = record;
    i->op = scalar_op(c, i->op);
    U32(i->to);
    U32(i->a);
    U32(i->b);
    U32(i->c);
}

static void moving(codec *c, fad_moving *m)
{
    U32(m->base);
    U64(m->offset);
    m->stride = (int64_t)exchange(c, (uint64_t)m->stride, 8);
}

static void repeated(codec *c, void *record)
{
    fad_repeated *i = record;
    i->op = scalar_op(c, i->op);
    U8(i->count);
    U8(i->chained);
    moving(c, &i->to);
    for (int k = 0; k < 3; k++)
        moving(c, &i->operands[k]);
}

static void group(codec *c, void *record)
{
    fad_group *g = record;
    g->op = scalar_op(c, g->op);
    U32(g->count);
    U32(g->to);
    U64(g->first);
}

static void place(codec *c, void *record)
{
    uint32_t at;
    memcpy(&at, record, sizeof at);
    U32(at);
    memcpy(record, &at, sizeof at);
}

static void step(codec *c, void *record)
{
    fad_step *s = record;
    s->kind = (uint16_t)word(c, s->kind, 0, FIRST_CODE, false);
    s->dtype = (uint16_t)letter(c, s->dtype, TYPES, "there is no such type");
    U32(s->first);
    U32(s->count);
    U32(s->strip);
    U32(s->strips);
    U32(s->numbers);
    U64(s->n);
    for (int k = 0; k < 3; k++)
        argument(c, &s->arguments[k]);
}

/* --- lists --- */

typedef struct {
    const char *part;
    void (*record)(codec *c, void *record);   /* NULL: bytes as they are */
    size_t stored;                            /* bytes of a record in a file */
    size_t size, data, count;                 /* bytes of a record in memory; where a program has the list */
} list;

#define LIST(part, record, stored, field, count) \
    {part, record, stored, sizeof *((fad_program *)0)->field, offsetof(fad_program, field), offsetof(fad_program, count)}

static const list lists[] = {
    LIST("input", form, 17, inputs, input_count),
    LIST("output", form, 17, outputs, output_count),
    LIST("number", number, 8, numbers, number_count),
    LIST("affine place", affine, 8, affines, affine_count),
    LIST("guard", guard, 24, guards, guard_count),
    LIST("instruction", instruction, 72, instructions, instruction_count),
    LIST("scalar instruction", scalar, 18, scalars, scalar_count),
    LIST("step", step, 73, steps, step_count),
    LIST("scalar constant", number, 8, scalar_constants, scalar_constant_count),
    LIST("constant", NULL, 1, constants, constant_bytes),
    LIST("repeated instruction", repeated, 84, repeats, repeat_count),
    LIST("group", group, 18, groups, group_count),
    LIST("place", place, 4, places, place_count),
};

enum { LISTS = sizeof lists / sizeof *lists, REPEATED = LISTS - 3 };

static size_t count_of(const fad_program *p, const list *l) { return *(const size_t *)((const char *)p + l->count); }

/* The lists' pointers have different types: they are copied and not read as another type. */
static const char *data_of(const fad_program *p, const list *l)
{
    const char *data;
    memcpy(&data, (const char *)p + l->data, sizeof data);
    return data;
}

static void set_list(fad_program *p, const list *l, char *data, size_t count)
{
    memcpy((char *)p + l->data, &data, sizeof data);
    *(size_t *)((char *)p + l->count) = count;
}

/* --- the header --- */

typedef struct {
    uint32_t version, crc;
    uint64_t length, nodes, workspace_bytes, strip_bytes, options, word_bytes, counts[LISTS], words;
} header;

static int lists_of(uint32_t version) { return version > 2 ? LISTS : version > 1 ? REPEATED + 1 : REPEATED; }

static size_t header_bytes(uint32_t version) { return HEADER + 8 * (size_t)(lists_of(version) - REPEATED); }

static void header_fields(codec *c, header *h)
{
    U32(h->version);
    U32(h->crc);
    U64(h->length);
    U64(h->nodes);
    U64(h->workspace_bytes);
    U64(h->strip_bytes);
    U64(h->options);
    U64(h->word_bytes);
    for (int i = 0; i < REPEATED; i++)
        U64(h->counts[i]);
    U64(h->words);
    for (int i = REPEATED; i < lists_of(h->version); i++)
        U64(h->counts[i]);
}

static uint32_t crc32(const unsigned char *bytes, size_t size)
{
    static const uint32_t half[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                      0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                      0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < size; i++) {
        crc = half[(crc ^ bytes[i]) & 15] ^ crc >> 4;
        crc = half[(crc ^ bytes[i] >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

/* Constants are stored as they lie in memory. */
static bool is_little_endian(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1;
}

/* --- writing --- */

static void use_word(codec *c, int w)
{
    if (c->words[w] != NO_WORD)
        return;
    c->words[w] = (uint16_t)c->word_count;
    c->in_order[c->word_count++] = (uint16_t)w;
}

static size_t collect_words(codec *c, const fad_program *p)
{
    size_t bytes = 0;
    memset(c->words, 0xff, sizeof c->words);
    for (size_t i = 0; i < p->step_count; i++)
        use_word(c, p->steps[i].kind);
    for (size_t i = 0; i < p->instruction_count; i++)
        use_word(c, word_of_instruction(&p->instructions[i]));
    for (size_t i = 0; i < p->scalar_count; i++)
        use_word(c, word_of_scalar(p->scalars[i].op));
    for (size_t i = 0; i < p->repeat_count; i++)
        use_word(c, word_of_scalar(p->repeats[i].op));
    for (size_t i = 0; i < p->group_count; i++)
        use_word(c, word_of_scalar(p->groups[i].op));
    for (size_t i = 0; i < c->word_count; i++)
        bytes += 1 + strlen(spelled(c->in_order[i]));
    return bytes;
}

static void write_words(codec *c)
{
    for (size_t i = 0; i < c->word_count; i++) {
        const char *text = spelled(c->in_order[i]);
        *c->to++ = (unsigned char)strlen(text);
        for (; *text; text++)
            *c->to++ = (unsigned char)*text;
    }
}

static void write_list(codec *c, const fad_program *p, const list *l)
{
    union {
        fad_form form;
        fad_instruction instruction;
        fad_scalar_instruction scalar;
        fad_repeated repeated;
        fad_group group;
        fad_step step;
        fad_guard guard;
    } copy;
    size_t count = count_of(p, l);
    const char *from = data_of(p, l);
    if (!l->record && count) {
        memcpy(c->to, from, count);
        c->to += count;
        return;
    }
    for (size_t i = 0; i < count; i++, from += l->size) {
        memcpy(&copy, from, l->size);
        l->record(c, &copy);
    }
}

fad_status fad_program_write(const fad_program *p, char *to, size_t room, size_t *size)
{
    codec c = {.reading = false};
    header h = {.version = p->group_count ? 3 : p->repeat_count ? 2 : 1, .nodes = p->node_count,
                .workspace_bytes = p->workspace_bytes, .strip_bytes = p->strip_bytes, .options = p->strict};
    if (p->call_count || !is_little_endian())
        return FAD_BAD_OPERAND;
    h.word_bytes = collect_words(&c, p);
    h.words = c.word_count;
    h.length = header_bytes(h.version) + h.word_bytes;
    for (int i = 0; i < LISTS; i++) {
        h.counts[i] = count_of(p, &lists[i]);
        h.length += h.counts[i] * lists[i].stored;
    }
    *size = (size_t)h.length;
    if (room < *size)
        return FAD_OK;
    c.to = (unsigned char *)to + sizeof MAGIC;
    memcpy(to, MAGIC, sizeof MAGIC);
    header_fields(&c, &h);
    write_words(&c);
    for (int i = 0; i < LISTS; i++)
        write_list(&c, p, &lists[i]);
    h.crc = crc32((const unsigned char *)to + CRC_FROM, *size - CRC_FROM);
    c.to = (unsigned char *)to + sizeof MAGIC;
    header_fields(&c, &h);
    return FAD_OK;
}

/* --- reading --- */

typedef struct {
    codec c;
    const unsigned char *bytes;
    size_t size;
    fad_fault *fault;
} reader;

static fad_status refuse(reader *r, const char *part, size_t at, const char *reason)
{
    r->fault->part = part;
    r->fault->at = at;
    r->fault->reason = reason;
    return FAD_BAD_OPERAND;
}

static fad_status read_header(reader *r, header *h)
{
    fad_fault *fault = r->fault;
    size_t known = r->size < sizeof MAGIC ? r->size : sizeof MAGIC;
    if (r->size == 0 || memcmp(r->bytes, MAGIC, known) != 0)
        return refuse(r, "byte", 0, "this is no saved program");
    if (r->size < HEADER)
        return refuse(r, "byte", r->size, "the file is truncated");
    r->c.from = r->bytes + sizeof MAGIC;
    uint32_t version = (uint32_t)exchange(&r->c, 0, 4);
    if (version < 1 || version > 3) {
        snprintf(fault->detail, sizeof fault->detail, "version %lu, not 1 to 3", (unsigned long)version);
        return refuse(r, "byte", 8, "the file has a version that cannot be read here");
    }
    if (r->size < header_bytes(version))
        return refuse(r, "byte", r->size, "the file is truncated");
    r->c.from = r->bytes + sizeof MAGIC;
    header_fields(&r->c, h);
    if (h->length > r->size)
        return refuse(r, "byte", r->size, "the file is truncated");
    if (h->length < r->size)
        return refuse(r, "byte", (size_t)h->length, "the file goes on behind its end");
    if (h->crc != crc32(r->bytes + CRC_FROM, r->size - CRC_FROM))
        return refuse(r, "byte", 12, "the checksum is not that of the file: it was damaged");
    return FAD_OK;
}

/* Nothing is allocated before the counts are known to add up to the bytes that are there. */
static fad_status check_counts(reader *r, const header *h)
{
    uint64_t left = r->size - header_bytes(h->version);
    if (h->word_bytes > left)
        return refuse(r, "byte", 56, "the words are longer than the file");
    left -= h->word_bytes;
    for (int i = 0; i < LISTS; i++) {
        if (h->counts[i] > left / lists[i].stored)
            return refuse(r, "byte", i < REPEATED ? 64 + 8 * (size_t)i : HEADER + 8 * (size_t)(i - REPEATED), "a list is longer than the file");
        left -= h->counts[i] * lists[i].stored;
    }
    if (left)
        return refuse(r, "byte", 56, "the lists are shorter than the file");
    if (h->workspace_bytes > PTRDIFF_MAX / 4 || h->strip_bytes > PTRDIFF_MAX / 4 || h->nodes > PTRDIFF_MAX)
        return refuse(r, "byte", 24, "a size is larger than any memory");
    if (h->options > 1)
        return refuse(r, "byte", 48, "there is no such option");
    return FAD_OK;
}

/* Of an unknown word, the fault tells the letters that can be printed. */
static void quote(fad_fault *fault, const unsigned char *text, size_t length)
{
    size_t n = length < LONGEST_WORD ? length : LONGEST_WORD;
    for (size_t i = 0; i < n; i++)
        fault->detail[i] = (char)(text[i] >= 32 && text[i] < 127 ? text[i] : '?');
    fault->detail[n] = 0;
}

static int known_word(const unsigned char *text, size_t length, int first, int end)
{
    for (int w = first; w < end; w++)
        if (strlen(spelled(w)) == length && length && memcmp(spelled(w), text, length) == 0)
            return w;
    return NO_WORD;
}

static fad_status read_words(reader *r, const header *h)
{
    codec *c = &r->c;
    const unsigned char *end = c->from + h->word_bytes;
    if (h->words > WORDS)
        return refuse(r, "byte", HEADER - 8, "there are more words than are known");
    for (; c->word_count < h->words; c->word_count++) {
        size_t at = (size_t)(c->from - r->bytes), length = c->from < end ? *c->from++ : 0;
        if (length == 0 || length > (size_t)(end - c->from))
            return refuse(r, "byte", at, "a word ends behind the words");
        int w = known_word(c->from, length, 0, WORDS);
        if (w == NO_WORD) {
            quote(r->fault, c->from, length);
            return refuse(r, "byte", at, "the program uses an operation that is not known here");
        }
        c->words[c->word_count] = (uint16_t)w;
        c->from += length;
    }
    return c->from == end ? FAD_OK : refuse(r, "byte", (size_t)(c->from - r->bytes), "the words end before their end");
}

static fad_status read_list(reader *r, fad_program *p, const list *l, uint64_t count)
{
    if (count == 0)
        return FAD_OK;
    char *data = p->allocator.resize(p->allocator.context, NULL, 0, (size_t)count * l->size);
    if (!data)
        return FAD_NO_MEMORY;
    set_list(p, l, data, (size_t)count);
    if (!l->record) {
        memcpy(data, r->c.from, (size_t)count);
        r->c.from += count;
        return FAD_OK;
    }
    memset(data, 0, (size_t)count * l->size);
    for (size_t i = 0; i < count; i++) {
        l->record(&r->c, data + i * l->size);
        if (r->c.wrong)
            return refuse(r, l->part, i, r->c.wrong);
    }
    return FAD_OK;
}

static fad_status read_program(reader *r, fad_program *p)
{
    header h = {0};
    fad_status status = read_header(r, &h);
    if (status == FAD_OK)
        status = check_counts(r, &h);
    if (status == FAD_OK)
        status = read_words(r, &h);
    for (int i = 0; i < LISTS && status == FAD_OK; i++)
        status = read_list(r, p, &lists[i], h.counts[i]);
    if (status != FAD_OK)
        return status;
    p->node_count = (size_t)h.nodes;
    p->workspace_bytes = (size_t)h.workspace_bytes;
    p->strip_bytes = (size_t)h.strip_bytes;
    p->room_bytes = fad_program_room_bytes(p);
    p->strict = h.options != 0;
    if (!fad_program_verify(p, r->fault))
        return FAD_BAD_OPERAND;
    return fad_program_bind(p);
}

fad_status fad_program_read(const char *bytes, size_t size, const fad_allocator *allocator, const fad_loops *loops,
                            fad_program **out, fad_fault *fault)
{
    reader r = {.c = {.reading = true}, .bytes = (const unsigned char *)bytes, .size = size, .fault = fault};
    fault->part = "program";
    fault->at = 0;
    fault->reason = NULL;
    fault->detail[0] = 0;
    if (!is_little_endian())
        return refuse(&r, "byte", 0, "saved programs are for little-endian machines");
    fad_program *p = allocator->resize(allocator->context, NULL, 0, sizeof *p);
    if (!p)
        return FAD_NO_MEMORY;
    memset(p, 0, sizeof *p);
    p->allocator = *allocator;
    p->loops = loops;
    fad_status status = read_program(&r, p);
    if (status == FAD_OK)
        *out = p;
    else
        fad_program_destroy(p);
    return status;
}
