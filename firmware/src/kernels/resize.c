/* Images of another size. For each output row and column a table, made on the host, says which input rows or columns it
 * comes from, so that nothing is divided here. Layouts: input [batches][in_rows][in_columns][channels], output
 * [batches][rows][columns][channels]. Table entries are checked as they are used: they may be in memory that changes.
 */
#include <string.h>

#include "ml_kernels.h"

/* resize_nearest: pixels of `run` bytes; operands input, rows, columns, output. */
ml_status ml_resize_nearest_check(const void *args, const ml_operand *operands) {
    const ml_resize_nearest_args *a = args;
    bool fits = ml_holds(&operands[0], a->run, a->batches, a->in_rows, a->in_columns, 1) &&
                ml_holds(&operands[1], 4, a->rows, 1, 1, 1) && ml_holds(&operands[2], 4, a->columns, 1, 1, 1) &&
                ml_holds(&operands[3], a->run, a->batches, a->rows, a->columns, 1);
    return a->run == 0 ? ML_ERR_ARGUMENT : fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_resize_nearest(const void *args, void *const *operands) {
    const ml_resize_nearest_args *a = args;
    const uint8_t *image = operands[0];
    const uint32_t *row = operands[1];
    uint8_t *output = operands[3];
    uint32_t row_bytes = a->in_columns * a->run;
    for (uint32_t b = 0; b < a->batches; b++, image += a->in_rows * row_bytes) {
        for (uint32_t y = 0; y < a->rows; y++) {
            const uint32_t *column = operands[2];
            for (uint32_t x = 0; x < a->columns; x++, output += a->run) {
                if (row[y] >= a->in_rows || column[x] >= a->in_columns) {
                    return ML_ERR_INDEX;
                }
                memmove(output, image + row[y] * row_bytes + column[x] * a->run, a->run);
            }
        }
    }
    return 0;
}

/* What one output row or column lies between. */
typedef struct span {
    uint32_t low;
    uint32_t high;
    union {
        int32_t whole; /* of 1024 parts from low to high */
        float real; /* from 0 at low to 1 at high */
    } part;
} span;

/* Writes one output pixel. `corner`: the input pixels at (y low, x low), (y high, x low), (y low, x high) and (y high,
 * x high). The parts may lie outside 0 to 1 at an image's edge, where low and high are the same. */
typedef void blend(void *output, const void *const *corner, uint32_t channels, const span *y, const span *x);

static ml_status check_bilinear(const void *args, const ml_operand *operands, uint32_t element_bytes) {
    const ml_resize_bilinear_args *a = args;
    bool fits = ml_holds(&operands[0], element_bytes, a->batches, a->in_rows, a->in_columns, a->channels) &&
                ml_holds(&operands[1], sizeof(span), a->rows, 1, 1, 1) &&
                ml_holds(&operands[2], sizeof(span), a->columns, 1, 1, 1) &&
                ml_holds(&operands[3], element_bytes, a->batches, a->rows, a->columns, a->channels);
    return a->channels == 0 ? ML_ERR_ARGUMENT : fits ? ML_OK : ML_ERR_OPERAND;
}

static int32_t resize_bilinear(const void *args, void *const *operands, uint32_t element_bytes, blend *pixel) {
    const ml_resize_bilinear_args *a = args;
    const uint8_t *image = operands[0];
    const span *rows = operands[1];
    const span *columns = operands[2];
    uint8_t *output = operands[3];
    uint32_t pixel_bytes = element_bytes * a->channels;
    uint32_t row_bytes = a->in_columns * pixel_bytes;
    for (uint32_t b = 0; b < a->batches; b++, image += a->in_rows * row_bytes) {
        for (uint32_t i = 0; i < a->rows; i++) {
            for (uint32_t j = 0; j < a->columns; j++, output += pixel_bytes) {
                const span *y = &rows[i];
                const span *x = &columns[j];
                if (ML_MAX(y->low, y->high) >= a->in_rows || ML_MAX(x->low, x->high) >= a->in_columns) {
                    return ML_ERR_INDEX;
                }
                const uint8_t *low = image + y->low * row_bytes;
                const uint8_t *high = image + y->high * row_bytes;
                const void *const corner[4] = {low + x->low * pixel_bytes, high + x->low * pixel_bytes,
                                               low + x->high * pixel_bytes, high + x->high * pixel_bytes};
                pixel(output, corner, a->channels, y, x);
            }
        }
    }
    return 0;
}

/* Follows ResizeBilinearInteger (tensorflow/lite/kernels/internal/reference/resize_bilinear.h), whose 64-bit sums fit
 * 32 bits here: 128 * 1024 * 1024 and, beyond an edge, at most four times that. */
static void blend_s8(void *output, const void *const *corner, uint32_t channels, const span *y, const span *x) {
    int32_t dy = y->part.whole;
    int32_t dx = x->part.whole;
    const int32_t weight[4] = {(1024 - dy) * (1024 - dx), dy * (1024 - dx), (1024 - dy) * dx, dy * dx};
    const int8_t *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    int8_t *to = output;
    for (uint32_t i = 0; i < channels; i++) {
        int32_t sum = a[i] * weight[0] + b[i] * weight[1] + c[i] * weight[2] + d[i] * weight[3];
        to[i] = (int8_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
    }
}

static void blend_s16(void *output, const void *const *corner, uint32_t channels, const span *y, const span *x) {
    int32_t dy = y->part.whole;
    int32_t dx = x->part.whole;
    const int64_t weight[4] = {(1024 - dy) * (1024 - dx), dy * (1024 - dx), (1024 - dy) * dx, dy * dx};
    const int16_t *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    int16_t *to = output;
    for (uint32_t i = 0; i < channels; i++) {
        int64_t sum = a[i] * weight[0] + b[i] * weight[1] + c[i] * weight[2] + d[i] * weight[3];
        to[i] = (int16_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
    }
}

/* The order of the operations is that of ResizeBilinear in the same file, so that the result is the same float. */
static inline float mix(float a, float b, float c, float d, float dy, float dx) {
    return a * (1 - dy) * (1 - dx) + b * dy * (1 - dx) + c * (1 - dy) * dx + d * dy * dx;
}

static void blend_f32(void *output, const void *const *corner, uint32_t channels, const span *y, const span *x) {
    const float *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    float *to = output;
    for (uint32_t i = 0; i < channels; i++) {
        to[i] = mix(a[i], b[i], c[i], d[i], y->part.real, x->part.real);
    }
}

/* uint8 models are resized in floating point; the values here are theirs minus 128. */
static void blend_u8(void *output, const void *const *corner, uint32_t channels, const span *y, const span *x) {
    const int8_t *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    int8_t *to = output;
    for (uint32_t i = 0; i < channels; i++) {
        float value = 0.5f + mix((float)(a[i] + 128), (float)(b[i] + 128), (float)(c[i] + 128), (float)(d[i] + 128),
                                 y->part.real, x->part.real);
        /* Written so that no number, not even NaN, is cast that does not fit. */
        to[i] = (int8_t)((value > 0.0f ? value < 255.0f ? (int32_t)value : 255 : 0) - 128);
    }
}

ml_status ml_resize_bilinear_s8_check(const void *args, const ml_operand *operands) {
    return check_bilinear(args, operands, 1);
}

int32_t ml_resize_bilinear_s8(const void *args, void *const *operands) {
    return resize_bilinear(args, operands, 1, blend_s8);
}

ml_status ml_resize_bilinear_s16_check(const void *args, const ml_operand *operands) {
    return check_bilinear(args, operands, 2);
}

int32_t ml_resize_bilinear_s16(const void *args, void *const *operands) {
    return resize_bilinear(args, operands, 2, blend_s16);
}

ml_status ml_resize_bilinear_f32_check(const void *args, const ml_operand *operands) {
    return check_bilinear(args, operands, 4);
}

int32_t ml_resize_bilinear_f32(const void *args, void *const *operands) {
    return resize_bilinear(args, operands, 4, blend_f32);
}

ml_status ml_resize_bilinear_u8_check(const void *args, const ml_operand *operands) {
    return check_bilinear(args, operands, 1);
}

int32_t ml_resize_bilinear_u8(const void *args, void *const *operands) {
    return resize_bilinear(args, operands, 1, blend_u8);
}
