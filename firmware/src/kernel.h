/* What a kernel is to the interpreter, and what kernels share. Internal: applications include microlith.h alone. */
#ifndef ML_KERNEL_H
#define ML_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "microlith.h"
#include "ml_program.h"

/* All that firmware uses of a C library; ports bring them (a bare toolchain has no <string.h>). */
void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

/* One kernel of this image. The interpreter has checked, before it calls `check`, that the arguments lie in the
 * program, and of each operand that it lies in its region, is aligned, and may be written if the kernel writes it.
 * `check` must refuse whatever would make `run` touch memory outside its operands; after that `run` trusts its
 * arguments. */
typedef struct ml_kernel {
    uint16_t number;
    uint16_t args_bytes;
    uint8_t operand_count;
    uint8_t reserved[3];
    /* Of each operand: the address bits that its alignment leaves no choice of (bits 0 to 2), and from ML_SLOT_REGIONS
     * on a bit for each region where it may lie; one that may be left out, and is then null, lies in ML_REGION_NONE. */
    uint8_t slots[ML_MAX_OPERANDS];
    ml_status (*check)(const void *args, const ml_operand *operands);
    /* 0 to go on, a negative ml_status, or 1 + the number of the step to go on with. */
    int32_t (*run)(const void *args, void *const *operands);
} ml_kernel;

/* The kernels of this image, by rising number, and one of the number UINT16_MAX that is not counted: kernel_table.c,
 * made from the build's kernels.def. */
extern const ml_kernel ml_kernels[];
extern const uint32_t ml_kernel_count;

/* Always expanded where it is called, so that arguments which are constants there make a specialised copy. */
#define ML_INLINE static inline __attribute__((always_inline))

/* Multiplies; where the product has more than 32 bits, true is returned or the result is UINT32_MAX. */
#if defined(__thumb__) && !defined(__thumb2__)
/* These cores multiply 64 bits in a call of some 40 instructions. */
uint32_t ml_times_wide(uint32_t a, uint32_t b);

static inline bool ml_times(uint32_t a, uint32_t b, uint32_t *result) {
    *result = ((a | b) >> 16) == 0 ? a * b : ml_times_wide(a, b);
    return false;
}
#else
#define ml_times __builtin_mul_overflow
#endif

/* The product, UINT32_MAX where it is not smaller. */
static inline uint32_t ml_product(uint32_t a, uint32_t b) {
    uint32_t result;
    return ml_times(a, b, &result) ? UINT32_MAX : result;
}

bool ml_holds_block(const ml_operand *operand, uint32_t element_bytes, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
bool ml_holds_table(const ml_operand *operand, uint32_t element_bytes, uint32_t a, uint32_t b);

/* Whether `operand` holds a*b*c*d elements of `element_bytes` each. Safe against overflow. */
ML_INLINE bool ml_holds(const ml_operand *operand, uint32_t element_bytes, uint32_t a, uint32_t b, uint32_t c,
                        uint32_t d) {
    if (__builtin_constant_p(element_bytes) && __builtin_constant_p(b * c * d) && b * c * d == 1u) {
        /* A few instructions, instead of a call with six arguments. */
        return (element_bytes & (element_bytes - 1u)) == 0
                   ? a <= operand->bytes / element_bytes
                   : a <= UINT32_MAX / element_bytes && a * element_bytes <= operand->bytes;
    }
    if (__builtin_constant_p(c * d) && c * d == 1u) {
        return ml_holds_table(operand, element_bytes, a, b);
    }
    return ml_holds_block(operand, element_bytes, a, b, c, d);
}

#define ML_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ML_MAX(a, b) ((a) > (b) ? (a) : (b))

static inline int32_t ml_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

static inline float ml_clamp_f32(float value, float low, float high) {
    return value < low ? low : value > high ? high : value;
}

/* Rounds x * multiplier / 2^31 to the nearest, ties up: gemmlowp's SaturatingRoundingDoublingHighMul, whose truncating
 * division with a sign-dependent nudge comes to the same. `multiplier` is never -2^31, so nothing saturates. */
static inline int32_t ml_high_mul(int32_t x, int32_t multiplier) {
    return (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
}

/* Rounds x / 2^exponent to the nearest, ties away from zero (gemmlowp's RoundingDivideByPOT); exponent 0 to 31. */
static inline int32_t ml_round_shift(int32_t x, int32_t exponent) {
    int32_t mask = (int32_t)((1u << (exponent & 31)) - 1u);
    int32_t remainder = x & mask;
    int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> (exponent & 31)) + (remainder > threshold);
}

/* x * multiplier * 2^(shift - 31), rounded twice as TensorFlow Lite's MultiplyByQuantizedMultiplier does. */
static inline int32_t ml_requantize(int32_t x, int32_t multiplier, int32_t shift) {
    int32_t left = shift > 0 ? shift : 0;
    int32_t scaled = (int32_t)((uint32_t)x << (left & 31));
    /* left - shift, the shift to the right, without a second case to tell apart. */
    return ml_round_shift(ml_high_mul(scaled, multiplier), left - shift);
}

/* x * multiplier / 2^shift to the nearest, ties up: the form of MultiplyByQuantizedMultiplier for 64-bit sums, its
 * multiplier shortened to 16 bits on the host; shift 1 to 63. */
static inline int32_t ml_requantize_s64(int64_t x, int32_t multiplier, int32_t shift) {
    int64_t half = (int64_t)1 << ((shift - 1) & 63);
    return (int32_t)((x * multiplier + half) >> (shift & 63));
}

#endif
