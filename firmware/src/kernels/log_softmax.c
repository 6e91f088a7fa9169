/* LOG_SOFTMAX over the last dimension: output = x - max - ln(sum of exp(x - max)). Layout: [rows][depth]. */
#include "ml_kernels.h"
#include "ml_math.h"
#include "reciprocal.h"

#define SUM_BITS 12 /* integer bits of the sum of exponentials */
#define LOG_BITS 5 /* integer bits of its logarithm, and of scaled differences */
#define OUTPUT_BITS 4

static int32_t saturating_add(int32_t a, int32_t b) {
    int64_t sum = (int64_t)a + b;
    return sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : (int32_t)sum;
}

/* 2^bits in the accumulator's format, which has one integer bit more than the result. */
static int32_t accumulated(int32_t bits) { return ml_saturating_shift(bits, 31 - LOG_BITS - 1); }

/* ln x in Q5.26 for x >= 1 in Q12.19. x is 2^n z with z around sqrt(sqrt(1/2)), either directly or after a factor of
 * sqrt(1/2), whichever is nearer; ln z is a quotient of polynomials. Constants and order of operations are those of
 * TensorFlow Lite's log_x_for_x_greater_than_or_equal_to_1 (kernels/internal/common.h). */
static int32_t log_of_sum(int32_t x) {
    const int32_t log_2 = 1488522236, root_half = 1518500250, root_root_half = 1805811301;
    const int32_t alpha_n = 117049297, alpha_d = 127690142, alpha_i = 1057819769, alpha_f = 638450708;
    const int32_t quarter = 1 << (31 - LOG_BITS - 1 - 2);
    uint32_t zeros_a = ml_leading_zeros((uint32_t)x);
    int32_t mantissa_a = ml_saturating_shift(ml_high_mul(ml_saturating_shift(x, zeros_a - 1u), root_half), 1);
    int32_t power_a = saturating_add(accumulated(SUM_BITS - (int32_t)zeros_a), quarter);
    uint32_t headroom_b = ml_leading_zeros((uint32_t)ml_high_mul(x, root_half)) - 1u;
    int32_t mantissa_b = ml_saturating_shift(x, headroom_b);
    int32_t power_b = saturating_add(accumulated(SUM_BITS - (int32_t)headroom_b), -quarter);
    int32_t r = ML_MIN(mantissa_a, mantissa_b);
    int32_t power = ML_MAX(power_a, power_b);
    int64_t twice_mean = (int64_t)r + root_root_half;
    int32_t p = (int32_t)((twice_mean + (twice_mean >= 0 ? 1 : -1)) / 2);
    int32_t q = 2 * (r - root_root_half);
    int32_t square = ml_high_mul(q, q);
    int32_t numerator = ml_high_mul(q, r) + ml_high_mul(ml_high_mul(q, square), alpha_n);
    int32_t denominator = ml_high_mul(p, alpha_i + q + ml_high_mul(alpha_d, square)) + ml_high_mul(alpha_f, q);
    int32_t rest = ml_high_mul(ml_round_shift(numerator, LOG_BITS + 1), ml_reciprocal_of_one_plus(denominator));
    return ml_saturating_shift(ml_high_mul(power, log_2) + rest, 1);
}

ml_status ml_log_softmax_s8_check(const void *args, const ml_operand *operands) {
    const ml_log_softmax_s8_args *a = args;
    bool fits = ml_holds(&operands[0], 1, a->rows, a->depth, 1, 1) && ml_holds(&operands[1], 4, a->entries, 1, 1, 1) &&
                ml_holds(&operands[2], 1, a->rows, a->depth, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_log_softmax_s8(const void *args, void *const *operands) {
    const ml_log_softmax_s8_args *a = args;
    const int8_t *input = operands[0];
    const int32_t *table = operands[1];
    int8_t *output = operands[2];
    for (uint32_t row = 0; row < a->rows; row++, input += a->depth, output += a->depth) {
        int32_t most = INT8_MIN;
        for (uint32_t i = 0; i < a->depth; i++) {
            most = ML_MAX(most, input[i]);
        }
        int32_t sum = 0;
        for (uint32_t i = 0; i < a->depth; i++) {
            uint32_t below = (uint32_t)(most - input[i]);
            sum += below < a->entries ? ml_round_shift(table[below], SUM_BITS) : 0;
        }
        int32_t log_sum = log_of_sum(ML_MAX(sum, 1));
        int32_t least = ml_requantize(log_sum + INT32_MIN, a->reverse_multiplier, a->reverse_shift);
        least = ML_MAX(least, -(int32_t)a->entries);
        for (uint32_t i = 0; i < a->depth; i++) {
            int32_t difference = input[i] - most;
            int32_t y = INT8_MIN;
            if (difference > least) {
                int32_t scaled = ml_requantize(difference, a->multiplier, a->shift) - log_sum;
                y = ml_round_shift(scaled, 31 - LOG_BITS - OUTPUT_BITS) + INT8_MAX;
            }
            output[i] = (int8_t)ml_clamp(y, INT8_MIN, INT8_MAX);
        }
    }
    return 0;
}

ml_status ml_log_softmax_f32_check(const void *args, const ml_operand *operands) {
    const ml_log_softmax_f32_args *a = args;
    bool fits =
        ml_holds(&operands[0], 4, a->rows, a->depth, 1, 1) && ml_holds(&operands[1], 4, a->rows, a->depth, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_log_softmax_f32(const void *args, void *const *operands) {
    const ml_log_softmax_f32_args *a = args;
    const float *input = operands[0];
    float *output = operands[1];
    for (uint32_t row = 0; row < a->rows && a->depth != 0; row++, input += a->depth, output += a->depth) {
        float most = input[0];
        for (uint32_t i = 1; i < a->depth; i++) {
            most = ML_MAX(most, input[i]);
        }
        float sum = 0.0f;
        for (uint32_t i = 0; i < a->depth; i++) {
            sum += ml_exp_f32(input[i] - most);
        }
        float log_sum = ml_log_f32(sum);
        for (uint32_t i = 0; i < a->depth; i++) {
            output[i] = input[i] - most - log_sum;
        }
    }
    return 0;
}
