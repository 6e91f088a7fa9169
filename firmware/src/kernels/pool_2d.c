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

/* Averages of integers, to the nearest, ties away from zero. */
ML_INLINE void average(const ml_pool_2d_args *a, const window *w, void *output, uint32_t type) {
    int32_t count = (int32_t)(w->rows * w->columns);
    for (uint32_t c = 0; c < a->channels; c++) {
        /* The sum of a uint8 model is that of the unsigned values: there is no negative one to round the other way. */
        int32_t sum = a->unsigned_offset * count;
        for (uint32_t row = 0, at = c; row < w->rows; row++, at = c + row * w->row_step) {
            for (uint32_t column = 0; column < w->columns; column++, at += w->step) {
                sum += ml_load_integer(w->first, type, at);
            }
        }
        int32_t mean = (sum + (sum > 0 ? count / 2 : -(count / 2))) / count - a->unsigned_offset;
        ml_store_integer(output, type, c, ml_clamp(mean, a->low, a->high));
    }
}

ML_INLINE void maximum(const ml_pool_2d_args *a, const window *w, void *output, uint32_t type) {
    for (uint32_t c = 0; c < a->channels; c++) {
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

static void average_s8(const ml_pool_2d_args *a, const window *w, void *output) { average(a, w, output, ML_S8); }
static void average_s16(const ml_pool_2d_args *a, const window *w, void *output) { average(a, w, output, ML_S16); }
static void maximum_s8(const ml_pool_2d_args *a, const window *w, void *output) { maximum(a, w, output, ML_S8); }
static void maximum_s16(const ml_pool_2d_args *a, const window *w, void *output) { maximum(a, w, output, ML_S16); }

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
