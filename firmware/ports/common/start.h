/* What the start-up code of every chip does, whatever its core: memory, and a last word after a fault. */
#ifndef ML_START_H
#define ML_START_H

#include "port.h"

/* From the linker script. */
extern uint32_t ml_data_load[], ml_data_start[], ml_data_end[];
extern uint32_t ml_bss_start[], ml_bss_end[];

/* Where the core begins, with memory not yet prepared. */
_Noreturn void ml_start_core(void);

/* Where it begins on chips that must do something before they can run code from flash: that goes on with
 * ml_start_core, and the linker scripts of all others make it the same. */
_Noreturn void ml_start_chip(void);

/* The empty asm keeps the compiler from making calls to memset and memcpy of these loops. */
static inline void ml_fill_words(uint32_t *from, const uint32_t *to, uint32_t value) {
    while (from < to) {
        *from++ = value;
        __asm__ volatile("" ::: "memory");
    }
}

/* Paints the stack below `stack_pointer`, copies .data from flash and clears .bss. */
static inline void ml_prepare_memory(uint32_t *stack_pointer) {
    ml_fill_words((uint32_t *)(void *)ml_stack_start, stack_pointer, 0x01010101u * ML_STACK_PAINT);
    for (uint32_t *to = ml_data_start, *from = ml_data_load; to < ml_data_end;) {
        *to++ = *from++;
        __asm__ volatile("" ::: "memory");
    }
    ml_fill_words(ml_bss_start, ml_bss_end, 0);
}

static inline void ml_write_hex(uint32_t value) {
    uint8_t digits[8];
    for (uint32_t i = 0; i < 8; i++) {
        digits[i] = (uint8_t) "0123456789abcdef"[value >> (28u - 4u * i) & 15u];
    }
    ml_port_write(digits, sizeof digits);
}

/* Says on the serial line which exception it was, by the core's number, and at which address (0 = unknown), then
 * restarts. The zero bytes end whatever frame was on its way, so that the other side sees a damaged frame and not a
 * silence. */
static inline _Noreturn void ml_report_fault(uint32_t exception, uint32_t address) {
    static const uint8_t text[] = "\0microlith: fault ";
    ml_port_write(text, sizeof text - 1);
    ml_write_hex(exception);
    ml_port_write((const uint8_t *)" at ", 4);
    ml_write_hex(address);
    ml_port_write((const uint8_t *)"\n", 2); /* with its zero */
    ml_port_reset();
}

#endif
