/* DEPTHWISE_CONV_2D, int8, kernels of 3x3, both strides 1 or both 2: channel by channel, along one row of outputs after
 * the other; a row may as well be a column of the image.
 *
 * A word holds inputs of two rows in one place, 128 added: of rows 2r and 2r + 1, padding included. Two such pairs of
 * rows are kept. With stride 1 they make two rows of outputs: the first of rows 2r to 2r + 2, the second of 2r + 1 to
 * 2r + 3. With stride 2 they make the first alone. */
#include "../window.h"

#define TAPS 9u
#define OFFSET 128u
#define OFFSETS 0x00800080u

/* What a program has for each channel. */
typedef struct record {
    int32_t weights[5]; /* two in each: (0, 0), (1, 0); (2, 0), (0, 1); (1, 1), (2, 1); (0, 2), (1, 2); (2, 2) */
    int32_t start, offset, low_part, high_part, shift; /* as in ../thumb/rescale.h, for sums that are not clamped */
} record;

/* Two pairs of rows and their outputs. The assembly code knows where its members lie. */
typedef struct strip {
    const record *channel;
    const uint32_t *first, *second;
    int8_t *output, *next; /* the two rows of outputs; `next` is NULL where there is one */
    int32_t step; /* from one output to the next */
    uint32_t count; /* of outputs */
} strip;

#if defined(__XTENSA__)
/* clang-format off */
/* a2: strip, then output; a3, a4: pairs of rows; a5 to a9: weights; a10: start; a11, a12: parts of the multiplier; a13:
 * offset; a14, a15: sums; a0: step. m0 and m1 hold inputs, m2 and m3 what a2 and a0 were. */
#define SIGN "bgez a14, 5f\n addmi a15, a15, -8192\n 5:\n"
#define LOAD_PAIRS "l32i a3, a2, 4\n l32i a4, a2, 8\n"
#define BEGIN                                                                                             \
    "wsr a2, m2\n wsr a0, m3\n"                                                                            \
    "l32i a14, a2, 0\n l32i a5, a14, 0\n l32i a6, a14, 4\n l32i a7, a14, 8\n l32i a8, a14, 12\n"           \
    "l32i a9, a14, 16\n l32i a10, a14, 20\n l32i a13, a14, 24\n l32i a11, a14, 28\n l32i a12, a14, 32\n"  \
    "l32i a14, a14, 36\n ssr a14\n l32i a0, a2, 20\n"                                                      \
    LOAD_PAIRS "l32i a14, a2, 24\n l32i a2, a2, 12\n"
#define NEXT                                                                                              \
    "rsr a2, m2\n" LOAD_PAIRS "l32i a14, a2, 24\n l32i a2, a2, 16\n beqz a2, 8f\n"
#define END "8: rsr a0, m3\n"
#define PRELOAD                                                                                           \
    "addi a3, a3, -4\n addi a4, a4, -4\n ldinc m0, a3\n ldinc m1, a4\n"
/* What loops begin with lies in one word. */
#define LOOP(label) "j " label "0f\n .balign 4\n " label "0: nop.n\n loop a14, " label "1f\n wsr a10, acclo\n"
#define FINISH(label, sign)                                                                               \
    "rsr a14, acclo\n mull a15, a14, a11\n srai a15, a15, 13\n add a15, a15, a13\n" sign                        \
    "mull a14, a14, a12\n add a15, a15, a14\n sra a15, a15\n clamps a15, a15, 7\n s8i a15, a2, 0\n add a2, a2, a0\n"     \
    label "1:\n"
/* QEMU translates a run of instructions at once, and in it does not see that registers which it has read are loaded
 * again. Reading the counter of cycles ends the run; on a core it is no more than an instruction. */
#define RELOADED "rsr a15, ccount\n"
/* The first row of outputs has both rows of the first pair. With stride 1 the last loads bring back what the next
 * output begins with. */
#define UPPER_ROW(label, sign, back0, back1)                                                              \
    PRELOAD LOOP(label)                                                                                   \
    "mula.da.ll m0, a5\n mula.da.hh.ldinc m0, a3, m0, a5\n mula.da.ll.ldinc m1, a4, m1, a6\n" RELOADED     \
    "mula.da.lh m0, a6\n mula.da.hl.ldinc m0, a3, m0, a7\n mula.da.lh.ldinc m1, a4, m1, a7\n" RELOADED     \
    "mula.da.ll m0, a8\n" back0 back1 FINISH(label, sign)
#define UPPER_1(label, sign)                                                                              \
    UPPER_ROW(label, sign, "mula.da.hh.lddec m0, a3, m0, a8\n", "mula.da.ll.lddec m1, a4, m1, a9\n")
#define UPPER_2(label, sign) UPPER_ROW(label, sign, "mula.da.hh m0, a8\n", "mula.da.ll m1, a9\n")
/* The second row has both of the second pair. */
#define LOWER_1(label, sign)                                                                              \
    PRELOAD LOOP(label)                                                                                   \
    "mula.da.hl.ldinc m0, a3, m0, a5\n mula.da.lh m1, a5\n mula.da.hl.ldinc m1, a4, m1, a6\n" RELOADED     \
    "mula.da.hh.ldinc m0, a3, m0, a6\n mula.da.ll m1, a7\n mula.da.hh.ldinc m1, a4, m1, a7\n" RELOADED     \
    "mula.da.hl.lddec m0, a3, m0, a8\n mula.da.lh m1, a8\n mula.da.hl.lddec m1, a4, m1, a9\n"              \
    FINISH(label, sign)
#define RUN(code)                                                                                         \
    __asm__ volatile(code                                                                                 \
                     : "+r"(s)                                                                            \
                     :                                                                                    \
                     : "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14", "a15", "memory")
/* clang-format on */

static void run_strip(const strip *job, uint32_t stride, bool has_sign) {
    register const strip *s __asm__("a2") = job;
    if (stride == 2 && has_sign) {
        RUN(BEGIN UPPER_2("1", SIGN) END);
    } else if (stride == 2) {
        RUN(BEGIN UPPER_2("1", "") END);
    } else if (has_sign) {
        RUN(BEGIN UPPER_1("1", SIGN) NEXT LOWER_1("2", SIGN) END);
    } else {
        RUN(BEGIN UPPER_1("1", "") NEXT LOWER_1("2", "") END);
    }
}
#else
static int32_t half(const int32_t *words, uint32_t index) { return (int16_t)(words[index / 2u] >> 16 * (index % 2u)); }

static int8_t output_of(const record *r, int32_t sum, bool has_sign) {
    uint32_t low_product = (uint32_t)((int32_t)((uint32_t)sum * (uint32_t)r->low_part) >> 13);
    uint32_t sign = has_sign ? (uint32_t)(sum >> 31) << 13 : 0;
    uint32_t y = (uint32_t)sum * (uint32_t)r->high_part + low_product + sign + (uint32_t)r->offset;
    return (int8_t)ml_clamp((int32_t)y >> (r->shift & 31), INT8_MIN, INT8_MAX);
}

static void run_strip(const strip *s, uint32_t stride, bool has_sign) {
    for (uint32_t row = 0; row < (s->next != NULL ? 2u : 1u); row++) {
        int8_t *output = row == 0 ? s->output : s->next;
        for (uint32_t x = 0; x < s->count; x++, output += s->step) {
            int32_t sum = s->channel->start;
            for (uint32_t tap = 0; tap < TAPS; tap++) {
                uint32_t down = row + tap % 3u, word = (down < 2 ? s->first : s->second)[x * stride + tap / 3u];
                sum += (int16_t)(word >> 16 * (down % 2u)) * half(s->channel->weights, tap);
            }
            *output = output_of(s->channel, sum, has_sign);
        }
    }
}
#endif

/* A channel of an image. Rows may be columns of it. */
typedef struct plane {
    const uint8_t *image;
    int32_t row_step, column_step; /* from one input to the next */
    uint32_t rows, columns; /* of inputs; columns that windows reach */
    uint32_t pad_top;
    const uint8_t *padding;
} plane;

/* A row of inputs. */
typedef struct row {
    const uint8_t *input;
    int32_t step; /* from one to the next */
} row;

/* Row y of the image, which may lie outside. */
static row row_of(const plane *p, uint32_t y) {
    return y < p->rows ? (row){p->image + (int32_t)y * p->row_step, p->column_step} : (row){p->padding, 0};
}

/* Rows y and y + 1. */
static void load_pair(const plane *p, uint32_t y, uint32_t *to) {
    row a = row_of(p, y), b = row_of(p, y + 1u);
    uint32_t count = p->columns;
#if defined(__XTENSA__)
    uint32_t x, z, offsets = OFFSETS;
    __asm__ volatile("j 1f\n .balign 4\n 1: nop.n\n loopnez %[count], 2f\n"
                     "l8ui %[x], %[a], 0\n l8ui %[z], %[b], 0\n add %[a], %[a], %[a_step]\n add %[b], %[b], %[b_step]\n"
                     "slli %[z], %[z], 16\n or %[x], %[x], %[z]\n xor %[x], %[x], %[offsets]\n"
                     "s32i %[x], %[to], 0\n addi %[to], %[to], 4\n 2:\n"
                     : [a] "+r"(a.input), [b] "+r"(b.input), [to] "+r"(to), [x] "=&r"(x), [z] "=&r"(z)
                     : [a_step] "r"(a.step), [b_step] "r"(b.step), [offsets] "r"(offsets), [count] "r"(count)
                     : "memory");
#else
    for (; count != 0; count--, a.input += a.step, b.input += b.step) {
        *to++ = (*a.input | (uint32_t)*b.input << 16) ^ OFFSETS;
    }
#endif
}

/* Operands: input, records, output, scratch for two pairs of rows. */
ml_status ml_depthwise_pairs_s8_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_pairs_args *a = args;
    const ml_window *w = &a->window;
    uint32_t outputs = a->along_height ? w->output_height : w->output_width;
    uint64_t columns = (uint64_t)outputs * w->stride_width + 2u; /* one more than there are with stride 2 */
    bool sound = w->input_channels == w->output_channels && w->input_channels != 0 && outputs != 0 && a->band != 0 &&
                 (a->band & 1u) == 0 && w->stride_width == w->stride_height && w->stride_width - 1u < 2u &&
                 w->pad_top < 2 && w->pad_left < 2 && 8u * columns <= operands[3].bytes &&
                 ml_holds(&operands[1], sizeof(record), w->input_channels, 1, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* What is the same for all channels and bands. */
typedef struct job {
    uint32_t *pairs[2]; /* what lies left of the image is before them */
    uint32_t pad_left;
    int32_t output_row; /* from one row of outputs to the next */
    uint32_t stride;
    bool has_sign;
} job;

/* Outputs `y` to `end` of one channel, of which `s` has the first. */
static void one_band(const job *j, const plane *p, strip *s, uint32_t y, uint32_t end) {
    uint32_t *first = j->pairs[0], *second = j->pairs[1], top = y * j->stride - p->pad_top;
    load_pair(p, top, first + j->pad_left);
    while (y < end) {
        top += 2;
        load_pair(p, top, second + j->pad_left);
        s->first = first;
        s->second = second;
        s->next = j->stride == 1 && y + 1u < end ? s->output + j->output_row : NULL;
        run_strip(s, j->stride, j->has_sign);
        y += 3u - j->stride;
        s->output += (int32_t)(3u - j->stride) * j->output_row;
        uint32_t *spare = first;
        first = second;
        second = spare;
    }
}

/* Sets `pairs` to padding: words that lie beside the image stay that. */
static void prepare(uint32_t *pairs, uint32_t count, uint8_t padding) {
    for (; count != 0; count--) {
        *pairs++ = (padding * 0x00010001u) ^ OFFSETS;
    }
}

int32_t ml_depthwise_pairs_s8(const void *args, void *const *operands) {
    const ml_depthwise_pairs_args *a = args;
    const ml_window *w = &a->window;
    const uint8_t *image = operands[0], padding = (uint8_t)a->padding;
    int8_t *output = operands[2];
    uint32_t channels = w->input_channels, rows = w->output_height, inputs = w->input_width;
    int32_t step = (int32_t)channels, input_row = (int32_t)(inputs * channels);
    job j = {{operands[3], operands[3]},
             w->pad_left,
             (int32_t)(w->output_width * channels),
             w->stride_width,
             a->has_sign != 0};
    plane p = {image, input_row, step, w->input_height, 0, w->pad_top, &padding};
    strip s = {.step = step, .count = w->output_width};
    if (a->along_height) {
        rows = w->output_width;
        inputs = w->input_height;
        p = (plane){image, step, input_row, w->input_width, 0, w->pad_left, &padding};
        s = (strip){.step = j.output_row, .count = w->output_height};
        j.pad_left = w->pad_top;
        j.output_row = step;
    }
    uint32_t columns = (s.count - 1u) * w->stride_width + 3u;
    p.columns = ML_MIN(inputs, columns - j.pad_left);
    j.pairs[1] += columns;
    prepare(j.pairs[0], 2u * columns, padding);
    for (uint32_t batch = 0; batch < w->batches; batch++) {
        for (uint32_t y = 0; y < rows; y += a->band) {
            s.channel = operands[1];
            for (uint32_t c = 0; c < channels; c++, s.channel++) {
                p.image = image + c;
                s.output = output + (int32_t)y * j.output_row + c;
                one_band(&j, &p, &s, y, ML_MIN(rows, y + a->band));
            }
        }
        image += w->input_height * w->input_width * channels;
        output += w->output_height * w->output_width * channels;
    }
    return 0;
}
