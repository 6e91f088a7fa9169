/* What stands around the Fourier transform of an audio front end: window_function output[row][i] = input[row][i] *
 * weights[i] / 2^shift, saturated; fft_auto_scale, a shift to the left as far as the largest magnitude allows; energy
 * output[bin] = re^2 + im^2 of input[bin][2], 0 outside [start, end). */
#include "bits.h"
#include "ml_kernels.h"

ml_status ml_window_function_s16_check(const void *args, const ml_operand *operands) {
    const ml_window_function_args *a = args;
    if (a->shift > 31) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 2, a->rows, a->size, 1, 1) && ml_holds(&operands[1], 2, a->size, 1, 1, 1) &&
                ml_holds(&operands[2], 2, a->rows, a->size, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_window_function_s16(const void *args, void *const *operands) {
    const ml_window_function_args *a = args;
    const int16_t *input = operands[0];
    const int16_t *weights = operands[1];
    int16_t *output = operands[2];
    for (uint32_t row = 0; row < a->rows; row++) {
        for (uint32_t i = 0; i < a->size; i++) {
            int32_t value = (*input++ * weights[i]) >> (a->shift & 31);
            *output++ = (int16_t)ml_clamp(value, INT16_MIN, INT16_MAX);
        }
    }
    return 0;
}

ml_status ml_fft_auto_scale_s16_check(const void *args, const ml_operand *operands) {
    const ml_fft_auto_scale_args *a = args;
    bool fits = ml_holds(&operands[0], 2, a->count, 1, 1, 1) && ml_holds(&operands[1], 2, a->count, 1, 1, 1) &&
                ml_holds(&operands[2], 4, 1, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

/* The largest magnitude. That of -32768 is -32768 again, as in tflite-micro: any number that follows is larger. */
static int16_t largest(const int16_t *input, uint32_t count) {
    int16_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (input[i] > most) {
            most = input[i];
        } else if (-input[i] > most) {
            most = (int16_t)-input[i];
        }
    }
    return most;
}

int32_t ml_fft_auto_scale_s16(const void *args, void *const *operands) {
    const ml_fft_auto_scale_args *a = args;
    const int16_t *input = operands[0];
    int16_t *output = operands[1];
    int32_t *scale_bits = operands[2];
    int16_t most = largest(input, a->count);
    uint32_t shift = most > 0 ? 15u - ml_bit_width((uint32_t)most) : 0;
    for (uint32_t i = 0; i < a->count; i++) {
        output[i] = (int16_t)(uint16_t)((uint32_t)input[i] << shift);
    }
    *scale_bits = (int32_t)shift;
    return 0;
}

ml_status ml_energy_s16_check(const void *args, const ml_operand *operands) {
    const ml_energy_args *a = args;
    if (a->start > a->end || a->end > a->bins) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(&operands[0], 4, a->end, 1, 1, 1) && ml_holds(&operands[1], 4, a->bins, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

int32_t ml_energy_s16(const void *args, void *const *operands) {
    const ml_energy_args *a = args;
    const int16_t *input = operands[0];
    uint32_t *output = operands[1];
    for (uint32_t bin = 0; bin < a->bins; bin++) {
        uint32_t energy = 0;
        if (bin >= a->start && bin < a->end) {
            int32_t re = input[2u * bin];
            int32_t im = input[2u * bin + 1u];
            energy = (uint32_t)(re * re) + (uint32_t)(im * im);
        }
        output[bin] = energy;
    }
    return 0;
}
