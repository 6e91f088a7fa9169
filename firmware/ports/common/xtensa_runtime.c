/* What clang calls on an Xtensa core where gcc has libgcc: there is no such library for the windowed calling convention
 * but the vendor's. Division of floats rounds to nearest, ties to even. Compiles to nothing elsewhere. */
#if defined(__XTENSA__) && defined(__clang__)

#include <stdint.h>

typedef union float_bits {
    float value;
    uint32_t word;
} float_bits;

#define SIGN 0x80000000u
#define INFINITE 0x7F800000u
#define NOT_A_NUMBER 0x7FC00000u
#define HIDDEN 0x00800000u /* the highest bit of a mantissa, which is not stored */

_Noreturn void abort(void);
uint64_t __muldi3(uint64_t a, uint64_t b);
uint32_t __udivsi3(uint32_t a, uint32_t b);
uint32_t __umodsi3(uint32_t a, uint32_t b);
int32_t __divsi3(int32_t a, int32_t b);
int32_t __modsi3(int32_t a, int32_t b);
float __divsf3(float a, float b);
uint64_t __fixunssfdi(float a);
int64_t __fixsfdi(float a);
float __floatundisf(uint64_t a);
float __floatdisf(int64_t a);

/* What __builtin_trap calls. */
_Noreturn void abort(void) {
    for (;;) __asm__ volatile("ill");
}

/* The empty asm keeps the compiler from making a call to __muldi3 of this. */
static inline uint64_t wide(uint32_t a, uint32_t b) {
    const uint32_t a0 = a & 0xFFFFu, a1 = a >> 16, b0 = b & 0xFFFFu, b1 = b >> 16;
    uint32_t low = a0 * b0;
    __asm__("" : "+r"(low));
    const uint32_t cross = a1 * b0, middle = a0 * b1 + (low >> 16) + (cross & 0xFFFFu);
    return (uint64_t)(a1 * b1 + (cross >> 16) + (middle >> 16)) << 32 | (middle << 16 | (low & 0xFFFFu));
}

uint64_t __muldi3(uint64_t a, uint64_t b) {
    const uint32_t cross = (uint32_t)(a >> 32) * (uint32_t)b + (uint32_t)a * (uint32_t)(b >> 32);
    return wide((uint32_t)a, (uint32_t)b) + ((uint64_t)cross << 32);
}

/* Bit by bit, from the highest that the quotient can have. Divisors of 0 give what they give. */
static inline uint32_t divide(uint32_t a, uint32_t b, uint32_t *rest) {
    uint32_t quotient = 0;
    if (b != 0 && a >= b) {
        for (int32_t shift = __builtin_clz(b) - __builtin_clz(a); shift >= 0; shift--) {
            quotient <<= 1;
            if (a >= b << shift) {
                a -= b << shift;
                quotient |= 1u;
            }
        }
    }
    *rest = a;
    return quotient;
}

uint32_t __udivsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    return divide(a, b, &rest);
}

uint32_t __umodsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    divide(a, b, &rest);
    return rest;
}

static inline uint32_t magnitude(int32_t a) { return a < 0 ? 0u - (uint32_t)a : (uint32_t)a; }

int32_t __divsi3(int32_t a, int32_t b) {
    const uint32_t quotient = __udivsi3(magnitude(a), magnitude(b));
    return (int32_t)((a ^ b) < 0 ? 0u - quotient : quotient);
}

int32_t __modsi3(int32_t a, int32_t b) {
    const uint32_t rest = __umodsi3(magnitude(a), magnitude(b));
    return (int32_t)(a < 0 ? 0u - rest : rest);
}

/* A finite number other than 0 as mantissa * 2^(exponent - 150), HIDDEN set in the mantissa. */
static inline int32_t unpack(uint32_t word, uint32_t *mantissa) {
    const int32_t exponent = (int32_t)(word >> 23 & 0xFFu);
    if (exponent) {
        *mantissa = (word & (HIDDEN - 1u)) | HIDDEN;
        return exponent;
    }
    const int32_t shift = __builtin_clz(word & (HIDDEN - 1u)) - 8;
    *mantissa = (word & (HIDDEN - 1u)) << shift;
    return 1 - shift;
}

/* The number nearest to mantissa * 2^(exponent - 152), where the mantissa has 26 bits, the lowest set if bits below
 * are lost. */
static inline uint32_t pack(int32_t exponent, uint32_t mantissa) {
    if (exponent >= 255) return INFINITE;
    if (exponent < 1) {
        const int32_t shift = 1 - exponent;
        const uint32_t lost = shift > 26 ? mantissa : mantissa & ((1u << shift) - 1u);
        mantissa = (shift > 26 ? 0 : mantissa >> shift) | (lost != 0);
        exponent = 1;
    }
    const uint32_t kept = mantissa >> 2, below = mantissa & 3u;
    return ((uint32_t)(exponent - 1) << 23) + kept + (below > 2u || (below == 2u && (kept & 1u)));
}

static inline uint32_t quotient_word(uint32_t a, uint32_t b) {
    if (a > INFINITE || b > INFINITE || (a == INFINITE && b == INFINITE) || (a | b) == 0) return NOT_A_NUMBER;
    if (a == INFINITE || b == 0) return INFINITE;
    if (b == INFINITE || a == 0) return 0;
    uint32_t rest, divisor, quotient = 0;
    int32_t exponent = unpack(a, &rest) - unpack(b, &divisor) + 127;
    if (rest < divisor) {
        rest <<= 1;
        exponent--;
    }
    for (uint32_t bit = 0; bit < 26; bit++, rest <<= 1) {
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1u;
        }
    }
    return pack(exponent, quotient | (rest != 0));
}

float __divsf3(float a, float b) {
    const uint32_t x = ((float_bits){a}).word, y = ((float_bits){b}).word;
    return ((float_bits){.word = quotient_word(x & ~SIGN, y & ~SIGN) | ((x ^ y) & SIGN)}).value;
}

uint64_t __fixunssfdi(float a) {
    const uint32_t word = ((float_bits){a}).word & ~SIGN;
    const int32_t shift = (int32_t)(word >> 23) - 150;
    const uint64_t mantissa = (word & (HIDDEN - 1u)) | HIDDEN;
    if (shift < -23 || shift > 40) return 0;
    return shift < 0 ? mantissa >> -shift : mantissa << shift;
}

int64_t __fixsfdi(float a) {
    const uint64_t whole = __fixunssfdi(a);
    return (int64_t)(a < 0.0f ? 0u - whole : whole);
}

float __floatundisf(uint64_t a) {
    if (a == 0) return 0.0f;
    const uint32_t high = (uint32_t)(a >> 32);
    const int32_t bits = high ? 64 - __builtin_clz(high) : 32 - __builtin_clz((uint32_t)a);
    const int32_t lost = bits - 26;
    const uint32_t mantissa =
        lost <= 0 ? (uint32_t)a << -lost : ((uint32_t)(a >> lost) | ((a & ((UINT64_C(1) << lost) - 1u)) != 0));
    return ((float_bits){.word = pack(bits + 126, mantissa)}).value;
}

float __floatdisf(int64_t a) { return a < 0 ? -__floatundisf(0u - (uint64_t)a) : __floatundisf((uint64_t)a); }

#else
typedef int ml_no_xtensa_runtime; /* a translation unit may not be empty */
#endif
