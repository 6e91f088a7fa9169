/* AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D. Layouts: input [batches][in_height][in_width][channels], output
 * [batches][out_height][out_width][channels]. Windows are cut to the input: padding never counts. */
#include "elements.h"
#include "ml_kernels.h"
#include "ml_math.h"

/* One window: `rows` by `columns` pixels, the first channel of the first one at `first`; steps are in elements. */
typedef struct window {
    const void *first;
    uint32_t rows, columns, step, row_step;
} window;

/* The core's own words, whatever wrote them. */
typedef uint32_t __attribute__((may_alias)) word;

typedef void (*pixel)(const ml_pool_2d_args *a, const window *w, void *output);

/* Whether every window along one axis contains an input; then no position can overflow. */
static bool axis_sound(uint32_t in, uint32_t out, uint32_t stride, uint32_t filter, uint32_t pad) {
    return in != 0 && out != 0 && filter <= INT32_MAX / 2 && pad < filter &&
           (uint64_t)(out - 1u) * stride < (uint64_t)in + pad;
}

static ml_status pool_check(const void *args, const ml_operand *operands, uint32_t bytes) {
    const ml_pool_2d_args *a = args;
    if (!axis_sound(a->in_height, a->out_height, a->stride_height, a->filter_height, a->pad_height) ||
        !axis_sound(a->in_width, a->out_width, a->stride_width, a->filter_width, a->pad_width)) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], bytes, a->batches, a->in_height, a->in_width, a->channels) &&
                ml_holds(&operands[1], bytes, a->batches, a->out_height, a->out_width, a->channels);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* The part of a window inside the input along one axis: where it starts and how long it is. */
static uint32_t cut(uint32_t out, uint32_t stride, uint32_t filter, uint32_t pad, uint32_t in, uint32_t *start) {
    uint32_t end = out * stride + filter; /* both counted from `pad` before the input */
    *start = ML_MAX(out * stride, pad);
    end = ML_MIN(end, in + pad) - *start;
    *start -= pad;
    return end;
}

static int32_t pool(const ml_pool_2d_args *a, void *const *operands, uint32_t bytes, pixel compute) {
    const uint8_t *image = operands[0];
    uint8_t *output = operands[1];
    window w = {.step = a->channels, .row_step = a->in_width * a->channels};
    for (uint32_t batch = 0; batch < a->batches; batch++) {
        for (uint32_t y = 0; y < a->out_height; y++) {
            uint32_t top, left;
            w.rows = cut(y, a->stride_height, a->filter_height, a->pad_height, a->in_height, &top);
            for (uint32_t x = 0; x < a->out_width; x++) {
                w.columns = cut(x, a->stride_width, a->filter_width, a->pad_width, a->in_width, &left);
                w.first = image + (size_t)(top * w.row_step + left * w.step) * bytes;
                compute(a, &w, output);
                output += (size_t)a->channels * bytes;
            }
        }
        image += (size_t)a->in_height * w.row_step * bytes;
    }
    return 0;
}

/* Whether four neighbouring bytes of the window and of the output can be reached as one aligned word. */
static bool has_words(const window *w, const void *output) {
    return (((uintptr_t)w->first | (uintptr_t)output | w->step) & 3u) == 0;
}

/* Four channels of the first pixel of a row. */
static const word *word_at(const window *w, uint32_t row, uint32_t channel) {
    return (const word *)((const uint8_t *)w->first + channel + row * w->row_step);
}

/* To the nearest, ties away from zero. */
static int32_t mean(const ml_pool_2d_args *a, int32_t sum, int32_t count) {
    /* The sum of a uint8 model is that of the unsigned values: there is no negative one to round the other way. */
    sum += a->unsigned_offset * count;
    int32_t rounded = (sum + (sum > 0 ? count / 2 : -(count / 2))) / count - a->unsigned_offset;
    return ml_clamp(rounded, a->low, a->high);
}

/* Averages of the channels from `c` on. */
ML_INLINE void average(const ml_pool_2d_args *a, const window *w, uint32_t c, void *output, uint32_t type) {
    for (; c < a->channels; c++) {
        int32_t sum = 0;
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                sum += ml_load_integer(w->first, type, at);
            }
        }
        ml_store_integer(output, type, c, mean(a, sum, (int32_t)(w->rows * w->columns)));
    }
}

/* Four channels at a time: their values, made positive, are added up in 16 bits each, which hold 256 of them. */
static void average_s8(const ml_pool_2d_args *a, const window *w, void *output) {
    uint32_t c = 0, count = w->rows * w->columns;
    for (; has_words(w, output) && count <= 256u && c < a->channels; c += 4) {
        uint32_t sums[2] = {0, 0};
        for (uint32_t row = 0; row < w->rows; row++) {
            const word *at = word_at(w, row, c);
            for (uint32_t column = w->columns; column != 0; column--, at += w->step / 4u) {
                uint32_t four = *at ^ 0x80808080u;
                sums[0] += four & 0x00FF00FFu;
                sums[1] += four >> 8 & 0x00FF00FFu;
            }
        }
        for (uint32_t i = 0; i < 4; i++) {
            int32_t sum = (int32_t)(sums[i & 1u] >> 8u * (i & 2u) & 0xFFFFu) - 128 * (int32_t)count;
            ((int8_t *)output)[c + i] = (int8_t)mean(a, sum, (int32_t)count);
        }
    }
    average(a, w, c, output, ML_S8);
}

static void average_s16(const ml_pool_2d_args *a, const window *w, void *output) { average(a, w, 0, output, ML_S16); }

/* The largest of the channels from `c` on. */
ML_INLINE void maximum(const ml_pool_2d_args *a, const window *w, uint32_t c, void *output, uint32_t type) {
    for (; c < a->channels; c++) {
        int32_t most = INT32_MIN;
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                int32_t x = ml_load_integer(w->first, type, at);
                most = ML_MAX(most, x);
            }
        }
        ml_store_integer(output, type, c, ml_clamp(most, a->low, a->high));
    }
}

/* The larger of each two int8 of a and b. */
static uint32_t larger_bytes(uint32_t a, uint32_t b) {
#ifdef __ARM_FEATURE_SIMD32
    uint32_t larger;
    __asm__("ssub8 %0, %1, %2\n sel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
    return larger;
#else
    const uint32_t signs = 0x80808080u;
    uint32_t magnitudes = (a | signs) - (b & ~signs); /* the sign of a byte: whether a's lower bits are not less */
    uint32_t chosen = ((~a & b) | (~(a ^ b) & magnitudes)) & signs;
    uint32_t mask = (chosen << 1) - (chosen >> 7);
    return b ^ ((a ^ b) & mask);
#endif
}

static void maximum_s8(const ml_pool_2d_args *a, const window *w, void *output) {
    uint32_t c = 0, low = (uint8_t)a->low * 0x01010101u, high = (uint8_t)a->high * 0x01010101u;
    for (; has_words(w, output) && c < a->channels; c += 4) {
        uint32_t most = low;
        for (uint32_t row = 0; row < w->rows; row++) {
            const word *at = word_at(w, row, c);
            for (uint32_t column = w->columns; column != 0; column--, at += w->step / 4u) {
                most = larger_bytes(*at, most);
            }
        }
        *(word *)((uint8_t *)output + c) = ~larger_bytes(~most, ~high);
    }
    maximum(a, w, c, output, ML_S8);
}

static void maximum_s16(const ml_pool_2d_args *a, const window *w, void *output) { maximum(a, w, 0, output, ML_S16); }

static void average_f32(const ml_pool_2d_args *a, const window *w, void *output) {
    const float *first = w->first;
    float count = (float)(w->rows * w->columns);
    for (uint32_t c = 0; c < a->channels; c++) {
        float sum = 0.0f;
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                sum += first[at];
            }
        }
        ((float *)output)[c] = ml_clamp_f32(sum / count, a->low_f32, a->high_f32);
    }
}

static void maximum_f32(const ml_pool_2d_args *a, const window *w, void *output) {
    const float *first = w->first;
    for (uint32_t c = 0; c < a->channels; c++) {
        float most = first[c];
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                most = ML_MAX(most, first[at]);
            }
        }
        ((float *)output)[c] = ml_clamp_f32(most, a->low_f32, a->high_f32);
    }
}

/* Root of the mean square. */
static void root_f32(const ml_pool_2d_args *a, const window *w, void *output) {
    const float *first = w->first;
    float count = (float)(w->rows * w->columns);
    for (uint32_t c = 0; c < a->channels; c++) {
        float sum = 0.0f;
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                sum += first[at] * first[at];
            }
        }
        ((float *)output)[c] = ml_clamp_f32(ml_sqrt_f32(sum / count), a->low_f32, a->high_f32);
    }
}

ml_status ml_average_pool_s8_check(const void *args, const ml_operand *operands) {
    return pool_check(args, operands, 1);
}

int32_t ml_average_pool_s8(const void *args, void *const *operands) { return pool(args, operands, 1, average_s8); }

ml_status ml_average_pool_s16_check(const void *args, const ml_operand *operands) {
    return pool_check(args, operands, 2);
}

int32_t ml_average_pool_s16(const void *args, void *const *operands) { return pool(args, operands, 2, average_s16); }

ml_status ml_average_pool_f32_check(const void *args, const ml_operand *operands) {
    return pool_check(args, operands, 4);
}

int32_t ml_average_pool_f32(const void *args, void *const *operands) { return pool(args, operands, 4, average_f32); }

ml_status ml_max_pool_s8_check(const void *args, const ml_operand *operands) { return pool_check(args, operands, 1); }

int32_t ml_max_pool_s8(const void *args, void *const *operands) { return pool(args, operands, 1, maximum_s8); }

ml_status ml_max_pool_s16_check(const void *args, const ml_operand *operands) { return pool_check(args, operands, 2); }

int32_t ml_max_pool_s16(const void *args, void *const *operands) { return pool(args, operands, 2, maximum_s16); }

ml_status ml_max_pool_f32_check(const void *args, const ml_operand *operands) { return pool_check(args, operands, 4); }

int32_t ml_max_pool_f32(const void *args, void *const *operands) { return pool(args, operands, 4, maximum_f32); }

ml_status ml_l2_pool_f32_check(const void *args, const ml_operand *operands) { return pool_check(args, operands, 4); }

int32_t ml_l2_pool_f32(const void *args, void *const *operands) { return pool(args, operands, 4, root_f32); }
