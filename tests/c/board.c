/* Stands in for the server in tests/test_emulator.py: does one thing with the port or the start-up code for each
 * command, a byte and mostly a 32-bit number, and answers with a 32-bit number. */
#include <string.h>

#include "port.h"

static uint32_t variable = 0x12345678u;
static uint32_t zero;

static uint32_t read_byte(void) {
    int32_t byte;
    do {
        byte = ml_port_read();
    } while (byte < 0);
    return (uint32_t)byte;
}

static uint32_t read_word(void) {
    uint32_t word = 0;
    for (uint32_t i = 0; i < 4; i++) word |= read_byte() << 8u * i;
    return word;
}

static void write_word(uint32_t word) {
    uint8_t bytes[4];
    for (uint32_t i = 0; i < 4; i++) bytes[i] = (uint8_t)(word >> 8u * i);
    ml_port_write(bytes, sizeof bytes);
}

/* Ticks that 2 * `loops` instructions take, and those around them. */
static uint32_t spin(uint32_t loops) {
    const uint32_t start = ml_port_ticks();
#if defined(__arm__)
    __asm__ volatile(".syntax unified\n1: subs %0, %0, #1\n bne 1b" : "+l"(loops)::"cc");
#elif defined(__riscv) || defined(__XTENSA__)
    __asm__ volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(loops));
#else
    while (loops--) __asm__ volatile("");
#endif
    return ml_port_ticks() - start;
}

static uint8_t left[128], right[128], expected[128];

static void prepare(void) {
    for (uint32_t i = 0; i < sizeof left; i++) {
        left[i] = expected[i] = (uint8_t)(i * 7u + 1u);
        right[i] = (uint8_t)(i * 13u + 5u);
    }
}

static uint32_t differ(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < sizeof left; i++) count += left[i] != expected[i];
    return count;
}

/* Wrong bytes after a copy, a move within one block and a fill, with these offsets and this size. */
static uint32_t memory_errors(uint32_t to, uint32_t from, uint32_t count) {
    prepare();
    for (uint32_t i = 0; i < count; i++) expected[to + i] = right[from + i];
    uint32_t errors = memcpy(left + to, right + from, count) != left + to;
    errors += differ() + (memcmp(left + to, right + from, count) != 0);
    prepare();
    for (uint32_t i = 0; i < count; i++) expected[to + i] = left[from + i];
    errors += memmove(left + to, left + from, count) != left + to;
    errors += differ();
    prepare();
    for (uint32_t i = 0; i < count; i++) expected[to + i] = (uint8_t)from;
    errors += memset(left + to, (int)from, count) != left + to;
    return errors + differ();
}

static uint32_t all_memory_errors(void) {
    uint32_t errors = 0;
    for (uint32_t to = 0; to < 20; to++) {
        for (uint32_t from = 0; from < 20; from++) {
            for (uint32_t count = 0; count < 70; count += count < 40 ? 1 : 7) errors += memory_errors(to, from, count);
        }
    }
    return errors;
}

static uint32_t copy_ticks(uint32_t count) {
    const uint32_t start = ml_port_ticks();
    memcpy(ml_pool_start, ml_pool_start + count, count);
    return ml_port_ticks() - start;
}

/* Whether the pool holds what is written to it: it lies over nothing else. */
static uint32_t pool_errors(void) {
    uint32_t *words = (uint32_t *)(void *)ml_pool_start;
    const uint32_t count = (uint32_t)(ml_pool_end - ml_pool_start) / 4u;
    uint32_t errors = 0;
    for (uint32_t i = 0; i < count; i++) words[i] = i ^ 0xA5A5A5A5u;
    for (uint32_t i = 0; i < count; i++) errors += words[i] != (i ^ 0xA5A5A5A5u);
    return errors + (variable != 0x12345678u) + (zero != 0);
}

static uint32_t painted(void) {
    uint32_t count = 0;
    while (ml_stack_start[count] == ML_STACK_PAINT) count++;
    return count;
}

/* Twice `word` by whatever unit the core has for vectors or floating point. */
static uint32_t twice(uint32_t word) {
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("vdup.32 q0, %0\n vadd.i32 q0, q0, q0\n vmov.32 %0, q0[3]" : "+r"(word)::"q0");
    return word;
#else
    volatile float value = (float)word;
    return (uint32_t)(value + value);
#endif
}

static uint32_t __attribute__((noinline)) overflow(uint32_t depth) {
    volatile uint8_t frame[64];
    frame[depth & 63u] = (uint8_t)depth;
    if (depth != UINT32_MAX) frame[0] = (uint8_t)overflow(depth + 1u);
    return frame[depth & 63u];
}

static uint32_t change_variables(void) {
    const uint32_t sum = variable + zero;
    variable = zero = 0xDEADBEEFu;
    return sum;
}

static uint32_t answer(uint32_t command) {
    switch (command) {
    case 't': return spin(read_word());
    case 'm': return all_memory_errors();
    case 'c': return copy_ticks(read_word());
    case 'p': return pool_errors();
    case 's': return painted();
    case '2': return twice(read_word());
    case 'v': return change_variables();
    case 'o': return overflow(0);
    case 'f': __builtin_trap();
    case 'r': ml_port_reset();
    default: return command;
    }
}

_Noreturn void ml_main(void) {
    for (;;) write_word(answer(read_byte()));
}
