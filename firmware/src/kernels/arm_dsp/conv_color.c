/* CONV_2D, int8: kernels of 3 by 3 over images of three channels, for outputs that are clamped to their zero point or
 * above: blocks of three pixels and two channels, as in conv.c, with nothing left open.
 *
 * A window is three rows of nine bytes: widened, four words of each row, one of the last bytes of the first and the
 * second behind these, one of the third's in the end. */
#include "../window.h"
#include "simd.h"

#define PIXELS 3u /* of a block */
#define ROW_BYTES 9u
#define WORDS 14u /* of a window */
#define WINDOW_BYTES (3u * ROW_BYTES)

/* What a program has for each pair of channels, times the powers of 2 that give them the common shift. */
typedef struct pair {
    int32_t starts[2]; /* of the upper channel, then of the lower */
    uint32_t weights[WORDS][2]; /* of the lower channel, then of the upper */
    int32_t scales[2][2]; /* (multiplier, offset) of the lower channel, then of the upper */
} pair;

typedef struct block {
    const int8_t *windows[PIXELS];
    uint32_t down; /* bytes from a row of a window to the next */
    int8_t *output, *output_end; /* of the first pixel */
    uint32_t second, third; /* where the other pixels' outputs lie from there */
    const pair *pairs;
} block;

#ifdef __ARM_FEATURE_DSP
/* clang-format off */
#define FOUR_BYTES(at)                                                                                \
    "ldr r6, [r0" at "]\n ldr r7, [r1" at "]\n ldr r8, [r2" at "]\n"                                  \
    "sxtb16 r3, r6\n sxtb16 r4, r7\n sxtb16 r5, r8\n"                                                 \
    "sxtb16 r6, r6, ror #8\n sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n stmia r12!, {r3-r8}\n"
#define EIGHT_BYTES FOUR_BYTES("") FOUR_BYTES(", #4")
#define LAST_BYTES(x, y, z) "ldrsb " x ", [r0, #8]\n ldrsb " y ", [r1, #8]\n ldrsb " z ", [r2, #8]\n"
#define DOWN "add r0, r0, lr\n add r1, r1, lr\n add r2, r2, lr\n"
/* Registers: r0-r2 inputs, then multiplier and offset; r3, r4 weights, then `second` and `third`; r5-r7 sums of the
 * upper channel, r8-r10 of the lower; r11 patch, then output; lr pairs. */
#define THREE(x, y, z, w, from_x, from_y, from_z) \
    "smlad " x ", " w ", r0, " from_x "\n smlad " y ", " w ", r1, " from_y "\n smlad " z ", " w ", r2, " from_z "\n"
#define INPUTS_AND_WEIGHTS "ldmia r11!, {r0-r2}\n ldrd r3, r4, [lr], #8\n"
#define OUTPUT(x, to) \
    "smmla " x ", " x ", r0, r1\n ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n strb " x ", " to "\n"
#define CHANNEL(x, y, z) \
    "ldrd r0, r1, [lr], #8\n" OUTPUT(z, "[r11, r4]") OUTPUT(y, "[r11, r3]") OUTPUT(x, "[r11], #1")
__attribute__((noinline)) static void run(block *b) {
    block f = *b;
    uint32_t patch[WORDS * PIXELS], *words = patch;
    register uint32_t *r12 __asm__("r12") = patch;
    __asm__ volatile(
        "ldrd r0, r1, %[windows]\n ldrd r2, lr, %[window]\n"
        EIGHT_BYTES LAST_BYTES("r9", "r10", "r11") DOWN EIGHT_BYTES LAST_BYTES("r6", "r7", "r8")
        "pkhbt r9, r9, r6, lsl #16\n pkhbt r10, r10, r7, lsl #16\n pkhbt r11, r11, r8, lsl #16\n"
        "stmia r12!, {r9-r11}\n" DOWN EIGHT_BYTES LAST_BYTES("r6", "r7", "r8") "stmia r12!, {r6-r8}\n"
        "ldr lr, %[pairs]\n"
        "1: ldr r11, %[words]\n ldrd r7, r10, [lr], #8\n"
        INPUTS_AND_WEIGHTS THREE("r8", "r9", "r10", "r3", "r10", "r10", "r10")
        THREE("r5", "r6", "r7", "r4", "r7", "r7", "r7")
        ".rept 13\n" INPUTS_AND_WEIGHTS THREE("r8", "r9", "r10", "r3", "r8", "r9", "r10")
        THREE("r5", "r6", "r7", "r4", "r5", "r6", "r7") ".endr\n"
        "ldrd r3, r4, %[second]\n ldrd r11, r12, %[output]\n" CHANNEL("r8", "r9", "r10") CHANNEL("r5", "r6", "r7")
        "str r11, %[output]\n cmp r11, r12\n bne 1b"
        : "+r"(r12), [output] "+m"(f.output), "=m"(patch)
        : [windows] "m"(f.windows[0]), "m"(f.windows[1]), [window] "m"(f.windows[2]), "m"(f.down), [words] "m"(words),
          "m"(f.output_end), [second] "m"(f.second), "m"(f.third), [pairs] "m"(f.pairs)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "lr", "cc", "memory");
}
/* clang-format on */
#else
static void widen(const int8_t *window, uint32_t down, uint32_t *to) {
    for (uint32_t y = 0; y < 3; y++, window += down) {
        for (uint32_t x = 0; x < 8; x += 4) {
            *to++ = ml_even_bytes(ml_load_word(window + x));
            *to++ = ml_odd_bytes(ml_load_word(window + x));
        }
        if (y == 1) {
            *to++ = ml_lower_halves((uint32_t)window[8 - (int32_t)down], (uint32_t)window[8]);
        }
    }
    *to = (uint32_t)(window - down)[8];
}

static void run(block *b) {
    uint32_t patch[PIXELS][WORDS], channels = (uint32_t)(b->output_end - b->output);
    uint32_t offsets[PIXELS] = {0, b->second, b->third};
    for (uint32_t p = 0; p < PIXELS; p++) {
        widen(b->windows[p], b->down, patch[p]);
    }
    for (uint32_t c = 0; c < channels; c++) {
        const pair *both = &b->pairs[c / 2u];
        const int32_t *scale = both->scales[c % 2u];
        for (uint32_t p = 0; p < PIXELS; p++) {
            int32_t sum = both->starts[1u - c % 2u];
            for (uint32_t i = 0; i < WORDS; i++) {
                sum = ml_smlad(patch[p][i], both->weights[i][c % 2u], sum);
            }
            b->output[offsets[p] + c] = (int8_t)ml_saturate_s8(ml_smmla(sum, scale[0], scale[1]) >> COMMON_SHIFT);
        }
    }
}
#endif

ml_status ml_conv_color_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_color_s8_args *a = args;
    const ml_window *w = &a->window;
    bool sound = w->input_channels == 3 && w->output_channels != 0 && w->output_channels % 2u == 0 &&
                 ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], sizeof(pair), w->output_channels / 2u, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Copies the window at (top, left), with padding. */
static void copy_window(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, uint32_t left, int8_t *to) {
    const int8_t padding[3] = {(int8_t)a->padding, (int8_t)a->padding, (int8_t)a->padding};
    for (uint32_t y = top; y != top + 3u; y++) {
        for (uint32_t x = left; x != left + 3u; x++, to += 3) {
            const int8_t *from = ml_pixel(&a->window, image, y, x, 3, padding);
            to[0] = from[0], to[1] = from[1], to[2] = from[2];
        }
    }
}

/* Sets where the pixels of a block have their outputs. */
static void set_outputs(block *b, uint32_t channels, uint32_t count) {
    b->second = count > 1u ? channels : 0;
    b->third = (count - 1u) * channels;
    b->output_end = b->output + channels;
}

/* The `count` outputs of a row whose first window is at (top, left), some of which may lie outside in part. */
static void at_edge(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, uint32_t left, uint32_t count,
                    block *b) {
    const ml_window *w = &a->window;
    int8_t copies[PIXELS * WINDOW_BYTES];
    for (uint32_t p = 0; p < PIXELS; p++) {
        copy_window(a, image, top, left + ML_MIN(p, count - 1u) * w->stride_width, copies + p * WINDOW_BYTES);
        b->windows[p] = copies + p * WINDOW_BYTES;
    }
    b->down = ROW_BYTES;
    set_outputs(b, w->output_channels, count);
    run(b);
    b->output += count * w->output_channels;
}

/* `count` blocks of windows inside the image, the first at `from`. */
static void inside(const ml_window *w, const int8_t *from, uint32_t count, block *b) {
    uint32_t step = w->stride_width * 3u;
    b->windows[0] = from, b->windows[1] = from + step, b->windows[2] = from + 2u * step;
    b->down = w->input_width * 3u;
    set_outputs(b, w->output_channels, PIXELS);
    for (; count != 0; count--) {
        run(b);
        b->windows[0] += PIXELS * step, b->windows[1] += PIXELS * step, b->windows[2] += PIXELS * step;
        b->output += PIXELS * w->output_channels, b->output_end += PIXELS * w->output_channels;
    }
}

/* How many blocks from (top, left) on lie inside. */
static uint32_t count_inside(const ml_window *w, uint32_t top, uint32_t left) {
    bool any =
        top < w->input_height && w->input_height - top >= 3u && left < w->input_width && w->input_width - left >= 3u;
    return any ? ((w->input_width - 3u - left) / ML_MAX(w->stride_width, 1u) + 1u) / PIXELS : 0;
}

static void one_row(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, block *b) {
    const ml_window *w = &a->window;
    uint32_t left = 0u - w->pad_left;
    for (uint32_t x = 0, count; x < w->output_width; x += count, left += count * w->stride_width) {
        uint32_t blocks = ML_MIN(count_inside(w, top, left), (w->output_width - x) / PIXELS);
        if (blocks != 0) {
            count = blocks * PIXELS;
            inside(w, image + (top * w->input_width + left) * 3u, blocks, b);
        } else {
            count = ML_MIN(w->output_width - x, PIXELS);
            at_edge(a, image, top, left, count, b);
        }
    }
}

int32_t ml_conv_color_s8(const void *args, void *const *operands) {
    const ml_conv_color_s8_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    block b = {.output = operands[2], .pairs = operands[1]};
    for (uint32_t batch = 0; batch < w->batches; batch++, image += w->input_height * w->input_width * 3u) {
        uint32_t top = 0u - w->pad_top;
        for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
            one_row(a, image, top, &b);
        }
    }
    return 0;
}
