/* Instructions of Cortex-M4 and later on pairs of halfwords, and the same in plain C, which other cores run in tests.
 */
#ifndef ML_SIMD_H
#define ML_SIMD_H

#include "../../kernel.h"

/* Four bytes, wherever they lie. */
static inline uint32_t ml_load_word(const void *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

static inline void ml_store_word(void *bytes, uint32_t word) { __builtin_memcpy(bytes, &word, sizeof word); }

#ifdef __ARM_FEATURE_DSP
#define ML_SIMD(type, text, plain, ...)         \
    type result;                                \
    __asm__(text : "=r"(result) : __VA_ARGS__); \
    return result
#else
#define ML_SIMD(type, text, plain, ...) return (type)(plain)
#endif
#define COMMON_SHIFT 12 /* of sums, for layers whose channels allow the same: an instruction less an output */
#define ML_TEXT(number) ML_TEXT_OF(number)
#define ML_TEXT_OF(number) #number
/* Loops in assembler of 4, 8 or 16 times a body, from label 2 to 10 or beyond, and the table of where to enter them,
 * for none to all of the bodies that the first round is to do. Label 10 is behind the loop. */
#define ML_FOUR(body) "2:" body "3:" body "4:" body "5:" body
#define ML_EIGHT(body) ML_FOUR(body) "6:" body "7:" body "8:" body "9:" body
#define ML_SIXTEEN(body) \
    ML_EIGHT(body) "13:" body "14:" body "15:" body "16:" body "17:" body "18:" body "19:" body "20:" body
#define ML_ENTRIES_4 ".word 10f + 1, 5f + 1, 4f + 1, 3f + 1, 2f + 1\n"
#define ML_ENTRIES_8 ".word 10f + 1, 9f + 1, 8f + 1, 7f + 1, 6f + 1, 5f + 1, 4f + 1, 3f + 1, 2f + 1\n"
#define ML_ENTRIES_16                                                                                 \
    ".word 10f + 1, 20f + 1, 19f + 1, 18f + 1, 17f + 1, 16f + 1, 15f + 1, 14f + 1, 13f + 1, 9f + 1, " \
    "8f + 1, 7f + 1, 6f + 1, 5f + 1, 4f + 1, 3f + 1, 2f + 1\n"
/* How many the first round does of `count`, of which the others do `unrolled` each. */
#define ML_FIRST_ROUND(count, unrolled) ((count) != 0 ? (((count)-1u) & ((unrolled)-1u)) + 1u : 0u)
#define ML_LOWER(word) ((int16_t)(word))
#define ML_UPPER(word) ((int32_t)(word) >> 16)

/* c and both products of halves. */
static inline int32_t ml_smlad(uint32_t a, uint32_t b, int32_t c) {
    ML_SIMD(int32_t, "smlad %0, %1, %2, %3", c + ML_LOWER(a) * ML_LOWER(b) + ML_UPPER(a) * ML_UPPER(b), "r"(a), "r"(b),
            "r"(c));
}

/* c + lower half of a * upper half of b. */
static inline int32_t ml_smlabt(uint32_t a, uint32_t b, int32_t c) {
    ML_SIMD(int32_t, "smlabt %0, %1, %2, %3", c + ML_LOWER(a) * ML_UPPER(b), "r"(a), "r"(b), "r"(c));
}

/* c + the product of the lower halves; of the upper halves. */
static inline int32_t ml_smlabb(uint32_t a, uint32_t b, int32_t c) {
    ML_SIMD(int32_t, "smlabb %0, %1, %2, %3", c + ML_LOWER(a) * ML_LOWER(b), "r"(a), "r"(b), "r"(c));
}

static inline int32_t ml_smlatt(uint32_t a, uint32_t b, int32_t c) {
    ML_SIMD(int32_t, "smlatt %0, %1, %2, %3", c + ML_UPPER(a) * ML_UPPER(b), "r"(a), "r"(b), "r"(c));
}

/* c + a * b / 2^32, to the nearest, ties up. */
static inline int32_t ml_smmlar(int32_t a, int32_t b, int32_t c) {
    ML_SIMD(int32_t, "smmlar %0, %1, %2, %3", c + (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32), "r"(a),
            "r"(b), "r"(c));
}

/* c + a * b / 2^32, rounded down. */
static inline int32_t ml_smmla(int32_t a, int32_t b, int32_t c) {
    ML_SIMD(int32_t, "smmla %0, %1, %2, %3", c + (int32_t)(((int64_t)a * b) >> 32), "r"(a), "r"(b), "r"(c));
}

/* Sums and differences of halves. */
static inline uint32_t ml_add_halves(uint32_t a, uint32_t b) {
    ML_SIMD(uint32_t, "sadd16 %0, %1, %2", (uint16_t)(a + b) | ((a >> 16) + (b >> 16)) << 16, "r"(a), "r"(b));
}

static inline uint32_t ml_sub_halves(uint32_t a, uint32_t b) {
    ML_SIMD(uint32_t, "ssub16 %0, %1, %2", (uint16_t)(a - b) | ((a >> 16) - (b >> 16)) << 16, "r"(a), "r"(b));
}

/* The lower halves of a and b in one word, that of a below; the upper halves. */
static inline uint32_t ml_lower_halves(uint32_t a, uint32_t b) {
    ML_SIMD(uint32_t, "pkhbt %0, %1, %2, lsl #16", (a & 0xFFFFu) | b << 16, "r"(a), "r"(b));
}

static inline uint32_t ml_upper_halves(uint32_t a, uint32_t b) {
    ML_SIMD(uint32_t, "pkhtb %0, %2, %1, asr #16", a >> 16 | (b & 0xFFFF0000u), "r"(a), "r"(b));
}

/* Bytes 0 and 2 as int16 in one word; bytes 1 and 3. */
static inline uint32_t ml_even_bytes(uint32_t a) {
    ML_SIMD(uint32_t, "sxtb16 %0, %1", (uint16_t)(int8_t)a | (uint32_t)(int8_t)(a >> 16) << 16, "r"(a));
}

static inline uint32_t ml_odd_bytes(uint32_t a) {
    ML_SIMD(uint32_t, "sxtb16 %0, %1, ror #8", (uint16_t)(int8_t)(a >> 8) | (uint32_t)(int8_t)(a >> 24) << 16, "r"(a));
}

/* Clamped to int8. */
static inline int32_t ml_saturate_s8(int32_t a) {
    ML_SIMD(int32_t, "ssat %0, #8, %1", ml_clamp(a, INT8_MIN, INT8_MAX), "r"(a));
}

#ifdef __OPTIMIZE_SIZE__
#define SMALL true /* an image: byte by byte */
#else
#define SMALL false
#endif

/* Set and copy `count` bytes, most often so few that a call would cost more. A hostile program's scratch may overlap
 * its input. */
static inline void fill(int8_t *to, int8_t value, uint32_t count) {
    uint32_t word = (uint8_t)value * 0x01010101u, i = 0;
    for (; !SMALL && i + 4 <= count; i += 4) {
        ml_store_word(to + i, word);
    }
    for (; i < count; i++) {
        to[i] = value;
    }
}

static inline void copy(int8_t *to, const int8_t *from, uint32_t count) {
    uint32_t i = 0;
    for (; !SMALL && i + 4 <= count; i += 4) {
        ml_store_word(to + i, ml_load_word(from + i));
    }
    for (; i < count; i++) {
        to[i] = from[i];
    }
}

#endif
