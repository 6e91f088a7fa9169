/* CONV_2D and FULLY_CONNECTED, int8: all channels of a block of pixels, one after the other.
 *
 * The inputs under the windows of the block are widened to 16 bits once, with 128 added, which the start values undo: a
 * word holds inputs (0, 2) or (1, 3) of four. A row of a window is filled up to a multiple of four with what has
 * weights of 0. Weights are words like that, for each channel those of a window and the first of them once more. */
#include "../thumb/rescale.h"
#include "../window_rows.h"

#define OFFSETS 0x80808080u /* 128 for each input of four */
#define EVEN_BYTES 0x00FF00FFu

/* The assembly code knows where its members lie. */
typedef struct block {
    const uint32_t *inputs;
    const uint32_t *weights;
    const ml_channel *channels;
    int8_t *output; /* of the first pixel */
    int8_t *end; /* of its channels */
    uint32_t quads; /* of inputs */
    uint32_t next; /* how far apart the outputs of pixels lie */
    uint32_t last; /* how far behind the first pixel's those of the last one */
    int32_t low, high; /* of outputs, where they are clamped */
    uint32_t kept; /* a register */
} block;

/* How sums become outputs. */
enum {
    FORM_STEPS, /* ../thumb/rescale.h, where no sum that is kept is negative */
    FORM_SIGNED_STEPS,
    FORM_EXACT, /* sums are 4 times what they are; parts: the multiplier; low: the shift */
};

#if defined(__XTENSA__)
/* clang-format off */
/* Sums in a14 to outputs in a15, with a6 to a11 as the block's form wants them; see output_of() below. */
#define LOAD_STEPS                                                                           \
    "l32i a7, a14, 8\n l32i a10, a14, 12\n l32i a11, a14, 16\n"                              \
    "extui a8, a7, 16, 16\n sext a7, a7, 15\n ssr a10\n srai a10, a10, 8\n"
#define STEPS(sign)                                                                                \
    "max a14, a14, a10\n min a14, a14, a11\n mull a15, a14, a7\n srai a15, a15, 13\n"        \
    "add a15, a15, a9\n" sign "mull a14, a14, a8\n add a15, a15, a14\n"
#define SIGN "bgez a14, 5f\n addmi a15, a15, -8192\n 5:\n"
#define LOAD_EXACT                                                                           \
    "l32i a7, a14, 8\n l32i a10, a14, 12\n extui a8, a7, 16, 16\n extui a7, a7, 0, 16\n ssr a10\n"
#define EXACT                                                                                \
    "srai a10, a14, 31\n addx2 a10, a10, a9\n"                                              \
    "sext a15, a14, 15\n sub a14, a14, a15\n srai a14, a14, 16\n"                           \
    "mull a11, a15, a7\n srai a11, a11, 16\n mull a15, a15, a8\n add a11, a11, a15\n"       \
    "mull a15, a14, a7\n add a11, a11, a15\n srai a11, a11, 16\n mull a14, a14, a8\n"       \
    "add a14, a14, a11\n add a15, a14, a10\n"
#define CLAMP "l32i a14, a2, 32\n max a15, a15, a14\n l32i a14, a2, 36\n min a15, a15, a14\n"
/* a2: block; a3: inputs; a4: weights; a5: quads; a6: start; a7, a8: parts of the multiplier; a9: offset; a10, a11: least
 * and greatest sum; a12: output; a13: of the last pixel; a0: from one pixel to the next; a14, a15: sums. Pointers lie a
 * word behind what is loaded next; m0 and m1 hold inputs, m2 and m3 weights. What loops begin with lies in one word. */
#define RUN_BLOCK(load, rescale, clamp)                                                      \
    __asm__ volatile(                                                                        \
        "s32i a0, a2, 40\n l32i a0, a2, 24\n"                                                \
        "l32i a4, a2, 4\n addi a4, a4, -4\n l32i a5, a2, 20\n l32i a12, a2, 12\n"            \
        "l32i a15, a2, 28\n add a13, a12, a15\n sub a12, a12, a0\n"                          \
        "1: l32i a14, a2, 8\n l32i a6, a14, 0\n l32i a9, a14, 4\n" load                      \
        "addi a14, a14, 20\n s32i a14, a2, 8\n l32i a3, a2, 0\n addi a3, a3, -4\n"           \
        "ldinc m2, a4\n ldinc m0, a3\n ldinc m1, a3\n j 2f\n"                                \
        ".balign 4\n"                                                                        \
        "2: wsr a6, acclo\n add.n a12, a12, a0\n loop a5, 3f\n"                              \
        "mula.dd.ll.ldinc m3, a4, m0, m2\n mula.dd.hh.ldinc m0, a3, m0, m2\n"                \
        "mula.dd.ll.ldinc m2, a4, m1, m3\n mula.dd.hh.ldinc m1, a3, m1, m3\n"                \
        "3: rsr a14, acclo\n slli a15, a5, 3\n sub a4, a4, a15\n"                            \
        rescale "sra a15, a15\n" clamp "s8i a15, a12, 0\n bne a12, a13, 2b\n"               \
        "addx8 a4, a5, a4\n l32i a15, a2, 28\n l32i a14, a2, 16\n addi a13, a13, 1\n"        \
        "sub a12, a13, a15\n beq a12, a14, 4f\n sub a12, a12, a0\n j 1b\n"                   \
        "4: l32i a0, a2, 40\n"                                                               \
        : "+r"(b)                                                                            \
        :                                                                                    \
        : "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14", "a15", "memory")
/* clang-format on */

static void run_block(block *job, uint32_t how) {
    register block *b __asm__("a2") = job;
    if (how == FORM_STEPS) {
        RUN_BLOCK(LOAD_STEPS, STEPS(""), "");
    } else if (how == FORM_SIGNED_STEPS) {
        RUN_BLOCK(LOAD_STEPS, STEPS(SIGN), "");
    } else {
        RUN_BLOCK(LOAD_EXACT, EXACT, CLAMP);
    }
}
#else
static int32_t product(uint32_t input, uint32_t weight) {
    return (int16_t)input * (int16_t)weight + ((int32_t)input >> 16) * ((int32_t)weight >> 16);
}

/* The upper half of a product whose first factor is below 2^29; that of 64 bits is not on every core. */
static int32_t upper_product(int32_t x, int32_t multiplier) {
    int32_t low = (int16_t)x, high = (int32_t)((uint32_t)x - (uint32_t)low) >> 16;
    uint32_t low_part = (uint32_t)multiplier & 0xFFFFu, high_part = (uint32_t)multiplier >> 16;
    uint32_t middle = (uint32_t)((int32_t)((uint32_t)low * low_part) >> 16) + (uint32_t)low * high_part;
    middle += (uint32_t)high * low_part;
    return (int32_t)((uint32_t)high * high_part + (uint32_t)((int32_t)middle >> 16));
}

static int8_t output_of(const block *b, const ml_channel *c, int32_t sum, uint32_t how) {
    if (how != FORM_EXACT) {
        return ml_rescaled(&c->scale, sum, how == FORM_SIGNED_STEPS);
    }
    uint32_t high = (uint32_t)upper_product(sum, (int32_t)c->scale.parts) + (uint32_t)c->scale.offset;
    high -= (uint32_t)sum >> 31 << 1;
    return (int8_t)ml_clamp((int32_t)high >> (c->scale.low & 31), b->low, b->high);
}

static void run_block(block *b, uint32_t how) {
    const uint32_t *weights = b->weights;
    for (int8_t *output = b->output; output != b->end; output++, weights += 2u * b->quads + 1u) {
        const ml_channel *c = b->channels++;
        const uint32_t *inputs = b->inputs;
        for (uint32_t at = 0; at <= b->last; at += b->next) {
            int32_t sum = c->start;
            for (uint32_t i = 0; i < 2u * b->quads; i++) {
                sum += product(*inputs++, weights[i]);
            }
            output[at] = output_of(b, c, sum, how);
        }
    }
}
#endif

/* Widens `quads` times four inputs; returns the end of what it has written. */
#if defined(__XTENSA__)
static uint32_t *widen(const int8_t *from, uint32_t quads, uint32_t *to) {
    const uint32_t *words = (const uint32_t *)((uintptr_t)from & ~(uintptr_t)3u);
    uint32_t word, odd, offsets = OFFSETS, even_bytes = EVEN_BYTES;
    if (((uintptr_t)from & 3u) == 0) {
        __asm__ volatile(
            "j 1f\n .balign 4\n 1: nop.n\n loopnez %[quads], 2f\n l32i %[word], %[from], 0\n addi %[from], %[from], 4\n"
            "xor %[word], %[word], %[offsets]\n srli %[odd], %[word], 8\n and %[word], %[word], %[even]\n"
            "and %[odd], %[odd], %[even]\n s32i %[word], %[to], 0\n s32i %[odd], %[to], 4\n addi %[to], %[to], 8\n 2:\n"
            : [from] "+r"(words), [to] "+r"(to), [word] "=&r"(word), [odd] "=&r"(odd)
            : [quads] "r"(quads), [offsets] "r"(offsets), [even] "r"(even_bytes)
            : "memory");
    } else {
        /* Words that inputs begin and end in; none is read that has no byte of them. */
        uint32_t last = *words;
        __asm__ volatile(
            "ssa8l %[start]\n j 1f\n .balign 4\n 1: nop.n\n loopnez %[quads], 2f\n"
            "l32i %[odd], %[from], 4\n addi %[from], %[from], 4\n src %[word], %[odd], %[last]\n mov.n %[last], "
            "%[odd]\n"
            "xor %[word], %[word], %[offsets]\n srli %[odd], %[word], 8\n and %[word], %[word], %[even]\n"
            "and %[odd], %[odd], %[even]\n s32i %[word], %[to], 0\n s32i %[odd], %[to], 4\n addi %[to], %[to], 8\n 2:\n"
            : [from] "+r"(words), [to] "+r"(to), [word] "=&r"(word), [odd] "=&r"(odd), [last] "+r"(last)
            : [quads] "r"(quads), [offsets] "r"(offsets), [even] "r"(even_bytes), [start] "r"(from)
            : "memory");
    }
    return to;
}
#else
static uint32_t *widen(const int8_t *from, uint32_t quads, uint32_t *to) {
    for (; quads != 0; quads--, from += 4, to += 2) {
        uint32_t word;
        __builtin_memcpy(&word, from, sizeof word);
        word ^= OFFSETS;
        to[0] = word & EVEN_BYTES;
        to[1] = word >> 8 & EVEN_BYTES;
    }
    return to;
}
#endif

typedef struct gather {
    ml_rows rows;
    const int8_t *end; /* of the image */
    uint32_t row_quads;
} gather;

/* Widens one row of a window. What is read behind it has weights of 0; at the end of the image it is not read. */
static uint32_t *widen_row(const gather *g, const int8_t *from, uint32_t *to) {
    if ((uint32_t)(g->end - from) < 4u * g->row_quads) {
        memmove(g->rows.scratch, from, g->rows.row_bytes);
        from = g->rows.scratch;
    }
    return widen(from, g->row_quads, to);
}

static uint32_t *fill(const gather *g, uint32_t *to) {
    const uint32_t word = ((uint8_t)g->rows.padding ^ (OFFSETS & 0xFFu)) * 0x00010001u;
    for (const uint32_t *end = to + 2u * g->row_quads; to != end; to++) {
        *to = word;
    }
    return to;
}

static uint32_t *widen_window(const gather *g, ml_place place, uint32_t *to) {
    const ml_window *w = g->rows.window;
    const bool inner = place.left < g->rows.inner;
    const uint32_t down = w->dilation_height, step = down * g->rows.image_row_bytes, height = w->input_height;
    /* Of a row that lies outside, this has wrapped. */
    const uint32_t left = place.left * w->input_channels;
    uint32_t offset = place.top * g->rows.image_row_bytes + left;
    for (uint32_t ky = w->kernel_height, y = place.top; ky != 0; ky--, y += down, offset += step) {
        if (y >= height) {
            to = fill(g, to);
        } else if (inner) {
            to = widen_row(g, g->rows.image + offset, to);
        } else {
            to = widen(ml_padded_row(&g->rows, y, place.left, g->rows.scratch), g->row_quads, to);
        }
    }
    return to;
}

/* Whether the windows of neighbouring pixels follow each other in memory. */
static bool is_joined(const ml_window *w) {
    return w->kernel_height == 1 && w->output_height == 1 && w->kernel_width == w->stride_width &&
           (w->kernel_width * w->input_channels & 3u) == 0 && ml_rows_stay_inside(w);
}

/* Widens the windows of the next `count` pixels of an image. */
static void widen_windows(const gather *g, ml_cursor *next, uint32_t count, bool joined, uint32_t *to) {
    const ml_window *w = g->rows.window;
    if (joined) {
        widen(g->rows.image + next->place.left * w->input_channels, count * g->row_quads, to);
        next->place.left += count * w->stride_width;
        return;
    }
    for (; count != 0; count--) {
        ml_place place;
        ml_next_places(w, next, 1, 1, &place);
        to = widen_window(g, place, to);
    }
}

/* Operands: input, weights, channels, output, scratch for windows, two words, and a row. */
ml_status ml_conv_block_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_block_args *a = args;
    const ml_window *w = &a->window;
    uint64_t row_bytes = (uint64_t)w->kernel_width * w->input_channels, row_quads = (row_bytes + 3u) / 4u;
    uint64_t quads = row_quads * w->kernel_height;
    bool whole = (row_bytes & 3u) == 0 && ml_rows_stay_inside(w);
    uint64_t scratch = (quads * a->pixels + 1u) * 8u + (whole ? 0 : 4u * row_quads);
    bool sound = quads != 0 && quads < 1u << 24 && row_bytes < 1u << 24 && a->pixels != 0 && w->output_channels != 0 &&
                 scratch <= operands[4].bytes &&
                 ml_holds(&operands[1], 4, w->output_channels, 2u * (uint32_t)quads + 1u, 1, 1) &&
                 ml_holds(&operands[2], sizeof(ml_channel), w->output_channels, 1, 1, 1) &&
                 ml_window_holds(w, &operands[0], 1, &operands[3], 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_conv_block_s8(const void *args, void *const *operands) {
    const ml_conv_block_args *a = args;
    const ml_window *w = &a->window;
    uint32_t channels = w->output_channels, image_bytes = w->input_height * w->input_width * w->input_channels;
    uint32_t quads = (w->kernel_width * w->input_channels + 3u) / 4u * w->kernel_height;
    block b = {.inputs = operands[4], .quads = quads, .next = channels, .low = a->low, .high = a->high};
    uint32_t *row = (uint32_t *)operands[4] + 2u * (quads * a->pixels + 1u);
    gather g = {ml_rows_of(w, operands[0], row, a->padding), (const int8_t *)operands[0] + image_bytes,
                (w->kernel_width * w->input_channels + 3u) / 4u};
    bool joined = is_joined(w);
    int8_t *output = operands[3];
    for (uint32_t image = 0; image < w->batches; image++, g.rows.image += image_bytes, g.end += image_bytes) {
        ml_cursor next = ml_first_place(w);
        for (uint32_t left = w->output_height * w->output_width, count; left != 0; left -= count) {
            count = ML_MIN(left, a->pixels);
            widen_windows(&g, &next, count, joined, operands[4]);
            b.weights = operands[1];
            b.channels = operands[2];
            b.output = output;
            b.end = output + channels;
            b.last = (count - 1u) * channels;
            run_block(&b, a->form);
            output += count * channels;
        }
    }
    return 0;
}
