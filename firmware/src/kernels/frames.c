/* Signals in pieces, each with what it needs of the past in its state. framer: frames that overlap, of samples that
 * come in steps (and a delay: a frame as long as its step, out of the past); stacker: the newest row of features with
 * its neighbours; overlap_add: the way back from frames to samples. */
#include "ml_kernels.h"

/* Copies `count` samples, from `start` on, of a signal whose first `past_count` lie in `past` and the rest in `next`.
 */
static void copy_span(int16_t *to, const int16_t *past, uint32_t past_count, const int16_t *next, uint32_t start,
                      uint32_t count) {
    uint32_t old = start < past_count ? ML_MIN(past_count - start, count) : 0;
    if (old != 0) {
        memmove(to, past + start, old * sizeof *to);
    }
    if (count != old) {
        memmove(to + old, next + (start + old - past_count), (count - old) * sizeof *to);
    }
}

ml_status ml_framer_s16_check(const void *args, const ml_operand *operands) {
    const ml_framer_args *a = args;
    bool fits = ml_holds(&operands[0], 2, a->rows, a->frames, a->step, 1) &&
                ml_holds(&operands[1], 2, a->rows, a->frames, a->size, 1) &&
                (operands[2].ref == 0 || ml_holds(&operands[2], 1, 1, 1, 1, 1)) &&
                ml_holds(&operands[3], 2, a->past, a->rows, 1, 1) &&
                (operands[4].ref == 0 || ml_holds(&operands[4], 4, 1, 1, 1, 1));
    /* The last frame ends where the signal does, or before. */
    bool inside = a->size <= a->step || a->size - a->step <= a->past;
    return !inside ? ML_ERR_ARGUMENT : fits ? ML_OK : ML_ERR_OPERAND;
}

/* Each row's signal is its past and then the input; frame i begins at sample i * step of it. The first `missing` frames
 * of all are not made. */
int32_t ml_framer_s16(const void *args, void *const *operands) {
    const ml_framer_args *a = args;
    const int16_t *input = operands[0];
    int16_t *output = operands[1];
    uint8_t *valid = operands[2];
    int16_t *past = operands[3];
    uint32_t *missing = operands[4];
    const uint32_t skipped = missing != NULL ? ML_MIN(*missing, a->frames) : 0;
    const uint32_t samples = a->frames * a->step;
    for (uint32_t row = 0; row < a->rows; row++, input += samples, past += a->past, output += a->frames * a->size) {
        for (uint32_t i = skipped; i < a->frames; i++) {
            copy_span(output + i * a->size, past, a->past, input, i * a->step, a->size);
        }
        copy_span(past, past, a->past, input, samples, a->past);
    }
    if (valid != NULL) {
        *valid = skipped == 0;
    }
    if (missing != NULL) {
        *missing -= skipped;
    }
    return 0;
}

ml_status ml_stacker_s16_check(const void *args, const ml_operand *operands) {
    const ml_stacker_args *a = args;
    /* `past` may be 0, as a first factor alone. */
    bool fits = ml_holds(&operands[0], 2, a->size, 1, 1, 1) && ml_holds(&operands[2], 1, 1, 1, 1, 1) &&
                ml_holds(&operands[3], 2, a->past, a->size, 1, 1) && ml_holds(&operands[4], 4, 2, 1, 1, 1) &&
                a->size != 0 && ml_holds(&operands[1], 2, a->past + 1u, a->size, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* The first row is its own past. A stack is made whenever the countdown, clock[0], is over, then every `step` rows. */
int32_t ml_stacker_s16(const void *args, void *const *operands) {
    const ml_stacker_args *a = args;
    const int16_t *input = operands[0];
    uint8_t *valid = operands[2];
    int16_t *past = operands[3];
    uint32_t *clock = operands[4];
    const uint32_t count = a->past * a->size;
    for (uint32_t i = 0; clock[1] == 0 && i < a->past; i++) {
        memmove(past + i * a->size, input, a->size * sizeof *past);
    }
    clock[1] = 1;
    *valid = clock[0] == 0;
    if (clock[0] == 0) {
        copy_span(operands[1], past, count, input, 0, count + a->size);
        clock[0] = a->step;
    }
    clock[0]--;
    copy_span(past, past, count, input, a->size, count);
    return 0;
}

static ml_status check_overlap(const ml_overlap_add_args *a, const ml_operand *operands, uint32_t bytes) {
    if (a->step > a->size) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], bytes, a->rows, a->frames, a->size, 1) &&
                ml_holds(&operands[1], bytes, a->rows, a->frames, a->step, 1) &&
                ml_holds(&operands[2], bytes, a->rows, a->size, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* The state of each row, [size], has the sums that more frames will add to. */
#define OVERLAP_ADD(type, sum)                                                                      \
    const ml_overlap_add_args *a = args;                                                            \
    const type *input = operands[0];                                                                \
    type *output = operands[1];                                                                     \
    type *state = operands[2];                                                                      \
    for (uint32_t row = 0; row < a->rows; row++, state += a->size) {                                \
        for (uint32_t frame = 0; frame < a->frames; frame++, input += a->size, output += a->step) { \
            for (uint32_t i = 0; i < a->size; i++) {                                                \
                *(i < a->step ? &output[i] : &state[i - a->step]) = sum;                            \
            }                                                                                       \
            memset(state + (a->size - a->step), 0, a->step * sizeof *state);                        \
        }                                                                                           \
    }                                                                                               \
    return 0

ml_status ml_overlap_add_s16_check(const void *args, const ml_operand *operands) {
    return check_overlap(args, operands, 2);
}

int32_t ml_overlap_add_s16(const void *args, void *const *operands) {
    OVERLAP_ADD(int16_t, (int16_t)ml_clamp(state[i] + input[i], INT16_MIN, INT16_MAX));
}

ml_status ml_overlap_add_f32_check(const void *args, const ml_operand *operands) {
    return check_overlap(args, operands, 4);
}

int32_t ml_overlap_add_f32(const void *args, void *const *operands) { OVERLAP_ADD(float, state[i] + input[i]); }
