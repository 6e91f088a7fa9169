/* The Fourier transform of rows of real numbers and its inverse. A row of 2 * points numbers is taken as `points`
 * complex ones, even numbers and odd ones; mixed radices of 2 to 5, decimation in time, then one more step that
 * separates the two halves. Layouts: rfft input [rows][length], padded with zeros, output [rows][points + 1][2]; irfft
 * the other way round, its length being 2 * points. */
#include "ml_kernels.h"

#define STAGES 16u

static uint32_t stage_count(const ml_fft_args *a) {
    uint32_t count = 0;
    while (count < STAGES && a->radices[count] != 0) {
        count++;
    }
    return count;
}

/* The order of points before the first stage: their number's digits, in the base of the radices, are turned round. */
typedef struct order {
    uint32_t point;
    uint32_t stages;
    uint32_t step[STAGES]; /* product of the radices before */
    uint8_t digit[STAGES];
} order;

static void start_order(order *at, const ml_fft_args *a) {
    uint32_t step = 1;
    at->stages = stage_count(a);
    for (uint32_t stage = 0; stage < at->stages; stage++) {
        at->step[stage] = step;
        step *= a->radices[stage];
    }
}

static void next_point(order *at, const ml_fft_args *a) {
    for (uint32_t stage = at->stages; stage-- > 0;) {
        at->point += at->step[stage];
        if (++at->digit[stage] < a->radices[stage]) {
            return;
        }
        at->point -= at->step[stage] * a->radices[stage];
        at->digit[stage] = 0;
    }
}

#define ELEMENT int16_t
#define WIDE int32_t
#define FRACTION 15
#define NAME(x) x##_s16
#include "fft_stages.h"
#undef ELEMENT
#undef WIDE
#undef FRACTION
#undef NAME

#define ELEMENT int32_t
#define WIDE int64_t
#define FRACTION 31
#define NAME(x) x##_s32
#include "fft_stages.h"
#undef ELEMENT
#undef WIDE
#undef FRACTION
#undef NAME

#define ELEMENT float
#define WIDE float
#define NAME(x) x##_f32
#include "fft_stages.h"

/* The largest of the radices, whose product must be `points`; 0 if it is not, or if there is none. */
static uint32_t largest_radix(const ml_fft_args *a) {
    uint32_t product = 1;
    uint32_t largest = 0;
    for (uint32_t stage = 0; stage < stage_count(a); stage++) {
        uint32_t radix = a->radices[stage];
        if (radix < 2 || radix > 5 || product > a->points / radix) {
            return 0;
        }
        product *= radix;
        largest = ML_MAX(largest, radix);
    }
    return product == a->points ? largest : 0;
}

/* Common to both ways: a real row of `length` and a complex one, and the tables. No stage of radix r uses a twiddle
 * from points * (r - 1) / r on. */
static ml_status check(const ml_fft_args *a, const ml_operand *operands, const ml_operand *real,
                       const ml_operand *complex, uint32_t bytes) {
    uint32_t largest = largest_radix(a);
    if (largest == 0 || a->points > INT32_MAX / 2) {
        return ML_ERR_ARGUMENT;
    }
    bool fits = ml_holds(real, bytes, a->rows, a->length, 1, 1) &&
                ml_holds(complex, 2 * bytes, a->points + 1, a->rows, 1, 1) &&
                ml_holds(&operands[2], 2 * bytes, a->points - a->points / largest, 1, 1, 1) &&
                ml_holds(&operands[3], 2 * bytes, a->points / 2, 1, 1, 1);
    return fits ? ML_OK : ML_ERR_OPERAND;
}

static ml_status check_rfft(const ml_fft_args *a, const ml_operand *operands, uint32_t bytes) {
    return check(a, operands, &operands[0], &operands[1], bytes);
}

static ml_status check_irfft(const ml_fft_args *a, const ml_operand *operands, uint32_t bytes) {
    ml_status status = check(a, operands, &operands[1], &operands[0], bytes);
    if (status == ML_OK && a->length != 2 * a->points) {
        return ML_ERR_ARGUMENT;
    }
    return status == ML_OK && !ml_holds(&operands[4], 2 * bytes, a->points, 1, 1, 1) ? ML_ERR_OPERAND : status;
}

ml_status ml_rfft_s16_check(const void *args, const ml_operand *operands) { return check_rfft(args, operands, 2); }

int32_t ml_rfft_s16(const void *args, void *const *operands) {
    rfft_s16(args, operands);
    return 0;
}

ml_status ml_rfft_s32_check(const void *args, const ml_operand *operands) { return check_rfft(args, operands, 4); }

int32_t ml_rfft_s32(const void *args, void *const *operands) {
    rfft_s32(args, operands);
    return 0;
}

ml_status ml_rfft_f32_check(const void *args, const ml_operand *operands) { return check_rfft(args, operands, 4); }

int32_t ml_rfft_f32(const void *args, void *const *operands) {
    rfft_f32(args, operands);
    return 0;
}

ml_status ml_irfft_s16_check(const void *args, const ml_operand *operands) { return check_irfft(args, operands, 2); }

int32_t ml_irfft_s16(const void *args, void *const *operands) {
    irfft_s16(args, operands);
    return 0;
}

ml_status ml_irfft_s32_check(const void *args, const ml_operand *operands) { return check_irfft(args, operands, 4); }

int32_t ml_irfft_s32(const void *args, void *const *operands) {
    irfft_s32(args, operands);
    return 0;
}

ml_status ml_irfft_f32_check(const void *args, const ml_operand *operands) { return check_irfft(args, operands, 4); }

int32_t ml_irfft_f32(const void *args, void *const *operands) {
    const ml_fft_args *a = args;
    float *output = operands[1];
    irfft_f32(a, operands);
    const float length = (float)a->length;
    for (uint32_t i = 0; i < a->rows * a->length; i++) {
        output[i] /= length;
    }
    return 0;
}
