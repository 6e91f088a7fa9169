/* DEPTHWISE_CONV_2D by VMLADAV. The 16 lanes are the inputs of one channel under two windows side by side, row by row,
 * brought together by gathering loads; products with the weights, which have zeros where the other window lies, make
 * one output each. Two rows of windows together are a tile of four outputs. The rows of the image that a row of tiles
 * needs are first copied to `rows`, with padding around them.
 * Constants: 16 zeros; weights of each channel in 16 lanes; int32 (start, multiplier, shift) of each channel. */
#include "mve.h"

#define LANES 16u

typedef struct tile {
    uint16_t even[LANES / 2], odd[LANES / 2]; /* where the lanes' inputs lie */
    uint32_t outputs[4]; /* where the outputs lie */
    int32_t low[4], high[4];
    uint32_t channels;
    const int8_t *first, *second; /* weights of the left and of the right window */
    const int32_t *scales;
    int32_t zero;
    uint32_t lower; /* from the upper to the lower windows' inputs */
} tile;

/* The geometry of a row of tiles. Where there is only one output along an axis, both windows are the same. */
typedef struct frame {
    uint32_t column_step, row_step; /* between the two windows, in pixels */
    uint32_t lane_columns; /* in one row of lanes */
    uint64_t width; /* pixels of a padded row */
} frame;

static frame frame_of(const ml_window *w) {
    uint32_t step = w->output_width > 1 ? w->stride_width : 0;
    return (frame){step, w->output_height > 1 ? w->stride_height : 0, w->kernel_width + step,
                   (uint64_t)(w->output_width - 1u) * w->stride_width + w->kernel_width};
}

ml_status ml_depthwise_conv_2d_s8_mve_check(const void *args, const ml_operand *operands) {
    const ml_depthwise_conv_2d_s8_mve_args *a = args;
    const ml_window *w = &a->window;
    if (w->output_width == 0 || w->output_height == 0 || w->input_channels != w->output_channels ||
        w->input_channels == 0 || w->kernel_height == 0 || w->kernel_width == 0 || w->dilation_width != 1 ||
        w->dilation_height != 1) {
        return ML_ERR_ARGUMENT;
    }
    frame f = frame_of(w);
    uint64_t row_bytes = f.width * w->input_channels; /* below 2^33 * 2^32 / 2 */
    if (w->kernel_height > LANES || f.lane_columns > LANES || w->kernel_height * f.lane_columns > LANES ||
        f.width > UINT16_MAX || w->pad_left > f.width || w->input_channels > UINT16_MAX ||
        (w->kernel_height - 1u) * row_bytes + (f.lane_columns - 1u) * w->input_channels > UINT16_MAX) {
        return ML_ERR_ARGUMENT;
    }
    bool sound = ml_window_holds(w, &operands[0], 1, &operands[2], 1) &&
                 ml_holds(&operands[1], 4, 4u + 7u * w->input_channels, 1, 1, 1) &&
                 ml_holds(&operands[3], (uint32_t)row_bytes, w->kernel_height + f.row_step, 1, 1, 1);
    return sound ? ML_OK : ML_ERR_OPERAND;
}

static tile tile_of(const ml_depthwise_conv_2d_s8_mve_args *a, const int8_t *constants) {
    const ml_window *w = &a->window;
    frame f = frame_of(w);
    uint32_t row_bytes = (uint32_t)f.width * w->input_channels;
    const int8_t *weights = constants + LANES, *scales = weights + LANES * w->input_channels;
    tile t = {.channels = w->input_channels,
              .first = weights,
              .second = weights - f.column_step, /* the lanes before the first are zeros */
              .scales = (const int32_t *)(const void *)scales,
              .zero = a->quantized.output_offset};
    for (uint32_t i = 0; i < w->kernel_height * f.lane_columns; i++) {
        uint32_t at = i / f.lane_columns * row_bytes + i % f.lane_columns * w->input_channels;
        (i % 2u ? t.odd : t.even)[i / 2u] = (uint16_t)at;
    }
    for (uint32_t i = 0; i < 4; i++) {
        t.low[i] = a->quantized.low;
        t.high[i] = a->quantized.high;
    }
    return t;
}

/* All channels of the tile whose inputs begin at `x`. */
static __attribute__((noinline)) void compute(const tile *t, const int8_t *x, int8_t *to) {
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("vldrh.16 q2, [%[t]]\n"
                     "vldrh.16 q3, [%[t], #16]\n"
                     "vldrw.32 q4, [%[t], #32]\n"
                     "vldrw.32 q5, [%[t], #48]\n"
                     "vldrw.32 q6, [%[t], #64]\n"
                     "ldrd lr, r9, [%[t], #80]\n"
                     "ldrd r10, r11, [%[t], #88]\n"
                     "ldrd r12, r8, [%[t], #96]\n"
                     "add r8, r8, %[x]\n"
                     "dls lr, lr\n"
                     "1: vldrb.u16 q0, [%[x], q2]\n"
                     "vldrb.u16 q1, [%[x], q3]\n"
                     "vmovnt.i16 q0, q1\n"
                     "vldrb.u16 q1, [r8, q2]\n"
                     "vldrb.u16 q7, [r8, q3]\n"
                     "vmovnt.i16 q1, q7\n"
                     "vldrb.8 q7, [r9], #16\n"
                     "vmladav.s8 r0, q0, q7\n"
                     "vmladav.s8 r4, q1, q7\n"
                     "vldrb.8 q7, [r10], #16\n"
                     "vmladav.s8 r2, q0, q7\n"
                     "vmladav.s8 r6, q1, q7\n"
                     "vmov d0, r0, r2\n"
                     "vmov d1, r4, r6\n"
                     "ldm r11!, {r0, r2, r4}\n"
                     "vadd.i32 q0, q0, r0\n"
                     "vqrdmulh.s32 q0, q0, r2\n"
                     "vshr.s32 q1, q0, #31\n" /* ties away from zero */
                     "vadd.i32 q0, q0, q1\n"
                     "vrshl.s32 q0, r4\n"
                     "vadd.i32 q0, q0, r12\n"
                     "vmax.s32 q0, q0, q5\n"
                     "vmin.s32 q0, q0, q6\n"
                     "vstrb.32 q0, [%[to], q4]\n"
                     "add %[x], %[x], #1\n"
                     "add r8, r8, #1\n"
                     "add %[to], %[to], #1\n"
                     "le lr, 1b"
                     : [x] "+r"(x), [to] "+r"(to)
                     : [t] "r"(t)
                     : "r0", "r2", "r4", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "q4",
                       "q5", "q6", "q7", "memory");
#else
    ml_quantized q = {.output_offset = t->zero, .low = (int16_t)t->low[0], .high = (int16_t)t->high[0]};
    for (uint32_t c = 0; c < t->channels; c++) {
        for (uint32_t output = 0; output < 4; output++) {
            const int8_t *weights = (output % 2u ? t->second : t->first) + c * LANES;
            const int8_t *inputs = x + c + (output / 2u) * t->lower;
            const int32_t *scale = t->scales + 3u * c;
            int32_t sum = scale[0];
            for (uint32_t i = 0; i < LANES; i++) {
                sum += inputs[(i % 2u ? t->odd : t->even)[i / 2u]] * weights[i];
            }
            to[c + t->outputs[output]] = (int8_t)ml_finish(&q, sum, scale + 1);
        }
    }
#endif
}

/* One padded row: row `y` of the image, or nothing but padding. */
static void copy_row(const ml_window *w, const int8_t *image, uint32_t y, uint32_t row_bytes, int8_t padding,
                     int8_t *to) {
    uint32_t left = y < w->input_height ? w->pad_left * w->input_channels : row_bytes;
    uint32_t image_bytes = w->input_width * w->input_channels, inside = ML_MIN(row_bytes - left, image_bytes);
    if (left != 0) {
        ml_mve_fill(to, padding, left);
    }
    if (inside != 0) {
        ml_mve_copy_rows(to + left, 0, image + y * image_bytes, 0, 1, inside);
    }
    if (row_bytes - left != inside) {
        ml_mve_fill(to + left + inside, padding, row_bytes - left - inside);
    }
}

/* One or two rows of outputs, from copied rows. */
static void row_of_tiles(const ml_window *w, tile *t, uint32_t rows, const int8_t *x, int8_t *to) {
    uint32_t pixel_bytes = w->output_channels, right = w->output_width > 1 ? pixel_bytes : 0;
    uint32_t below = rows > 1 ? w->output_width * pixel_bytes : 0;
    for (uint32_t i = 0; i < 4; i++) {
        t->outputs[i] = i % 2u * right + i / 2u * below;
    }
    for (uint32_t column = 0; column < w->output_width; column += 2) {
        /* The last tile of an odd number of columns is moved to the left; what it has twice is the same. */
        uint32_t at = column + 1u == w->output_width && column != 0 ? column - 1u : column;
        compute(t, x + at * w->stride_width * pixel_bytes, to + at * pixel_bytes);
    }
}

int32_t ml_depthwise_conv_2d_s8_mve(const void *args, void *const *operands) {
    const ml_depthwise_conv_2d_s8_mve_args *a = args;
    const ml_window *w = &a->window;
    const int8_t *image = operands[0];
    int8_t *to = operands[2], *copies = operands[3];
    tile t = tile_of(a, operands[1]);
    uint32_t row_bytes = (uint32_t)frame_of(w).width * w->input_channels;
    int8_t padding = (int8_t)a->quantized.input_zero_point;
    for (uint32_t b = 0; b < w->batches; b++, image += w->input_height * w->input_width * w->input_channels) {
        for (uint32_t y = 0, rows, kept = 0; y < w->output_height; y += rows) {
            rows = ML_MIN(w->output_height - y, 2u);
            t.lower = (rows - 1u) * w->stride_height * row_bytes;
            for (uint32_t i = kept; i < w->kernel_height + (rows - 1u) * w->stride_height; i++) {
                copy_row(w, image, y * w->stride_height - w->pad_top + i, row_bytes, padding, copies + i * row_bytes);
            }
            row_of_tiles(w, &t, rows, copies, to);
            /* What the next tiles need too may have been written over in the image. */
            kept = (uint32_t)w->kernel_height - ML_MIN(w->kernel_height, w->stride_height);
            if (kept != 0 && rows == 2) {
                ml_mve_copy_rows(copies, 0, copies + 2u * w->stride_height * row_bytes, 0, 1, kept * row_bytes);
            }
            to += rows * w->output_width * w->output_channels;
        }
    }
    return 0;
}
