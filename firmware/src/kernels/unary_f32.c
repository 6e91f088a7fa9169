/* Functions of one float32. Those that share code share a kernel, so that an image holds no function it has no use for.
 */
#include "ml_kernels.h"
#include "ml_math.h"

static ml_status check(uint32_t count, const ml_operand *operands) {
    bool fits = ml_holds(&operands[0], 4, count, 1, 1, 1) && ml_holds(&operands[1], 4, count, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* Values of `operation`: the lists in sdk/ops/unary_f32.py. */
enum { ABS, NEG, SQUARE, FLOOR, CEIL, ROUND, HARD_SWISH };
enum { EXP, ELU, LOGISTIC, TANH };
enum { SIN, COS };
enum { SQRT, RSQRT };

/* To the nearest integer, ties to the even one. */
static float round_to_even(float x) {
    float y = ml_round_f32(x);
    float half = y * 0.5f;
    bool odd = half != ml_floor_f32(half);
    return (y - x == 0.5f || x - y == 0.5f) && odd ? x + (x - y) : y;
}

static float plain(uint32_t operation, float x) {
    switch (operation) {
    case ABS: return x < 0.0f ? -x : x;
    case NEG: return -x;
    case SQUARE: return x * x;
    case FLOOR: return ml_floor_f32(x);
    case CEIL: return ml_ceil_f32(x);
    case ROUND: return round_to_even(x);
    default: return x * ml_clamp_f32(x + 3.0f, 0.0f, 6.0f) / 6.0f;
    }
}

ml_status ml_plain_f32_check(const void *args, const ml_operand *operands) {
    const ml_unary_f32_args *a = args;
    return check(a->count, operands);
}

int32_t ml_plain_f32(const void *args, void *const *operands) {
    const ml_unary_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = plain(a->operation, input[i]);
    }
    return 0;
}

static float exponential(uint32_t operation, float x) {
    switch (operation) {
    case EXP: return ml_exp_f32(x);
    case ELU: return x < 0.0f ? ml_exp_minus_1_f32(x) : x;
    case LOGISTIC: return ml_logistic_f32(x);
    default: return ml_tanh_f32(x);
    }
}

ml_status ml_exponential_f32_check(const void *args, const ml_operand *operands) {
    const ml_unary_f32_args *a = args;
    return check(a->count, operands);
}

int32_t ml_exponential_f32(const void *args, void *const *operands) {
    const ml_unary_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = exponential(a->operation, input[i]);
    }
    return 0;
}

ml_status ml_logarithm_f32_check(const void *args, const ml_operand *operands) {
    const ml_unary_f32_args *a = args;
    return check(a->count, operands);
}

int32_t ml_logarithm_f32(const void *args, void *const *operands) {
    const ml_unary_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = ml_log_f32(input[i]);
    }
    return 0;
}

ml_status ml_sine_f32_check(const void *args, const ml_operand *operands) {
    const ml_unary_f32_args *a = args;
    return check(a->count, operands);
}

int32_t ml_sine_f32(const void *args, void *const *operands) {
    const ml_unary_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = a->operation == SIN ? ml_sin_f32(input[i]) : ml_cos_f32(input[i]);
    }
    return 0;
}

ml_status ml_root_f32_check(const void *args, const ml_operand *operands) {
    const ml_unary_f32_args *a = args;
    return check(a->count, operands);
}

int32_t ml_root_f32(const void *args, void *const *operands) {
    const ml_unary_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        float root = ml_sqrt_f32(input[i]);
        output[i] = a->operation == SQRT ? root : 1.0f / root;
    }
    return 0;
}

ml_status ml_relu_f32_check(const void *args, const ml_operand *operands) {
    const ml_relu_f32_args *a = args;
    return check(a->count, operands);
}

/* output = clamp(input > 0 ? input : slope * input). */
int32_t ml_relu_f32(const void *args, void *const *operands) {
    const ml_relu_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t i = 0; i < a->count; i++) {
        float x = input[i];
        output[i] = ml_clamp_f32(x > 0.0f ? x : x * a->slope, a->low, a->high);
    }
    return 0;
}
