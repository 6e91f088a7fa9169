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
#define MOST_STRIDE 3u /* the windows of a block lie in a strip of no more than three of them */
#define STRIP_BYTES (3u * PIXELS * ROW_BYTES)

/* What a program has for each pair of channels, times the powers of 2 that give them the common shift. */
typedef struct pair {
    int32_t starts[2]; /* of the upper channel, then of the lower */
    uint32_t weights[WORDS][2]; /* of the lower channel, then of the upper */
    int32_t scales[2][2]; /* (multiplier, offset) of the lower channel, then of the upper */
} pair;

/* Blocks side by side. */
typedef struct blocks {
    const int8_t *windows[PIXELS];
    uint32_t down; /* bytes from a row of a window to the next */
    int8_t *output, *output_end; /* of the first pixel */
    uint32_t second,
        third; /* where the other pixels' outputs lie from there; of a lone block maybe in the same place */
    const pair *pairs;
    uint32_t step; /* bytes from a block's windows to the next ones */
    uint32_t count; /* not 0 */
} blocks;

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
 * upper channel, r8-r10 of the lower; r11 patch; r12 output; lr pairs. */
#define THREE(x, y, z, w, from_x, from_y, from_z) \
    "smlad " x ", " w ", r0, " from_x "\n smlad " y ", " w ", r1, " from_y "\n smlad " z ", " w ", r2, " from_z "\n"
#define INPUTS_AND_WEIGHTS "ldmia r11!, {r0-r2}\n ldrd r3, r4, [lr], #8\n"
#define OUTPUT(x, to) \
    "smmla " x ", " x ", r0, r1\n ssat " x ", #8, " x ", asr #" ML_TEXT(COMMON_SHIFT) "\n strb " x ", " to "\n"
#define CHANNEL(x, y, z) \
    "ldrd r0, r1, [lr], #8\n" OUTPUT(z, "[r12, r4]") OUTPUT(y, "[r12, r3]") OUTPUT(x, "[r12], #1")
__attribute__((noinline)) static void run(const blocks *given) {
    blocks b = *given;
    uint32_t patch[WORDS * PIXELS], *words = patch;
    __asm__ volatile(
        "ldrd r0, r1, %[windows]\n ldrd r2, lr, %[window]\n 0: ldr r12, %[words]\n"
        EIGHT_BYTES LAST_BYTES("r9", "r10", "r11") DOWN EIGHT_BYTES LAST_BYTES("r6", "r7", "r8")
        "pkhbt r9, r9, r6, lsl #16\n pkhbt r10, r10, r7, lsl #16\n pkhbt r11, r11, r8, lsl #16\n"
        "stmia r12!, {r9-r11}\n" DOWN EIGHT_BYTES LAST_BYTES("r6", "r7", "r8") "stmia r12!, {r6-r8}\n"
        "ldr r11, %[words]\n ldr r12, %[output]\n ldr lr, %[pairs]\n"
        "1: ldrd r7, r10, [lr], #8\n"
        INPUTS_AND_WEIGHTS THREE("r8", "r9", "r10", "r3", "r10", "r10", "r10")
        THREE("r5", "r6", "r7", "r4", "r7", "r7", "r7")
        ".rept 13\n" INPUTS_AND_WEIGHTS THREE("r8", "r9", "r10", "r3", "r8", "r9", "r10")
        THREE("r5", "r6", "r7", "r4", "r5", "r6", "r7") ".endr\n"
        "sub r11, r11, %[patch_bytes]\n ldrd r3, r4, %[second]\n" CHANNEL("r8", "r9", "r10") CHANNEL("r5", "r6", "r7")
        "ldr r0, %[output_end]\n cmp r12, r0\n bne 1b\n"
        "ldr r0, %[count]\n subs r0, r0, #1\n str r0, %[count]\n beq 2f\n"
        "add r12, r12, r4\n str r12, %[output]\n add r12, r12, r3\n str r12, %[output_end]\n"
        "ldrd r0, r1, %[windows]\n ldrd r2, lr, %[window]\n ldr r3, %[step]\n"
        "add r0, r0, r3\n add r1, r1, r3\n add r2, r2, r3\n strd r0, r1, %[windows]\n str r2, %[window]\n b 0b\n 2:"
        : [windows] "+m"(b.windows[0]), "+m"(b.windows[1]), [window] "+m"(b.windows[2]), [output] "+m"(b.output),
          [output_end] "+m"(b.output_end), [count] "+m"(b.count), "=m"(patch)
        : "m"(b.down), [words] "m"(words), [second] "m"(b.second), "m"(b.third), [pairs] "m"(b.pairs), [step] "m"(b.step),
          [patch_bytes] "i"(sizeof patch)
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
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

static void one_block(const blocks *b, const int8_t *const *windows, int8_t *output) {
    uint32_t patch[PIXELS][WORDS], channels = (uint32_t)(b->output_end - b->output);
    uint32_t offsets[PIXELS] = {0, b->second, b->third};
    for (uint32_t p = 0; p < PIXELS; p++) {
        widen(windows[p], b->down, patch[p]);
    }
    for (uint32_t c = 0; c < channels; c++) {
        const pair *both = &b->pairs[c / 2u];
        const int32_t *scale = both->scales[c % 2u];
        for (uint32_t p = 0; p < PIXELS; p++) {
            int32_t sum = both->starts[1u - c % 2u];
            for (uint32_t i = 0; i < WORDS; i++) {
                sum = ml_smlad(patch[p][i], both->weights[i][c % 2u], sum);
            }
            output[offsets[p] + c] = (int8_t)ml_saturate_s8(ml_smmla(sum, scale[0], scale[1]) >> COMMON_SHIFT);
        }
    }
}

static void run(const blocks *b) {
    uint32_t block_bytes = b->third + (uint32_t)(b->output_end - b->output);
    const int8_t *windows[PIXELS] = {b->windows[0], b->windows[1], b->windows[2]};
    for (uint32_t i = 0; i < b->count; i++) {
        one_block(b, windows, b->output + i * block_bytes);
        windows[0] += b->step, windows[1] += b->step, windows[2] += b->step;
    }
}
#endif

ml_status ml_conv_color_s8_check(const void *args, const ml_operand *operands) {
    const ml_conv_color_s8_args *a = args;
    const ml_window *w = &a->window;
    bool sound = w->input_channels == 3 && w->output_channels != 0 && w->output_channels % 2u == 0 &&
                 w->stride_width <= MOST_STRIDE && ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], sizeof(pair), w->output_channels / 2u, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

/* Copies three rows of `width` pixels from (top, left) on, with padding. */
static void copy_strip(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, uint32_t left, uint32_t width,
                       int8_t *to) {
    const ml_window *w = &a->window;
    uint32_t before = left < w->input_width ? 0 : ML_MIN(0u - left, width), first = left + before;
    uint32_t columns = first < w->input_width ? ML_MIN(width - before, w->input_width - first) : 0;
    fill(to, (int8_t)a->padding, 9u * width);
    for (uint32_t y = top; y != top + 3u; y++, to += 3u * width) {
        if (y < w->input_height) {
            copy(to + 3u * before, image + (y * w->input_width + first) * 3u, 3u * columns);
        }
    }
}

/* Computes blocks of `pixels` pixels each, and goes on to what lies behind them. */
static void run_blocks(blocks *b, uint32_t channels, uint32_t pixels, uint32_t count) {
    b->second = pixels > 1u ? channels : 0;
    b->third = (pixels - 1u) * channels;
    b->output_end = b->output + channels;
    b->count = count;
    run(b);
    b->output += count * pixels * channels;
}

/* The `count` outputs of a row whose first window is at (top, left), some of which may lie outside in part. */
static void at_edge(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, uint32_t left, uint32_t count,
                    blocks *b) {
    const ml_window *w = &a->window;
    int8_t strip[STRIP_BYTES];
    uint32_t width = (count - 1u) * w->stride_width + 3u;
    copy_strip(a, image, top, left, width, strip);
    for (uint32_t p = 0; p < PIXELS; p++) {
        b->windows[p] = strip + ML_MIN(p, count - 1u) * w->stride_width * 3u;
    }
    b->down = 3u * width;
    run_blocks(b, w->output_channels, count, 1);
}

/* `count` blocks of windows inside the image, the first at `from`. */
static void inside(const ml_window *w, const int8_t *from, uint32_t count, blocks *b) {
    uint32_t step = w->stride_width * 3u;
    b->windows[0] = from, b->windows[1] = from + step, b->windows[2] = from + 2u * step;
    b->down = w->input_width * 3u;
    b->step = PIXELS * step;
    run_blocks(b, w->output_channels, PIXELS, count);
}

/* How many blocks from (top, left) on lie inside. */
static uint32_t count_inside(const ml_window *w, uint32_t top, uint32_t left) {
    bool any =
        top < w->input_height && w->input_height - top >= 3u && left < w->input_width && w->input_width - left >= 3u;
    return any ? ((w->input_width - 3u - left) / ML_MAX(w->stride_width, 1u) + 1u) / PIXELS : 0;
}

static void one_row(const ml_conv_color_s8_args *a, const int8_t *image, uint32_t top, blocks *b) {
    const ml_window *w = &a->window;
    uint32_t left = 0u - w->pad_left;
    for (uint32_t x = 0, count; x < w->output_width; x += count, left += count * w->stride_width) {
        uint32_t whole = ML_MIN(count_inside(w, top, left), (w->output_width - x) / PIXELS);
        if (whole != 0) {
            count = whole * PIXELS;
            inside(w, image + (top * w->input_width + left) * 3u, whole, b);
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
    blocks b = {.output = operands[2], .pairs = operands[1]};
    for (uint32_t batch = 0; batch < w->batches; batch++, image += w->input_height * w->input_width * 3u) {
        uint32_t top = 0u - w->pad_top;
        for (uint32_t y = 0; y < w->output_height; y++, top += w->stride_height) {
            one_row(a, image, top, &b);
        }
    }
    return 0;
}
