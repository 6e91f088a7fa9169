/* memcpy, memmove, memset and memcmp for images without a C library. Word by word where both sides allow it, in bursts
 * of 16 bytes: under half an instruction a byte. Compiles to nothing where there is a C library. */
#if !__STDC_HOSTED__

#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) word;

/* Stands in each loop that the compiler might replace by a call to the very function it is in. */
#define NOT_A_LIBRARY_CALL __asm__ volatile("" ::: "memory")

/* Where the core cannot read a word at any address (ARMv6-M), both pointers must have the same alignment. */
#if defined(__ARM_FEATURE_UNALIGNED)
typedef uint32_t __attribute__((may_alias, aligned(1))) source_word;
#define WORDS_POSSIBLE(to, from) ((void)(to), (void)(from), 1)
#else
typedef word source_word;
#define WORDS_POSSIBLE(to, from) ((((uintptr_t)(to) ^ (uintptr_t)(from)) & 3u) == 0)
#endif

/* Copies count / 16 * 16 bytes, at least 16, between aligned addresses, and moves both pointers. */
static inline void copy_bursts(uint8_t **to, const uint8_t **from, size_t count) {
    word *out = (word *)(void *)*to;
    const word *in = (const word *)(const void *)*from;
    size_t bursts = count / 16;
#if defined(__thumb__)
    __asm__ volatile(".syntax unified\n"
                     "1: ldmia %1!, {r3, r4, r5, r6}\n"
                     "stmia %0!, {r3, r4, r5, r6}\n"
                     "subs %2, %2, #1\n"
                     "bne 1b"
                     : "+l"(out), "+l"(in), "+l"(bursts)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
#else
    for (; bursts; bursts--, in += 4, out += 4) {
        const word a = in[0], b = in[1], c = in[2], d = in[3];
        out[0] = a, out[1] = b, out[2] = c, out[3] = d;
        NOT_A_LIBRARY_CALL;
    }
#endif
    *to = (uint8_t *)out;
    *from = (const uint8_t *)in;
}

/* Upwards; right for overlapping blocks too if `to` lies below `from`. */
static inline void copy_up(uint8_t *to, const uint8_t *from, size_t count) {
    if (count >= 8 && WORDS_POSSIBLE(to, from)) {
        for (; (uintptr_t)to & 3u; count--) {
            *to++ = *from++;
            NOT_A_LIBRARY_CALL;
        }
        if (((uintptr_t)from & 3u) == 0 && count >= 16) {
            copy_bursts(&to, &from, count);
            count %= 16;
        }
        for (; count >= 4; count -= 4, to += 4, from += 4) {
            *(word *)(void *)to = *(const source_word *)(const void *)from;
            NOT_A_LIBRARY_CALL;
        }
    }
    while (count--) {
        *to++ = *from++;
        NOT_A_LIBRARY_CALL;
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    copy_up(to, from, count);
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    if ((uintptr_t)to - (uintptr_t)from >= count) { /* below, or behind the end of `from` */
        copy_up(to, from, count);
        return to;
    }
    uint8_t *out = (uint8_t *)to + count;
    const uint8_t *in = (const uint8_t *)from + count;
    if (WORDS_POSSIBLE(to, from)) {
        for (; count && ((uintptr_t)out & 3u); count--) {
            *--out = *--in;
            NOT_A_LIBRARY_CALL;
        }
        for (; count >= 4; count -= 4) {
            out -= 4, in -= 4;
            *(word *)(void *)out = *(const source_word *)(const void *)in;
            NOT_A_LIBRARY_CALL;
        }
    }
    while (count--) {
        *--out = *--in;
        NOT_A_LIBRARY_CALL;
    }
    return to;
}

void *memset(void *to, int value, size_t count) {
    uint8_t *out = to;
    for (; count && ((uintptr_t)out & 3u); count--) {
        *out++ = (uint8_t)value;
        NOT_A_LIBRARY_CALL;
    }
    word pattern = 0x01010101u * (uint8_t)value;
    for (; count >= 16; count -= 16, out += 16) {
        word *words = (word *)(void *)out;
        words[0] = pattern, words[1] = pattern, words[2] = pattern, words[3] = pattern;
        NOT_A_LIBRARY_CALL;
    }
    while (count--) {
        *out++ = (uint8_t)value;
        NOT_A_LIBRARY_CALL;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t count) {
    const uint8_t *a = left, *b = right;
    for (; count; count--, a++, b++) {
        if (*a != *b) {
            return *a - *b;
        }
    }
    return 0;
}

#else
typedef int ml_no_mem; /* a translation unit may not be empty */
#endif
