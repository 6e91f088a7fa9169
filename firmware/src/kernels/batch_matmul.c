/* BATCH_MATMUL: output[b][i][j] = sum_k a[b][i][k] * b[b][k][j].
 * Layouts: a [batches][rows][depth], or [batches][depth][rows] transposed; b [batches][depth][columns], or
 * [batches][columns][depth] transposed; output [batches][rows][columns]. */
#include "dot.h"

/* One pair of matrices; steps are in elements. */
typedef struct matrices {
    const uint8_t *a, *b;
    uint8_t *output;
    uint32_t a_row, a_step; /* to the next row, to the next along the depth */
    uint32_t b_column, b_step;
} matrices;

/* Computes the output of one pair and returns where the next output goes. */
typedef uint8_t *product_function(const void *args, const matrices *m);

static bool holds(const ml_operand *operand, uint32_t element_bytes, const uint32_t batches[3], uint32_t a,
                  uint32_t b) {
    return ml_holds(operand, element_bytes, batches[0], batches[1], batches[2], 1) &&
           ml_holds(operand, element_bytes, batches[0] * batches[1] * batches[2], a, b, 1);
}

static bool fits(const ml_batch_matmul_shape *s, const ml_operand *operands, uint32_t element_bytes) {
    for (uint32_t i = 0; i < 3; i++) {
        if ((s->a_batches[i] != s->batches[i] && s->a_batches[i] != 1) ||
            (s->b_batches[i] != s->batches[i] && s->b_batches[i] != 1)) {
            return false;
        }
    }
    return holds(&operands[0], element_bytes, s->a_batches, s->rows, s->depth) &&
           holds(&operands[1], element_bytes, s->b_batches, s->depth, s->columns) &&
           holds(&operands[2], element_bytes, s->batches, s->rows, s->columns);
}

/* Bytes from one matrix to the next along each batch dimension: 0 where it is the same matrix for all. */
static void batch_steps(const uint32_t batches[3], uint32_t matrix_bytes, uint32_t steps[3]) {
    for (uint32_t i = 3; i-- != 0; matrix_bytes *= batches[i]) {
        steps[i] = batches[i] == 1 ? 0 : matrix_bytes;
    }
}

static int32_t each_pair(const ml_batch_matmul_shape *s, const void *args, void *const *operands,
                         uint32_t element_bytes, product_function *product) {
    uint32_t a_steps[3], b_steps[3];
    batch_steps(s->a_batches, s->rows * s->depth * element_bytes, a_steps);
    batch_steps(s->b_batches, s->depth * s->columns * element_bytes, b_steps);
    matrices m = {.output = operands[2]};
    m.a_row = s->a_transposed ? 1 : s->depth;
    m.a_step = s->a_transposed ? s->rows : 1;
    m.b_column = s->b_transposed ? s->depth : 1;
    m.b_step = s->b_transposed ? 1 : s->columns;
    for (uint32_t i = 0; i < s->batches[0]; i++) {
        for (uint32_t j = 0; j < s->batches[1]; j++) {
            for (uint32_t k = 0; k < s->batches[2]; k++) {
                m.a = (const uint8_t *)operands[0] + i * a_steps[0] + j * a_steps[1] + k * a_steps[2];
                m.b = (const uint8_t *)operands[1] + i * b_steps[0] + j * b_steps[1] + k * b_steps[2];
                m.output = product(args, &m);
            }
        }
    }
    return 0;
}

ml_status ml_batch_matmul_s8_check(const void *args, const ml_operand *operands) {
    const ml_batch_matmul_s8_args *a = args;
    return fits(&a->shape, operands, 1) ? ML_OK : ML_ERR_OPERAND;
}

static uint8_t *product_s8(const void *args, const matrices *m) {
    const ml_batch_matmul_s8_args *a = args;
    int32_t a_zero = a->quantized.input_zero_point, b_offset = a->quantized.weights_offset;
    int8_t *output = (int8_t *)m->output;
    for (uint32_t i = 0; i < a->shape.rows; i++) {
        for (uint32_t j = 0; j < a->shape.columns; j++) {
            const int8_t *row = (const int8_t *)m->a + i * m->a_row;
            const int8_t *column = (const int8_t *)m->b + j * m->b_column;
            int32_t sum = 0;
            for (uint32_t k = 0; k < a->shape.depth; k++, row += m->a_step, column += m->b_step) {
                sum += (*row - a_zero) * (*column + b_offset);
            }
            *output++ = (int8_t)ml_finish(&a->quantized, sum, &a->multiplier);
        }
    }
    return (uint8_t *)output;
}

int32_t ml_batch_matmul_s8(const void *args, void *const *operands) {
    const ml_batch_matmul_s8_args *a = args;
    return each_pair(&a->shape, args, operands, 1, product_s8);
}

ml_status ml_batch_matmul_s16_check(const void *args, const ml_operand *operands) {
    const ml_batch_matmul_s8_args *a = args;
    return fits(&a->shape, operands, 2) ? ML_OK : ML_ERR_OPERAND;
}

static uint8_t *product_s16(const void *args, const matrices *m) {
    const ml_batch_matmul_s8_args *a = args;
    int16_t *output = (int16_t *)(void *)m->output;
    for (uint32_t i = 0; i < a->shape.rows; i++) {
        for (uint32_t j = 0; j < a->shape.columns; j++) {
            const int16_t *row = (const int16_t *)(const void *)m->a + i * m->a_row;
            const int16_t *column = (const int16_t *)(const void *)m->b + j * m->b_column;
            int64_t sum = 0;
            for (uint32_t k = 0; k < a->shape.depth; k++, row += m->a_step, column += m->b_step) {
                sum += *row * *column;
            }
            *output++ = ml_finish_s16(&a->quantized, sum, &a->multiplier);
        }
    }
    return (uint8_t *)output;
}

int32_t ml_batch_matmul_s16(const void *args, void *const *operands) {
    const ml_batch_matmul_s8_args *a = args;
    return each_pair(&a->shape, args, operands, 2, product_s16);
}

ml_status ml_batch_matmul_f32_check(const void *args, const ml_operand *operands) {
    const ml_batch_matmul_f32_args *a = args;
    return fits(&a->shape, operands, 4) ? ML_OK : ML_ERR_OPERAND;
}

static uint8_t *product_f32(const void *args, const matrices *m) {
    const ml_batch_matmul_f32_args *a = args;
    float *output = (float *)(void *)m->output;
    for (uint32_t i = 0; i < a->shape.rows; i++) {
        for (uint32_t j = 0; j < a->shape.columns; j++) {
            const float *row = (const float *)(const void *)m->a + i * m->a_row;
            const float *column = (const float *)(const void *)m->b + j * m->b_column;
            float sum = 0.0f;
            for (uint32_t k = 0; k < a->shape.depth; k++, row += m->a_step, column += m->b_step) {
                sum += *row * *column;
            }
            *output++ = sum;
        }
    }
    return (uint8_t *)output;
}

int32_t ml_batch_matmul_f32(const void *args, void *const *operands) {
    const ml_batch_matmul_f32_args *a = args;
    return each_pair(&a->shape, args, operands, 4, product_f32);
}
