/* DIV, FLOOR_DIV and FLOOR_MOD. A division of integers by zero, which the oracle does not define, gives 0. */
#include "elements.h"
#include "ml_kernels.h"
#include "ml_math.h"
#include "reciprocal.h"
#include "walk.h"

static const uint8_t bytes_1[] = {1, 1, 1};
static const uint8_t bytes_4[] = {4, 4, 4};

/* Values of `operation`: sdk/ops/divide.py. */
enum { QUOTIENT, FLOOR_QUOTIENT, FLOOR_REMAINDER };

static void row_f32(const void *args, const ml_row *row) {
    const ml_divide_f32_args *p = args;
    const float *in_a = row->in[0], *in_b = row->in[1];
    float *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, in_a += row->step[0], in_b += row->step[1]) {
        float a = *in_a, b = *in_b;
        if (p->operation == QUOTIENT) {
            out[i] = ml_clamp_f32(a / b, p->low, p->high);
            continue;
        }
        float rest = ml_fmod_f32(a, b);
        rest += rest != 0.0f && (b < 0.0f) != (rest < 0.0f) ? b : 0.0f;
        /* a - rest is a multiple of b but for one rounding. */
        out[i] = p->operation == FLOOR_REMAINDER ? rest : b == 0.0f ? a / b : ml_round_f32((a - rest) / b);
    }
}

ml_status ml_divide_f32_check(const void *args, const ml_operand *operands) {
    const ml_divide_f32_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_4, operands);
}

int32_t ml_divide_f32(const void *args, void *const *operands) {
    const ml_divide_f32_args *a = args;
    ml_walk(a->shape, 2, bytes_4, args, operands, row_f32);
    return 0;
}

static int32_t divide(uint32_t operation, int32_t a, int32_t b) {
    if (b == 0 || b == -1) {
        /* The quotient of the least int32 and -1 is none. */
        return operation == FLOOR_REMAINDER || b == 0 ? 0 : -a;
    }
    int32_t quotient = a / b;
    int32_t rest = a - quotient * b;
    bool below = operation != QUOTIENT && rest != 0 && (rest < 0) != (b < 0);
    return operation == FLOOR_REMAINDER ? rest + (below ? b : 0) : quotient - below;
}

static void row_s32(const void *args, const ml_row *row) {
    const ml_divide_s32_args *p = args;
    const int32_t *in_a = row->in[0], *in_b = row->in[1];
    int32_t *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, in_a += row->step[0], in_b += row->step[1]) {
        out[i] = ml_clamp(divide(p->operation, *in_a, *in_b), p->low, p->high);
    }
}

ml_status ml_divide_s32_check(const void *args, const ml_operand *operands) {
    const ml_divide_s32_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_4, operands);
}

int32_t ml_divide_s32(const void *args, void *const *operands) {
    const ml_divide_s32_args *a = args;
    ml_walk(a->shape, 2, bytes_4, args, operands, row_s32);
    return 0;
}

/* a / b by the reciprocal of b, both with all the bits they can have, then at the output's scale. */
static int32_t quotient_s8(const ml_div_s8_args *p, int32_t a, int32_t b) {
    if (b < 0) {
        a = -a;
        b = -b;
    }
    uint32_t zeros;
    int32_t reciprocal = ml_reciprocal((uint32_t)b, &zeros);
    uint32_t headroom = ml_leading_zeros((uint32_t)(a < 0 ? ~a : a)) - 1u;
    int32_t quotient = ml_high_mul((int32_t)((uint32_t)a << (headroom & 31u)), reciprocal);
    int32_t right = 31 - (int32_t)zeros + (int32_t)headroom - p->shift;
    /* Where nothing is left the oracle shifts by more than 31, which C++ does not define. */
    return right > 31 ? 0 : ml_round_shift(ml_high_mul(quotient, p->multiplier), right);
}

static void row_s8(const void *args, const ml_row *row) {
    const ml_div_s8_args *p = args;
    const int8_t *in_a = row->in[0], *in_b = row->in[1];
    int8_t *out = row->out;
    for (uint32_t i = 0; i < row->count; i++, in_a += row->step[0], in_b += row->step[1]) {
        int32_t y = quotient_s8(p, *in_a + p->offset_a, *in_b + p->offset_b) + p->offset;
        out[i] = (int8_t)ml_clamp(y, p->low, p->high);
    }
}

ml_status ml_div_s8_check(const void *args, const ml_operand *operands) {
    const ml_div_s8_args *a = args;
    return ml_walk_check(a->shape, 2, bytes_1, operands);
}

int32_t ml_div_s8(const void *args, void *const *operands) {
    const ml_div_s8_args *a = args;
    ml_walk(a->shape, 2, bytes_1, args, operands, row_s8);
    return 0;
}
